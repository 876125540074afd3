//! `tallow detokenize`: token ids to text.

use crate::cli::Detail;
use crate::cli::args::fetch::Network;
use crate::cli::args::shared::Tokens;
use crate::cli::ui::{complete, output};
use clap_complete::ArgValueCompleter;
use serde::Serialize;

/// Arguments of `detokenize`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    #[arg(add = ArgValueCompleter::new(complete::models))]
    model: String,
    /// The token ids: 1,2,3
    #[arg(long, value_name = "IDS", allow_hyphen_values = true)]
    tokens: Tokens,
    /// Leave special tokens out
    #[arg(long, alias = "skip_special")]
    skip_special: bool,
    #[command(flatten)]
    network: Network,
    /// Print `{"text": "..."}`
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    text: String,
}

/// Runs the command.
pub fn run(args: Args, detail: Detail) -> anyhow::Result<()> {
    let checkpoint = args.network.open(&args.model, detail)?;
    let vocab = checkpoint.spec().vocab;
    if let Some(id) = args.tokens.0.iter().find(|id| **id as usize >= vocab) {
        return Err(tallow::Error::Input(format!("token {id} is outside the vocabulary of {vocab}")).into());
    }
    let text = checkpoint.tokenizer().decode(&args.tokens.0, args.skip_special)?;
    if args.json { output::json(&Report { text }) } else { output::line(&text) }
}
