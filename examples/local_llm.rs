//! A model on this machine behind three calls: is it there and sound, what would it take to run, and a chat that remembers.
//!
//!     cargo run --release --example local_llm -- [MODEL]
//!
//! Needs nothing else: without MODEL it is the model of the repository, and no socket is opened in any case. Type questions,
//! one a line; an empty line ends. What is wrong comes with what to do about it.

use std::io::{BufRead, Write};
use tallow::{Checkpoint, Error, LoadOptions, Message, Model, Overflow, Session};

/// A chat with a local model. The session holds what was said, so that each turn reads only what is new.
struct LocalLlm {
    model: Model,
    session: Session,
    talk: Vec<Message>,
}

impl LocalLlm {
    /// Looks at the files without loading them: whether they can be used, and whether they fit into memory.
    fn verify(name: &str) -> Result<String, Error> {
        let checkpoint = Checkpoint::at(tallow::find_here(name, &LoadOptions::default().hub())?)?;
        let cost = checkpoint.cost();
        cost.check(name)?;
        let context = cost.context.min(2048);
        Ok(format!(
            "{}: {} {}, {} MB of weights and cache for {context} tokens{}",
            checkpoint.info().name,
            cost.family,
            cost.quantisation,
            cost.need(context) / 1_000_000,
            if checkpoint.template()?.is_some() { "" } else { "; it has no chat template" },
        ))
    }

    /// Loads the model, with what it shall always bear in mind.
    fn open(name: &str, instructions: &str) -> Result<LocalLlm, Error> {
        let model = Model::load_with(name, &LoadOptions { offline: true, context: Some(2048), ..LoadOptions::default() })?;
        let session = model.session()?;
        Ok(LocalLlm { model, session, talk: vec![Message::system(instructions)] })
    }

    /// Asks, hands each piece of the answer to `show`, and remembers both.
    fn ask(&mut self, question: &str, mut show: impl FnMut(&str)) -> Result<(), Error> {
        self.talk.push(Message::user(question));
        let options = tallow::GenerateOptions {
            max_tokens: Some(200),
            overflow: Overflow::Truncate,
            seed: Some(7),
            ..self.model.defaults()
        };
        let mut answer = String::new();
        for piece in self.session.chat(&self.talk, &options)? {
            let piece = piece?;
            show(&piece.text);
            answer += &piece.text;
        }
        self.talk.push(Message::assistant(answer));
        Ok(())
    }
}

/// What a person can do about an error, beside what it says.
fn help(error: &Error) -> &'static str {
    match error {
        Error::NotLocal { .. } => "`tallow pull MODEL` fetches it",
        Error::NotFound { .. } => "give a .gguf file, a folder, or a name that `tallow list` shows",
        Error::Corrupt { .. } | Error::Checksum { .. } => "delete the file and fetch it again",
        Error::OutOfMemory { .. } => "close other programs, or take a smaller model or quantisation",
        Error::Unsupported { .. } => "`tallow show MODEL` tells what is in the file",
        _ => "`tallow doctor` looks for what is wrong",
    }
}

fn chat() -> Result<(), Error> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "smollm2".to_owned());
    println!("{}", LocalLlm::verify(&name)?);
    let mut llm = LocalLlm::open(&name, "You are a helpful assistant. Answer in one or two sentences.")?;
    for line in std::io::stdin().lock().lines().map_while(Result::ok).take_while(|line| !line.trim().is_empty()) {
        llm.ask(&line, |piece| {
            print!("{piece}");
            let _ = std::io::stdout().flush();
        })?;
        println!("\n");
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    match chat() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\n{}", help(&error));
            std::process::ExitCode::FAILURE
        }
    }
}
