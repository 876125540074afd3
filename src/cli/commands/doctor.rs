//! `tallow doctor`: what this installation has, what is wrong with it, and what to do.
//!
//! Each check is a line: `ok`, `warning` (something is worse than it could be) or `problem` (something will not work). A
//! problem makes the exit code 1.

use crate::cli::args::fetch::Network;
use crate::cli::ui::number::bytes;
use crate::cli::ui::output;
use serde::Serialize;
use std::path::Path;
use tallow::cpu::Kernels;
use tallow::store::hub::{self, HubOptions};
use tallow::store::local;
use tallow::{DeviceChoice, Found, LoadOptions, Model, device};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    network: Network,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    /// Whether there is no problem.
    ok: bool,
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Problem,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Check {
        Check { name, state: State::Ok, found: found.into(), advice: None }
    }

    fn bad(name: &'static str, state: State, found: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { name, state, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let hub = args.network.hub();
    let mut checks = vec![build(), cpu(), memory(), devices(), folders(), cache(&hub)];
    checks.extend(leftovers(&hub));
    checks.push(elsewhere());
    checks.push(environment());
    checks.push(token(&hub));
    checks.push(network(&hub));
    checks.push(default_model(&hub));
    let problems = checks.iter().filter(|check| check.state == State::Problem).count();
    let report = Report { version: env!("CARGO_PKG_VERSION"), ok: problems == 0, checks };
    if args.json {
        output::json(&report)?
    } else {
        output::text(&text(&report.checks))?
    }
    match problems {
        0 => Ok(()),
        1 => Err(anyhow::anyhow!("1 problem was found")),
        n => Err(anyhow::anyhow!("{n} problems were found")),
    }
}

/// A line for each check, what to do below it.
fn text(checks: &[Check]) -> String {
    let mut out = String::new();
    for Check { name, state, found, advice } in checks {
        let state = match state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Problem => "problem",
        };
        out += &format!("{state:<8} {name:<14} {found}\n");
        out += &advice.as_ref().map(|advice| format!("{:<23} {advice}\n", "")).unwrap_or_default();
    }
    out
}

fn build() -> Check {
    let features = [
        ("hub", cfg!(feature = "hub")),
        ("bundled", cfg!(feature = "bundled")),
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
        ("metal", cfg!(feature = "metal")),
        ("accelerate", cfg!(feature = "accelerate")),
        ("mkl", cfg!(feature = "mkl")),
    ];
    let built: Vec<_> = features.iter().filter(|(_, built)| *built).map(|(name, _)| *name).collect();
    let built = if built.is_empty() { "no features".to_owned() } else { format!("features {}", built.join(", ")) };
    Check::ok("tallow", format!("{}, {built}", env!("CARGO_PKG_VERSION")))
}

fn cpu() -> Check {
    let threads = device::default_threads();
    match Kernels::get().map(Kernels::name) {
        Ok("scalar") => {
            let advice = "AVX2 or AVX-512 is needed for speed; unset TALLOW_KERNELS if it is set";
            Check::bad("cpu", State::Warning, format!("kernels scalar, the slow reference; {threads} threads"), advice)
        }
        Ok(name) => Check::ok("cpu", format!("{}; kernels {name}; {threads} threads", tallow::bench::cpu_name())),
        Err(error) => Check::bad("cpu", State::Problem, error.to_string(), "unset TALLOW_KERNELS"),
    }
}

fn memory() -> Check {
    match device::available_memory() {
        Some(have) if have < 500_000_000 => {
            let advice = "end other programs, or use a small model: tallow run smollm2";
            Check::bad("memory", State::Warning, format!("{} available", bytes(have)), advice)
        }
        Some(have) => Check::ok("memory", format!("{} available", bytes(have))),
        None => Check::ok("memory", "the system does not tell"),
    }
}

fn devices() -> Check {
    let mut found = vec!["cpu".to_owned()];
    let mut failed = Vec::new();
    for choice in [DeviceChoice::Cuda(0), DeviceChoice::Metal].into_iter().filter(|choice| choice.is_built()) {
        match choice.available() {
            Ok(_) => found.push(choice.to_string()),
            Err(error) => failed.push(format!("{choice}: {error}")),
        }
    }
    match failed.is_empty() {
        true => Check::ok("devices", found.join(", ")),
        false => {
            let advice = "look at the driver; `--device cpu` works meanwhile";
            Check::bad("devices", State::Warning, format!("{}; {}", found.join(", "), failed.join("; ")), advice)
        }
    }
}

fn folders() -> Check {
    let folders: Vec<_> = local::model_folders().iter().map(|folder| folder.display().to_string()).collect();
    let named = std::env::var_os("TALLOW_MODELS").unwrap_or_default();
    let missing: Vec<_> = std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty() && !path.is_dir()).collect();
    if let Some(path) = missing.first() {
        let found = format!("TALLOW_MODELS names {}, which is no folder", path.display());
        return Check::bad("model folders", State::Warning, found, "make the folder, or take it out of TALLOW_MODELS");
    }
    Check::ok("model folders", if folders.is_empty() { "none".to_owned() } else { folders.join(", ") })
}

