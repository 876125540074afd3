//! `tallow perplexity`: how well a model predicts a text, over the same chunks as `llama-perplexity`.

use crate::cli::args::fetch::Network;
use crate::cli::args::shared::{Cache, Device, Source};
use crate::cli::ui::{complete, output};
use crate::cli::{DEFAULT_MODEL, Detail};
use clap_complete::ArgValueCompleter;
use serde::Serialize;
use tallow::LoadOptions;

/// Arguments of `perplexity`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    #[arg(default_value = DEFAULT_MODEL, add = ArgValueCompleter::new(complete::models))]
    model: String,
    /// The text; one line break at its end does not count; `-` is stdin
    #[arg(short, long)]
    file: Source,
    /// Tokens in a chunk, of which the second half counts
    #[arg(short, long, aliases = ["ctx_size", "num-ctx", "num_ctx"], value_name = "N", default_value_t = 512)]
    ctx_size: usize,
    #[command(flatten)]
    device: Device,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    network: Network,
    /// Print one JSON object in place of the last line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    perplexity: f64,
    error: f64,
    tokens: usize,
    chunks: usize,
    context: usize,
}

/// Runs the command.
pub fn run(args: Args, detail: Detail) -> anyhow::Result<()> {
    let text = args.file.read_prompt()?;
    let context = Some(args.ctx_size).filter(|context| *context > 0);
    let options = LoadOptions { context, cache_type: args.cache.cache_type, ..args.device.options() };
    let model = args.network.load(&args.model, &options, detail)?;
    let context = context.unwrap_or_else(|| model.context());
    let (mut chunks, quiet) = (0, detail == Detail::Quiet);
    let estimate = model.perplexity(&text, context, |chunk, of, estimate| {
        chunks = of;
        if !quiet {
            progress(chunk, of, estimate.value());
        }
    })?;
    let (perplexity, error) = (estimate.value(), estimate.error());
    if args.json {
        let (model, tokens) = (&args.model, estimate.count());
        output::json(&Report { model, perplexity, error, tokens, chunks, context })
    } else {
        output::line(&format!("Final estimate: PPL = {perplexity:.4} +/- {error:.5}"))
    }
}

/// llama-perplexity's line, which grows by a chunk at a time.
fn progress(chunk: usize, of: usize, value: f64) {
    if chunk == 1 {
        output::note(format_args!("perplexity over {of} chunks\n"));
    }
    output::note(format_args!("[{chunk}]{value:.4},"));
    if chunk == of {
        output::note(format_args!("\n"));
    }
}
