//! The line editor: rustyline with our prompts, completion, a placeholder, and a history that only its owner can read.
//!
//! The history is the file that TALLOW_HISTORY names (empty: none), else `tallow/history` in the folder for state
//! (XDG_STATE_HOME, `~/.local/state`; LOCALAPPDATA on Windows). Where stdout is no terminal, rustyline writes its prompt to
//! the terminal itself, so that stdout holds the answers alone.

use super::command::HELP;
use super::entry::{Entry, Input};
use crate::cli::args::parameters;
use clap::ColorChoice;
use rustyline::completion::{Completer, FilenameCompleter};
use rustyline::config::{Behavior, BellStyle, CompletionType, Config};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{ColorMode, Context, Editor as LineEditor, Helper};
use std::borrow::Cow;
use std::cell::Cell;
use std::io::{ErrorKind, IsTerminal};
use std::path::PathBuf;

/// Entries that the history keeps.
const HISTORY: usize = 1000;

/// What a user did at the prompt.
pub enum Read {
    /// Entered something.
    Input(Input),
    /// Entered nothing, or took back what was typed.
    Nothing,
    /// Pressed Ctrl-C on an empty line.
    Interrupt,
    /// Pressed Ctrl-D, or the terminal is gone.
    End,
}

/// The editor.
pub struct Editor {
    lines: LineEditor<Assistant, DefaultHistory>,
    history: Option<PathBuf>,
}

impl Editor {
    /// An editor on the terminal, with the history of earlier chats.
    pub fn new(color: ColorChoice) -> anyhow::Result<Editor> {
        let to_stdout = std::io::stdout().is_terminal();
        let config = Config::builder()
            .max_history_size(HISTORY)?
            .completion_type(CompletionType::List)
            .bell_style(BellStyle::None)
            .color_mode(match color {
                ColorChoice::Auto => ColorMode::Enabled,
                ColorChoice::Always => ColorMode::Forced,
                ColorChoice::Never => ColorMode::Disabled,
            })
            .behavior(if to_stdout { Behavior::Stdio } else { Behavior::PreferTerm })
            .build();
        let mut lines = LineEditor::with_config(config)?;
        lines.set_helper(Some(Assistant { files: FilenameCompleter::new(), typed: Cell::new(false), first: Cell::new(true) }));
        let history = history_file();
        if let Some(path) = &history
            && path.exists()
            && let Err(error) = lines.load_history(path)
        {
            log::warn!("{}: the history can not be read: {error}", path.display());
        }
        Ok(Editor { lines, history })
    }

    /// Asks for the next entry.
    pub fn read(&mut self) -> anyhow::Result<Read> {
        let mut raw = match self.line(">>> ", true)? {
            Ok(line) => line,
            Err(end) => return Ok(end),
        };
        let mut entry = Entry::new(&raw);
        while entry.is_open() {
            match self.line("... ", false)? {
                Ok(line) => {
                    entry.push(&line);
                    raw = format!("{raw}\n{line}");
                }
                // Within a block Ctrl-C takes back the block.
                Err(Read::Interrupt) => return Ok(Read::Nothing),
                Err(end) => return Ok(end),
            }
        }
        Ok(match entry.finish() {
            Some(input) => {
                self.remember(&raw);
                Read::Input(input)
            }
            None => Read::Nothing,
        })
    }

