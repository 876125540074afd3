//! What is dropped when a prompt is longer than the context: the rule of [`Overflow`].
//!
//! Room is made for a whole answer at once and not just for the next token. What is kept then differs from what the cache
//! holds and is read again, so dropping as little as possible would mean to read nearly the whole context at every turn.

use super::Model;
use crate::error::{Error, Result};
use crate::options::{GenerateOptions, Overflow};
use crate::text::{ChatTemplate, Message};

/// What did not fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub tokens: usize,
    pub messages: usize,
}

/// The tokens of a text that fit into `limit` positions.
pub(super) fn fit_text(
    model: &Model,
    mut all: Vec<u32>,
    limit: usize,
    options: &GenerateOptions,
) -> Result<(Vec<u32>, Dropped)> {
    if all.len() < limit {
        return Ok((all, Dropped::default()));
    }
    if options.overflow == Overflow::Error {
        return Err(Error::ContextOverflow { wanted: all.len() + 1, limit });
    }
    let kept = limit - room(limit, options);
    let tokens = all.len() - kept;
    let bos = usize::from(kept > 1 && model.tokenizer().bos() == Some(all[0]));
    all.drain(bos..bos + tokens);
    log::warn!("the prompt is longer than the context of {limit}: its oldest {tokens} tokens were dropped, {kept} remain");
    Ok((all, Dropped { tokens, messages: 0 }))
}

/// The tokens of a chat's messages that fit into `limit` positions.
pub(super) fn fit_chat(
    model: &Model,
    template: &ChatTemplate,
    messages: &[Message],
    limit: usize,
    options: &GenerateOptions,
) -> Result<(Vec<u32>, Dropped)> {
    // The template writes BOS itself.
    let encode = |messages: &[Message]| model.tokenizer().encode(&template.render(messages, true)?, false);
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
