//! Multiple choice: how likely each answer to a question is. The question is read once, and nothing is generated.
//!
//!     cargo run --release --example choice -- "Is a lighthouse on land or at sea?" "On land." "At sea." "In space."
//!
//! Needs nothing else: the model is that of the repository, or the file or name in MODEL.

use tallow::{GenerateOptions, LoadOptions, Message, Model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [question, answers @ ..] = args.as_slice() else { return Err("usage: choice QUESTION ANSWER...".into()) };
    let name = std::env::var("MODEL").unwrap_or_else(|_| "smollm2".to_owned());
    let model = Model::load_with(&name, &LoadOptions { offline: true, ..LoadOptions::default() })?;

    // The prompt ends where the assistant's answer begins: with an answer that was begun and says nothing yet.
    let talk = [Message::user(question), Message::assistant("")];
    let options = GenerateOptions { continue_final_message: true, ..model.defaults() };
    let mut session = model.session()?;
    session.read_chat(&talk, &options)?;
    let scores = session.score(answers, &options)?;

    let mut order: Vec<usize> = (0..answers.len()).collect();
    // The mean over tokens: else the shortest answer would have an advantage.
    order.sort_by(|a, b| scores[*b].mean_logprob().total_cmp(&scores[*a].mean_logprob()));
    for i in order {
        println!("{:8.3} a token {:8.3} in all  {}", scores[i].mean_logprob(), scores[i].logprob(), answers[i]);
    }
    Ok(())
}
