//! What `run` reports beside the text: one JSON object, or timings in Ollama's words.

use crate::cli::ui::{output, time};
use serde::Serialize;
use std::time::{Duration, SystemTime};
use tallow::text::Tokenizer;
use tallow::{Generation, Logprobs, Model, SampleOptions, Usage};

/// A generated token and its log-probability.
pub type Scored = (u32, Logprobs);

/// What `--json` prints. The names up to `eval_duration` are Ollama's; times are in nanoseconds.
#[derive(Serialize)]
pub struct Report<'a> {
    model: &'a str,
    created_at: String,
    response: String,
    done: bool,
    done_reason: Option<&'static str>,
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: usize,
    prompt_eval_duration: u64,
    eval_count: usize,
    eval_duration: u64,
    prompt_tokens: &'a [u32],
    tokens: &'a [u32],
    seed: u64,
    truncated_tokens: usize,
    sampler: String,
    device: String,
    threads: usize,
    kernels: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<TokenLogprob>>,
}

/// One generated token with its likeliest alternatives; the names but `id` are Ollama's.
#[derive(Serialize)]
struct TokenLogprob {
    id: u32,
    token: String,
    logprob: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<Vec<TokenLogprob>>,
}

/// What a finished generation left.
pub struct Answer<'a> {
    /// The text.
    pub text: String,
    /// Log-probabilities, a token each; empty unless asked for.
    pub logprobs: Vec<Scored>,
    /// How long it took.
    pub times: &'a Times,
    /// How tokens were chosen.
    pub sampling: &'a SampleOptions,
    /// Whether log-probabilities were asked for.
    pub with_logprobs: bool,
}

impl Answer<'_> {
    /// The object for `--json`; `name` is the model's name as the user gave it.
    pub fn report<'a>(self, name: &'a str, model: &'a Model, generation: &'a Generation<'_>) -> Report<'a> {
        let (info, times) = (model.info(), self.times);
        let logprobs = self.logprobs.into_iter().map(|scored| scored_token(model.tokenizer(), scored));
        Report {
            model: name,
            created_at: time::rfc3339(SystemTime::now()),
            response: self.text,
            done: true,
            done_reason: generation.done_reason().map(|reason| reason.name()),
            total_duration: time::nanoseconds(times.total),
            load_duration: time::nanoseconds(times.load),
            prompt_eval_count: times.usage.prompt_tokens,
            prompt_eval_duration: time::nanoseconds(times.usage.prompt_time),
            eval_count: times.usage.tokens,
            eval_duration: time::nanoseconds(times.usage.time),
            prompt_tokens: generation.prompt_tokens(),
            tokens: generation.tokens(),
            seed: generation.seed(),
            truncated_tokens: times.usage.truncated_tokens,
            sampler: self.sampling.describe(),
            device: info.device.to_string(),
            threads: info.threads,
            kernels: info.kernels,
            logprobs: self.with_logprobs.then(|| logprobs.collect()),
        }
    }
}

fn scored_token(tokenizer: &Tokenizer, (id, scores): Scored) -> TokenLogprob {
    let entry = |id: u32, logprob: f32, top_logprobs| {
        // A token that is no whole character, or no text at all, has none of its own.
        let token = tokenizer.decode(&[id], false).unwrap_or_default();
        TokenLogprob { id, token, logprob, top_logprobs }
    };
    let top = scores.top.iter().map(|(id, logprob)| entry(*id, *logprob, None)).collect();
    entry(id, scores.logprob, Some(top))
}

/// Times of one answer.
pub struct Times {
    /// From the first step to the last token.
    pub total: Duration,
    /// Until the model was ready.
    pub load: Duration,
    /// Counts, and the times of the prompt and the answer.
    pub usage: Usage,
}

impl Times {
    /// In Ollama's words.
    pub fn print(&self) {
        let usage = &self.usage;
        // What a chat has read before is not read again.
        let read = usage.prompt_tokens - usage.cached_tokens;
        output::note(format_args!("total duration:       {}\n", time::go(self.total)));
        output::note(format_args!("load duration:        {}\n", time::go(self.load)));
        output::note(format_args!("prompt eval count:    {read} token(s)\n"));
        output::note(format_args!("prompt eval duration: {}\n", time::go(usage.prompt_time)));
        output::note(format_args!("prompt eval rate:     {:.2} tokens/s\n", rate(read, usage.prompt_time)));
        output::note(format_args!("eval count:           {} token(s)\n", usage.tokens));
        output::note(format_args!("eval duration:        {}\n", time::go(usage.time)));
        output::note(format_args!("eval rate:            {:.2} tokens/s\n", rate(usage.tokens, usage.time)));
    }
}

/// Tokens in a second.
pub fn rate(count: usize, time: Duration) -> f64 {
    match time.as_secs_f64() {
        seconds if seconds > 0.0 => count as f64 / seconds,
        _ => 0.0,
    }
}
