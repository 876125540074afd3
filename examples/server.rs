//! Several users of one model: an HTTP server whose answers are written together, a token of each at every step.
//!
//!     cargo run --release --example server -- [MODEL]
//!     curl -N localhost:8080 -d "What is a lighthouse?"
//! One thread owns the batch, a user who hangs up leaves it, and what users write can not end their turn (`parse_special`).

use axum::{Router, body::Body, extract::State, routing::post};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::{convert::Infallible, pin::Pin, task::Context, task::Poll};
use tallow::{GenerateOptions, Message, Model};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

type Question = (String, UnboundedSender<String>);
struct Answer(UnboundedReceiver<String>);

impl futures_core::Stream for Answer {
    type Item = Result<String, Infallible>;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|text| text.map(Ok))
    }
}

fn write(model: &Model, questions: &Receiver<Question>) -> tallow::Result<()> {
    let options = GenerateOptions { max_tokens: Some(300), parse_special: false, ..model.defaults() };
    let (mut batch, mut users) = (model.generate_batch(), BTreeMap::new());
    loop {
        let first = users.is_empty().then(|| questions.recv().expect("the server holds a sender"));
        for (text, user) in first.into_iter().chain(questions.try_iter()) {
            let talk = [Message::user(text)];
            match model.session().and_then(|session| Ok(batch.join_chat(session, &talk, &options)?)) {
                Ok(number) => drop(users.insert(number, user)),
                Err(error) => drop(user.send(format!("{error}\n"))),
            }
        }
        for (number, piece) in batch.step()? {
            let has_failed = piece.is_err();
            let text = piece.map_or_else(|error| format!("{error}\n"), |piece| piece.text);
            if users.get(&number).is_none_or(|user| user.send(text).is_err()) || has_failed {
                batch.leave(number);
            }
        }
        let mut ended =
            |number| batch.usage(number).is_none() || batch.done_reason(number).is_some() && batch.leave(number).is_some();
        users.retain(|number, _| !ended(*number));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = Model::load(std::env::args().nth(1).as_deref().unwrap_or("smollm2"))?;
    let (sender, questions) = channel();
    std::thread::spawn(move || write(&model, &questions).inspect_err(|error| eprintln!("{error}")));
    let answer = |State(sender): State<Sender<Question>>, text: String| async move {
        let (user, pieces) = unbounded_channel();
        sender.send((text, user)).map_or_else(|_| Body::from("no model\n"), |()| Body::from_stream(Answer(pieces)))
    };
    let router = Router::new().route("/", post(answer)).with_state(sender);
    tokio::runtime::Runtime::new()?
        .block_on(async { Ok(axum::serve(tokio::net::TcpListener::bind("127.0.0.1:8080").await?, router).await?) })
}
