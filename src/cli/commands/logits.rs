//! `tallow logits`: the numbers behind the next token, exactly.
//!
//! The cache is f32 here unless another is asked for, so that nothing is rounded on the way.

use crate::cli::Detail;
use crate::cli::args::fetch::Network;
use crate::cli::args::shared::{Device, Tokens};
use crate::cli::ui::file::NewFile;
use crate::cli::ui::{complete, npy, output};
use anyhow::Context;
use clap_complete::ArgValueCompleter;
use serde::Serialize;
use std::path::{Path, PathBuf};
use tallow::{CacheType, LoadOptions, Model};

/// How many tokens are listed for a person.
const LISTED: usize = 10;

/// Arguments of `logits`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "tallow logits [OPTIONS] <MODEL> <PROMPT | --tokens <IDS>>")]
#[command(group(clap::ArgGroup::new("input").required(true).args(["prompt", "tokens"])))]
pub struct Args {
    /// The model
    #[arg(add = ArgValueCompleter::new(complete::models))]
    model: String,
    /// The text to read, as it stands, with the tokenizer's own special tokens (BOS)
    #[arg(allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Token ids to read in place of a text: 1,2,3
    #[arg(long, value_name = "IDS", allow_hyphen_values = true)]
    tokens: Option<Tokens>,
    /// Special tokens in the text are plain text
    #[arg(long, alias = "no_parse_special", conflicts_with = "tokens")]
    no_parse_special: bool,
    /// Every position, not the last one only
    #[arg(long)]
    all: bool,
    /// Print `{"tokens": [...], "logits": [[...]]}`
    #[arg(long)]
    json: bool,
    /// Write the logits to a NumPy file of shape (positions, vocabulary)
    #[arg(long, value_name = "FILE")]
    npy: Option<PathBuf>,
    /// Element type of the key/value cache: f32, which rounds nothing, or auto, f16, q8_0 to see what they do
    #[arg(long, alias = "cache_type", value_name = "TYPE", default_value_t = CacheType::F32)]
    cache_type: CacheType,
    #[command(flatten)]
    device: Device,
    #[command(flatten)]
    network: Network,
}

/// Runs the command.
pub fn run(args: Args, detail: Detail) -> anyhow::Result<()> {
    let options = LoadOptions { cache_type: args.cache_type, ..args.device.options() };
    let model = args.network.load(&args.model, &options, detail)?;
    let tokens = match (args.tokens, args.prompt) {
        (Some(Tokens(tokens)), _) => tokens,
        (None, prompt) if args.no_parse_special => model.tokenizer().encode_plain(&prompt.unwrap_or_default(), true)?,
        (None, prompt) => model.tokenizer().encode_prompt(&prompt.unwrap_or_default())?,
    };
    let values = model.logits(&tokens, args.all)?;
    let vocab = model.spec().vocab;
    if let Some(path) = &args.npy {
        save(path, &values, vocab)?;
    }
    if args.json {
        let logits = values.chunks_exact(vocab).collect();
        output::json(&Report { tokens: &tokens, logits })
    } else if args.npy.is_none() {
        output::text(&listing(&model, &tokens, &values, vocab))
    } else {
        Ok(())
    }
}

/// What `--json` prints; a row per position. JSON has no word for infinities and NaN: they become `null`.
#[derive(Serialize)]
struct Report<'a> {
    tokens: &'a [u32],
    logits: Vec<&'a [f32]>,
}

fn save(path: &Path, values: &[f32], vocab: usize) -> anyhow::Result<()> {
    let write = || {
        let mut file = NewFile::create(path)?;
        file.put(|out| npy::write(out, values, values.len() / vocab, vocab))?;
        file.finish()
    };
    write().context("can not write the logits")
}

/// The likeliest tokens after each position.
fn listing(model: &Model, tokens: &[u32], values: &[f32], vocab: usize) -> String {
    let tokenizer = model.tokenizer();
    let text = |id: u32| tokenizer.decode(&[id], false).unwrap_or_default();
    let rows = values.len() / vocab;
    let mut out = String::new();
    for (row, position) in values.chunks_exact(vocab).zip(tokens.len() - rows..) {
        let token = tokens[position];
        out.push_str(&format!("after position {position}, token {token} {:?}:\n", text(token)));
        out.push_str("      id       logit  probability  token\n");
        for (id, probability) in likeliest(row) {
            let logit = row[id as usize];
            out.push_str(&format!("{id:>8}  {logit:>10.4}  {probability:>11.6}  {:?}\n", text(id)));
        }
    }
    out
}

/// The best tokens of a row with their probabilities, best first; the lower id first among equals.
fn likeliest(row: &[f32]) -> Vec<(u32, f64)> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| f64::from(logit - max).exp();
    let sum: f64 = row.iter().map(|logit| weight(*logit)).sum();
    let mut ids: Vec<u32> = (0..).take(row.len()).collect();
    ids.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]));
    ids.into_iter().take(LISTED).map(|id| (id, weight(row[id as usize]) / sum)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_tokens_come_first_with_their_softmax() {
        let best = likeliest(&[0.0, 3f32.ln(), 0.0]);
        assert_eq!(best.iter().map(|b| b.0).collect::<Vec<_>>(), [1, 0, 2]);
        assert!((best[0].1 - 0.6).abs() < 1e-6 && (best[1].1 - 0.2).abs() < 1e-6);
        assert_eq!(likeliest(&[0.0; 20]).len(), LISTED);
    }
}
