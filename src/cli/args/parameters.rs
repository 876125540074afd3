//! Generation parameters under all their names: flags, `--option KEY=VALUE`, and `/set parameter NAME VALUE` in a chat.
//!
//! The definitions of the flags are the one table: their aliases include Ollama's option names, and an option is parsed as
//! the flag of its name. What holds, from the strongest: a flag, `--option`, what the model was published with, tallow's
//! defaults. Lists (stop strings, logit biases) are joined.

use crate::cli::ui::failure::usage;
use crate::cli::ui::output;
use clap::error::{ContextKind, ContextValue};
use clap::{Args, FromArgMatches};
use std::error::Error as _;
use std::hash::{BuildHasher, Hasher};
use tallow::{GenerateOptions, Model};

/// The names that `--option` and `/set parameter` take: Ollama's, and `logit_bias`.
pub const NAMES: [&str; 15] = [
    "num_ctx",
    "num_predict",
    "num_thread",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "stop",
];

/// Ollama's other option names, present and past, with what there is in their place.
const ABSENT: [(&str, &str); 22] = [
    ("draft_num_predict", "a model runs without a draft model"),
    ("embedding_only", "a model that is run generates"),
    ("f16_kv", "the element type of the cache is --cache-type"),
    ("logits_all", "logits are printed by `tallow logits --all`"),
    ("low_vram", "a model runs on one device as a whole, which is --device"),
    ("main_gpu", "a model runs on one device as a whole, which is --device cuda:N"),
    ("mirostat", "see top_p, typical_p and min_p"),
    ("mirostat_eta", "see top_p, typical_p and min_p"),
    ("mirostat_tau", "see top_p, typical_p and min_p"),
    ("num_batch", "a prompt is read in chunks of a fixed size, and the result does not depend on it"),
    ("num_gpu", "a model runs on one device as a whole, which is --device"),
    ("num_gqa", "a model's file states it"),
    ("num_keep", "what stays when the context is full is described at --overflow"),
    ("numa", "threads are not bound to memory nodes"),
    ("penalize_newline", "penalties hold for line breaks as for every other token; see logit_bias"),
    ("rope_frequency_base", "a model's file states it"),
    ("rope_frequency_scale", "a model's file states it"),
    ("tfs_z", "see top_p, typical_p and min_p"),
    ("truncate", "what happens to a prompt that is too long is --overflow"),
    ("use_mlock", "weights are not locked into memory"),
    ("use_mmap", "a model's file is always mapped"),
    ("vocab_only", "tokens without a model's weights: `tallow tokenize`"),
];

/// What flags and options can say about a generation; what is not said is `None`.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct Parameters {
    #[command(flatten)]
    limits: Limits,
    // Last, because its heading holds for all that follows.
    #[command(flatten)]
    sampling: Sampling,
}

/// Where an answer ends.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
struct Limits {
    /// Text that ends the answer, beside the model's own end tokens; repeatable
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Most tokens to generate; -1: no limit [default: -1]
    #[arg(
        short = 'n',
        long,
        aliases = ["num_predict", "n-predict", "n_predict"],
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-1..)
    )]
    num_predict: Option<i64>,
    /// Tokens of context; 0: the model's own, or what fits into memory [default: 0]
    #[arg(short, long, visible_alias = "num-ctx", aliases = ["ctx_size", "num_ctx"], value_name = "N", allow_negative_numbers = true)]
    ctx_size: Option<usize>,
}

/// How a token is chosen. What is not given is as the model's publisher says, else tallow's default.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Sampling (in this order; without a flag, as the model was published)")]
struct Sampling {
    /// Added to the logit of a token: ID=BIAS, ID+BIAS, ID-BIAS; -inf (or false) forbids it; repeatable
    #[arg(long, alias = "logit_bias", value_name = "ID=BIAS", value_parser = bias)]
    logit_bias: Vec<Bias>,
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
    #[arg(long, alias = "top_k", value_name = "K", allow_negative_numbers = true)]
    top_k: Option<usize>,
    /// Keep the tokens of nearly the expected surprise that together have this probability; 1: all
    #[arg(long, aliases = ["typical_p", "typical"], value_name = "P", allow_negative_numbers = true)]
    typical_p: Option<f32>,
    /// Keep the likeliest tokens that together have this probability; 1: all
    #[arg(long, alias = "top_p", value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Keep tokens at least this times as likely as the likeliest; 0: all
    #[arg(long, alias = "min_p", value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Above 1: more surprising; below: less; 0: always the likeliest token
    #[arg(long = "temp", alias = "temperature", value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// The same seed gives the same answer; -1: a new one each time [default: -1]
    #[arg(long, value_name = "SEED", allow_negative_numbers = true, value_parser = seed)]
    seed: Option<Seed>,
}

