//! A summary of private notes, made in this process: what you wrote goes to no server.
//!
//!     cargo run --release --example summarise -- notes.txt [MODEL]
//!
//! Needs a text file; without MODEL it is the model of the repository, which is small: a larger instruct model (`tallow list`
//! has what is here) summarises better. No socket is opened. Notes that are longer than a part are read in parts, and the
//! summaries of the parts are summarised.

use tallow::text::{Detokeniser, Start};
use tallow::{Error, GenerateOptions, LoadOptions, Message, Model, SampleOptions};

/// Tokens that are read at once; the rest of the context is for instructions and answer.
const PART: usize = 1200;
/// The most tokens of an answer.
const ANSWER: usize = 160;

/// Summarises one part.
fn summary(model: &Model, text: &str) -> Result<String, Error> {
    let talk = [
        Message::system("You summarise notes. Keep names, dates and decisions. Answer with the summary only."),
        Message::user(format!("Summarise these notes in a few sentences:\n\n{text}")),
    ];
    // Always the likeliest word: a summary shall be the same tomorrow.
    let options = GenerateOptions { max_tokens: Some(ANSWER), sampling: SampleOptions::greedy(), ..model.defaults() };
    let mut session = model.session()?;
    session.chat(&talk, &options)?.text()
}

/// Paragraphs, put together into parts that are short enough. One that is too long by itself is divided between its tokens, where
/// a character ends.
fn parts(model: &Model, text: &str) -> Result<Vec<String>, Error> {
    let tokenizer = model.tokenizer();
    let (mut parts, mut used) = (vec![String::new()], 0);
    for paragraph in text.split_inclusive("\n\n") {
        let tokens = tokenizer.encode(paragraph, false)?;
        let mut text = Detokeniser::new(tokenizer, Start::Text).keep_special();
        if used + tokens.len() > PART {
            used = PART;
        }
        for token in tokens {
            if used == PART {
                parts.push(String::new());
                used = 0;
            }
            used += 1;
            if let Some(piece) = text.push(token) {
                parts.last_mut().expect("there is always one").push_str(&piece);
            }
        }
        if let Some(rest) = text.finish() {
            parts.last_mut().expect("there is always one").push_str(&rest);
        }
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
        if parts.is_empty() {
            return Err(format!("{file} has no text").into());
        }
        let mut summaries = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            eprintln!("reading part {} of {}", i + 1, parts.len());
            summaries.push(summary(&model, part)?.trim().to_owned());
        }
        let last = parts.len() == 1;
        let shorter = summaries.join("\n\n");
        if last || shorter.len() >= text.len() {
            println!("{shorter}");
            return Ok(());
        }
        text = shorter;
    }
}
