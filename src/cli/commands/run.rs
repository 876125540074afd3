//! `tallow run`: answer one prompt, or chat where there is none and a terminal to ask.
//!
//! The prompt goes through the model's chat template unless `--raw` is given; a model without one gets it as it stands. The
//! answer is streamed, or printed as one JSON object with Ollama's keys and ours.

use crate::cli::Detail;
use crate::cli::args::fetch::Network;
use crate::cli::args::input::{self, Request};
use crate::cli::args::parameters::{self, Parameters};
use crate::cli::args::shared::{Cache, Device, OnOverflow, Source};
use crate::cli::commands::chat;
use crate::cli::ui::answer::{Answer, Scored, Times};
use crate::cli::ui::failure::usage;
use crate::cli::ui::{complete, interrupt, output};
use anyhow::Context;
use clap::ColorChoice;
use clap_complete::ArgValueCompleter;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tallow::{
    Checkpoint, DoneReason, Error, GenerateOptions, Generation, LoadOptions, Message, Model, ModelFiles, Overflow, Session,
};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "tallow run [OPTIONS] [MODEL] [PROMPT]...")]
pub struct Args {
    /// A model, a prompt, or both: alone, one word is a model and a text with spaces is a prompt
    #[arg(value_name = "MODEL] [PROMPT", add = ArgValueCompleter::new(complete::models))]
    words: Vec<String>,
    /// The model
    #[arg(short, long, add = ArgValueCompleter::new(complete::models))]
    model: Option<String>,
    /// The prompt
    #[arg(short, long, allow_hyphen_values = true)]
    prompt: Option<String>,
    /// A file with the prompt; `-` is stdin
    #[arg(short, long, conflicts_with = "prompt")]
    file: Option<Source>,
    /// What the model shall keep to: the chat's system message, in place of the model's own if it has one
    #[arg(long, value_name = "TEXT", conflicts_with = "raw", allow_hyphen_values = true)]
    system: Option<String>,
    /// A file with a chat template to use in place of the model's
    #[arg(long, aliases = ["chat_template", "chat-template-file"], value_name = "FILE", conflicts_with = "raw")]
    chat_template: Option<PathBuf>,
    /// Continue the prompt as it stands, without the chat template
    #[arg(long)]
    raw: bool,
    /// Special tokens that the prompt spells are plain text
    #[arg(long, alias = "no_parse_special")]
    no_parse_special: bool,
    /// Go on after an end token
    #[arg(long, alias = "ignore_eos")]
    ignore_eos: bool,
    /// What to do with a prompt that does not fit into the context: error = refuse it; truncate = drop a chat's oldest messages, of
    /// a --raw prompt the oldest tokens [default: error; in a chat at the terminal: truncate]
    #[arg(long, value_name = "WHAT")]
    overflow: Option<OnOverflow>,
    /// A parameter by its name in Ollama (num_ctx, top_k, stop, ...); a flag of the same meaning wins; repeatable
    #[arg(short, long = "option", value_name = "KEY=VALUE", allow_hyphen_values = true)]
    options: Vec<String>,
    #[command(flatten)]
    device: Device,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    network: Network,
    /// Print one JSON object in place of the text
    #[arg(long)]
    json: bool,
    /// With --json: `logprobs`, for each token its id, token, logprob, and as top_logprobs the same of the N likeliest
    #[arg(long, value_name = "N", requires = "json", allow_negative_numbers = true)]
    logprobs: Option<usize>,
    // Last, because a heading in it holds for all that follows.
    #[command(flatten)]
    parameters: Parameters,
}

/// What there is to do.
enum Task {
    Answer(Request, String),
    /// With the model, which was opened to see whether there is one.
    Chat(Request, Box<Checkpoint>),
    /// Nothing was said, and nobody is there to ask.
    Nothing,
}

/// How far a model is.
enum Opened {
    Not(ModelFiles),
    Already(Box<Checkpoint>),
}