/// What options say: parameters, and what holds from the start of the program.
#[derive(Debug, Default, clap::Args)]
struct Options {
    #[command(flatten)]
    parameters: Parameters,
    #[arg(long = "num_thread")]
    num_thread: Option<usize>,
}

/// A given seed, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub Option<u64>);

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

/// A token and what its logit gets.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bias(u32, f32);

fn bias(text: &str) -> Result<Bias, String> {
    let wrong = || "expected ID=BIAS, ID+BIAS or ID-BIAS with a token's id and a number, -inf or false".to_owned();
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (id, rest) = text.split_at(at);
    let id = id.parse().map_err(|_| wrong())?;
    let bias = match rest.strip_prefix('=').unwrap_or(rest) {
        "false" => f32::NEG_INFINITY,
        number => number.parse().map_err(|_| wrong())?,
    };
    if bias < f32::INFINITY { Ok(Bias(id, bias)) } else { Err(wrong()) }
}

impl Parameters {
    /// Those of `--option KEY=VALUE`, under these; and `num_thread`.
    pub fn over_options(self, options: &[String]) -> anyhow::Result<(Parameters, Option<usize>)> {
        let mut below = Options::default();
        for option in options {
            let (name, value) =
                option.split_once('=').ok_or_else(|| usage(format!("--option {option}: expected KEY=VALUE")))?;
            let given = parse(name, &[value.to_owned()]).map_err(|why| usage(format!("--option {option}: {why}")))?;
            below.num_thread = given.num_thread.or(below.num_thread);
            below.parameters = given.parameters.over(below.parameters);
        }
        Ok((self.over(below.parameters), below.num_thread.filter(|threads| *threads > 0)))
    }

    /// With `name` set to `values` (more than one only for lists), as a chat does it.
    pub fn with(&self, name: &str, values: &[String]) -> Result<Parameters, String> {
        let name = &name.replace('-', "_");
        if let Some(flag) = [("num_ctx", "-c"), ("num_thread", "-t")].iter().find(|row| row.0 == name).map(|row| row.1) {
            return Err(format!("{name} holds from the start of a chat: leave with /bye and run again with {flag} N"));
        }
        let given = parse(name, values)?.parameters;
        let mut below = self.clone();
        match name.as_str() {
            "stop" => below.limits.stop.clear(),
            "logit_bias" => below.sampling.logit_bias.clear(),
            _ => {}
        }
        Ok(given.over(below))
    }

    /// What is said here, and else what is said below.
    fn over(self, below: Parameters) -> Parameters {
        let Limits { stop, num_predict, ctx_size } = self.limits;
        let Sampling {
            logit_bias,
            repeat_penalty,
            presence_penalty,
            frequency_penalty,
            repeat_last_n,
            top_k,
            typical_p,
            top_p,
            min_p,
            temperature,
            seed,
        } = self.sampling;
        let (limits, sampling) = (below.limits, below.sampling);
        Parameters {
            limits: Limits {
                stop: [limits.stop, stop].concat(),
                num_predict: num_predict.or(limits.num_predict),
                ctx_size: ctx_size.or(limits.ctx_size),
            },
            sampling: Sampling {
                logit_bias: [sampling.logit_bias, logit_bias].concat(),
                repeat_penalty: repeat_penalty.or(sampling.repeat_penalty),
                presence_penalty: presence_penalty.or(sampling.presence_penalty),
                frequency_penalty: frequency_penalty.or(sampling.frequency_penalty),
                repeat_last_n: repeat_last_n.or(sampling.repeat_last_n),
                top_k: top_k.or(sampling.top_k),
                typical_p: typical_p.or(sampling.typical_p),
                top_p: top_p.or(sampling.top_p),
                min_p: min_p.or(sampling.min_p),
                temperature: temperature.or(sampling.temperature),
                seed: seed.or(sampling.seed),
            },
        }
    }

    /// Tokens of context, if said.
    pub fn context(&self) -> Option<usize> {
        self.limits.ctx_size.filter(|tokens| *tokens > 0)
    }

