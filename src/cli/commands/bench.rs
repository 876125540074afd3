//! `tallow bench`: how fast models read and write, with llama-bench's flags, test names and JSON keys.
//!
//! Our own keys stand after llama-bench's: an interval, memory, and the share of the machine's limits. A figure that does not
//! apply (the limits of a GPU, the first token of a test without a prompt) is null.

mod list;
mod readings;
mod report;

use crate::cli::args::fetch::Network;
use crate::cli::args::shared::{Cache, Quantise};
use crate::cli::ui::{complete, failure};
use crate::cli::{DEFAULT_MODEL, Detail};
use clap_complete::ArgValueCompleter;
use list::{List, PromptAndGenerate};
use readings::Readings;
use report::{Format, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tallow::bench::{CHUNK, Peer, Plan, Roofline, Runner, Test, measure, reset_peak_memory};
use tallow::cpu::{Kernels, MOST_THREADS};
use tallow::device::default_threads;
use tallow::spec::Spec;
use tallow::{CacheType, DeviceChoice, EmbedOptions, Embedder, Error, LoadOptions, Model, ModelInfo};

const LISTS: &str = "\
A LIST is numbers and ranges with commas between them: `128,512`, `1-4`, `0-1024+256` (steps), `16-256*2` (factors).

Reported beside llama-bench's columns: the 95 % interval of the mean (bootstrap), the share of the measured read bandwidth for \
tg, and for pp and embed the share of the multiply peak that this kernel set reaches in registers. embed32x128 is 32 texts of \
128 tokens that become vectors together.";

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = LISTS)]
pub struct Args {
    /// The models
    #[arg(short, long, value_name = "MODEL", value_delimiter = ',', default_value = DEFAULT_MODEL,
        add = ArgValueCompleter::new(complete::models))]
    model: Vec<String>,
    /// Time how vectors of texts are made, in place of reading and writing
    #[arg(long, conflicts_with_all = ["n_gen", "pg", "n_depth", "peer"])]
    embed: bool,
    /// With --embed: texts that are embedded together [default: 1,32]
    #[arg(long, value_name = "LIST", allow_negative_numbers = true, requires = "embed")]
    texts: Vec<List>,
    /// Prompt lengths to read, in tokens; 0 for none; with --embed the lengths of texts [default: 512; 32,128]
    #[arg(short = 'p', long, alias = "n_prompt", value_name = "LIST", allow_negative_numbers = true)]
    n_prompt: Vec<List>,
    /// Numbers of tokens to generate, one after another; 0 for none [default: 128]
    #[arg(short = 'n', long, alias = "n_gen", value_name = "LIST", allow_negative_numbers = true)]
    n_gen: Vec<List>,
    /// A prompt and a generation timed together; llama-bench's `-pg` is understood, too
    #[arg(long, value_name = "PP,TG")]
    pg: Vec<PromptAndGenerate>,
    /// Tokens already in the cache before the timing starts [default: 0]
    #[arg(short = 'd', long, alias = "n_depth", value_name = "LIST", allow_negative_numbers = true)]
    n_depth: Vec<List>,
    /// Samples of each test
    #[arg(short, long, value_name = "N", allow_negative_numbers = true, default_value_t = 5)]
    repetitions: usize,
    /// Threads on the CPU [default: the physical cores]
    #[arg(short, long, value_name = "LIST", allow_negative_numbers = true)]
    threads: Vec<List>,
    /// Where to run: auto, cpu, cuda, cuda:N, metal, cpu-reference (candle's ops); several with commas, side by side
    #[arg(long, value_name = "DEVICE", value_delimiter = ',', default_value = "auto")]
    device: Vec<DeviceChoice>,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    quantise: Quantise,
    #[command(flatten)]
    network: Network,
    /// How to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Md)]
    output: Format,
    /// Start with the first sample, cold
    #[arg(long, alias = "no_warmup")]
    no_warmup: bool,
    /// Tokens that are read in one forward [default: 512; with --embed as in `tallow embed`]
    #[arg(short, long, alias = "batch_size", value_name = "N", allow_negative_numbers = true)]
    batch_size: Option<usize>,
    /// Run llama.cpp's tool on the same files, in turn with ours, and print the ratio: `llama-bench=PATH`
    #[arg(long, value_name = "NAME=PATH", value_parser = peer)]
    peer: Option<PathBuf>,
    /// Seed of the random tokens and of the bootstrap
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 0)]
    seed: u64,
}

