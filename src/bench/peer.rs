//! Another engine's benchmark tool as a competitor: llama.cpp's `llama-bench`, run as a process for each sample.
//!
//! Its processes take turns with our own runs, sample by sample: two reports made one after the other compare a machine at
//! two different times. A process loads the model and warms up by itself, outside of what it times.

use super::timed::{Sample, Test, Timed};
use crate::backend::CacheType;
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What runs a peer on one model with one number of threads.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The program: `llama-bench`, by path or to be found on `PATH`.
    pub program: PathBuf,
    /// The GGUF file.
    pub model: PathBuf,
    /// Threads on the CPU.
    pub threads: usize,
    /// Tokens of a prompt that are read together.
    pub batch: usize,
    /// The cache's element type.
    pub cache_type: CacheType,
    /// What the tool said of itself in its last answer, with llama-bench's keys.
    pub about: Value,
}

impl Peer {
    /// A peer that has not run yet.
    pub fn new(program: &Path, model: &Path, threads: usize, batch: usize, cache_type: CacheType) -> Peer {
        let (program, model) = (program.to_owned(), model.to_owned());
        Peer { program, model, threads, batch, cache_type, about: Value::Null }
    }

    fn command(&self, test: Test) -> Command {
        let cache_type = self.cache_type.to_string();
        let mut command = Command::new(&self.program);
        command.arg("-m").arg(&self.model).args([
            "-r",
            "1",
            "-o",
            "jsonl",
            "-ngl",
            "0",
            "-ctk",
            &cache_type,
            "-ctv",
            &cache_type,
        ]);
        let batch = self.batch.to_string();
        command.args(["-t", &self.threads.to_string(), "-d", &test.depth.to_string(), "-b", &batch, "-ub", &batch]);
        match (test.prompt, test.generate) {
            (prompt, 0) => command.args(["-p", &prompt.to_string(), "-n", "0"]),
            (0, generate) => command.args(["-p", "0", "-n", &generate.to_string()]),
            (prompt, generate) => command.args(["-p", "0", "-n", "0", "-pg", &format!("{prompt},{generate}")]),
        };
        command.stdin(Stdio::null());
        command
    }

    fn failed(&self, why: impl std::fmt::Display) -> Error {
        Error::Input(format!("the peer {}: {why}", self.program.display()))
    }
}

impl Timed for Peer {
    fn run(&mut self, test: Test) -> Result<Sample> {
        let output = self.command(test).output().map_err(|e| self.failed(e))?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            let last = told.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
            return Err(self.failed(format!("{} on {}: {last}", output.status, self.model.display())));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.trim_start().starts_with('{')).unwrap_or_default();
        let row: Value =
            serde_json::from_str(line).map_err(|e| self.failed(format!("no llama-bench JSON on its stdout: {e}")))?;
        let nanos = row["samples_ns"].get(0).and_then(Value::as_u64).filter(|ns| *ns > 0);
        let time = Duration::from_nanos(nanos.ok_or_else(|| self.failed("its JSON has no samples_ns"))?);
        self.about = row;
        Ok(Sample { time, prompt: if test.generate == 0 { time } else { Duration::ZERO } })
    }

    /// Each of its processes warms up by itself; one run finds out whether it works at all.
    fn warm_up(&mut self, test: Test) -> Result<()> {
        self.run(test).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_asked_for_the_same_test() {
        let peer = Peer::new("llama-bench".as_ref(), "m.gguf".as_ref(), 3, 512, CacheType::F16);
        let words = |test: Test| {
            let command = peer.command(test);
            command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        let base = "-m m.gguf -r 1 -o jsonl -ngl 0 -ctk f16 -ctv f16 -t 3 -d";
        let test = |prompt, generate, depth| Test { prompt, generate, depth, texts: 0 };
        assert_eq!(words(test(8, 0, 0)), format!("{base} 0 -b 512 -ub 512 -p 8 -n 0"));
        assert_eq!(words(test(0, 4, 16)), format!("{base} 16 -b 512 -ub 512 -p 0 -n 4"));
        let narrow = Peer { cache_type: CacheType::Q8_0, ..peer.clone() };
        let words_of = narrow.command(test(8, 0, 0));
        let words_of: Vec<_> = words_of.get_args().collect();
        assert!(words_of.windows(4).any(|words| words == ["-ctk", "q8_0", "-ctv", "q8_0"]), "{words_of:?}");
        assert_eq!(words(test(8, 4, 0)), format!("{base} 0 -b 512 -ub 512 -p 0 -n 0 -pg 8,4"));
    }
}
