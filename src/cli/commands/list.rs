//! `tallow list`: the models on this machine, from every source.

use crate::cli::ui::number::bytes;
use crate::cli::ui::{complete, output, table, time};
use clap_complete::ArgValueCompleter;
use serde_json::{Value, json};
use std::time::SystemTime;
use tallow::store::hub::HubOptions;
use tallow::store::local::{self, LocalModel};
use tallow::{ModelSummary, summary};

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only models whose name begins so
    #[arg(value_name = "PREFIX", add = ArgValueCompleter::new(complete::here))]
    prefix: Option<String>,
    /// Also the format, quantisation, architecture, context and source
    #[arg(short, long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut models = local::list(&HubOptions::from_env())?;
    if let Some(prefix) = args.prefix.map(|prefix| prefix.to_lowercase()) {
        models.retain(|model| model.name.to_lowercase().starts_with(&prefix));
    }
    // The newest first, as Ollama has them.
    models.sort_by_key(|model| std::cmp::Reverse(model.modified));
    if args.json {
        return output::json(&json!({ "models": models.iter().map(object).collect::<Vec<_>>() }));
    }
    let now = SystemTime::now();
    let row = |model: &LocalModel| {
        let id = if model.id.is_empty() { "-" } else { model.id.get(..12).unwrap_or(&model.id) };
        let modified = model.modified.map_or("-".to_owned(), |time| time::ago(now.duration_since(time).unwrap_or_default()));
        [model.name.clone(), id.to_owned(), bytes(model.bytes), modified]
    };
    if !args.all {
        return output::text(&table::columns(["NAME", "ID", "SIZE", "MODIFIED"], &models.iter().map(row).collect::<Vec<_>>()));
    }
    let row = |model: &LocalModel| {
        let [name, id, size, modified] = row(model);
        let ModelSummary { format, quantisation, architecture, context, .. } = summary(model);
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let context = text(context.map(|context| context.to_string()));
        let source = model.source.to_string();
        [name, id, size, modified, format.to_owned(), text(quantisation), text(architecture), context, source]
    };
    let heading = ["NAME", "ID", "SIZE", "MODIFIED", "FORMAT", "QUANT", "ARCH", "CTX", "SOURCE"];
    output::text(&table::columns(heading, &models.iter().map(row).collect::<Vec<_>>()))
}

fn object(model: &LocalModel) -> Value {
    let ModelSummary { format, quantisation, architecture, context, .. } = summary(model);
    json!({
        "name": model.name,
        "id": model.id,
        "size": model.bytes,
        "modified_at": model.modified.map(time::rfc3339),
        "format": format,
        "quantization": quantisation,
        "architecture": architecture,
        "context_length": context,
        "source": model.source.to_string(),
        "path": model.path,
    })
}
