//! `tallow run` without a prompt: a chat at the terminal.
//!
//! Answers go to stdout as the model writes them, everything else to stderr or the terminal. What goes wrong with one
//! message is told, and the chat goes on.

mod command;
mod editor;
mod entry;
mod talk;

use crate::cli::Detail;
use crate::cli::args::parameters::{self, Parameters};
use crate::cli::ui::answer::Times;
use crate::cli::ui::interrupt::{self, Target};
use crate::cli::ui::{failure, output};
use clap::ColorChoice;
use command::{Command, Show};
use editor::{Editor, Read};
use entry::Input;
use std::path::Path;
use std::time::{Duration, Instant};
use talk::{Answered, Talk};
use tallow::{DoneReason, Error, GenerateOptions, Model, Overflow};

/// How a chat begins.
pub struct Setup {
    /// The model's name as the user gave it.
    pub name: String,
    /// The system message.
    pub system: Option<String>,
    /// Whether the chat template is left out.
    pub raw: bool,
    /// What flags and options said.
    pub parameters: Parameters,
    /// The options that follow from them and the model, and those that no `/set` changes.
    pub options: GenerateOptions,
    /// How much is said.
    pub detail: Detail,
    /// Whether the prompt is coloured.
    pub color: ColorChoice,
    /// How long the model took to load.
    pub load_time: Duration,
}

/// A chat and what can be set in it.
struct Chat<'m> {
    model: &'m Model,
    name: String,
    talk: Talk,
    parameters: Parameters,
    options: GenerateOptions,
    detail: Detail,
    load_time: Duration,
    /// Text of `/read`, for the next message.
    attached: Option<String>,
}

/// Chats until the user leaves.
pub fn run(setup: Setup, model: &Model) -> anyhow::Result<()> {
    let templated = !setup.raw && model.template()?.is_some();
    if !templated && setup.system.is_some() {
        return Err(failure::usage("--system needs a chat template, and the model has none; give one with --chat-template"));
    }
    let Setup { name, system, raw, parameters, options, detail, color, load_time } = setup;
    options.validate()?;
    if !templated && !raw {
        log::warn!("the model has no chat template; what you write is continued as it stands, as with --raw");
        crate::cli::commands::run::warn_of_opening(model);
    }
    if detail == Detail::Verbose {
        parameters::report(&options, model);
    }
    let system = system.or_else(|| model.system().filter(|_| templated).map(str::to_owned));
    let talk = Talk::new(model, system, templated)?;
    let mut chat = Chat { model, name, talk, parameters, options, detail, load_time, attached: None };
    let mut editor = Editor::new(color)?;
    // Without a line editor a terminal sends Ctrl-C as a signal, and it can only mean the program.
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    loop {
        interrupt::set(if dumb { Target::Program } else { Target::Nobody });
        match editor.read()? {
            Read::Input(Input::Message(text)) => chat.send(&text)?,
            Read::Input(Input::Command(text)) => match command::parse(&text) {
                Ok(Command::Bye) => return Ok(()),
                Ok(command) => chat.follow(command)?,
                Err(why) => say(format_args!("{why}")),
            },
            Read::Nothing => {}
            Read::Interrupt => say(format_args!("Use Ctrl + d or /bye to exit.")),
            Read::End => return Ok(()),
        }
    }
}

/// A line on stderr.
fn say(text: std::fmt::Arguments<'_>) {
    output::note(format_args!("{text}\n"));
}

