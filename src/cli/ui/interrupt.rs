//! What Ctrl-C does: it ends the program with exit code 130, unless a chat has said that it ends an answer.
//!
//! The handler runs in a thread of its own. A program that is ended leaves what was printed, with its last line ended.

use crate::cli::ui::output;
use std::sync::Mutex;
use tallow::Cancel;

/// The exit code of an interrupted program: 128 and the signal's number.
const INTERRUPTED: i32 = 130;

/// Who is interrupted.
pub enum Target {
    /// The program.
    Program,
    /// An answer.
    Answer(Cancel),
    /// Nobody: a line editor sees Ctrl-C as a key, and a signal from elsewhere must not leave its terminal raw.
    Nobody,
}

static TARGET: Mutex<Target> = Mutex::new(Target::Program);

/// Says who is interrupted from now on.
pub fn set(target: Target) {
    *TARGET.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = target;
}

/// Starts to listen.
pub fn listen() {
    let result = ctrlc::set_handler(|| match &*TARGET.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Target::Program => {
            output::end_line();
            std::process::exit(INTERRUPTED);
        }
        Target::Answer(cancel) => cancel.cancel(),
        Target::Nobody => {}
    });
    if let Err(error) = result {
        log::warn!("Ctrl-C ends the program at once: {error}");
    }
}
