//! From what a caller asks to the inputs of a text: render, encode, fit.
//!
//! Fitting is the rule of [`Overflow`]. Room is made for a whole answer at once and not just for the next token. What is kept
//! then differs from what the cache holds and is read again, so dropping as little as possible would mean to read nearly the
//! whole context at every turn.

use super::Model;
use crate::backend::Input;
use crate::error::{Error, Result};
use crate::options::{GenerateOptions, Overflow};
use crate::text::{ChatTemplate, Message, Start};

/// A prompt that fits: what is to be read, and how the text after it begins and ends.
pub(super) struct Prompt {
    pub inputs: Vec<Input>,
    pub dropped: Dropped,
    pub start: Start,
    pub end_ids: Vec<u32>,
}

/// What did not fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub tokens: usize,
    pub messages: usize,
}

/// How the rendering of a chat ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Where the assistant begins to speak.
    Answer,
    /// With the last message, which is an answer that was begun.
    Begun,
    /// With the last message, which is complete.
    Complete,
}

/// The tokens of `text`. Special tokens that it spells are tokens or text, as `options` say; with `special` it gets the
/// tokenizer's own.
pub(super) fn encode(model: &Model, text: &str, special: bool, options: &GenerateOptions) -> Result<Vec<u32>> {
    let tokenizer = model.tokenizer();
    match options.parse_special {
        true if special => tokenizer.encode_prompt(text),
        true => tokenizer.encode(text, false),
        false => tokenizer.encode_hidden(&tokenizer.hide_special(text), special),
    }
}

/// The prompt that continues the text `before` with `text`. The first text gets the tokenizer's own special tokens.
pub(super) fn of_text(model: &Model, before: &[Input], text: &str, options: &GenerateOptions) -> Result<Prompt> {
    let new = encode(model, text, before.is_empty(), options)?;
    of_inputs(model, before, new.into_iter().map(Input::Token), options)
}

/// The prompt that continues the text `before` with `new`.
pub(super) fn of_inputs(
    model: &Model,
    before: &[Input],
    new: impl IntoIterator<Item = Input>,
    options: &GenerateOptions,
) -> Result<Prompt> {
    options.validate()?;
    let all = before.iter().cloned().chain(new).collect();
    let (inputs, dropped) = fit_text(model, all, model.context(), options)?;
    let is_special = |input: &Input| input.token().is_some_and(|token| model.tokenizer().is_special(token));
    let start = if inputs.iter().all(is_special) { Start::Text } else { Start::Continuation };
    Ok(Prompt { inputs, dropped, start, end_ids: model.end_ids().to_vec() })
}

/// The prompt that asks for an answer to `messages`, or, as `options` say, for the rest of the last one.
pub(super) fn of_chat(model: &Model, messages: &[Message], options: &GenerateOptions) -> Result<Prompt> {
    of_messages(model, messages, if options.continue_final_message { Ending::Begun } else { Ending::Answer }, options)
}

/// The prompt that `messages` are, rendered to `ending`.
pub(super) fn of_messages(model: &Model, messages: &[Message], ending: Ending, options: &GenerateOptions) -> Result<Prompt> {
    let template = model.template()?.ok_or_else(|| {
        Error::unsupported(
            format!("{}: the model has no chat template; chat", model.info().name),
            "plain generation, or a template that is given (`LoadOptions::chat_template`)",
        )
    })?;
    options.validate()?;
    let (tokens, dropped) = fit_chat(model, template, (messages, ending), model.context(), options)?;
    let turn_end = template.turn_end(model.tokenizer());
    let end_ids = model.end_ids().iter().copied().chain(turn_end).collect();
    let is_begun = ending == Ending::Begun && messages.last().is_some_and(|last| !last.content.is_empty());
    let start = if is_begun { Start::Continuation } else { Start::Text };
    Ok(Prompt { inputs: tokens.into_iter().map(Input::Token).collect(), dropped, start, end_ids })
}

/// The text of a chat.
pub(super) fn render(template: &ChatTemplate, messages: &[Message], ending: Ending) -> Result<String> {
    match ending {
        Ending::Answer => template.render(messages, true),
        Ending::Complete => template.render(messages, false),
        Ending::Begun => render_begun(template, messages),
    }
}

