//! One conversation or text, which the next prompt continues.

use super::prompt::{self, Ending, Prompt};
use super::score::Silent;
use super::step::{Work, read_all};
use super::text::Text;
use super::writer::Writer;
use super::{Generation, JoinError, Model, Usage};
use crate::backend::Input;
use crate::error::{Error, Result};
use crate::options::GenerateOptions;
use crate::text::Message;

/// A text in progress: the tokens read so far and their cache.
///
/// Sessions of one model are independent; each may be used from its own thread.
///
/// ```no_run
/// use tallow::{Message, Model};
/// let model = Model::load("smollm2")?;
/// let mut session = model.session()?;
/// let mut talk = vec![Message::user("What is a lighthouse?")];
/// let answer = session.chat(&talk, &model.defaults())?.text()?;
/// talk.extend([Message::assistant(&answer), Message::user("Who looks after it?")]);
/// // Reads only the answer's end and the new question.
/// println!("{}", session.chat(&talk, &model.defaults())?.text()?);
/// # Ok::<(), tallow::Error>(())
/// ```
pub struct Session {
    pub(super) model: Model,
    pub(super) text: Text,
}

impl Session {
    pub(super) fn new(model: Model) -> Result<Session> {
        let text = Text::new(&*model.inner().network, model.context())?;
        Ok(Session { model, text })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The tokens of the text so far, the last generated one included. Rows of numbers, which a text may hold beside them, are
    /// left out: [`Session::inputs`] has them.
    pub fn tokens(&self) -> Vec<u32> {
        self.text.tokens().collect()
    }

    /// The text so far: tokens, and the rows that were given in the place of some.
    pub fn inputs(&self) -> &[Input] {
        self.text.inputs()
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.truncate(0);
    }

    /// Forgets everything after the first `len` inputs. A model with sliding windows may have to read what is left again
    /// when the text is continued.
    pub fn truncate(&mut self, len: usize) {
        self.text.cut(len);
    }

    /// An independent copy, cache included: the way to try several continuations of one text.
    ///
    /// # Errors
    /// Those of the device that holds the cache.
    pub fn fork(&self) -> Result<Session> {
        Ok(Session { model: self.model.clone(), text: self.text.fork()? })
    }

    /// Continues the text with `prompt`, as it stands: no chat template. The first prompt of a session gets the tokenizer's
    /// own special tokens (BOS), but for a BOS that it begins with itself. Dropping the iterator ends the generation; what was generated stays in the session.
    ///
    /// # Errors
    /// [`Error::Input`] for options out of range and for a session that would still hold no token,
    /// [`Error::ContextOverflow`] for a prompt that does not fit, [`Error::Cancelled`].
    pub fn generate(&mut self, prompt: &str, options: &GenerateOptions) -> Result<Generation<'_>> {
        let prompt = prompt::of_text(&self.model, self.inputs(), prompt, options)?;
        Generation::begin(self, prompt, options)
    }

