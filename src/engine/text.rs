//! A text as a queue: the inputs that its cache holds, and behind them those that no forward has read yet.
//!
//! A prompt, a generated token, a proposed one and a text whose cache was lost are all the same here: inputs that wait.

use crate::backend::{Input, KvCache};
use crate::error::{Error, Result};
use crate::model::Forward;

/// The inputs of one text and the cache of those that have been read.
pub(super) struct Text {
    inputs: Vec<Input>,
    cache: KvCache,
    /// The most positions of the text.
    context: usize,
}

impl Text {
    /// An empty text of at most `context` positions.
    pub fn new(network: &dyn Forward, context: usize) -> Result<Text> {
        Ok(Text { inputs: Vec::new(), cache: network.cache(network.cache_limit(0, context))?, context })
    }

    /// Everything, read or not.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The ids of the inputs that are tokens.
    pub fn tokens(&self) -> impl Iterator<Item = u32> {
        self.inputs.iter().filter_map(Input::token)
    }

    /// How many inputs there are, read or not.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// How many inputs the cache holds.
    pub fn read(&self) -> usize {
        self.cache.len()
    }

    /// How many inputs wait.
    pub fn unread(&self) -> usize {
        self.inputs.len() - self.cache.len()
    }

    /// How many more inputs fit.
    pub fn room(&self) -> usize {
        self.context.saturating_sub(self.inputs.len())
    }

    /// The cache of what has been read, which a forward extends.
    pub fn cache(&mut self) -> &mut KvCache {
        &mut self.cache
    }

    /// Queues one more input.
    pub fn push(&mut self, input: Input) {
        self.inputs.push(input);
    }

    /// Forgets everything after the first `len` inputs. A cache with sliding windows may no longer hold what comes before;
    /// those inputs wait again.
    pub fn cut(&mut self, len: usize) {
        self.inputs.truncate(len);
        if len < self.cache.len() {
            self.cache.truncate(len);
        }
    }

    /// Forgets what waits.
    pub fn drop_unread(&mut self) {
        self.cut(self.cache.len());
    }

    /// Makes this the text of `inputs`, which continue or cut short what it is.
    pub fn restore(&mut self, inputs: Vec<Input>) {
        self.cut(inputs.len());
        self.inputs = inputs;
    }

    /// Makes this the text of `inputs`, and says how many of them the cache holds already. The last one always waits: what
    /// comes after it is what the caller wants to know.
    pub fn become_text(&mut self, network: &dyn Forward, inputs: Vec<Input>) -> Result<usize> {
        let Some(last) = inputs.len().checked_sub(1) else {
            let what = "the prompt gives no token; write something, or use a model with a BOS token";
            return Err(Error::Input(what.into()));
        };
        self.check(network, &inputs)?;
        self.fit_cache(network, inputs.len())?;
        let held = &self.inputs[..self.cache.len()];
        let same = held.iter().zip(&inputs).take_while(|(a, b)| a == b).count();
        self.cache.truncate(same.min(last));
        self.inputs = inputs;
        Ok(self.cache.len())
    }

    fn check(&self, network: &dyn Forward, inputs: &[Input]) -> Result<()> {
        let (vocab, dim) = (network.spec().vocab, network.spec().dim);
        for input in inputs {
            match input {
                Input::Token(token) if *token as usize >= vocab => {
                    return Err(Error::Input(format!("token {token} is outside the vocabulary of {vocab}")));
                }
                Input::Row(row) if row.values().len() != dim => {
                    let len = row.values().len();
                    return Err(Error::Input(format!("a row in the place of a token has {len} numbers, expected {dim}")));
                }
                Input::Token(_) | Input::Row(_) => {}
            }
        }
        Ok(())
    }

    /// Takes a new cache, for which all inputs wait, where a text of `len` positions needs another one.
    pub fn fit_cache(&mut self, network: &dyn Forward, len: usize) -> Result<()> {
        if self.outgrows(network, len) {
            self.cache = network.cache(network.cache_limit(len, self.context))?;
        }
        Ok(())
    }

    /// Whether a text of `len` positions needs another cache.
    pub fn outgrows(&self, network: &dyn Forward, len: usize) -> bool {
        network.cache_limit(len, self.context) != self.cache.limit()
    }

    /// An independent copy.
    pub fn fork(&self) -> Result<Text> {
        Ok(Text { inputs: self.inputs.clone(), cache: self.cache.clone(), context: self.context })
    }
}
