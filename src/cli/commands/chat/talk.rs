//! A talk with a model: its messages, its session, and the answers.
//!
//! The messages are the truth and the session follows: it keeps what the rendered messages have in common with what it has
//! read, so a turn reads only what is new. A model without a chat template has no messages; there the text goes on.

use crate::cli::Detail;
use crate::cli::args::parameters;
use crate::cli::ui::interrupt::{self, Target};
use crate::cli::ui::output;
use std::time::Duration;
use tallow::{Cancel, DoneReason, Error, GenerateOptions, Generation, Message, Model, Session, Usage};

/// A talk.
pub struct Talk {
    session: Session,
    /// Whether messages go through the chat template.
    templated: bool,
    system: Option<String>,
    /// What the model's publisher lets every talk begin with.
    opening: Vec<Message>,
    messages: Vec<Message>,
    /// Without a template: the text so far, and what stood before the last prompt, with the prompt.
    text: Vec<u32>,
    last: Option<(Vec<u32>, String)>,
    cancel: Cancel,
    dropped: usize,
    answered: Option<Answered>,
}

/// What an answer came to.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// Why it ended.
    pub reason: DoneReason,
    /// Counts and times.
    pub usage: Usage,
    /// The seed that was used.
    pub seed: u64,
}

impl Talk {
    /// An empty talk.
    pub fn new(model: &Model, system: Option<String>, templated: bool) -> tallow::Result<Talk> {
        Ok(Talk {
            session: model.session()?,
            templated,
            system,
            opening: opening(model, templated),
            messages: Vec::new(),
            text: Vec::new(),
            last: None,
            cancel: Cancel::default(),
            dropped: 0,
            answered: None,
        })
    }

    /// Whether messages go through the chat template; without one there is no system message.
    pub fn is_templated(&self) -> bool {
        self.templated
    }

    /// The system message.
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// Sets the system message.
    pub fn set_system(&mut self, system: Option<String>) {
        self.system = system;
    }

    /// Forgets everything but the system message and what every talk with the model begins with.
    pub fn clear(&mut self) {
        self.opening = opening(self.session.model(), self.templated);
        self.messages.clear();
        self.session.reset();
        self.text.clear();
        (self.last, self.dropped, self.answered) = (None, 0, None);
    }

    /// Sends a message and prints the answer. A message that gets none, not even a part of one, is taken back.
    pub fn send(&mut self, text: &str, options: &GenerateOptions, detail: Detail) -> anyhow::Result<Answered> {
        if self.templated {
            self.messages.push(Message::user(text));
        } else {
            self.last = Some((self.text.clone(), text.to_owned()));
        }
        let result = self.answer(options, detail);
        if result.is_err() {
            self.messages.pop();
            self.last = None;
        }
        result
    }

    /// Answers the last message again; `None` if there is none.
    pub fn again(&mut self, options: &GenerateOptions, detail: Detail) -> anyhow::Result<Option<Answered>> {
        if self.last.is_some() {
            return self.answer(options, detail).map(Some);
        }
        let Some(old) = self.messages.pop() else { return Ok(None) };
        let result = self.answer(options, detail);
        if result.is_err() {
            self.messages.push(old);
        }
        result.map(Some)
    }

    fn answer(&mut self, options: &GenerateOptions, detail: Detail) -> anyhow::Result<Answered> {
        self.cancel.reset();
        interrupt::set(Target::Answer(self.cancel.clone()));
        let result = self.generate(options, detail);
        interrupt::set(Target::Nobody);
        result
    }

    fn generate(&mut self, options: &GenerateOptions, detail: Detail) -> anyhow::Result<Answered> {
        let mut options = GenerateOptions { cancel: Some(self.cancel.clone()), ..options.clone() };
        options.seed = options.seed.or_else(|| Some(parameters::draw_seed()));
        let waiting = output::wait(detail, String::new());
        let mut generation = match &self.last {
            Some((before, prompt)) => {
                // The session may hold another end, of an answer that is given again or was stopped, or a text cut at the front.
                let same = self.session.tokens().iter().zip(before).take_while(|(a, b)| a == b).count();
                self.session.truncate(same);
                let mut new = before[same..].to_vec();
                let tokenizer = self.session.model().tokenizer();
                let read = if before.is_empty() { tokenizer.encode_prompt(prompt) } else { tokenizer.encode(prompt, false) };
                new.extend(read?);
                self.session.generate_tokens(&new, &options)?
            }
            None => {
                let system = self.system.iter().map(Message::system);
                let all: Vec<Message> = system.chain(self.opening.iter().chain(&self.messages).cloned()).collect();
                self.session.chat(&all, &options)?
            }
        };
        let (text, reason) = print(&mut generation, waiting)?;
        let answered = Answered { reason, usage: generation.usage(), seed: generation.seed() };
        if reason == DoneReason::Cancelled && text.is_empty() {
            return Err(Error::Cancelled.into());
        }
        // What did not fit is gone: else it would be dropped anew at every turn.
        let dropped = answered.usage.truncated_messages;
        let of_opening = dropped.min(self.opening.len());
        self.opening.drain(..of_opening);
        self.messages.drain(..(dropped - of_opening).min(self.messages.len()));
        self.dropped += answered.usage.truncated_messages;
        self.text = self.session.tokens();
        if self.templated {
            self.messages.push(Message::assistant(text));
        }
        self.answered = Some(answered);
        Ok(answered)
    }

    /// Whether the context has no room for another token.
    pub fn is_full(&self) -> bool {
        self.session.tokens().len() >= self.session.model().context()
    }

    /// Counts and rates, a line each.
    pub fn stats(&self) -> String {
        let (used, context) = (self.session.tokens().len(), self.session.model().context());
        let mut out = format!("context      {used} of {context} tokens ({}%)\n", used * 100 / context.max(1));
        if self.templated {
            let dropped = if self.dropped > 0 { format!(", {} dropped", self.dropped) } else { String::new() };
            out += &format!(
                "messages     {}{dropped}\n",
                self.opening.len() + self.messages.len() + usize::from(self.system.is_some())
            );
        }
        if let Some(Answered { usage, seed, .. }) = self.answered {
            let rate = |count: usize, time: Duration| crate::cli::ui::answer::rate(count, time);
            let new = usage.prompt_tokens - usage.cached_tokens;
            let read = rate(new, usage.prompt_time);
            out += &format!("last prompt  {} tokens, {new} of them new, {read:.2} tokens/s\n", usage.prompt_tokens);
            out +=
                &format!("last answer  {} tokens, {:.2} tokens/s, seed {seed}\n", usage.tokens, rate(usage.tokens, usage.time));
        }
        out
    }
}

/// What a talk with the model begins with.
fn opening(model: &Model, templated: bool) -> Vec<Message> {
    if templated { model.history().to_vec() } else { Vec::new() }
}

/// Prints an answer as it comes and ends its last line.
fn print(generation: &mut Generation<'_>, waiting: output::Waiting) -> anyhow::Result<(String, DoneReason)> {
    let mut waiting = Some(waiting);
    let mut text = String::new();
    for piece in generation.by_ref() {
        let piece = piece?;
        if !piece.text.is_empty() {
            waiting.take();
            output::text(&piece.text)?;
            text.push_str(&piece.text);
        }
    }
    drop(waiting);
    if !text.ends_with('\n') {
        output::line("")?;
    }
    // An iterator that ended without an error has a reason.
    Ok((text, generation.done_reason().unwrap_or(DoneReason::Stop)))
}