    fn line(&mut self, prompt: &str, first: bool) -> anyhow::Result<Result<String, Read>> {
        if let Some(helper) = self.lines.helper() {
            helper.typed.set(false);
            helper.first.set(first);
        }
        Ok(match self.lines.readline(prompt) {
            Ok(line) => Ok(line),
            Err(ReadlineError::Interrupted) if self.lines.helper().is_some_and(|helper| helper.typed.get()) => {
                Err(Read::Nothing)
            }
            Err(ReadlineError::Interrupted) => Err(Read::Interrupt),
            Err(ReadlineError::Eof) => Err(Read::End),
            Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                log::warn!("what was typed is not UTF-8, and was not taken; write it once more");
                Err(Read::Nothing)
            }
            Err(error) => return Err(error.into()),
        })
    }

    /// Adds to the history, in memory and on disk. A history that can not be written is told once.
    fn remember(&mut self, text: &str) {
        let added = self.lines.add_history_entry(text.trim_end()).unwrap_or(false);
        let Some(path) = self.history.clone().filter(|_| added) else { return };
        let folder = path.parent().map_or(Ok(()), private_folder);
        let written = folder.map_err(ReadlineError::from).and_then(|()| self.lines.append_history(&path));
        if let Err(error) = written {
            log::warn!("{}: the history can not be written: {error}", path.display());
            self.history = None;
        }
    }
}

/// Makes a folder that only its owner can enter, if there is none.
fn private_folder(folder: &std::path::Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn history_file() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("TALLOW_HISTORY") {
        return (!path.is_empty()).then(|| path.into());
    }
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = if cfg!(windows) { folder("LOCALAPPDATA") } else { folder("XDG_STATE_HOME") };
    let state = state.or_else(|| Some(std::env::home_dir()?.join(".local").join("state")))?;
    Some(state.join("tallow").join("history"))
}

/// What rustyline asks while a line is edited.
struct Assistant {
    files: FilenameCompleter,
    /// Whether the line holds anything: rustyline does not say what Ctrl-C threw away.
    typed: Cell<bool>,
    /// Whether it is the first line of an entry.
    first: Cell<bool>,
}

impl Helper for Assistant {}

impl Validator for Assistant {}

/// A text that stands where nothing was typed yet, and can not be taken over.
struct Placeholder;

impl Hint for Placeholder {
    fn display(&self) -> &str {
        "Send a message (/? for help)"
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Assistant {
    type Hint = Placeholder;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<Placeholder> {
        self.typed.set(!line.is_empty());
        (line.is_empty() && self.first.get()).then_some(Placeholder)
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        format!("\x1b[90m{hint}\x1b[0m").into()
    }
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = &line[..pos];
        if typed.starts_with("/read ") {
            let (start, files) = self.files.complete_path(line, pos)?;
            return Ok((start, files.into_iter().map(|file| file.replacement).collect()));
        }
        Ok((0, completions(typed)))
    }
}

/// The commands that begin like `typed`, as far as their words are fixed.
fn completions(typed: &str) -> Vec<String> {
    if !typed.starts_with('/') {
        return Vec::new();
    }
    let fixed = |command: &str| -> String {
        let words = command.split(' ').take_while(|word| !word.starts_with(|c: char| c.is_ascii_uppercase() || c == '['));
        words.collect::<Vec<_>>().join(" ")
    };
    let commands = HELP.iter().flat_map(|row| row.0.split(", ")).map(|command| match fixed(command) {
        whole if whole == command => whole,
        start => start + " ",
    });
    let parameters = parameters::NAMES.iter().map(|name| format!("/set parameter {name} "));
    // A parameter's name once that much is typed.
    let all: Vec<String> = if typed.starts_with("/set parameter ") { parameters.collect() } else { commands.collect() };
    all.into_iter().filter(|command| command.starts_with(typed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_parameters_are_completed_as_far_as_they_are_fixed() {
        assert_eq!(completions("/cl"), ["/clear"]);
        assert_eq!(completions("/set "), ["/set parameter ", "/set system ", "/set verbose", "/set quiet"]);
        assert_eq!(
            completions("/set parameter num_"),
            ["num_ctx", "num_predict", "num_thread"].map(|n| format!("/set parameter {n} "))
        );
        assert_eq!(completions("/rea"), ["/read "]);
        assert!(completions("Hello").is_empty() && completions("").is_empty());
        assert_eq!(completions("/").len(), 17);
    }
}
