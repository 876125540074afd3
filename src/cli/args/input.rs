//! Where a prompt comes from: arguments, files and stdin.
//!
//! `run` takes `[MODEL] [PROMPT...]`, and one argument alone may be either: an existing path or a single word is a model,
//! anything with white space is a prompt for the default model. What arrives on stdin is put before the prompt, joined by one
//! space, as Ollama does; a terminal is not read. Nothing here ever asks a question.

use crate::cli::DEFAULT_MODEL;
use crate::cli::args::shared::Source;
use crate::cli::ui::failure::usage;
use anyhow::Context;
use std::io::{IsTerminal, Read};

/// Which model, and what to say to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The model's name or path.
    pub model: String,
    /// Whether the model's name is a lone word that may have been meant as a prompt.
    pub lone_word: bool,
    /// The prompt, unless none was given.
    pub prompt: Option<String>,
}

/// Sorts `[MODEL] [PROMPT...]` out. `model` and `prompt` are what flags gave.
pub fn request(
    words: Vec<String>,
    model: Option<String>,
    prompt: Option<String>,
    exists: impl Fn(&str) -> bool,
) -> anyhow::Result<Request> {
    let mut words = words.into_iter();
    let mut lone_word = false;
    let model = match (model, words.len()) {
        (Some(model), _) => model,
        (None, 0) => DEFAULT_MODEL.to_owned(),
        (None, 1) => {
            let word = words.next().unwrap_or_default();
            if word.contains(char::is_whitespace) && prompt.is_none() && !exists(&word) {
                return Ok(Request { model: DEFAULT_MODEL.to_owned(), lone_word, prompt: Some(word) });
            }
            lone_word = prompt.is_none();
            word
        }
        (None, _) => words.next().unwrap_or_default(),
    };
    let rest: Vec<String> = words.collect();
    let prompt = match (prompt, rest.is_empty()) {
        (prompt, true) => prompt,
        (None, false) => Some(rest.join(" ")),
        (Some(_), false) => return Err(usage("the prompt is given twice: as an argument and with -p or -f")),
    };
    Ok(Request { model, lone_word, prompt })
}

/// What was piped in; `None` from a terminal and when nothing came.
pub fn piped() -> anyhow::Result<Option<String>> {
    if std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let text = stdin()?;
    Ok((!text.is_empty()).then_some(text))
}

/// `before` and `prompt`, joined by one space.
pub fn joined(before: Option<String>, prompt: Option<String>) -> Option<String> {
    match (before, prompt) {
        (Some(before), Some(prompt)) => Some(format!("{before} {prompt}")),
        (before, prompt) => before.or(prompt),
    }
}

impl Source {
    /// Whether it is stdin.
    pub fn is_stdin(&self) -> bool {
        self.0.as_os_str() == "-"
    }

    /// The text, exactly.
    pub fn read(&self) -> anyhow::Result<String> {
        if self.is_stdin() {
            return stdin();
        }
        let bytes = std::fs::read(&self.0).map_err(|e| tallow::Error::io(&self.0, e))?;
        text(bytes, &self.0.display().to_string())
    }

    /// The text without one final line break: llama.cpp's reading of `-f`, so that counts and perplexities agree.
    pub fn read_prompt(&self) -> anyhow::Result<String> {
        let mut text = self.read()?;
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(text)
    }
}

fn stdin() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).context("can not read stdin")?;
    text(bytes, "stdin")
}

fn text(bytes: Vec<u8>, name: &str) -> anyhow::Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        tallow::Error::Input(format!("{name}: the text is not UTF-8 at byte {at}")).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str], model: Option<&str>, prompt: Option<&str>) -> (String, bool, Option<String>) {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let exists = |path: &str| path == "my model.gguf" || path == "model.gguf";
        let request = request(words, model.map(str::to_owned), prompt.map(str::to_owned), exists).unwrap();
        (request.model, request.lone_word, request.prompt)
    }

    fn expect(model: &str, lone_word: bool, prompt: Option<&str>) -> (String, bool, Option<String>) {
        (model.to_owned(), lone_word, prompt.map(str::to_owned))
    }

    #[test]
    fn one_argument_is_a_model_if_it_exists_or_is_one_word_and_else_a_prompt() {
        assert_eq!(asked(&["Tell a story."], None, None), expect("smollm2", false, Some("Tell a story.")));
        assert_eq!(asked(&["smollm2"], None, None), expect("smollm2", true, None));
        assert_eq!(asked(&["my model.gguf"], None, None), expect("my model.gguf", true, None));
    }

    #[test]
    fn the_first_of_several_arguments_is_the_model_and_the_rest_the_prompt() {
        assert_eq!(asked(&["model.gguf", "Tell", "me."], None, None), expect("model.gguf", false, Some("Tell me.")));
        assert_eq!(asked(&["model.gguf", ""], None, None), expect("model.gguf", false, Some("")));
    }

    #[test]
    fn flags_take_the_place_of_arguments() {
        assert_eq!(asked(&[], None, Some("Hi")), expect("smollm2", false, Some("Hi")));
        assert_eq!(asked(&["Hello"], Some("m"), None), expect("m", false, Some("Hello")));
        assert_eq!(asked(&["model.gguf"], None, Some("Hi")), expect("model.gguf", false, Some("Hi")));
        assert_eq!(asked(&[], Some("m"), None), expect("m", false, None));
    }

    #[test]
    fn a_prompt_given_twice_is_refused() {
        let words = || vec!["m".to_owned(), "Hello".to_owned()];
        assert!(request(words(), None, Some("Hi".into()), |_| false).is_err());
        assert!(request(words(), Some("m".into()), Some("Hi".into()), |_| false).is_err());
    }

    #[test]
    fn piped_text_stands_before_the_prompt() {
        assert_eq!(joined(Some("a\n".into()), Some("b".into())).as_deref(), Some("a\n b"));
        assert_eq!(joined(Some("a".into()), None).as_deref(), Some("a"));
        assert_eq!(joined(None, Some("b".into())).as_deref(), Some("b"));
        assert_eq!(joined(None, None), None);
    }
}