/// llama-bench writes `-pg`, which would be `-p g` here: `tallow bench -pg 512,128` is read as `--pg`.
pub fn with_llama_bench_flags(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let args: Vec<OsString> = args.collect();
    // The first word that is neither a flag nor the value of one: of the flags before a command only --color has a value.
    let words = args.iter().zip(args.iter().skip(1)).filter(|(before, _)| *before != "--color").map(|(_, word)| word);
    let command = words.into_iter().find(|word| !word.to_string_lossy().starts_with('-'));
    if command.is_none_or(|command| command != "bench") {
        return args;
    }
    args.into_iter().map(|arg| if arg == "-pg" { "--pg".into() } else { arg }).collect()
}

impl Args {
    /// In llama-bench's order: for each depth the prompts, the generations, then both together.
    fn tests(&self) -> Vec<Test> {
        let numbers = |lists: &[List], usual: &[usize]| match lists.is_empty() {
            true => usual.to_vec(),
            false => lists.iter().flat_map(|list| list.0.clone()).collect::<Vec<_>>(),
        };
        let mut tests = Vec::new();
        if self.embed {
            for prompt in numbers(&self.n_prompt, &[32, 128]) {
                let texts = numbers(&self.texts, &[1, 32]).into_iter().filter(|texts| *texts > 0 && prompt > 0);
                tests.extend(texts.map(|texts| Test { prompt, generate: 0, depth: 0, texts }));
            }
            return tests;
        }
        for depth in numbers(&self.n_depth, &[0]) {
            let test = |prompt, generate| Test { prompt, generate, depth, texts: 0 };
            let prompts = numbers(&self.n_prompt, &[512]).into_iter().map(|prompt| test(prompt, 0));
            let generations = numbers(&self.n_gen, &[128]).into_iter().map(|generate| test(0, generate));
            let both = self.pg.iter().map(|pg| test(pg.prompt, pg.generate));
            tests.extend(prompts.chain(generations).chain(both).filter(|test| test.tokens() > 0));
        }
        tests
    }

    fn threads(&self) -> Vec<usize> {
        match self.threads.is_empty() {
            true => vec![default_threads()],
            false => self.threads.iter().flat_map(|list| list.0.clone()).collect(),
        }
    }
}

/// A model that is ready, and how it got there.
struct Ready {
    name: String,
    model: Subject,
    load: Duration,
}

/// What is measured.
enum Subject {
    Model(Model),
    Embedder(Embedder),
}

impl Subject {
    fn info(&self) -> &ModelInfo {
        match self {
            Subject::Model(model) => model.info(),
            Subject::Embedder(embedder) => embedder.info(),
        }
    }

    fn spec(&self) -> &Spec {
        match self {
            Subject::Model(model) => model.spec(),
            Subject::Embedder(embedder) => embedder.spec(),
        }
    }

    fn runner(&self) -> Runner<'_> {
        match self {
            Subject::Model(model) => Runner::Model(model),
            Subject::Embedder(embedder) => Runner::Embedder(embedder),
        }
    }
}

