//! `tallow run`: answer one prompt.
//!
//! The prompt goes through the model's chat template unless `--raw` is given; a model without one gets it as it stands. The
//! answer is streamed, or printed as one JSON object with Ollama's keys and ours.

use super::answer::{Answer, Scored, Times};
use super::args::{Cache, Device, OnOverflow, Source, context};
use super::failure::usage;
use super::input::{self, Request};
use super::{Detail, output};
use anyhow::Context;
use std::hash::{BuildHasher, Hasher};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tallow::{Checkpoint, Error, GenerateOptions, Generation, LoadOptions, Message, Model, Session};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "tallow run [OPTIONS] [MODEL] [PROMPT]...")]
pub struct Args {
    /// A model, a prompt, or both: alone, one word is a model and a text with spaces is a prompt
    #[arg(value_name = "MODEL] [PROMPT")]
    words: Vec<String>,
    /// The model
    #[arg(short, long)]
    model: Option<String>,
    /// The prompt
    #[arg(short, long, allow_hyphen_values = true)]
    prompt: Option<String>,
    /// A file with the prompt; `-` is stdin
    #[arg(short, long, conflicts_with = "prompt")]
    file: Option<Source>,
    /// What the model shall keep to: the chat's system message
    #[arg(long, value_name = "TEXT", conflicts_with = "raw", allow_hyphen_values = true)]
    system: Option<String>,
    /// A file with a chat template to use in place of the model's
    #[arg(long, aliases = ["chat_template", "chat-template-file"], value_name = "FILE", conflicts_with = "raw")]
    chat_template: Option<PathBuf>,
    /// Continue the prompt as it stands, without the chat template
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    device: Device,
    #[command(flatten)]
    cache: Cache,
    /// Print one JSON object in place of the text
    #[arg(long)]
    json: bool,
    /// Report each token's log-probability and the N likeliest tokens (with --json)
    #[arg(long, value_name = "N", requires = "json")]
    logprobs: Option<usize>,
    // Last, because its heading holds for all that follows.
    #[command(flatten)]
    sampling: Sampling,
}

/// Where an answer ends.
#[derive(Debug, clap::Args)]
struct Limits {
    /// Text that ends the answer, beside the model's own end tokens; repeatable
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Most tokens to generate; -1: no limit
    #[arg(
        short = 'n',
        long,
        aliases = ["num_predict", "n-predict", "n_predict"],
        value_name = "N",
        default_value_t = -1,
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-1..)
    )]
    num_predict: i64,
    /// Go on after an end token
    #[arg(long, alias = "ignore_eos")]
    ignore_eos: bool,
    /// Tokens of context; 0: the model's own, or what fits into memory
    #[arg(short, long, aliases = ["ctx_size", "num-ctx", "num_ctx"], value_name = "N", default_value_t = 0)]
    ctx_size: usize,
    /// What to do with a prompt that is longer than the context
    #[arg(long, value_name = "WHAT", default_value = "error")]
    overflow: OnOverflow,
}

/// How a token is chosen. What is not given is as the model's publisher says, else tallow's default.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sampling (in this order; without a flag, as the model was published)")]
struct Sampling {
    /// Penalty on tokens that occurred; 1: off
    #[arg(long, alias = "repeat_penalty", value_name = "X", allow_negative_numbers = true)]
    repeat_penalty: Option<f32>,
    /// Taken once from the logit of tokens that occurred; 0: off
    #[arg(long, alias = "presence_penalty", value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Taken from the logit of a token for each time it occurred; 0: off
    #[arg(long, alias = "frequency_penalty", value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// How many tokens the penalties look back on; -1: all, 0: off
    #[arg(long, alias = "repeat_last_n", value_name = "N", allow_negative_numbers = true)]
    repeat_last_n: Option<i32>,
    /// Keep the K likeliest tokens; 0: all
    #[arg(long, alias = "top_k", value_name = "K")]
    top_k: Option<usize>,
    /// Keep the likeliest tokens that together have this probability; 1: all
    #[arg(long, alias = "top_p", value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Keep tokens at least this times as likely as the likeliest; 0: all
    #[arg(long, alias = "min_p", value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Above 1: more surprising; below: less; 0: always the likeliest token
    #[arg(long = "temp", alias = "temperature", value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// The same seed gives the same answer; -1: a new one each time
    #[arg(long, value_name = "SEED", default_value = "-1", allow_negative_numbers = true, value_parser = seed)]
    seed: Seed,
}

/// A given seed, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seed(Option<u64>);

