//! How a download goes, on stderr: a bar for each file on a terminal, a line for each elsewhere. The words are Ollama's.

use crate::cli::Detail;
use crate::cli::commands::show::bytes;
use crate::cli::ui::output::note;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tallow::store::hub::{Plan, Progress};

/// Shows a download.
pub struct Bars {
    /// `None`: nothing is said.
    say: Option<Say>,
    /// What a file is called in its line: the beginning of its digest.
    labels: HashMap<String, String>,
    files: Mutex<HashMap<String, ProgressBar>>,
}

enum Say {
    Bars(MultiProgress),
    Lines,
}

impl Bars {
    /// For the download of `plan`; with `-q` silent.
    pub fn new(plan: &Plan, detail: Detail) -> Bars {
        let say = match (detail, std::io::stderr().is_terminal()) {
            (Detail::Quiet, _) => None,
            (_, true) => Some(Say::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))),
            (_, false) => Some(Say::Lines),
        };
        let label = |digest: &str| digest.chars().take(12).collect::<String>();
        let labels = plan.files.iter().map(|file| (file.path.clone(), label(&file.digest))).collect();
        Bars { say, labels, files: Mutex::default() }
    }

    /// A line above the bars.
    pub fn line(&self, text: &str) {
        match &self.say {
            None => (),
            Some(Say::Lines) => note(format_args!("{text}\n")),
            Some(Say::Bars(bars)) => bars.suspend(|| note(format_args!("{text}\n"))),
        }
    }

    /// A line below the bars, when the download is over; they stay.
    pub fn last_line(&self, text: &str) {
        if self.say.is_some() {
            note(format_args!("{text}\n"));
        }
    }

    fn label<'a>(&'a self, file: &'a str) -> &'a str {
        self.labels.get(file).map_or(file, String::as_str)
    }

    fn files(&self) -> MutexGuard<'_, HashMap<String, ProgressBar>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Bars {
    fn start(&self, file: &str, size: u64, already: u64) {
        let bar = match &self.say {
            Some(Say::Bars(bars)) => {
                let style = "pulling {prefix}... {percent:>3}% {bar:24} {decimal_bytes}/{decimal_total_bytes} \
                             {decimal_bytes_per_sec} {eta}";
                let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::hidden());
                bar.set_style(ProgressStyle::with_template(style).expect("the template is a constant"));
                bar.set_prefix(self.label(file).to_owned());
                bars.add(bar)
            }
            _ => ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::hidden()),
        };
        // What an earlier attempt left is no part of the rate.
        self.files().insert(file.to_owned(), bar.with_position(already));
    }

    fn advance(&self, file: &str, bytes: u64) {
        if let Some(bar) = self.files().get(file) {
            bar.inc(bytes);
        }
    }

    fn done(&self, file: &str) {
        let Some(bar) = self.files().remove(file) else { return };
        let size = bar.length().unwrap_or_default();
        match &self.say {
            Some(Say::Lines) => note(format_args!("pulling {}... 100% {}\n", self.label(file), bytes(size))),
            _ => bar.finish(),
        }
    }

    fn retry(&self, file: &str, why: &str, wait: Duration) {
        self.line(&format!("retrying {file} in {:.1}s: {why}", wait.as_secs_f64()));
    }

    fn waiting(&self, file: &str) {
        self.line(&format!("another process is fetching {file}; waiting for it"));
    }
}