fn cache(hub: &HubOptions) -> Check {
    let (name, path) = ("cache", hub.cache.display());
    let repos = match hub::list(hub) {
        Ok(repos) => repos,
        Err(error) => return Check::bad(name, State::Problem, error.to_string(), "mend or move it; HF_HOME names another"),
    };
    if let Err(error) = writable(&hub.cache) {
        let advice = "give yourself the right to write there, or set HF_HOME to a folder of yours";
        return Check::bad(name, State::Problem, format!("{path} can not be written: {error}"), advice);
    }
    let size: u64 = repos.iter().map(|repo| repo.size).sum();
    let free = device::free_disk(&hub.cache);
    let told = free.map(|free| format!(", {} free", bytes(free))).unwrap_or_default();
    let count = if repos.len() == 1 { "1 repository".to_owned() } else { format!("{} repositories", repos.len()) };
    let found = format!("{path}: {count}, {}{told}", bytes(size));
    match free {
        Some(free) if free < 1_000_000_000 => {
            let advice = "`tallow list` has what takes the room, `tallow rm` frees it; HF_HOME chooses another disk";
            Check::bad(name, State::Warning, found, advice)
        }
        _ => Check::ok(name, found),
    }
}

/// Writes a file and deletes it. A folder that is not there is made by the first pull: then the one above it counts.
fn writable(folder: &Path) -> std::io::Result<()> {
    let existing = folder.ancestors().find(|folder| folder.exists()).unwrap_or(folder);
    let probe = existing.join(format!(".tallow-doctor-{}", std::process::id()));
    std::fs::File::create_new(&probe)?;
    std::fs::remove_file(&probe)
}

/// Interrupted downloads, and snapshots whose files are gone.
fn leftovers(hub: &HubOptions) -> Vec<Check> {
    let mut checks = Vec::new();
    for repo in hub::list(hub).unwrap_or_default() {
        if repo.partial > 0 {
            let found = format!("{}: {} of an interrupted download", repo.repo, bytes(repo.partial));
            let advice = format!("`tallow pull {0}` goes on with it, `tallow rm {0}` deletes it", repo.repo);
            checks.push(Check::bad("downloads", State::Warning, found, advice));
        }
        let broken = broken_links(&repo.path.join("snapshots"));
        if broken > 0 {
            let found = format!("{}: {broken} files of its snapshots are links to nothing", repo.repo);
            let advice = format!("`tallow pull {0}` fetches them again, `tallow rm {0}` deletes them", repo.repo);
            checks.push(Check::bad("links", State::Warning, found, advice));
        }
    }
    checks
}

fn broken_links(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let broken = |path: &Path| path.is_symlink() && !path.exists();
    entries
        .map(|entry| entry.path())
        .map(|path| if path.is_dir() && !path.is_symlink() { broken_links(&path) } else { usize::from(broken(&path)) })
        .sum()
}

fn elsewhere() -> Check {
    let stores = local::ollama_stores().into_iter().map(|store| format!("Ollama's {}", store.display()));
    let studio = local::lm_studio_folders().into_iter().map(|folder| format!("LM Studio's {}", folder.display()));
    let found: Vec<_> = stores.chain(studio).collect();
    Check::ok("other models", if found.is_empty() { "none".to_owned() } else { found.join(", ") })
}

fn environment() -> Check {
    const VARIABLES: [&str; 16] = [
        "TALLOW_MODELS",
        "TALLOW_KERNELS",
        "TALLOW_LOG",
        "HF_HOME",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "XDG_CACHE_HOME",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_HUB_DOWNLOAD_TIMEOUT",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "OLLAMA_MODELS",
    ];
    let value = |name: &&str| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
        // The address of a proxy may hold a password.
        let is_secret = name.ends_with("_PROXY") && value.contains('@');
        Some(format!("{name}={}", if is_secret { "(set)" } else { &value }))
    };
    let set: Vec<_> = VARIABLES.iter().filter_map(value).collect();
    Check::ok("environment", if set.is_empty() { "nothing set".to_owned() } else { set.join(" ") })
}

fn token(hub: &HubOptions) -> Check {
    Check::ok("token", if hub.token.is_some() { "set" } else { "none; only gated and private models need one" })
}

#[cfg(feature = "hub")]
fn network(hub: &HubOptions) -> Check {
    if hub.offline {
        return Check::ok("hub", format!("{}, not asked: offline", hub.endpoint));
    }
    match hub::reachable(hub, std::time::Duration::from_secs(5)) {
        Ok(()) => Check::ok("hub", format!("{} answers", hub.endpoint)),
        Err(error) => {
            let advice = "look at the connection, HTTPS_PROXY and HF_ENDPOINT; what is on this machine runs without";
            Check::bad("hub", State::Warning, error.to_string(), advice)
        }
    }
}

#[cfg(not(feature = "hub"))]
fn network(_: &HubOptions) -> Check {
    Check::ok("hub", "not in this build: models are not fetched")
}

fn default_model(hub: &HubOptions) -> Check {
    let name = "default model";
    let loaded = match tallow::find_with(crate::cli::DEFAULT_MODEL, hub) {
        Ok(Found::Here(files)) => Model::at(files, &LoadOptions { context: Some(64), ..LoadOptions::default() }),
        Ok(Found::Hub(_)) => {
            let advice = format!(
                "`tallow pull {}` fetches it, or set TALLOW_MODELS to the folder that has it",
                crate::cli::DEFAULT_MODEL
            );
            return Check::bad(name, State::Warning, "not on this machine", advice);
        }
        Err(error) => Err(error),
    };
    match loaded {
        Ok(model) => Check::ok(name, format!("{} loads", model.info().name)),
        Err(error) => Check::bad(name, State::Problem, error.to_string(), "fetch it again: its file may be damaged"),
    }
}
