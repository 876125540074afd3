//! `tallow rm`: remove models from the Hub's cache.
//!
//! Only what tallow or `hf` has fetched goes; a file that lies in a folder of the user's, in Ollama's store or in LM Studio's
//! is not ours to delete. Where nobody can be asked, nothing is deleted without `-y`.

use crate::cli::ui::number::bytes;
use crate::cli::ui::{complete, failure, output};
use clap_complete::ArgValueCompleter;
use serde_json::{Value, json};
use std::io::IsTerminal;
use tallow::store::hub::{self, Freed, HubOptions};
use tallow::store::hub_ref::HubRef;
use tallow::store::local::{self, Source};
use tallow::{Error, Found};

/// Arguments of `rm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Models, as `tallow list` names them; org/repo is all of a repository
    #[arg(required = true, value_name = "MODEL", add = ArgValueCompleter::new(complete::cached))]
    models: Vec<String>,
    /// Delete without asking
    #[arg(short, long)]
    yes: bool,
    /// Only tell what would be freed
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let hub = HubOptions::from_env();
    // All names are looked at before anything is deleted.
    let mut wanted = Vec::new();
    for name in &args.models {
        let reference = cached(name, &hub)?;
        let would = hub::remove(&reference, &hub, true).map_err(|error| elsewhere(name, &hub, error))?;
        wanted.push((name, reference, would));
    }
    let may_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !args.yes && !args.dry_run && !may_ask {
        return Err(failure::usage("rm asks before it deletes, and there is nobody to ask; give -y"));
    }
    let mut report = Vec::new();
    for (name, reference, would) in wanted {
        if !args.yes && !args.dry_run && !confirmed(name, &would)? {
            continue;
        }
        let freed = if args.dry_run { would } else { hub::remove(&reference, &hub, false)? };
        if args.json {
            report.push(object(name, &freed, !args.dry_run));
            continue;
        }
        let size = bytes(freed.bytes);
        let shared = match freed.shared {
            0 => String::new(),
            n => format!("; {n} files stay, which other revisions use"),
        };
        match args.dry_run {
            true => output::line(&format!("would delete '{name}' and free {size}{shared}"))?,
            false => output::line(&format!("deleted '{name}'\nfreed {size}{shared}"))?,
        }
    }
    if args.json { output::json(&json!({ "models": report })) } else { Ok(()) }
}

fn object(name: &str, freed: &Freed, deleted: bool) -> Value {
    json!({
        "model": name,
        "deleted": deleted,
        "freed": freed.bytes,
        "blobs": freed.blobs,
        "files": freed.files,
        "shared": freed.shared,
    })
}

/// What `name` means in the Hub's cache.
fn cached(name: &str, hub: &HubOptions) -> anyhow::Result<HubRef> {
    let unknown = || Error::NotFound { what: name.to_owned(), hint: "it is not in the Hub's cache".to_owned() };
    // What `run` means by the name decides, and that may lie elsewhere though the Hub's cache has a model of this name, too.
    if let Ok(Found::Here(files)) = tallow::find_with(name, hub)
        && !files.path().is_some_and(|path| path.starts_with(&hub.cache))
    {
        return Err(elsewhere(name, hub, unknown()));
    }
    match tallow::reference_of(name) {
        Ok(Some(reference)) => Ok(reference),
        Ok(None) => Err(elsewhere(name, hub, unknown())),
        // What can not run can still be deleted, and so can what the catalogue does not know.
        Err(error) => match tallow::store::catalog::get(name) {
            Some(entry) => Ok(entry.reference),
            None => Err(elsewhere(name, hub, error)),
        },
    }
}

/// Why a model that is not in the cache is not deleted.
fn elsewhere(name: &str, hub: &HubOptions, error: Error) -> anyhow::Error {
    if !matches!(error, Error::NotFound { .. }) {
        return error.into();
    }
    let stored = local::list(hub).unwrap_or_default().into_iter().find(|model| model.name.eq_ignore_ascii_case(name));
    let reason = match (stored, tallow::find_with(name, hub)) {
        (Some(model), _) if model.source == Source::Ollama => {
            format!("{name} is Ollama's; `ollama rm {}` deletes it", model.name)
        }
        (Some(model), _) if model.source == Source::LmStudio => {
            format!("{name} is LM Studio's, at {}; delete it there", model.path.display())
        }
        (Some(model), _) if model.source == Source::Bundled => format!("{name} is inside this program"),
        (Some(model), _) if model.source == Source::Folder => {
            format!("{name} lies in a model folder, at {}; rm deletes only what was pulled", model.path.display())
        }
        (None, Ok(Found::Here(_))) => format!("{name} is a file of yours; rm deletes only what was pulled"),
        _ => return error.into(),
    };
    failure::usage(reason)
}

/// Asks on the terminal; anything but yes is no.
fn confirmed(name: &str, would: &Freed) -> anyhow::Result<bool> {
    output::note(format_args!("delete '{name}' ({})? [y/N] ", bytes(would.bytes)));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
