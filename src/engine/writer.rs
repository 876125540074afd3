//! What makes text out of logits, one token at a time: the state of a generation beside its text.
//!
//! Tokens may be proposed before they are chosen: the forward reads them with the last token, and each is chosen by the
//! sampler as ever, from the logits before it. While choice and proposal agree the reading was worth its while; where they
//! part, the text is cut back and the choice counts. So proposals, good or bad, never change a text.

use super::generation::{DoneReason, Logprobs, Piece, Usage};
use super::pace::MOST_DUE;
use super::prompt::Prompt;
use super::step::{Reader, Turn};
use super::text::Text;
use crate::backend::Input;
use crate::error::{Error, Result};
use crate::model::Forward;
use crate::options::{Cancel, GenerateOptions};
use crate::sample::{NextToken, Sampler, log_probabilities};
use crate::text::{Detokeniser, Tokenizer};
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Says which tokens may follow the tokens so far, to be verified: a draft, or what a constraint leaves as the only choice.
pub(super) type Proposer = Box<dyn FnMut(&[u32]) -> Vec<u32> + Send>;

/// A generation beside its text.
pub(super) struct Writer {
    options: GenerateOptions,
    end_ids: Vec<u32>,
    seed: u64,
    sampler: Sampler,
    detokeniser: Detokeniser,
    /// The prompt's and the generated tokens: what penalties look back on.
    history: Vec<u32>,
    prompt_len: usize,
    /// Inputs that belong to the text for certain: those behind are proposals.
    certain: usize,
    propose: Option<Proposer>,
    /// The logits that the caller's hook may change.
    changed: Vec<f32>,
    /// Whether the logits after the prompt are kept for the first token rather than used at once.
    holds: bool,
    held: Option<Vec<f32>>,
    ready: VecDeque<Piece>,
    done: Option<DoneReason>,
    usage: Usage,
}

impl Writer {
    /// For what follows `prompt`.
    pub fn new(tokenizer: &Tokenizer, prompt: &Prompt, options: &GenerateOptions) -> Result<Writer> {
        let seed = options.seed.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
        let history: Vec<u32> = prompt.inputs.iter().filter_map(Input::token).collect();
        let usage = Usage {
            prompt_tokens: prompt.inputs.len(),
            truncated_tokens: prompt.dropped.tokens,
            truncated_messages: prompt.dropped.messages,
            ..Usage::default()
        };
        let detokeniser = Detokeniser::new(tokenizer, prompt.start).stop_at(options.stop.iter().cloned());
        Ok(Writer {
            seed,
            end_ids: prompt.end_ids.clone(),
            sampler: Sampler::new(&options.sampling, seed)?,
            detokeniser: if options.keep_stop { detokeniser.keep_stop() } else { detokeniser },
            changed: Vec::new(),
            prompt_len: history.len(),
            history,
            certain: prompt.inputs.len(),
            propose: None,
            holds: false,
            held: None,
            ready: VecDeque::new(),
            done: None,
            usage,
            options: options.clone(),
        })
    }

