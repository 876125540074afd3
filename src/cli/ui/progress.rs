//! How a download goes, on stderr: a bar for each file on a terminal, a line for each elsewhere. The words are Ollama's.

use crate::cli::Detail;
use crate::cli::ui::number::bytes;
use crate::cli::ui::output::note;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tallow::store::hub::{Progress, PullPlan, Pulled};

/// Shows a download.
pub struct Bars {
    /// `None`: nothing is said.
    say: Option<Say>,
    files: Mutex<Files>,
}

enum Say {
    Bars(MultiProgress),
    Lines,
}

#[derive(Default)]
struct Files {
    /// What a file is called in its line: the beginning of its digest.
    labels: HashMap<String, String>,
    bars: HashMap<String, ProgressBar>,
}

impl Files {
    fn label(&self, file: &str) -> String {
        self.labels.get(file).map_or(file, String::as_str).to_owned()
    }
}

impl Bars {
    /// For any download; with `-q` silent.
    pub fn new(detail: Detail) -> Bars {
        let say = match (detail, std::io::stderr().is_terminal()) {
            (Detail::Quiet, _) => None,
            (_, true) => Some(Say::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))),
            (_, false) => Some(Say::Lines),
        };
        Bars { say, files: Mutex::default() }
    }

    /// A line above the bars.
    fn line(&self, text: &str) {
        match &self.say {
            None => (),
            Some(Say::Lines) => note(format_args!("{text}\n")),
            Some(Say::Bars(bars)) => bars.suspend(|| note(format_args!("{text}\n"))),
        }
    }

    /// A line below the bars, when the download is over; they stay.
    fn last_line(&self, text: &str) {
        if self.say.is_some() {
            note(format_args!("{text}\n"));
        }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Bars {
    fn asking(&self, _: &str) {
        self.line("pulling manifest");
    }

    fn begin(&self, plan: &PullPlan) {
        let label = |digest: &str| digest.chars().take(12).collect::<String>();
        self.files().labels = plan.files.iter().map(|file| (file.path.clone(), label(&file.digest))).collect();
    }

    fn end(&self, pulled: &Pulled) {
        if pulled.fetched > 0 {
            self.last_line("verifying sha256 digest");
        }
        self.last_line("success");
    }

    fn start(&self, file: &str, size: u64, already: u64) {
        let mut files = self.files();
        let bar = match &self.say {
            Some(Say::Bars(bars)) => {
                let style = "pulling {prefix}... {percent:>3}% {bar:24} {decimal_bytes}/{decimal_total_bytes} \
                             {decimal_bytes_per_sec} {eta}";
                let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::hidden());
                bar.set_style(ProgressStyle::with_template(style).expect("the template is a constant"));
                bar.set_prefix(files.label(file));
                bars.add(bar)
            }
            _ => ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::hidden()),
        };
        // What an earlier attempt left is no part of the rate.
        files.bars.insert(file.to_owned(), bar.with_position(already));
    }

    fn advance(&self, file: &str, bytes: u64) {
        if let Some(bar) = self.files().bars.get(file) {
            bar.inc(bytes);
        }
    }

    fn done(&self, file: &str) {
        let mut files = self.files();
        let Some(bar) = files.bars.remove(file) else { return };
        let label = files.label(file);
        drop(files);
        let size = bar.length().unwrap_or_default();
        match &self.say {
            Some(Say::Lines) => note(format_args!("pulling {label}... 100% {}\n", bytes(size))),
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
