//! A chat with a model on this machine, in a struct of one's own: it remembers, and what is wrong comes with what to do about it.
//!
//!     cargo run --release --example local_llm -- [MODEL]
//!
//! Needs nothing else: without MODEL it is the model of the repository, and no socket is opened in any case. Type questions,
//! one a line; an empty line ends.

use std::io::{BufRead, Write};
use tallow::{Error, GenerateOptions, LoadOptions, Message, Model, Overflow, Session};

/// The session holds what was said, so that each turn reads only what is new.
struct LocalLlm {
    session: Session,
    talk: Vec<Message>,
    options: GenerateOptions,
}

impl LocalLlm {
    /// Loads the model, with what it shall always bear in mind.
    fn open(name: &str, instructions: &str) -> Result<LocalLlm, Error> {
        let model = Model::load_with(name, &LoadOptions { offline: true, context: Some(2048), ..LoadOptions::default() })?;
        let (max_tokens, overflow) = (Some(200), Overflow::Truncate);
        let options = GenerateOptions { max_tokens, overflow, seed: Some(7), ..model.defaults() };
        Ok(LocalLlm { session: model.session()?, talk: vec![Message::system(instructions)], options })
    }

    /// Asks, prints the answer as it comes, and remembers both.
    fn ask(&mut self, question: &str) -> Result<(), Error> {
        self.talk.push(Message::user(question));
        let mut answer = String::new();
        for piece in self.session.chat(&self.talk, &self.options)? {
            let text = piece?.text;
            print!("{text}");
            let _ = std::io::stdout().flush();
            answer += &text;
        }
        self.talk.push(Message::assistant(answer));
        Ok(())
    }
}

fn main() -> Result<(), Error> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "smollm2".to_owned());
    let instructions = "You are a helpful assistant. Answer in one or two sentences.";
    let mut llm = LocalLlm::open(&name, instructions).inspect_err(|error| match error {
        Error::NotFound { .. } => eprintln!("give a .gguf file, a folder, or a name that `tallow list` shows"),
        Error::OutOfMemory { .. } => eprintln!("close other programs, or take a smaller model or quantisation"),
        _ => eprintln!("`tallow doctor` looks for what is wrong"),
    })?;
    for line in std::io::stdin().lock().lines().map_while(Result::ok).take_while(|line| !line.trim().is_empty()) {
        llm.ask(&line)?;
        println!("\n");
    }
    Ok(())
}