/// The text of a chat up to the end of what its last message says. As transformers' `continue_final_message` has it: a mark
/// behind the message shows where that is, and whether the template keeps white space there.
fn render_begun(template: &ChatTemplate, messages: &[Message]) -> Result<String> {
    const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";
    let mut messages = messages.to_vec();
    let Some(last) = messages.last_mut() else {
        return Err(Error::Input("continue_final_message: there is no message to continue".into()));
    };
    let begun = last.content.trim().to_owned();
    last.content += MARK;
    let mut text = template.render(&messages, false)?;
    let Some(at) = text.rfind(MARK.trim_end()).filter(|at| text[..*at].contains(&begun)) else {
        let why = "continue_final_message: the template does not write the last message as it is";
        return Err(Error::Template(why.into()));
    };
    let keeps_space = text[at..].starts_with(MARK);
    text.truncate(at);
    if !keeps_space {
        text.truncate(text.trim_end().len());
    }
    Ok(text)
}

/// The inputs of a text that fit into `limit` positions.
fn fit_text(model: &Model, mut all: Vec<Input>, limit: usize, options: &GenerateOptions) -> Result<(Vec<Input>, Dropped)> {
    if all.len() < limit {
        return Ok((all, Dropped::default()));
    }
    if options.overflow == Overflow::Error {
        return Err(Error::ContextOverflow { wanted: all.len() + 1, limit });
    }
    let kept = limit - room(limit, options);
    let tokens = all.len() - kept;
    let bos = usize::from(kept > 1 && all[0].token().is_some_and(|token| model.tokenizer().bos() == Some(token)));
    all.drain(bos..bos + tokens);
    log::warn!("the prompt is longer than the context of {limit}: its oldest {tokens} tokens were dropped, {kept} remain");
    Ok((all, Dropped { tokens, messages: 0 }))
}

/// The tokens of a chat's messages that fit into `limit` positions.
pub(super) fn fit_chat(
    model: &Model,
    template: &ChatTemplate,
    (messages, ending): (&[Message], Ending),
    limit: usize,
    options: &GenerateOptions,
) -> Result<(Vec<u32>, Dropped)> {
    let tokenizer = model.tokenizer();
    // The template writes BOS itself.
    let encode = |messages: &[Message]| {
        if options.parse_special {
            return tokenizer.encode(&render(template, messages, ending)?, false);
        }
        let hidden = |message: &Message| Message { content: tokenizer.hide_special(&message.content), ..message.clone() };
        let messages: Vec<Message> = messages.iter().map(hidden).collect();
        tokenizer.encode_hidden(&render(template, &messages, ending)?, false)
    };
    let all = encode(messages)?;
    if all.len() < limit {
        return Ok((all, Dropped::default()));
    }
    if options.overflow == Overflow::Error {
        return Err(Error::ContextOverflow { wanted: all.len() + 1, limit });
    }
    let most = limit - room(limit, options);
    let mut kept = messages.to_vec();
    let mut tokens = all.len();
    let mut shortest = all.clone();
    while tokens > most && drop_oldest(&mut kept) {
        shortest = encode(&kept)?;
        tokens = shortest.len();
    }
    if tokens >= limit {
        return Err(Error::MessageTooLong { wanted: tokens + 1, limit });
    }
    let dropped = Dropped { tokens: all.len() - tokens, messages: messages.len() - kept.len() };
    let Dropped { tokens: gone, messages } = dropped;
    log::warn!(
        "the chat is longer than the context of {limit}: \
         its oldest {messages} messages ({gone} tokens) were dropped, {tokens} tokens remain"
    );
    Ok((shortest, dropped))
}

/// Positions to keep free for the answer: what it may take, a quarter where that is not said, never more than half.
fn room(limit: usize, options: &GenerateOptions) -> usize {
    options.max_tokens.unwrap_or(limit / 4).clamp(1, (limit / 2).max(1))
}

/// Drops the oldest question with its answers: everything before the next question, but for system messages. A question is of the role
/// `user` or, where nobody has it, of the first message's. The last one, with what follows it, stays; returns whether there was
/// anything else.
fn drop_oldest(messages: &mut Vec<Message>) -> bool {
    let is_system = |message: &Message| matches!(message.role.as_str(), "system" | "developer");
    let mut questions = messages.iter().enumerate().filter(|(_, message)| !is_system(message));
    let Some((_, first)) = questions.next() else { return false };
    // A chat may begin with an answer.
    let role = if messages.iter().any(|message| message.role == "user") { "user" } else { &first.role };
    let Some(next) = questions.find(|(_, message)| message.role == role).map(|(at, _)| at) else { return false };
    let mut at = 0;
    messages.retain(|message| {
        at += 1;
        at > next || is_system(message)
    });
    true
}
