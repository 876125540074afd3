//! An answer as a stream, for async programs: a thread generates, and the stream hands on what it has made.
//!
//! Polling takes a lock for as long as a piece is moved, so it never keeps an executor waiting.

use super::{DoneReason, Generation, Piece, Session, Usage};
use crate::error::{Error, Result};
use crate::options::{Cancel, GenerateOptions};
use crate::text::Message;
use futures_core::Stream;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// A running generation as a stream of pieces. It does not wait for whoever polls it; dropping it cancels it, also while the
/// prompt is read.
#[derive(Debug)]
pub struct PieceStream {
    shared: Arc<Mutex<Shared>>,
    cancel: Cancel,
}

#[derive(Debug, Default)]
struct Shared {
    pieces: VecDeque<Result<Piece>>,
    waker: Option<Waker>,
    has_ended: bool,
    outcome: Option<(Option<DoneReason>, Usage)>,
    session: Option<Session>,
}

impl Session {
    /// [`Session::generate`] as a stream; the prompt is read on the stream's own thread too. Errors come as items.
    pub fn into_stream(self, prompt: impl Into<String>, options: &GenerateOptions) -> PieceStream {
        let prompt = prompt.into();
        PieceStream::spawn(self, options, move |session, options| session.generate(&prompt, options))
    }

    /// [`Session::chat`] as a stream.
    pub fn into_chat_stream(self, messages: impl Into<Vec<Message>>, options: &GenerateOptions) -> PieceStream {
        let messages = messages.into();
        PieceStream::spawn(self, options, move |session, options| session.chat(&messages, options))
    }
}

impl PieceStream {
    fn spawn<B>(mut session: Session, options: &GenerateOptions, begin: B) -> PieceStream
    where
        B: for<'s> FnOnce(&'s mut Session, &GenerateOptions) -> Result<Generation<'s>> + Send + 'static,
    {
        let (shared, cancel) = (Arc::<Mutex<Shared>>::default(), Cancel::below(options.cancel.clone()));
        let options = GenerateOptions { cancel: Some(cancel.clone()), ..options.clone() };
        let (end, threads_own) = (End(shared.clone()), shared.clone());
        let work = move || {
            let end = end;
            match begin(&mut session, &options) {
                Ok(mut generation) => {
                    generation.by_ref().for_each(|piece| change(&threads_own, |shared| shared.pieces.push_back(piece)));
                    let outcome = (generation.done_reason(), generation.usage());
                    drop(generation);
                    change(&threads_own, |shared| shared.outcome = Some(outcome));
                }
                Err(error) => change(&threads_own, |shared| shared.pieces.push_back(Err(error))),
            }
            change(&threads_own, |shared| shared.session = Some(session));
            drop(end);
        };
        if let Err(error) = std::thread::Builder::new().name("tallow-stream".into()).spawn(work) {
            change(&shared, |shared| shared.pieces.push_back(Err(Error::io("a thread for the stream", error))));
        }
        PieceStream { shared, cancel }
    }

    /// Why the generation ended; `None` while it runs and if it failed.
    pub fn done_reason(&self) -> Option<DoneReason> {
        lock(&self.shared).outcome?.0
    }

    /// Counts and times; `None` until the generation has ended.
    pub fn usage(&self) -> Option<Usage> {
        Some(lock(&self.shared).outcome?.1)
    }

    /// What the thread shares.
    #[cfg(test)]
    pub(super) fn shared(&self) -> Arc<impl Sized + use<>> {
        self.shared.clone()
    }

    /// The session, once the stream has ended: it holds the text so far.
    pub fn into_session(self) -> Option<Session> {
        lock(&self.shared).session.take()
    }
}

impl Stream for PieceStream {
    type Item = Result<Piece>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Piece>>> {
        let mut shared = lock(&self.shared);
        match shared.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(piece)),
            None if shared.has_ended => Poll::Ready(None),
            None => {
                shared.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for PieceStream {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Says at the thread's end, however it comes, that there will be no more.
struct End(Arc<Mutex<Shared>>);

impl Drop for End {
    fn drop(&mut self) {
        change(&self.0, |shared| shared.has_ended = true);
    }
}

/// What is behind the lock stays sound when a thread panics: every change is one assignment.
fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes what is shared, and wakes whoever waits for it.
fn change(shared: &Mutex<Shared>, change: impl FnOnce(&mut Shared)) {
    let mut shared = lock(shared);
    change(&mut shared);
    let waker = shared.waker.take();
    drop(shared);
    if let Some(waker) = waker {
        waker.wake();
    }
}