fn seed(text: &str) -> Result<Seed, String> {
    match text {
        "-1" => Ok(Seed(None)),
        _ => text.parse().map(|seed| Seed(Some(seed))).map_err(|_| "expected -1 or a whole number from 0 on".to_owned()),
    }
}

impl std::fmt::Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(seed) => write!(f, "{seed}"),
            None => f.write_str("-1"),
        }
    }
}

/// Runs the command.
pub fn run(args: Args, detail: Detail) -> anyhow::Result<()> {
    let Some((request, prompt)) = asked(&args)? else { return Ok(()) };
    let start = Instant::now();
    let model = Model::load_with(&request.model, &load_options(&args)?).map_err(|error| explained(error, &request))?;
    let load_time = start.elapsed();
    let options = options(&args, &model);
    if detail == Detail::Verbose {
        output::note(format_args!("sampling: {}; seed {}\n", options.sampling.describe(), Seed(options.seed)));
    }
    let mut session = model.session()?;
    let mut generation = begin(&args, &mut session, &prompt, &options)?;
    let (text, logprobs) = if args.json { collect(&mut generation)? } else { stream(&mut generation)? };
    let times = Times { total: start.elapsed(), load: load_time, usage: generation.usage() };
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

/// The model and the prompt; `None` if there is nothing to say, and nobody to ask.
fn asked(args: &Args) -> anyhow::Result<Option<(Request, String)>> {
    let from_stdin = args.file.as_ref().is_some_and(Source::is_stdin);
    let given = match &args.file {
        Some(file) => Some(file.read_prompt()?),
        None => args.prompt.clone(),
    };
    let mut request = input::request(args.words.clone(), args.model.clone(), given, |path| Path::new(path).exists())?;
    let piped = if from_stdin { None } else { input::piped()? };
    match input::joined(piped, request.prompt.take()) {
        Some(prompt) => Ok(Some((request, prompt))),
        None => {
            Checkpoint::open(&request.model).map_err(|error| explained(error, &request))?;
            if std::io::stdin().is_terminal() {
                return Err(usage(
                    "no prompt: chat in the terminal is not built yet; give the prompt as an argument, with -p or -f, or on stdin",
                ));
            }
            Ok(None)
        }
    }
}

/// A lone word that is no model may have been meant as a prompt.
fn explained(error: Error, request: &Request) -> anyhow::Error {
    let word = &request.model;
    let is_unknown = matches!(error, Error::NotFound { .. }) && request.lone_word;
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
    Ok(LoadOptions {
        context: context(args.limits.ctx_size),
        cache_type: args.cache.cache_type,
        chat_template,
        ..args.device.options()
    })
}

/// The model's own options, under those of the command line.
fn options(args: &Args, model: &Model) -> GenerateOptions {
    fn set<T: Copy>(option: &mut T, given: Option<T>) {
        *option = given.unwrap_or(*option);
    }
    let mut options = model.defaults();
    let (sampling, given) = (&mut options.sampling, &args.sampling);
    set(&mut sampling.temperature, given.temperature);
    set(&mut sampling.top_k, given.top_k);
    set(&mut sampling.top_p, given.top_p);
    set(&mut sampling.min_p, given.min_p);
    set(&mut sampling.repeat_penalty, given.repeat_penalty);
    set(&mut sampling.repeat_last_n, given.repeat_last_n);
    set(&mut sampling.presence_penalty, given.presence_penalty);
    set(&mut sampling.frequency_penalty, given.frequency_penalty);
    options.seed = Some(given.seed.0.unwrap_or_else(draw_seed));
    options.stop.extend(args.limits.stop.iter().cloned());
    options.max_tokens = usize::try_from(args.limits.num_predict).ok();
    options.ignore_eos = args.limits.ignore_eos;
    options.overflow = args.limits.overflow.into();
    options.logprobs = args.logprobs;
    options
}

/// A seed of 32 bits: every JSON reader keeps it exactly, and it can be given back with `--seed`.
fn draw_seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish() >> 32
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
        }
        return Ok(session.generate(prompt, options)?);
    }
    let mut messages: Vec<Message> = args.system.iter().map(Message::system).collect();
    messages.push(Message::user(prompt));
    Ok(session.chat(&messages, options)?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_is_no_seed_and_every_other_seed_is_kept() {
        assert_eq!(seed("-1"), Ok(Seed(None)));
        assert_eq!(seed("0"), Ok(Seed(Some(0))));
        assert_eq!(seed("18446744073709551615"), Ok(Seed(Some(u64::MAX))));
        for text in ["-2", "1.5", "", "seed"] {
            assert!(seed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_drawn_seed_fits_into_a_json_number() {
        assert!((0..100).all(|_| draw_seed() < 1 << 32));
    }
}
