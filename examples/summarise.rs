//! A summary of private notes, made in this process: what you wrote goes to no server.
//!
//!     cargo run --release --example summarise -- notes.txt [MODEL]
//!
//! Needs a text file; without MODEL it is the model of the repository, which is small: a larger instruct model (`tallow list`
//! has what is here) summarises better. No socket is opened. Notes that are longer than a part are read in parts, and the
//! summaries of the parts are summarised.

use tallow::{Error, GenerateOptions, LoadOptions, Message, Model, SampleOptions};

/// Tokens that are read at once; the rest of the context is for instructions and answer.
const PART: usize = 1200;

/// Summarises one part.
fn summary(model: &Model, text: &str) -> Result<String, Error> {
    let talk = [
        Message::system("You summarise notes. Keep names, dates and decisions. Answer with the summary only."),
        Message::user(format!("Summarise these notes in a few sentences:\n\n{text}")),
    ];
    // Always the likeliest word: a summary shall be the same tomorrow.
    let options = GenerateOptions { max_tokens: Some(160), sampling: SampleOptions::greedy(), ..model.defaults() };
    Ok(model.session()?.chat(&talk, &options)?.text()?.trim().to_owned())
}

/// The text in parts that are short enough: cut behind a paragraph where one ends late in a part, else behind a word.
fn parts(model: &Model, text: &str) -> Result<Vec<String>, Error> {
    let (mut parts, mut used) = (vec![String::new()], 0);
    for word in text.split_inclusive(char::is_whitespace) {
        let tokens = model.tokenizer().encode(word, false)?.len();
        let last = &parts[parts.len() - 1];
        if used + tokens > PART || used > PART * 3 / 4 && last.ends_with("\n\n") {
            parts.push(String::new());
            used = 0;
        }
        used += tokens;
        parts.last_mut().expect("there is always one").push_str(word);
    }
    parts.retain(|part| !part.trim().is_empty());
    Ok(parts)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let Some(file) = args.next() else { return Err("usage: summarise FILE [MODEL]".into()) };
    let mut text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let name = args.next().unwrap_or_else(|| "smollm2".to_owned());
    let model = Model::load_with(&name, &LoadOptions { offline: true, context: Some(2048), ..LoadOptions::default() })?;
    loop {
        let parts = parts(&model, &text)?;
        let summaries = parts.iter().map(|part| summary(&model, part)).collect::<Result<Vec<_>, _>>()?;
        let shorter = summaries.join("\n\n");
        if parts.len() <= 1 || shorter.len() >= text.len() {
            println!("{shorter}");
            return Ok(());
        }
        text = shorter;
    }
}