    /// Takes a share in the next step, if another token is wanted. The first token may come of logits that were kept; then no
    /// step is needed.
    pub fn turn<'a>(&'a mut self, network: &dyn Forward, text: &'a mut Text, error: &'a mut Option<Error>) -> Option<Turn<'a>> {
        // A step that failed has left its proposals.
        text.cut(self.certain);
        if !self.goes_on(text) {
            return None;
        }
        if let Some(logits) = self.held.take() {
            *error = self.write(text, text.len() - 1, &logits).err();
            return None;
        }
        self.queue_proposals(network, text);
        let (is_due, may_cancel) = (!self.tokens().is_empty(), self.options.cancel.is_some());
        Some(Turn { is_due, may_cancel, ..Turn::new(text, self, error) })
    }

    /// Whether another token is wanted; where not, the text is brought to its end.
    fn goes_on(&mut self, text: &mut Text) -> bool {
        if self.done.is_some() {
            return false;
        }
        if self.options.cancel.as_ref().is_some_and(Cancel::is_cancelled) {
            self.finish(DoneReason::Cancelled);
            if self.is_reading() {
                text.drop_unread();
            }
        } else if self.options.max_tokens.is_some_and(|most| self.tokens().len() >= most) || text.room() == 0 {
            self.finish(DoneReason::Length);
        }
        self.done.is_none()
    }

    /// Queues what may follow the last token, as far as it leaves the text its limits.
    fn queue_proposals(&mut self, network: &dyn Forward, text: &mut Text) {
        let Some(propose) = self.propose.as_mut().filter(|_| text.unread() == 1) else { return };
        let wanted = self.options.max_tokens.map_or(usize::MAX, |most| most - (self.history.len() - self.prompt_len));
        for token in propose(&self.history).into_iter().take(wanted.saturating_sub(1).min(MOST_DUE - 1)) {
            // Behind them there is always a token that is chosen.
            let fits = text.room() > 1 && !text.outgrows(network, text.len() + 1);
            if !fits || token as usize >= network.spec().vocab {
                break;
            }
            text.push(Input::Token(token));
        }
    }

    /// Chooses the token after input `at`, and queues it.
    fn write(&mut self, text: &mut Text, at: usize, logits: &[f32]) -> Result<()> {
        let proposed = text.inputs().get(at + 1).and_then(Input::token);
        let chosen = self.choose(logits)?;
        if chosen.is_none() || chosen != proposed {
            text.cut(at + 1);
            chosen.into_iter().for_each(|token| text.push(Input::Token(token)));
        }
        self.certain = at + 1 + usize::from(chosen.is_some());
        if self.done.is_some() {
            text.cut(self.certain);
        }
        Ok(())
    }

    /// Chooses a token; `None` if it ends the text.
    fn choose(&mut self, logits: &[f32]) -> Result<Option<u32>> {
        let token = self.sample(logits)?;
        self.usage.tokens += 1;
        if !self.options.ignore_eos && self.end_ids.contains(&token) {
            self.finish(DoneReason::Stop);
            return Ok(None);
        }
        let logprobs = match self.options.logprobs {
            Some(top) => {
                let (logprob, top) = log_probabilities(logits, token, top)?;
                Some(Logprobs { logprob, top })
            }
            None => None,
        };
        self.history.push(token);
        let text = self.detokeniser.push(token).unwrap_or_default();
        self.ready.push_back(Piece { text, token: Some(token), logprobs });
        if self.detokeniser.stopped().is_some() {
            self.done = Some(DoneReason::Stop);
        }
        Ok(Some(token))
    }

    /// The sampler's choice, or that of the caller's hook.
    fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        let Some(hook) = &self.options.hook else { return self.sampler.sample(logits, &self.history) };
        self.changed.clear();
        self.changed.extend_from_slice(logits);
        let (prompt, tokens) = self.history.split_at(self.prompt_len);
        match hook.call(NextToken { logits: &mut self.changed, prompt, tokens })? {
            Some(token) if token as usize >= logits.len() => {
                Err(Error::Input(format!("hook: token {token} is outside the vocabulary of {}", logits.len())))
            }
            Some(token) => {
                // Every token costs one random number, so that later ones do not depend on who chose.
                self.sampler.skip();
                Ok(token)
            }
            None => self.sampler.sample(&self.changed, &self.history),
        }
    }

    fn finish(&mut self, reason: DoneReason) {
        self.done = Some(reason);
        if let Some(text) = self.detokeniser.finish() {
            self.ready.push_back(Piece { text, token: None, logprobs: None });
        }
        if self.detokeniser.stopped().is_some() {
            self.done = Some(DoneReason::Stop);
        }
    }

    /// Keeps the logits after the prompt for the first token, or no longer.
    pub fn hold(&mut self, holds: bool) {
        self.holds = holds;
    }

    /// Notes how much of the prompt the cache held already.
    pub fn note_cached(&mut self, inputs: usize) {
        self.usage.cached_tokens = inputs;
    }

    /// Whether the prompt is still being read.
    pub fn is_reading(&self) -> bool {
        self.usage.tokens == 0 && self.held.is_none()
    }

    /// Counts time spent on this text.
    pub fn spend(&mut self, time: Duration, on_prompt: bool) {
        let counter = if on_prompt { &mut self.usage.prompt_time } else { &mut self.usage.time };
        *counter += time;
    }

    /// The next piece that was made and not taken.
    pub fn piece(&mut self) -> Option<Piece> {
        self.ready.pop_front()
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn done_reason(&self) -> Option<DoneReason> {
        self.done
    }

    /// The stop string that ended the text.
    pub fn stopped_by(&self) -> Option<&str> {
        self.detokeniser.stopped()
    }

    pub fn usage(&self) -> Usage {
        self.usage
    }

    pub fn prompt_tokens(&self) -> &[u32] {
        &self.history[..self.prompt_len]
    }

    pub fn tokens(&self) -> &[u32] {
        &self.history[self.prompt_len..]
    }

    /// Has tokens proposed from now on.
    #[cfg(test)]
    pub fn propose_with(&mut self, propose: Proposer) {
        self.propose = Some(propose);
    }
}

impl Reader for Writer {
    fn wants(&self, at: usize, _: usize) -> bool {
        at + 1 >= self.certain
    }

    fn take(&mut self, text: &mut Text, at: usize, logits: &[f32]) -> Result<()> {
        if self.holds {
            self.held = Some(logits.to_vec());
            return Ok(());
        }
        if self.done.is_some() { Ok(()) } else { self.write(text, at, logits) }
    }
}
