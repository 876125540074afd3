//! `tallow embed`: texts to vectors, from the command line, a file or a pipe, at flat memory however many there are.
//!
//! What was interrupted can be resumed where the output is a file of JSON lines: its complete rows stand, each input behind
//! them is embedded once.

mod read;
mod resume;
mod similarity;
mod write;

use crate::cli::Detail;
use crate::cli::args::fetch::Network;
use crate::cli::args::shared::{Device, Quantise, Source};
use crate::cli::ui::failure::usage;
use crate::cli::ui::{complete, interrupt, output};
use clap_complete::ArgValueCompleter;
use read::{InputFormat, Place, Record, Records};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tallow::{Cancel, EmbedOptions, Embedder, Error, Pooling, Prompt};
use write::{Format, Sink};

const EXAMPLES: &str = "\
Examples:
  tallow embed all-minilm \"The lamp is lit at dusk.\"
  tallow embed all-minilm \"The lamp is lit at dusk.\" \"Soup\" \"A beacon\" --similarity
  tallow embed all-minilm -f lines.txt --to vectors.npy
  tallow embed all-minilm -f rows.jsonl --field body --to vectors.jsonl --resume

A row of JSON lines is {\"id\": ..., \"tokens\": N, \"embedding\": [...]}, with the input's id, or an index from 0 in its place; \
\"cut_from\" is the number of tokens of a text of which only the first were read. JSON is an array for one text in the \
arguments, and an array of arrays otherwise.";

/// Arguments of `embed`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "tallow embed [OPTIONS] <MODEL> [TEXT]...", after_help = EXAMPLES)]
pub struct Args {
    /// The model
    #[arg(add = ArgValueCompleter::new(complete::models))]
    model: String,
    /// The texts; without any and without --file, stdin
    texts: Vec<String>,
    /// A file of texts; `-` is stdin
    #[arg(short, long, conflicts_with = "texts")]
    file: Option<Source>,
    /// How the file is divided: a text a line, or JSON lines [default: jsonl for FILE.jsonl and FILE.ndjson, else lines]
    #[arg(long, alias = "input_format", value_enum, value_name = "FORMAT", conflicts_with = "texts")]
    input_format: Option<InputFormat>,
    /// Where JSON lines hold the text [default: text]
    #[arg(long, value_name = "KEY", conflicts_with = "texts")]
    field: Option<String>,
    /// How tokens become one vector: auto (as the model says), mean, cls, last, max, none (a vector for each token)
    #[arg(long, value_name = "POOLING", default_value = "auto", value_parser = pooling)]
    pooling: Auto<Pooling>,
    /// Divide vectors by their length: l2, none [default: as the model says]
    #[arg(long, alias = "normalise", value_name = "NORM", default_value = "auto", hide_default_value = true, value_parser = norm)]
    normalize: Auto<bool>,
    /// Keep that many of the first dimensions
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    dimensions: Option<usize>,
    /// Write the model's prompt of this name before each text: query, document
    #[arg(long, alias = "prompt_name", value_name = "NAME")]
    prompt_name: Option<String>,
    /// Write this before each text
    #[arg(long, value_name = "TEXT", conflicts_with = "prompt_name", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Cut texts that are longer than the model reads, with a warning; `false` makes them an error
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
    truncate: bool,
    /// Cut texts after that many tokens [default: as the model says; at most its positions]
    #[arg(long, alias = "max_tokens", value_name = "N", allow_negative_numbers = true)]
    max_tokens: Option<usize>,
    /// Special tokens in a text are plain text
    #[arg(long, alias = "no_parse_special")]
    no_parse_special: bool,
    /// Tokens that are read in one forward
    #[arg(long, alias = "batch_tokens", value_name = "N", allow_negative_numbers = true, default_value_t = EmbedOptions::default().batch_tokens)]
    batch_tokens: usize,
    /// How to print [default: by the name of --to; else json for arguments, jsonl for files]
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// The same as --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Write to a file in place of stdout
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Go on with the JSON lines of --to where they end
    #[arg(long, requires = "to", conflicts_with = "similarity")]
    resume: bool,
    /// Print how alike each two of the texts are, in place of the vectors
    #[arg(long)]
    similarity: bool,
    #[command(flatten)]
    quantise: Quantise,
    #[command(flatten)]
    device: Device,
    #[command(flatten)]
    network: Network,
}

/// A choice, or what the model says.
#[derive(Debug, Clone, Copy)]
struct Auto<T>(Option<T>);

fn pooling(name: &str) -> Result<Auto<Pooling>, String> {
    match name {
        "auto" => Ok(Auto(None)),
        name => name.parse().map(|pooling| Auto(Some(pooling))).map_err(|e: tallow::Error| e.to_string()),
    }
}

fn norm(name: &str) -> Result<Auto<bool>, String> {
    match name {
        "auto" => Ok(Auto(None)),
        "l2" => Ok(Auto(Some(true))),
        "none" => Ok(Auto(Some(false))),
        _ => Err("expected l2 or none".to_owned()),
    }
}

impl Args {
    fn options(&self) -> EmbedOptions {
        let prompt = match (&self.prompt, &self.prompt_name) {
            (Some(text), _) => Prompt::Text(text.clone()),
            (None, Some(name)) => Prompt::Named(name.clone()),
            (None, None) => Prompt::Default,
        };
        EmbedOptions {
            pooling: self.pooling.0,
            normalise: self.normalize.0,
            dimensions: self.dimensions,
            prompt,
            max_tokens: self.max_tokens,
            truncate: self.truncate,
            plain: self.no_parse_special,
            batch_tokens: self.batch_tokens,
            cancel: None,
        }
    }

    /// What is asked for, or said by the name of --to.
    fn named_format(&self) -> Option<Format> {
        self.output.or(self.json.then_some(Format::Json)).or(self.to.as_deref().and_then(Format::of))
    }

    fn format(&self) -> anyhow::Result<Format> {
        let extension = self.to.as_deref().and_then(Path::extension);
        match (self.named_format(), extension) {
            (Some(format), _) => Ok(format),
            (None, Some(extension)) if !self.similarity => Err(usage(format!(
                "--to FILE.{} does not say how to print: name it .json, .jsonl, .npy or .raw, or give --output",
                extension.display()
            ))),
            (None, _) => Ok(if self.texts.is_empty() { Format::Jsonl } else { Format::Json }),
        }
    }

    /// Refuses an output that is the input, and would be emptied.
    fn check_files(&self) -> anyhow::Result<()> {
        let Some(to) = &self.to else { return Ok(()) };
        let stdin = Path::new("/dev/stdin");
        let from = match &self.file {
            Some(source) if !source.is_stdin() => source.0.as_path(),
            _ if self.texts.is_empty() => stdin,
            _ => return Ok(()),
        };
        if same_file(from, to) {
            let name = if from == stdin { "stdin".into() } else { from.display().to_string() };
            return Err(usage(format!("--to {} is the file of the texts ({name}): give another", to.display())));
        }
        Ok(())
    }

    /// Where the texts come from.
    fn records(&mut self, cancel: &Cancel) -> anyhow::Result<Records> {
        if !self.texts.is_empty() {
            return Ok(Records::given(std::mem::take(&mut self.texts)));
        }
        let source = match self.file.take() {
            Some(source) => source,
            None if std::io::stdin().is_terminal() => {
                return Err(usage("nothing to embed: give texts, a file with -f, or pipe lines in"));
            }
            None => Source("-".into()),
        };
        let is_jsonl = Format::of(&source.0) == Some(Format::Jsonl);
        let format = self.input_format.unwrap_or(if is_jsonl { InputFormat::Jsonl } else { InputFormat::Lines });
        if format == InputFormat::Lines && self.field.is_some() {
            return Err(usage("--field names a key of JSON lines, the input is plain lines; for JSON: --input-format jsonl"));
        }
        Records::open(&source, format, self.field.as_deref().unwrap_or("text"), cancel)
    }
}

/// Runs the command.
pub fn run(mut args: Args, detail: Detail) -> anyhow::Result<()> {
    let (format, alone) = (args.format()?, args.texts.len() == 1);
    if args.resume && format != Format::Jsonl {
        return Err(usage("--resume needs a file of JSON lines: --to FILE.jsonl, or --output jsonl"));
    }
    if args.pooling.0 == Some(Pooling::None) && (args.similarity || matches!(format, Format::Npy | Format::Raw)) {
        return Err(usage("with --pooling none a text has many vectors: print them with --output json or jsonl"));
    }
    args.check_files()?;
    interrupt::listen();
    // What is wrong with the input is known before the model is loaded.
    let cancel = Cancel::default();
    let options = EmbedOptions { cancel: Some(cancel.clone()), ..args.options() };
    let counted = args.texts.is_empty();
    let mut records = args.records(&cancel)?;
    let files = args.network.ensure(&args.model, detail)?;
    let embedder = Embedder::at(files, &args.quantise.of(args.device.options()), &options)?;
    if embedder.pooling() == Pooling::None && (args.similarity || matches!(format, Format::Npy | Format::Raw)) {
        return Err(usage("this model pools nothing, so a text has many vectors: print them with --output json or jsonl"));
    }
    if args.similarity {
        return similarity::run(&embedder, &mut records, args.named_format(), args.to.as_deref());
    }
    let mut sink = match (&args.to, args.resume) {
        (Some(path), true) => Sink::new(format, resume::open(path, &mut records, &embedder)?, alone),
        (Some(path), false) => Sink::new(format, write::create(path, Some(format))?, alone),
        (None, _) => Sink::new(format, write::stdout(), alone),
    };
    // Ctrl-C ends the stream: what stdout has becomes whole, and of a file the rows are kept.
    interrupt::set(interrupt::Target::Answer(cancel));
    let input = records.name().to_owned();
    let (mut progress, mut cut) = (Progress::new(detail, counted), Cut::default());
    let mut failed = None;
    // Where the texts are from that were read and are not written.
    let places = RefCell::new(VecDeque::new());
    let stream = std::iter::from_fn(|| match records.next()? {
        Ok(record) => {
            places.borrow_mut().push_back(record.place.clone());
            Some(record)
        }
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let mut stopped = None;
    for embedding in embedder.embed_iter(stream).silent() {
        let place = places.borrow_mut().pop_front();
        let told = || place.map_or_else(|| input.clone(), |place: Place| place.told(&input));
        match embedding {
            Ok(embedding) => {
                cut.add(embedding.cut_from, told);
                progress.add(embedding.tokens);
                sink.write(embedding, embedder.dimensions(), embedder.pooling() == Pooling::None)?;
            }
            Err(error) => stopped = Some(too_long(error, told)),
        }
    }
    cut.warn(embedder.max_tokens());
    // An error of the input ends the stream, so that what came before it is written. One in the texts comes before it.
    if let Some(error) = stopped.or(failed) {
        sink.stop(embedder.dimensions())?;
        return Err(error);
    }
    sink.finish(embedder.dimensions())?;
    progress.finish();
    Ok(())
}

/// Names the text that must not be cut.
fn too_long(error: Error, told: impl FnOnce() -> String) -> anyhow::Error {
    match error {
        Error::TextTooLong { text, tokens, limit, .. } => {
            let told = told();
            anyhow::anyhow!(
                "{told}: {text:?} has {tokens} tokens, {limit} are read; shorten it, or cut it with --truncate true"
            )
        }
        error => error.into(),
    }
}

/// The texts that were cut.
#[derive(Default)]
struct Cut {
    first: Option<(String, usize)>,
    count: usize,
    of: usize,
}

impl Cut {
    fn add(&mut self, cut_from: Option<usize>, told: impl FnOnce() -> String) {
        self.of += 1;
        if let Some(tokens) = cut_from {
            self.count += 1;
            self.first.get_or_insert_with(|| (told(), tokens));
        }
    }

    fn warn(&self, limit: usize) {
        if let Some((told, tokens)) = &self.first {
            let Cut { count, of, .. } = self;
            log::warn!("{count} of {of} texts were cut to {limit} tokens; the first is {told}, with {tokens} tokens");
        }
    }
}

/// Whether two names are of one regular file. One that does not exist is none.
fn same_file(a: &Path, b: &Path) -> bool {
    let (Ok(first), Ok(second)) = (a.metadata(), b.metadata()) else { return false };
    if !first.is_file() || !second.is_file() {
        return false;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (first.dev(), first.ino()) == (second.dev(), second.ino())
    }
    #[cfg(not(unix))]
    {
        matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
    }
}

/// How far it is, on a terminal.
struct Progress {
    shown: Option<output::Waiting>,
    start: Instant,
    said: Instant,
    texts: u64,
    tokens: u64,
}

/// How often the line changes.
const OFTEN: Duration = Duration::from_millis(100);

impl Progress {
    fn new(detail: Detail, shown: bool) -> Progress {
        let shown = (shown && detail != Detail::Quiet && std::io::stderr().is_terminal())
            .then(|| output::wait(detail, "embedding".into()));
        let start = Instant::now();
        Progress { shown, start, said: start, texts: 0, tokens: 0 }
    }

    fn add(&mut self, tokens: usize) {
        self.texts += 1;
        self.tokens += tokens as u64;
        if let Some(shown) = &self.shown
            && self.said.elapsed() > OFTEN
        {
            shown.say(self.text());
            self.said = Instant::now();
        }
    }

    fn text(&self) -> String {
        let seconds = self.start.elapsed().as_secs_f64().max(1e-9);
        let rate = |count: u64| count as f64 / seconds;
        let (texts, tokens) = (self.texts, self.tokens);
        format!("{texts} texts, {tokens} tokens in {seconds:.1} s: {:.0} texts/s, {:.0} tokens/s", rate(texts), rate(tokens))
    }

    /// What it came to: a line on a terminal, a note for those who asked for notes.
    fn finish(mut self) {
        let text = self.text();
        match self.shown.take() {
            Some(shown) => {
                drop(shown);
                output::note(format_args!("{text}\n"));
            }
            None => log::info!("{text}"),
        }
    }
}