impl Chat<'_> {
    fn follow(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Bye => {}
            Command::Help => help(),
            Command::Clear => {
                self.talk.clear();
                self.attached = None;
                say(format_args!("The talk is forgotten."));
            }
            Command::Regen => return self.again(),
            Command::Stats => output::note(format_args!("{}", self.talk.stats())),
            Command::Parameter(name, values) => match self.set(&name, &values) {
                Ok(()) => say(format_args!("Set {name} to {}.", values.join(" "))),
                Err(why) => say(format_args!("{why}")),
            },
            Command::System(_) if !self.talk.is_templated() => {
                say(format_args!("A system message needs a chat template, and there is none."));
            }
            Command::System(text) => {
                let system = Some(text).filter(|text| !text.is_empty());
                let done = if system.is_some() { "set" } else { "taken away" };
                self.talk.set_system(system);
                say(format_args!("The system message is {done}."));
            }
            Command::Verbose(on) => {
                self.detail = if on { Detail::Verbose } else { Detail::Normal };
                say(format_args!("Timings are {}.", if on { "on" } else { "off" }));
            }
            Command::Show(what) => self.show(what),
            Command::Read(path, text) => return self.read(&path, text),
        }
        Ok(())
    }

    fn send(&mut self, text: &str) -> anyhow::Result<()> {
        let attached = self.attached.take();
        let whole = match &attached {
            Some(before) => format!("{before}\n\n{text}"),
            None => text.to_owned(),
        };
        let start = Instant::now();
        let result = self.talk.send(&whole, &self.options, self.detail);
        if result.is_err() {
            self.attached = attached;
        }
        self.told(start, result)
    }

    fn again(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        match self.talk.again(&self.options, self.detail).transpose() {
            Some(result) => self.told(start, result),
            None => {
                say(format_args!("There is no message to answer again."));
                Ok(())
            }
        }
    }

    /// Tells what an answer came to. Only what concerns the chat as a whole is an error: stdout is gone.
    fn told(&mut self, start: Instant, result: anyhow::Result<Answered>) -> anyhow::Result<()> {
        match result {
            Ok(answered) => self.told_end(start.elapsed(), answered),
            Err(error) => match error.downcast_ref::<Error>() {
                Some(Error::Cancelled) => say(format_args!("\nStopped before an answer; the message is taken back.\n")),
                Some(_) => {
                    failure::report(&error);
                }
                None => return Err(error),
            },
        }
        Ok(())
    }

    fn told_end(&mut self, time: Duration, answered: Answered) {
        let load = std::mem::take(&mut self.load_time);
        if self.detail != Detail::Quiet && answered.reason == DoneReason::Length {
            match self.talk.is_full() {
                true => {
                    let next = match self.options.overflow == Overflow::Truncate {
                        true => "the next message drops the oldest",
                        false => "/clear starts anew, and -c makes room for more",
                    };
                    let limit = self.model.context();
                    say(format_args!("[the context is full ({limit} tokens) and the answer ends here; {next}]"))
                }
                false => say(format_args!("[the answer ends at num_predict, {} tokens]", answered.usage.tokens)),
            }
        }
        say(format_args!(""));
        if self.detail == Detail::Verbose {
            Times { total: load + time, load, usage: answered.usage }.print();
            say(format_args!(""));
        }
    }

    /// Sets a parameter, if all of them are still in their ranges.
    fn set(&mut self, name: &str, values: &[String]) -> Result<(), String> {
        let parameters = self.parameters.with(name, values)?;
        let GenerateOptions { sampling, seed, max_tokens, stop, .. } = parameters.options(self.model);
        let options = GenerateOptions { sampling, seed, max_tokens, stop, ..self.options.clone() };
        options.validate().map_err(|error| error.to_string())?;
        (self.parameters, self.options) = (parameters, options);
        Ok(())
    }

    fn show(&self, what: Show) {
        let info = self.model.info();
        let text = match what {
            Show::Info => self.info(),
            Show::Parameters => {
                let rows = parameters::rows(&self.options, self.model);
                rows.iter().map(|(name, value)| format!("{name:<20}{value}\n")).collect()
            }
            Show::System => self.talk.system().unwrap_or("There is no system message.").to_owned(),
            Show::Template => info.template.clone().unwrap_or_else(|| "The model has no chat template.".to_owned()),
            Show::License => info.license.clone().unwrap_or_else(|| "The model states no licence.".to_owned()),
        };
        say(format_args!("{}", text.trim_end()));
    }

    fn info(&self) -> String {
        let (info, spec) = (self.model.info(), self.model.spec());
        let device = match info.threads {
            0 => info.device.to_string(),
            threads => format!("{}, {threads} threads, {} kernels", info.device, info.kernels),
        };
        let rows = [
            ("model", self.name.clone()),
            ("file", info.name.clone()),
            ("architecture", spec.family.to_string()),
            ("parameters", info.parameters.to_string()),
            ("quantization", info.quantisation.to_string()),
            ("context length", format!("{} of the model's {}", self.model.context(), spec.context)),
            ("device", device),
        ];
        rows.iter().map(|(name, value)| format!("{name:<20}{value}\n")).collect()
    }

    fn read(&mut self, path: &Path, text: Option<String>) -> anyhow::Result<()> {
        let content = match std::fs::read(path).map(String::from_utf8) {
            Ok(Ok(content)) => content,
            Ok(Err(_)) => {
                say(format_args!("{}: the text is not UTF-8", path.display()));
                return Ok(());
            }
            Err(error) => {
                say(format_args!("{}: {error}", path.display()));
                return Ok(());
            }
        };
        let content = content.trim_end().to_owned();
        let count = content.chars().count();
        self.attached = Some(match self.attached.take() {
            Some(before) => format!("{before}\n\n{content}"),
            None => content,
        });
        match text {
            Some(text) => self.send(&text),
            None => {
                say(format_args!("{count} characters of {} go before the next message.", path.display()));
                Ok(())
            }
        }
    }
}

fn help() {
    for (command, does) in command::HELP {
        say(format_args!("  {command:<28}{does}"));
    }
    output::note(format_args!("\n{}\n", command::KEYS));
}