/// Runs the command.
pub fn run(mut args: Args, detail: Detail, color: ColorChoice) -> anyhow::Result<()> {
    let (parameters, threads) = std::mem::take(&mut args.parameters).over_options(&args.options)?;
    let (request, prompt, opened) = match asked(&args, detail)? {
        Task::Answer(request, prompt) => {
            let files = args.network.ensure(&request.model, detail).map_err(|error| explained(error, &request))?;
            (request, Some(prompt), Opened::Not(files))
        }
        Task::Chat(request, checkpoint) => (request, None, Opened::Already(checkpoint)),
        Task::Nothing => return Ok(()),
    };
    // A download ends at Ctrl-C as any program does; from here on it ends an answer.
    interrupt::listen();
    let start = Instant::now();
    let waiting = prompt.is_none().then(|| output::wait(detail, format!("loading {}", request.model)));
    let mut load = load_options(&args)?;
    load.threads = load.threads.or(threads);
    load.context = parameters.context();
    let model = match opened {
        Opened::Not(files) => Model::at(files, &load)?,
        Opened::Already(checkpoint) => Model::from_checkpoint(*checkpoint, &load)?,
    };
    drop(waiting);
    if model.spec().is_encoder() {
        let what = format!("generating text with {}, an encoder,", model.spec().family);
        return Err(Error::unsupported(what, "making vectors of texts with it: `tallow embed`").into());
    }
    let load_time = start.elapsed();
    let mut options = parameters.options(&model);
    options.ignore_eos = args.ignore_eos;
    options.parse_special = !args.no_parse_special;
    options.logprobs = args.logprobs;
    options.overflow = match args.overflow {
        Some(choice) => choice.into(),
        None if prompt.is_none() => Overflow::Truncate,
        None => Overflow::Error,
    };
    let Some(prompt) = prompt else {
        let name = request.model;
        return chat::run(
            chat::Setup { name, system: args.system, raw: args.raw, parameters, options, detail, color, load_time },
            &model,
        );
    };
    options.seed = options.seed.or_else(|| Some(parameters::draw_seed()));
    if detail == Detail::Verbose {
        parameters::report(&options, &model);
    }
    let mut session = model.session()?;
    let mut generation = begin(&args, &mut session, &prompt, &options)?;
    let (text, logprobs) = if args.json { collect(&mut generation)? } else { stream(&mut generation)? };
    let times = Times { total: start.elapsed(), load: load_time, usage: generation.usage() };
    let asked_for = options.max_tokens.unwrap_or(usize::MAX);
    if generation.done_reason() == Some(DoneReason::Length) && generation.tokens().len() < asked_for {
        log::warn!("the context is full ({} tokens) and the answer ends here; -c makes room for more", model.context());
    }
    if args.json {
        let with_logprobs = options.logprobs.is_some();
        let answer = Answer { text, logprobs, times: &times, sampling: &options.sampling, with_logprobs };
        output::json(&answer.report(&request.model, &model, &generation))?;
    }
    if detail == Detail::Verbose {
        times.print();
    }
    Ok(())
}

/// The model and the prompt.
fn asked(args: &Args, detail: Detail) -> anyhow::Result<Task> {
    let from_stdin = args.file.as_ref().is_some_and(Source::is_stdin);
    let given = match &args.file {
        Some(file) => Some(file.read_prompt()?),
        None => args.prompt.clone(),
    };
    let mut request = input::request(args.words.clone(), args.model.clone(), given, |path| Path::new(path).exists())?;
    let piped = if from_stdin { None } else { input::piped()? };
    match input::joined(piped, request.prompt.take()) {
        Some(prompt) => Ok(Task::Answer(request, prompt)),
        None => {
            let checkpoint = args.network.open(&request.model, detail).map_err(|error| explained(error, &request))?;
            if args.json {
                return Err(usage("--json needs a prompt: as an argument, with -p or -f, or on stdin"));
            }
            if !std::io::stdin().is_terminal() {
                return Ok(Task::Nothing);
            }
            Ok(Task::Chat(request, Box::new(checkpoint)))
        }
    }
}

/// A lone word that is no model may have been meant as a prompt.
fn explained(error: Error, request: &Request) -> anyhow::Error {
    let word = &request.model;
    let is_unknown = matches!(error, Error::NotFound { .. } | Error::NotLocal { .. }) && request.lone_word;
    if is_unknown && !word.contains(['/', '\\']) && !word.ends_with(".gguf") {
        let message = format!("there is no model {word:?}; if it is a prompt for the default model: tallow run -p {word:?}");
        return anyhow::Error::new(error).context(message);
    }
    error.into()
}

fn load_options(args: &Args) -> anyhow::Result<LoadOptions> {
    let chat_template = match &args.chat_template {
        Some(path) => Some(Source(path.clone()).read().context("--chat-template")?),
        None => None,
    };
    Ok(LoadOptions { cache_type: args.cache.cache_type, chat_template, ..args.device.options() })
}

/// Reads the prompt.
fn begin<'s>(args: &Args, session: &'s mut Session, prompt: &str, options: &GenerateOptions) -> anyhow::Result<Generation<'s>> {
    let has_template = !args.raw && session.model().template()?.is_some();
    if !has_template {
        if args.system.is_some() {
            return Err(usage("--system needs a chat template, and the model has none; give one with --chat-template"));
        }
        if !args.raw {
            log::warn!("the model has no chat template; the prompt is continued as it stands, as with --raw");
            warn_of_opening(session.model());
        }
        return Ok(session.generate(prompt, options)?);
    }
    let model = session.model();
    let system = args.system.as_deref().or(model.system()).map(Message::system);
    let mut messages: Vec<Message> = system.into_iter().chain(model.history().iter().cloned()).collect();
    messages.push(Message::user(prompt));
    Ok(session.chat(&messages, options)?)
}

/// Tells of a beginning that the model has and that no template can show it.
pub fn warn_of_opening(model: &Model) {
    if model.system().is_some() || !model.history().is_empty() {
        log::warn!("the model's own system message and first messages need a chat template too, and are left out");
    }
}

/// Prints the text as it comes, and ends its last line.
fn stream(generation: &mut Generation<'_>) -> anyhow::Result<(String, Vec<Scored>)> {
    let mut text = String::new();
    for piece in generation {
        let piece = piece?;
        if !piece.text.is_empty() {
            output::text(&piece.text)?;
            text.push_str(&piece.text);
        }
    }
    if !text.ends_with('\n') {
        output::line("")?;
    }
    Ok((text, Vec::new()))
}

fn collect(generation: &mut Generation<'_>) -> anyhow::Result<(String, Vec<Scored>)> {
    let (mut text, mut logprobs) = (String::new(), Vec::new());
    for piece in generation {
        let piece = piece?;
        text.push_str(&piece.text);
        logprobs.extend(piece.token.zip(piece.logprobs));
    }
    Ok((text, logprobs))
}