    /// Continues the text with these tokens.
    ///
    /// # Errors
    /// Those of [`Session::generate`], and [`Error::Input`] for a token outside the vocabulary.
    pub fn generate_tokens(&mut self, new: &[u32], options: &GenerateOptions) -> Result<Generation<'_>> {
        let new = new.iter().map(|token| Input::Token(*token));
        let prompt = prompt::of_inputs(&self.model, self.inputs(), new, options)?;
        Generation::begin(self, prompt, options)
    }

    /// Continues the text with tokens and with rows of numbers that stand in the place of a token's embedding.
    ///
    /// # Errors
    /// Those of [`Session::generate_tokens`], and [`Error::Input`] for a row of another width than the model's.
    pub fn generate_inputs(&mut self, new: &[Input], options: &GenerateOptions) -> Result<Generation<'_>> {
        let prompt = prompt::of_inputs(&self.model, self.inputs(), new.iter().cloned(), options)?;
        Generation::begin(self, prompt, options)
    }

    /// Answers a conversation. Only what differs from the text so far is read: in the usual case the last message.
    ///
    /// A chat that is longer than the context is refused, or its oldest messages are left out: see
    /// [`Overflow`](crate::Overflow).
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the model has no chat template, [`Error::Template`] if it refuses the messages,
    /// [`Error::MessageTooLong`] if not even the newest fits, and those of [`Session::generate`].
    pub fn chat(&mut self, messages: &[Message], options: &GenerateOptions) -> Result<Generation<'_>> {
        let prompt = prompt::of_chat(&self.model, messages, options)?;
        Generation::begin(self, prompt, options)
    }

    /// A generation that owns the session and has not read its prompt.
    #[cfg(test)]
    pub(super) fn into_generate_tokens(mut self, new: &[u32], options: &GenerateOptions) -> Generation<'static> {
        let new = new.iter().map(|token| Input::Token(*token));
        let prompt = prompt::of_inputs(&self.model, self.inputs(), new, options).unwrap();
        let writer = self.queue(prompt, options).unwrap();
        Generation::queued(self, writer)
    }

    /// Makes this the text of `inputs`, of which nothing more is read yet.
    #[cfg(test)]
    pub(super) fn reset_to(&mut self, inputs: &[Input]) {
        self.text.become_text(&*self.model.inner().network, inputs.to_vec()).unwrap();
    }

    /// Reads `prompt` without an answer: what is asked next goes on from there. A fork of a session that has read the common
    /// beginning of several prompts saves reading it again.
    ///
    /// # Errors
    /// Those of [`Session::generate`].
    pub fn read(&mut self, prompt: &str, options: &GenerateOptions) -> Result<Usage> {
        let prompt = prompt::of_text(&self.model, self.inputs(), prompt, options)?;
        self.read_prompt(prompt, options)
    }

    /// Reads messages without an answer, such as a system message that every talk begins with. With
    /// `continue_final_message` the text ends with the last message, where [`Session::score`] compares how it may go on.
    ///
    /// # Errors
    /// Those of [`Session::chat`].
    pub fn read_chat(&mut self, messages: &[Message], options: &GenerateOptions) -> Result<Usage> {
        let ending = if options.continue_final_message { Ending::Begun } else { Ending::Complete };
        let prompt = prompt::of_messages(&self.model, messages, ending, options)?;
        self.read_prompt(prompt, options)
    }

    fn read_prompt(&mut self, prompt: Prompt, options: &GenerateOptions) -> Result<Usage> {
        let clock = std::time::Instant::now();
        let mut usage = self.queue(prompt, options)?.usage();
        let Session { model, text } = self;
        read_all(&*model.inner().network, text, &mut Silent, options.cancel.as_ref(), &mut Work::default())?;
        usage.prompt_time = clock.elapsed();
        Ok(usage)
    }

    /// [`Session::generate`] as a value that owns the session: it fits into a struct, goes to another thread, and
    /// [`Generation::into_session`] gives the session back.
    ///
    /// # Errors
    /// Those of [`Session::generate`], with the session.
    // As large as a session, which is what it has to be.
    #[allow(clippy::result_large_err)]
    pub fn into_generate(self, prompt: &str, options: &GenerateOptions) -> Result<Generation<'static>, JoinError> {
        let prompt = prompt::of_text(&self.model, self.inputs(), prompt, options);
        Generation::begin_own(self, prompt, options)
    }

    /// [`Session::chat`] as a value that owns the session.
    ///
    /// # Errors
    /// Those of [`Session::chat`], with the session.
    #[allow(clippy::result_large_err)]
    pub fn into_chat(self, messages: &[Message], options: &GenerateOptions) -> Result<Generation<'static>, JoinError> {
        let prompt = prompt::of_chat(&self.model, messages, options);
        Generation::begin_own(self, prompt, options)
    }

    /// Makes this the text of `prompt`, as far as it is not, and returns what writes the text after it. Nothing is read yet,
    /// and if it fails nothing has changed.
    pub(super) fn queue(&mut self, prompt: Prompt, options: &GenerateOptions) -> Result<Writer> {
        let vocab = self.model.spec().vocab;
        if let Some((token, _)) = options.sampling.logit_bias.iter().find(|bias| bias.0 as usize >= vocab) {
            return Err(Error::Input(format!("logit_bias: token {token} is outside the vocabulary of {vocab}")));
        }
        let mut writer = Writer::new(self.model.tokenizer(), &prompt, options)?;
        writer.note_cached(self.text.become_text(&*self.model.inner().network, prompt.inputs)?);
        Ok(writer)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (read, len) = (self.text.read(), self.text.len());
        f.debug_struct("Session").field("model", &self.model.info().name).field("inputs", &len).field("read", &read).finish()
    }
}