/// Runs the command.
pub fn run(args: Args, detail: Detail) -> anyhow::Result<()> {
    let tests = args.tests();
    let threads = args.threads();
    let embedding = EmbedOptions::default();
    let batch = args.batch_size.unwrap_or(if args.embed { embedding.batch_tokens } else { CHUNK });
    if tests.is_empty() || args.repetitions == 0 || batch == 0 {
        return Err(failure::usage("nothing to measure: -p, -n, --pg and --texts name no tokens, or -r or -b is 0"));
    }
    // clap would take what is not given for given, as it has a default.
    if args.embed && args.cache.cache_type != CacheType::Auto {
        return Err(failure::usage("--embed reads texts without a cache: --cache-type can not be used with it"));
    }
    if let Some(bad) = threads.iter().find(|threads| !(1..=MOST_THREADS).contains(*threads)) {
        return Err(failure::usage(format!("{bad} threads: expected 1 to {MOST_THREADS}")));
    }
    let devices = usable(&args.device)?;
    let rooflines = rooflines(&devices, &threads)?;
    // The buffer that was read is gone; without a new start the peak would be its.
    let tells_peak = reset_peak_memory();

    // A context has two positions at least.
    let longest = tests.iter().map(|test| (test.depth + test.tokens()).max(2)).max();
    let mut ready = Vec::new();
    for name in &args.model {
        let files = args.network.ensure(name, detail)?;
        for &device in &devices {
            // Threads are the CPU's: another device is loaded once.
            let threads = if is_cpu(device) { &threads[..] } else { &threads[..1] };
            for &threads in threads {
                let (context, threads) = (longest, Some(threads));
                let options =
                    LoadOptions { device, threads, context, cache_type: args.cache.cache_type, ..LoadOptions::default() };
                let options = args.quantise.of(options);
                let start = Instant::now();
                let model = if args.embed {
                    let load = LoadOptions { context: None, ..options };
                    let options = EmbedOptions { batch_tokens: batch, ..embedding.clone() };
                    Subject::Embedder(Embedder::at(files.clone(), &load, &options)?)
                } else {
                    Subject::Model(Model::at(files.clone(), &options)?)
                };
                ready.push(Ready { name: name.clone(), model, load: start.elapsed() });
            }
        }
    }
    let plan = Plan { repetitions: args.repetitions, warm_up: !args.no_warmup, seed: args.seed, batch };
    let mut peers = match &args.peer {
        Some(program) => peers(program, &ready, batch),
        None => Vec::new(),
    };
    let runners = ready.iter().map(|ready| ready.model.runner());
    let runners = runners.chain(peers.iter_mut().map(|(_, peer)| Runner::Peer(peer))).collect();
    let mut readings = Readings::new(tells_peak);
    let measurements = measure(runners, &tests, plan, &mut |runner, test| {
        if let Some(ready) = ready.get(runner).filter(|ready| test.prompt == 0 && is_cpu(ready.model.info().device)) {
            readings.take(runner, *test, ready.model.info().threads);
        }
    })?;
    let peak_rss = readings.peak();
    let rows: Vec<Row> = measurements
        .iter()
        .map(|one| {
            let Some(ready) = ready.get(one.runner) else {
                let (against, peer) = &peers[one.runner - ready.len()];
                let ours = measurements.iter().find(|ours| ours.runner == *against && ours.test == one.test);
                return Row::of_peer(peer, &ready[*against], one, ours, args.seed);
            };
            let mut roofline = rooflines.get(&ready.model.info().threads).copied();
            if let (Some(roofline), Some(read)) = (&mut roofline, readings.mean(one)) {
                roofline.bandwidth = read;
            }
            Row::new(ready, one, roofline.as_ref(), peak_rss, &plan)
        })
        .collect();
    report::print(args.output, &rows, &rooflines, &readings)
}

/// `llama-bench=PATH`.
fn peer(text: &str) -> Result<PathBuf, String> {
    match text.split_once('=') {
        Some(("llama-bench", path)) if !path.is_empty() => Ok(path.into()),
        _ => Err("expected llama-bench=PATH, the path of llama.cpp's tool".to_owned()),
    }
}

