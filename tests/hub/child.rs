//! A pull in a process of its own, to be killed, starved or shut in: this test program runs itself again.
//!
//! The child says on stdout what happens, a line each: `@ advance FILE BYTES`, `@ waiting FILE`, then `@ ok PATH` or
//! `@ error VARIANT MESSAGE`.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use tallow::LoadOptions;

const WHAT: &str = "TALLOW_TEST_CHILD";

/// A process that will do `what` (`pull`, `locate` or `ensure`) for `text`, with the Hub and the cache of the environment.
pub fn command(hub: &Hub, home: &Path, what: &str, text: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if ["HF_", "HUGGING", "TRANSFORMERS_", "TALLOW_", "XDG_"].iter().any(|start| name.starts_with(start)) {
            command.env_remove(key);
        }
    }
    command.args(["--exact", "child::a_child_does_what_its_environment_says", "--nocapture"]);
    command.env(WHAT, format!("{what} {text}")).env("HF_ENDPOINT", hub.endpoint()).env("HF_HOME", home);
    command.env("TALLOW_HUB_BACKOFF_MS", "0").env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The cache of a child whose home this is.
pub fn cache(home: &Path) -> PathBuf {
    home.join("hub")
}

/// A running child and what it says.
pub struct Running {
    pub child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        let mut child = command.spawn().expect("this program starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Running { child, lines }
    }

    /// The next thing it says; `None` when it has ended.
    pub fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            // The harness writes the test's name before the first of them.
            if let Some((_, said)) = line.trim_end().split_once("@ ") {
                return Some(said.to_owned());
            }
        }
    }

    /// Reads on until it says this.
    pub fn wait_for(&mut self, start: &str) -> String {
        let mut said = Vec::new();
        while let Some(line) = self.next() {
            if line.starts_with(start) {
                return line;
            }
            said.push(line);
        }
        panic!("the child never said {start:?}, but {said:#?}");
    }

    /// Reads on until `file` has so many bytes.
    pub fn wait_for_bytes(&mut self, file: &str, count: usize) {
        let mut have = 0;
        while have < count {
            let line = self.wait_for(&format!("advance {file} "));
            have += line.rsplit(' ').next().and_then(|bytes| bytes.parse::<usize>().ok()).expect("a number");
        }
    }
}

/// The last thing a child says: `ok PATH` or `error VARIANT MESSAGE`.
pub fn outcome(command: Command) -> String {
    let mut running = Running::start(command);
    let mut last = None;
    while let Some(line) = running.next() {
        last = Some(line);
    }
    let status = running.child.wait().expect("a child");
    last.unwrap_or_else(|| panic!("the child said nothing: {status}"))
}

struct Tell;

impl Progress for Tell {
    fn advance(&self, file: &str, bytes: u64) {
        say(&format!("advance {file} {bytes}"));
    }

    fn waiting(&self, file: &str) {
        say(&format!("waiting {file}"));
    }
}

fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@ {what}").and_then(|()| out.flush()).expect("a reader");
}

#[test]
fn a_child_does_what_its_environment_says() {
    let Ok(task) = std::env::var(WHAT) else { return };
    let (what, text) = task.split_once(' ').expect("a task and a reference");
    let options = HubOptions::from_env();
    let done = match what {
        "pull" => hub::pull(&reference(text), &options, &PullOptions::default(), &Tell).map(|pulled| Some(pulled.path)),
        "locate" => hub::locate(&reference(text), &options),
        "ensure" => {
            let load = LoadOptions { progress: Some(Arc::new(Tell)), ..LoadOptions::default() };
            tallow::ensure(text, &load).map(|files| files.path().map(Path::to_owned))
        }
        _ => unreachable!("{what}"),
    };
    match done {
        Ok(Some(path)) => say(&format!("ok {}", path.display())),
        Ok(None) => say("nothing"),
        Err(error) => {
            let debug = format!("{error:?}");
            let variant = debug.split([' ', '(', '{']).next().unwrap_or_default();
            say(&format!("error {variant} {}", error.to_string().replace('\n', " ")));
        }
    }
}
