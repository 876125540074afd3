//! `tallow pull`: fetch models into the cache that `hf` shares, or only say what that would bring and cost.

use crate::cli::Detail;
use crate::cli::args::fetch::Network;
use crate::cli::args::shared::Cache;
use crate::cli::ui::number::{bytes, count};
use crate::cli::ui::progress::Bars;
use crate::cli::ui::{complete, failure, memory, output, table};
use clap_complete::ArgValueCompleter;
use serde_json::{Value, json};
use std::path::Path;
use tallow::store::hub::{self, HubOptions, PullOptions, PullPlan, Pulled};
use tallow::store::hub_ref::HubRef;
use tallow::{Cost, Download};

/// Arguments of `pull`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Models: names of the catalogue, or org/repo, org/repo:QUANT, org/repo@revision
    #[arg(required = true, value_name = "MODEL", add = ArgValueCompleter::new(complete::catalogue))]
    models: Vec<String>,
    /// A branch, a tag or a commit in place of `main`
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Fetch exactly the files that match, not those a model needs; repeatable
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Leave out the files that match; repeatable
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Access token in place of HF_TOKEN and the stored one
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Only tell the files, the bytes, and the memory to run the model
    #[arg(long)]
    dry_run: bool,
    /// Fetch also what is in the cache
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    network: Network,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args, detail: Detail) -> anyhow::Result<()> {
    // What has come so far stays, and the next pull goes on from there.
    let _ = ctrlc::set_handler(|| {
        output::note(format_args!("\ninterrupted; the same command goes on where this one stopped\n"));
        std::process::exit(130)
    });
    let mut hub = args.network.hub();
    hub.token = args.token.clone().or(hub.token);
    let pull = PullOptions { include: args.include.clone(), exclude: args.exclude.clone(), force: args.force };
    let mut report = Vec::new();
    for name in &args.models {
        let reference = reference(name, args.revision.as_deref(), &hub)?;
        let bars = Bars::new(detail);
        let mut download = Download::prepare(&reference, &hub, &pull, &bars)?;
        download.cost = download.cost.map(|cost| cost.with_cache(args.cache.cache_type));
        if args.dry_run {
            match args.json {
                true => report.push(planned(name, &download)),
                false => output::text(&described(name, &reference, &download))?,
            }
            continue;
        }
        if let Some(cost) = &download.cost {
            warn_of_memory(name, cost);
        }
        let pulled = download.fetch(&hub, &bars)?;
        match (args.json, detail) {
            (true, _) => report.push(done(name, &download.plan, &pulled)),
            (false, Detail::Quiet) => output::line(&pulled.path.display().to_string())?,
            (false, _) => (),
        }
    }
    if args.json { output::json(&json!({ "models": report })) } else { Ok(()) }
}

/// What `name` means on the Hub.
fn reference(name: &str, revision: Option<&str>, hub: &HubOptions) -> anyhow::Result<HubRef> {
    let reference = if Path::new(name).exists() { None } else { tallow::reference_of(name)? };
    let Some(mut reference) = reference else {
        // An unknown name is told with the nearest ones.
        tallow::find_with(name, hub)?;
        return Err(failure::usage(format!("{name} is on this machine; pull takes names of the catalogue and of the Hub")));
    };
    if let Some(revision) = revision {
        if reference.revision.as_deref().is_some_and(|named| named != revision) {
            return Err(failure::usage(format!("the revision is given twice: {name} and --revision {revision}")));
        }
        reference.revision = Some(revision.to_owned());
    }
    Ok(reference)
}

/// Tells before the download that the model is too large for this machine; it may be meant for another.
fn warn_of_memory(name: &str, cost: &Cost) {
    let context = cost.contexts()[0];
    if let (Some(false), Some(have)) = (cost.fits(context), cost.available) {
        let need = bytes(cost.need(context));
        log::warn!(
            "{name} does not fit in memory here: {need} with a context of {context}, {} are available; a smaller \
             quantisation may: tallow pull --dry-run org/repo:Q2_K",
            bytes(have)
        );
    }
}

/// What a pull would do, for a person.
fn described(name: &str, reference: &HubRef, download: &Download) -> String {
    let plan = &download.plan;
    let mut out = match reference.to_string() == name {
        true => format!("{name} at {}\n\n", short(&plan.commit)),
        false => format!("{name} is {reference} at {}\n\n", short(&plan.commit)),
    };
    let state = |file: &hub::PlannedFile| match (file.present && !plan.force, file.partial) {
        (true, _) => "cached".to_owned(),
        (false, 0) => "to fetch".to_owned(),
        (false, partial) => format!("to fetch, {} of it are here", bytes(partial)),
    };
    let rows: Vec<_> = plan.files.iter().map(|file| [file.path.clone(), bytes(file.size), state(file)]).collect();
    out += &table::columns(["FILE", "SIZE", "STATE"], &rows);
    let (total, missing) = (plan.size(), plan.missing());
    out += &format!("\n{} in all, {} cached, {} to fetch", bytes(total), bytes(total - missing.min(total)), bytes(missing));
    out += &plan.license.as_ref().map(|license| format!("; licence: {license}")).unwrap_or_default();
    out += &plan.gated.as_ref().map(|_| "; its licence has to be accepted on the Hub".to_owned()).unwrap_or_default();
    out += "\n";
    if let Some(cost) = &download.cost {
        let parameters = count(cost.parameters);
        out += &format!("\n{}, {parameters} parameters, {}\n\n{}", cost.family, cost.quantisation, memory::text(cost));
    }
    out
}

fn planned(name: &str, download: &Download) -> Value {
    let plan = &download.plan;
    let file = |file: &hub::PlannedFile| json!({ "path": file.path, "size": file.size, "digest": file.digest, "cached": file.present, "partial": file.partial });
    let cost = download.cost.as_ref().map(|cost| {
        json!({
            "architecture": cost.family,
            "format": cost.format,
            "quantization": cost.quantisation.to_string(),
            "parameters": cost.parameters,
            "context_length": cost.context,
            "weights": cost.weights,
            "cache_per_token": cost.cache_per_token,
            "beyond_window": memory::beyond_window(cost),
            "available": cost.available,
            "contexts": memory::contexts(cost),
        })
    });
    json!({
        "model": name,
        "repo": plan.repo,
        "revision": plan.revision,
        "commit": plan.commit,
        "license": plan.license,
        "gated": plan.gated,
        "size": plan.size(),
        "to_fetch": plan.missing(),
        "files": plan.files.iter().map(file).collect::<Vec<_>>(),
        "memory": cost,
    })
}

fn done(name: &str, plan: &PullPlan, pulled: &Pulled) -> Value {
    json!({
        "model": name,
        "repo": plan.repo,
        "revision": plan.revision,
        "commit": pulled.commit,
        "path": pulled.path,
        "size": pulled.size,
        "fetched": pulled.fetched,
    })
}

/// The beginning of a commit.
fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}