    /// The model's own options, under these. A seed is there only if one was given.
    pub fn options(&self, model: &Model) -> GenerateOptions {
        fn set<T: Copy>(option: &mut T, given: Option<T>) {
            *option = given.unwrap_or(*option);
        }
        let mut options = model.defaults();
        let (sampling, given) = (&mut options.sampling, &self.sampling);
        sampling.logit_bias.extend(given.logit_bias.iter().map(|Bias(id, bias)| (*id, *bias)));
        set(&mut sampling.temperature, given.temperature);
        set(&mut sampling.top_k, given.top_k);
        set(&mut sampling.typical_p, given.typical_p);
        set(&mut sampling.top_p, given.top_p);
        set(&mut sampling.min_p, given.min_p);
        set(&mut sampling.repeat_penalty, given.repeat_penalty);
        set(&mut sampling.repeat_last_n, given.repeat_last_n);
        set(&mut sampling.presence_penalty, given.presence_penalty);
        set(&mut sampling.frequency_penalty, given.frequency_penalty);
        options.seed = given.seed.and_then(|seed| seed.0);
        options.stop.extend(self.limits.stop.iter().cloned());
        options.max_tokens = self.limits.num_predict.and_then(|most| usize::try_from(most).ok());
        options
    }
}

/// The options in force, by their names.
pub fn rows(options: &GenerateOptions, model: &Model) -> Vec<(&'static str, String)> {
    let sampling = &options.sampling;
    let mut rows = vec![
        ("num_ctx", model.context().to_string()),
        ("num_predict", options.max_tokens.map_or("-1".to_owned(), |most| most.to_string())),
        ("temperature", sampling.temperature.to_string()),
        ("top_k", sampling.top_k.to_string()),
        ("typical_p", sampling.typical_p.to_string()),
        ("top_p", sampling.top_p.to_string()),
        ("min_p", sampling.min_p.to_string()),
        ("repeat_penalty", sampling.repeat_penalty.to_string()),
        ("repeat_last_n", sampling.repeat_last_n.to_string()),
        ("presence_penalty", sampling.presence_penalty.to_string()),
        ("frequency_penalty", sampling.frequency_penalty.to_string()),
        ("seed", Seed(options.seed).to_string()),
    ];
    rows.extend(sampling.logit_bias.iter().map(|(id, bias)| ("logit_bias", format!("{id}={bias}"))));
    rows.extend(options.stop.iter().map(|stop| ("stop", format!("{stop:?}"))));
    rows
}

/// The options in force and where they come from.
pub fn report(options: &GenerateOptions, model: &Model) {
    output::note(format_args!("sampling: {}; seed {}\n", options.sampling.describe(), Seed(options.seed)));
    let rows: Vec<_> = rows(options, model).iter().map(|(name, value)| format!("{name} {value}")).collect();
    output::note(format_args!("parameters (flag > --option > the model's own > tallow's): {}\n", rows.join(", ")));
}

/// A seed of 32 bits: every JSON reader keeps it exactly, and it can be given back with `--seed`.
pub fn draw_seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish() >> 32
}

/// Parses one option as the flag of its name.
fn parse(name: &str, values: &[String]) -> Result<Options, String> {
    let name = name.trim().replace('-', "_");
    if !NAMES.contains(&name.as_str()) {
        return Err(unknown(&name));
    }
    if values.len() > 1 && !matches!(name.as_str(), "stop" | "logit_bias") {
        return Err(format!("{name} takes one value"));
    }
    let command = Options::augment_args(clap::Command::new("option").no_binary_name(true).disable_help_flag(true));
    let words = values.iter().map(|value| format!("--{name}={}", if name == "stop" { value } else { value.trim() }));
    let matches = command.try_get_matches_from(words).map_err(|error| explained(&name, &error))?;
    Options::from_arg_matches(&matches).map_err(|error| explained(&name, &error))
}

/// clap's complaint, in terms of an option.
fn explained(name: &str, error: &clap::Error) -> String {
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.as_str(),
        _ => "",
    };
    // The words of std, which do not say what would have been right.
    let why = match error.source().map(ToString::to_string).as_deref() {
        Some("invalid float literal" | "cannot parse float from empty string") => "expected a number".to_owned(),
        Some("invalid digit found in string") if value.parse::<i64>().is_ok() => "expected a whole number from 0 on".to_owned(),
        Some("invalid digit found in string" | "cannot parse integer from empty string") => {
            "expected a whole number".to_owned()
        }
        Some(why) => why.to_owned(),
        None => "expected a value".to_owned(),
    };
    format!("{name} can not be {value:?}: {why}")
}

