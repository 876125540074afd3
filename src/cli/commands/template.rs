//! `tallow template`: the prompt that a chat becomes, byte for byte.

use crate::cli::Detail;
use crate::cli::args::fetch::Network;
use crate::cli::args::shared::Source;
use crate::cli::ui::{complete, output};
use clap_complete::ArgValueCompleter;
use serde::Serialize;
use tallow::Error;

/// Arguments of `template`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    #[arg(add = ArgValueCompleter::new(complete::models))]
    model: String,
    /// A JSON file with a list of messages, `[{"role": "user", "content": "Hi"}]`; `-` is stdin
    #[arg(long, value_name = "FILE")]
    messages: Source,
    /// End after the last message, not where the assistant begins to speak
    #[arg(long, alias = "no_generation_prompt")]
    no_generation_prompt: bool,
    #[command(flatten)]
    network: Network,
    /// Print `{"prompt": "..."}`; without it, the text is printed exactly, with no line break added
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    prompt: String,
}

/// Runs the command.
pub fn run(args: Args, detail: Detail) -> anyhow::Result<()> {
    let checkpoint = args.network.open(&args.model, detail)?;
    let template = checkpoint.template()?.ok_or_else(|| {
        let what = format!("{}: a chat with a model that has no chat template", checkpoint.info().name);
        Error::unsupported(what, "models that have one")
    })?;
    let file = args.messages.0.display().to_string();
    let messages: serde_json::Value = serde_json::from_str(&args.messages.read()?)
        .map_err(|e| Error::Input(format!("{file}: the messages are not valid JSON: {e}")))?;
    if messages.as_array().is_some_and(Vec::is_empty) {
        // transformers refuses an empty conversation, too.
        return Err(Error::Input(format!("{file}: there are no messages; expected at least one")).into());
    }
    let prompt = template.render_json(&messages, !args.no_generation_prompt)?;
    if args.json { output::json(&Report { prompt }) } else { output::text(&prompt) }
}
