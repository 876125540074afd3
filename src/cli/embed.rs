//! `tallow embed`: texts to vectors, from the command line, a file or a pipe, at flat memory however many there are.
//!
//! What was interrupted can be resumed where the output is a file of JSON lines: its complete rows stand, each input behind
//! them is embedded once.

mod read;
mod resume;
mod similarity;
mod write;

use super::args::{Device, Quantise, Source};
use super::failure::usage;
use super::fetch::Network;
use super::{Detail, complete, interrupt, output};
use clap_complete::ArgValueCompleter;
use read::{InputFormat, Record, Records};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tallow::{EmbedOptions, Embedder, Pooling, Prompt};
use write::{Format, Sink};

const EXAMPLES: &str = "\
Examples:
  tallow embed all-minilm \"The lamp is lit at dusk.\"
  tallow embed all-minilm \"The lamp is lit at dusk.\" \"Soup\" \"A beacon\" --similarity
  tallow embed all-minilm -f lines.txt --to vectors.npy
  tallow embed all-minilm -f rows.jsonl --field body --to vectors.jsonl --resume

A row of JSON lines is {\"id\": ..., \"tokens\": N, \"embedding\": [...]}, with the input's id, or an index from 0 in its place;
\"cut_from\" is the number of tokens of a text of which only the first were read. JSON is an array for one text in the
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
    /// How the file is divided: a text a line, or JSON lines [default: jsonl for a FILE.jsonl, else lines]
    #[arg(long, alias = "input_format", value_enum, value_name = "FORMAT")]
    input_format: Option<InputFormat>,
    /// Where JSON lines hold the text
    #[arg(long, value_name = "KEY", default_value = "text")]
    field: String,
    /// How tokens become one vector: auto (as the model says), mean, cls, last, max, none (a vector for each token)
    #[arg(long, value_name = "POOLING", default_value = "auto", value_parser = pooling)]
    pooling: Auto<Pooling>,
    /// Divide vectors by their length: l2, none [default: as the model says]
    #[arg(long, alias = "normalise", value_name = "NORM", default_value = "auto", hide_default_value = true, value_parser = norm)]
    normalize: Auto<bool>,
    /// Keep that many of the first dimensions
    #[arg(long, value_name = "N")]
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
    /// Cut texts after that many tokens [default: what the model reads]
    #[arg(long, alias = "max_tokens", value_name = "N")]
    max_tokens: Option<usize>,
    /// Tokens that are read in one forward
    #[arg(long, alias = "batch_tokens", value_name = "N", default_value_t = EmbedOptions::default().batch_tokens)]
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
            batch_tokens: self.batch_tokens,
            cancel: None,
        }
    }

    fn format(&self) -> Format {
        let named = self.to.as_deref().and_then(Format::of);
        let usual = if self.texts.is_empty() { Format::Jsonl } else { Format::Json };
        self.output.or(self.json.then_some(Format::Json)).or(named).unwrap_or(usual)
    }

    /// Where the texts come from.
    fn records(&mut self) -> anyhow::Result<Records> {
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
        let is_jsonl = source.0.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"));
        let format = self.input_format.unwrap_or(if is_jsonl { InputFormat::Jsonl } else { InputFormat::Lines });
        Records::open(&source, format, &self.field)
    }
}

/// Runs the command.
pub fn run(mut args: Args, detail: Detail) -> anyhow::Result<()> {
    let (format, alone) = (args.format(), args.texts.len() == 1);
    if args.resume && format != Format::Jsonl {
        return Err(usage("--resume needs a file of JSON lines: --to FILE.jsonl, or --output jsonl"));
    }
    if args.pooling.0 == Some(Pooling::None) && (args.similarity || matches!(format, Format::Npy | Format::Raw)) {
        return Err(usage("with --pooling none a text has many vectors: print them with --output json or jsonl"));
    }
    interrupt::listen();
    // What is wrong with the input is known before the model is loaded.
    let options = args.options();
    let counted = args.texts.is_empty();
    let mut records = args.records()?;
    let located = args.network.locate(&args.model, detail)?;
    let embedder = Embedder::at(located, &args.quantise.of(args.device.options()), &options)?;
    if embedder.pooling() == Pooling::None && (args.similarity || matches!(format, Format::Npy | Format::Raw)) {
        return Err(usage("this model pools nothing, so a text has many vectors: print them with --output json or jsonl"));
    }
    if args.similarity {
        let format = args.output.or(args.json.then_some(Format::Json)).or(args.to.as_deref().and_then(Format::of));
        return similarity::run(&embedder, &mut records, format, args.to.as_deref());
    }
    let mut sink = match (&args.to, args.resume) {
        (Some(path), true) => Sink::new(format, resume::open(path, &mut records, &embedder)?, alone),
        (Some(path), false) => Sink::new(format, write::create(path)?, alone),
        (None, _) => Sink::new(format, write::stdout(), alone),
    };
    let mut progress = Progress::new(detail, counted);
    let mut failed = None;
    let stream = std::iter::from_fn(|| match records.next()? {
        Ok(record) => Some(record),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    // An error in the input ends the stream, so that what came before it is written.
    for embedding in embedder.embed_iter(stream) {
        let embedding = embedding?;
        progress.add(embedding.tokens);
        sink.write(embedding, embedder.dimensions(), embedder.pooling() == Pooling::None)?;
    }
    if let Some(error) = failed {
        sink.flush()?;
        return Err(error);
    }
    sink.finish(embedder.dimensions())?;
    progress.finish();
    Ok(())
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