/// A peer for each model that it can run, with the index of what it is compared with.
fn peers(program: &Path, ready: &[Ready], batch: usize) -> Vec<(usize, Peer)> {
    let mut peers = Vec::new();
    for (i, Ready { name, model, .. }) in ready.iter().enumerate() {
        let info = model.info();
        match &info.path {
            Some(path) if info.format == "gguf" && is_cpu(info.device) => {
                peers.push((i, Peer::new(program, path, info.threads, batch, info.cache_type)));
            }
            _ => log::warn!("{name} on {} has no peer: llama-bench is run on GGUF files, on the CPU", info.device),
        }
    }
    peers
}

/// The devices that there are, opened to see whether they work. Those that are missing get a warning.
fn usable(wanted: &[DeviceChoice]) -> anyhow::Result<Vec<DeviceChoice>> {
    let (mut found, mut missing) = (Vec::new(), None);
    for &device in wanted {
        match device.available() {
            Ok(device) if found.contains(&device) => (),
            Ok(device) => found.push(device),
            Err(error) => {
                match device.is_built() {
                    true => log::warn!("{device} is left out: {error}"),
                    false => log::warn!("{device} is left out: this build has no code for it (see `tallow devices`)"),
                }
                missing = Some(error);
            }
        }
    }
    match missing {
        Some(error) if found.is_empty() => Err(anyhow::Error::new(error).context("no device to measure on")),
        _ => Ok(found),
    }
}

/// Runs on the CPU with our own kernels, so that threads and limits apply.
fn is_cpu(device: DeviceChoice) -> bool {
    device == DeviceChoice::Cpu
}

/// The limits for each number of threads on the CPU.
fn rooflines(devices: &[DeviceChoice], threads: &[usize]) -> Result<BTreeMap<usize, Roofline>, Error> {
    if !devices.iter().any(|device| is_cpu(*device)) {
        return Ok(BTreeMap::new());
    }
    let kernels = Kernels::get()?;
    let distinct: BTreeSet<usize> = threads.iter().copied().collect();
    Ok(distinct.into_iter().map(|threads| (threads, Roofline::measure(kernels, threads))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }

    fn names(line: &str) -> Vec<String> {
        let words = with_llama_bench_flags(line.split(' ').map(OsString::from)).into_iter().skip(1);
        Alone::try_parse_from(words).unwrap().args.tests().iter().map(Test::to_string).collect()
    }

    #[test]
    fn the_tests_are_those_that_llama_bench_would_run() {
        assert_eq!(names("tallow bench"), ["pp512", "tg128"]);
        assert_eq!(names("tallow bench -p 0 -n 16-64*2"), ["tg16", "tg32", "tg64"]);
        assert_eq!(names("tallow bench -p 8 -n 0 -pg 4,2 -pg 5,0"), ["pp8", "pp4+tg2", "pp5"]);
        assert_eq!(names("tallow bench -p 8,16 -n 4 -d 0,32"), ["pp8", "pp16", "tg4", "pp8 @ d32", "pp16 @ d32", "tg4 @ d32"]);
        assert_eq!(names("tallow bench -p 8 -p 9 -n 0"), ["pp8", "pp9"]);
        assert_eq!(names("tallow bench --embed"), ["embed1x32", "embed32x32", "embed1x128", "embed32x128"]);
        assert_eq!(names("tallow bench --embed -p 8,16 --texts 3"), ["embed3x8", "embed3x16"]);
    }

    #[test]
    fn only_bench_has_llama_benchs_spelling() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (line, expected) in [
            ("tallow -v bench -pg 1,2", "tallow -v bench --pg 1,2"),
            ("tallow --color never bench -pg 1,2", "tallow --color never bench --pg 1,2"),
            ("tallow run -pg", "tallow run -pg"),
            ("tallow run bench -pg", "tallow run bench -pg"),
        ] {
            assert_eq!(with_llama_bench_flags(words(line).into_iter()), words(expected));
        }
    }
}