fn unknown(name: &str) -> String {
    if let Some((_, instead)) = ABSENT.iter().find(|row| row.0 == name) {
        return format!("tallow has no parameter {name}: {instead}");
    }
    let names = NAMES.join(", ");
    let nearest = NAMES.iter().map(|known| (strsim::jaro_winkler(known, name), *known)).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, known)) if likeness > 0.8 => format!("unknown parameter {name:?}; did you mean {known}?"),
        _ => format!("unknown parameter {name:?}; there are {names}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[&str]) -> Parameters {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        Parameters::default().over_options(&options).unwrap().0
    }

    fn refused(option: &str) -> String {
        Parameters::default().over_options(&[option.to_owned()]).unwrap_err().to_string()
    }

    #[test]
    fn every_name_is_a_flags_and_takes_ollamas_spelling() {
        for name in NAMES {
            let value = if name == "logit_bias" { "5=1" } else { "1" };
            assert!(parse(name, &[value.to_owned()]).is_ok(), "{name}");
            assert!(parse(&name.replace('_', "-"), &[value.to_owned()]).is_ok(), "{name}");
        }
        assert_eq!(of(&["temperature=0.5", "num_ctx=99", "top_k = 7"]), of(&["top-k=7", "num-ctx=99", "temperature=0.5"]));
        assert!(ABSENT.iter().all(|(name, _)| !NAMES.contains(name)));
    }

    #[test]
    fn a_flag_wins_over_an_option_and_the_last_option_over_the_one_before() {
        let flags = of(&["top_k=5", "stop=a"]);
        let options = ["top_k=6", "top_p=0.5", "top_p=0.6", "stop=b"].map(str::to_owned);
        assert_eq!(flags.over_options(&options).unwrap().0, of(&["top_k=5", "top_p=0.6", "stop=b", "stop=a"]));
    }

    #[test]
    fn threads_are_an_option_too_and_none_of_them_is_no_wish() {
        let threads = |value: &str| Parameters::default().over_options(&[format!("num_thread={value}")]).unwrap().1;
        assert_eq!((threads("3"), threads("0")), (Some(3), None));
    }

    #[test]
    fn a_stop_string_may_hold_anything() {
        assert_eq!(of(&["stop= = \n#"]).limits.stop, [" = \n#"]);
        assert_eq!(of(&["stop=--json"]).limits.stop, ["--json"]);
    }

    #[test]
    fn wrong_options_name_the_option_and_the_way_out() {
        for (option, expected) in [
            ("top_k", "expected KEY=VALUE"),
            ("top_k=x", "top_k can not be \"x\": expected a whole number"),
            ("top_k=-1", "top_k can not be \"-1\": expected a whole number from 0 on"),
            ("top_k=", "top_k can not be \"\": expected a "),
            ("top_p=high", "top_p can not be \"high\": expected a number"),
            ("num_predict=-2", "num_predict can not be \"-2\": "),
            ("seed=1.5", "expected -1 or a whole number"),
            ("logit_bias=x", "expected ID=BIAS"),
            ("temprature=1", "did you mean temperature?"),
            ("json=1", "unknown parameter \"json\"; there are num_ctx, "),
            ("num_gpu=1", "tallow has no parameter num_gpu: "),
            ("mirostat=2", "tallow has no parameter mirostat: "),
        ] {
            let message = refused(option);
            assert!(message.starts_with("--option ") && message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_chat_replaces_what_was_set_before() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let before = of(&["top_k=5", "stop=a", "seed=7"]);
        assert_eq!(before.with("stop", &words(&["b", "c"])).unwrap(), of(&["top_k=5", "stop=b", "stop=c", "seed=7"]));
        let after = before.with("seed", &words(&["-1"])).unwrap();
        assert_eq!(after.sampling.seed, Some(Seed(None)));
        assert!(before.with("top_k", &words(&["1", "2"])).is_err());
        assert!(before.with("num_ctx", &words(&["99"])).unwrap_err().contains("-c N"));
    }

    #[test]
    fn biases_are_read_as_llama_cpp_and_people_write_them() {
        for (text, expected) in [
            ("5=1.5", Bias(5, 1.5)),
            ("5=-1", Bias(5, -1.0)),
            ("5+2", Bias(5, 2.0)),
            ("5-2.5", Bias(5, -2.5)),
            ("5-inf", Bias(5, f32::NEG_INFINITY)),
            ("5=-inf", Bias(5, f32::NEG_INFINITY)),
            ("5=false", Bias(5, f32::NEG_INFINITY)),
        ] {
            assert_eq!(bias(text), Ok(expected), "{text}");
        }
        for text in ["", "5", "=1", "5=", "5=x", "5=inf", "5+inf", "5=nan", "-5=1", "4294967296=1", "5 =1"] {
            assert!(bias(text).is_err(), "{text}");
        }
    }

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
