//! `tallow tokenize`: text to token ids.

use crate::cli::Detail;
use crate::cli::args::fetch::Network;
use crate::cli::args::shared::Source;
use crate::cli::ui::{complete, output};
use clap_complete::ArgValueCompleter;
use serde::Serialize;

/// Arguments of `tokenize`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "tallow tokenize [OPTIONS] <MODEL> <TEXT | --file <FILE>>")]
#[command(group(clap::ArgGroup::new("input").required(true).args(["text", "file"])))]
pub struct Args {
    /// The model
    #[arg(add = ArgValueCompleter::new(complete::models))]
    model: String,
    /// The text
    #[arg(allow_hyphen_values = true)]
    text: Option<String>,
    /// A file with the text, taken exactly; `-` is stdin
    #[arg(short, long)]
    file: Option<Source>,
    /// Leave out the tokenizer's own special tokens (BOS, EOS)
    #[arg(long, alias = "no_special")]
    no_special: bool,
    /// Special tokens in the text are plain text
    #[arg(long, alias = "no_parse_special")]
    no_parse_special: bool,
    #[command(flatten)]
    network: Network,
    /// Print `{"tokens": [...], "pieces": [...]}`
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    tokens: Vec<u32>,
    pieces: Vec<String>,
}

/// Runs the command.
pub fn run(args: Args, detail: Detail) -> anyhow::Result<()> {
    let checkpoint = args.network.open(&args.model, detail)?;
    let text = match &args.file {
        Some(file) => file.read()?,
        None => args.text.unwrap_or_default(),
    };
    let tokenizer = checkpoint.tokenizer();
    let tokens = match args.no_parse_special {
        true => tokenizer.encode_plain(&text, !args.no_special)?,
        false => tokenizer.encode(&text, !args.no_special)?,
    };
    let pieces = tokenizer.pieces(&tokens);
    if args.json {
        return output::json(&Report { tokens, pieces });
    }
    let lines = tokens.iter().zip(&pieces).map(|(id, piece)| format!("{id:>7}  {}\n", piece.escape_debug()));
    output::text(&lines.collect::<String>())
}
