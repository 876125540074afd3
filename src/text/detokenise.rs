//! Token ids to text while they arrive.
//!
//! What has been shown can not be taken back, so nothing is shown before it is settled: not half a character, not a byte run
//! that a bad byte could still spoil, not the beginning of a stop string. After [`Detokeniser::finish`] the shown text is
//! exactly [`Tokenizer::decode`] of all ids (up to the stop string; where there are stop strings, a special token also ends a
//! run of bytes). Each token is looked at once.

use super::pieces::{Plan, Stream};
use super::stop::Stops;
use super::tokenizer::Tokenizer;

/// Where the text begins. SentencePiece puts a space in front of every text and takes it away again when it decodes; that is
/// right for a text, and wrong for the rest of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The ids are a text of their own, such as the answer in a chat: what `decode` gives.
    #[default]
    Text,
    /// The ids continue text that was shown before: the first piece keeps its space.
    Continuation,
}

/// Turns a stream of ids into a stream of text.
///
/// ```
/// # use tallow::text::{Detokeniser, Start, Tokenizer, Vocab};
/// # let tokens = ["<unk>", "<s>", "</s>", "▁two", "▁words"].map(String::from).to_vec();
/// # let vocab = Vocab { model: "llama".into(), tokens, types: Some(vec![2, 3, 3, 1, 1]), ..Vocab::default() };
/// # let tokenizer = Tokenizer::from_vocab(vocab)?;
/// let mut text = Detokeniser::new(&tokenizer, Start::Text);
/// assert_eq!(text.push(3).as_deref(), Some("two"));
/// assert_eq!(text.push(4).as_deref(), Some(" words"));
/// assert_eq!(text.finish(), None);
/// # Ok::<(), tallow::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Detokeniser {
    tokenizer: Tokenizer,
    stream: Stream,
    /// The ids so far, where the decoder only knows whole texts.
    whole: Vec<u32>,
    stops: Stops,
    skip_special: bool,
}

impl Detokeniser {
    /// Starts a text; special tokens are left out of it.
    pub fn new(tokenizer: &Tokenizer, start: Start) -> Self {
        let stream = Stream::new(tokenizer.plan(), start == Start::Text);
        Detokeniser { tokenizer: tokenizer.clone(), stream, whole: Vec::new(), stops: Stops::default(), skip_special: true }
    }

    /// Shows special tokens, too.
    pub fn keep_special(mut self) -> Self {
        self.skip_special = false;
        self
    }

    /// Ends the text before the first of `stops`, which are looked for in the text with its special tokens written out.
    pub fn stop_at<S: Into<String>>(mut self, stops: impl IntoIterator<Item = S>) -> Self {
        self.stops = Stops::new(stops.into_iter().map(Into::into).collect());
        self
    }

    /// Shows the stop string that ends the text, as its end.
    pub fn keep_stop(mut self) -> Self {
        self.stops.keep();
        self
    }

    /// Takes the next id and gives the text that it settles, if any. After a stop string nothing comes any more.
    pub fn push(&mut self, id: u32) -> Option<String> {
        if self.skip_special && self.tokenizer.is_special(id) {
            return Some(self.pass(id)).filter(|text| !text.is_empty());
        }
        let mut text = String::new();
        match self.tokenizer.plan() {
            Plan::Whole => self.whole.push(id),
            plan @ (Plan::Bytes | Plan::Text(_)) => {
                if let Some(piece) = self.tokenizer.piece(id) {
                    self.stream.push(plan, &piece, &mut text);
                }
            }
        }
        Some(self.stops.push(text)).filter(|text| !text.is_empty())
    }

    /// Shows the stop strings a token that prints nothing, and gives what it settles.
    fn pass(&mut self, id: u32) -> String {
        if self.stops.is_empty() {
            return String::new();
        }
        // What was written before the token comes before it, too. A character that is not whole yet is no part of a stop
        // string, and may go on behind the token.
        let mut before = String::new();
        self.stream.settle_run(self.tokenizer.plan(), &mut before);
        let mut shown = self.stops.push(before);
        shown.push_str(&self.stops.push_silent(&self.tokenizer.piece(id).unwrap_or_default()));
        shown
    }

    /// Gives what was held back. The text is complete; further ids begin in the middle of nothing.
    pub fn finish(&mut self) -> Option<String> {
        let mut text = String::new();
        match self.tokenizer.plan() {
            // Decoding fails for no id, only for decoders that refuse a text; then there is no text.
            Plan::Whole => text = self.tokenizer.decode(&std::mem::take(&mut self.whole), false).unwrap_or_default(),
            plan @ (Plan::Bytes | Plan::Text(_)) => self.stream.finish(plan, &mut text),
        }
        let mut shown = self.stops.push(text);
        shown.push_str(&self.stops.finish());
        Some(shown).filter(|text| !text.is_empty())
    }

    /// The stop string that ended the text.
    pub fn stopped(&self) -> Option<&str> {
        self.stops.hit()
    }
}
