//! The command line: one file per subcommand, on top of the public library.
//!
//! stdout carries a command's result and nothing else; notes, timings and errors go to stderr. A flag that is not built yet
//! is absent, never accepted and ignored. Rust programs ignore SIGPIPE, so a reader that goes away (`tallow run ... | head`)
//! shows up as an I/O error: it ends the program, as a success.

mod args;
mod commands;
mod ui;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::CompleteEnv;
#[cfg(feature = "hub")]
use commands::pull;
use commands::{
    absent, bench, detokenize, devices, doctor, embed, list, logits, perplexity, rm, run, show, template, tokenize,
};
use std::ffi::OsString;
use std::process::ExitCode;
use ui::{color, complete, failure, logger, output};

/// The model that is used where none is named.
const DEFAULT_MODEL: &str = "smollm2";

const EXAMPLES: &str = "\
Examples:
  tallow run \"Write a short story about a lighthouse keeper.\"
  tallow run model.gguf \"What is a lighthouse?\" --temp 0 -n 64
  cat notes.txt | tallow run -p \"Summarise this.\"
  tallow run llama3.2:1b \"What is a lighthouse?\"
  tallow run llama3.2
  tallow pull bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M --dry-run
  tallow embed all-minilm \"The lamp is lit at dusk.\" \"A beacon\" --similarity
  tallow show -v

MODEL is a .gguf file, a folder with config.json, a name in a model folder, a name of the catalogue (llama3.2:1b), or one of \
the Hugging Face Hub (org/repo, org/repo:QUANT, org/repo@revision); `smollm2` is the model that comes with tallow. Models that \
Ollama or LM Studio have fetched are used where they lie. What is not on this machine is fetched, unless --offline forbids it. \
The model folders are those in TALLOW_MODELS, then `models` beside the program and above it, and in the package that Cargo runs.

Environment: TALLOW_MODELS, TALLOW_KERNELS (a kernel set), TALLOW_LOG (off, error, warn, info, debug, trace), TALLOW_HISTORY (the \
chat's history; empty: none), HF_HOME and its kin, OLLAMA_MODELS; `tallow doctor` lists those in force.

Exit codes: 0 ok, 1 runtime, 2 usage, 3 model not found, 4 does not fit in memory, 5 network, 6 corrupt file, 130 interrupted.";

/// Runs language models in this process, without a server.
#[derive(Parser)]
#[command(name = "tallow", version, after_help = EXAMPLES, arg_required_else_help = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print errors only, no notes and warnings
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more: settings, timings, details
    #[arg(short, long, global = true)]
    verbose: bool,
    /// When help, usage errors and the chat's prompt are coloured; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
    /// Let control characters in names, metadata and answers through to a terminal; they are shown as ^[ otherwise
    #[arg(long, global = true, alias = "control_characters")]
    control_characters: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Answer a prompt, or chat
    Run(Box<run::Args>),
    /// Turn texts into vectors
    Embed(Box<embed::Args>),
    /// Print the logits after a prompt
    Logits(logits::Args),
    /// Turn text into token ids
    Tokenize(tokenize::Args),
    /// Turn token ids into text
    Detokenize(detokenize::Args),
    /// Render messages with a model's chat template
    Template(template::Args),
    /// Measure how well a model predicts a text
    Perplexity(perplexity::Args),
    /// Fetch models from the Hugging Face Hub
    #[cfg(feature = "hub")]
    Pull(pull::Args),
    /// List the models on this machine
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Describe a model
    Show(show::Args),
    /// Delete models that were pulled
    Rm(rm::Args),
    /// Measure how fast models read and write
    Bench(Box<bench::Args>),
    /// List the devices and kernels of this machine and build
    Devices(devices::Args),
    /// Look for what is wrong with this installation
    Doctor(doctor::Args),
    /// Print the script that completes commands and model names in a shell
    Completions(complete::Args),
    #[command(hide = true)]
    Ps(absent::Args),
    #[command(hide = true)]
    Stop(absent::Args),
    #[command(hide = true)]
    Serve(absent::Args),
    #[command(hide = true)]
    Push(absent::Args),
}

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Quiet,
    Normal,
    Verbose,
}

/// Parses the arguments, runs the command, and turns what went wrong into lines on stderr and an exit code.
pub fn main() -> ExitCode {
    CompleteEnv::with_factory(Cli::command).var(complete::VARIABLE).shells(complete::SHELLS).complete();
    let args = bench::with_llama_bench_flags(std::env::args_os());
    let cli = parsed(Cli::command().color(color::asked(&args)), args).unwrap_or_else(|error| error.exit());
    let detail = match (cli.quiet, cli.verbose) {
        (true, _) => Detail::Quiet,
        (false, true) => Detail::Verbose,
        (false, false) => Detail::Normal,
    };
    logger::start(detail);
    if cli.control_characters {
        output::allow_control_characters();
    }
    match command(cli.command, detail, cli.color) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

fn parsed(mut program: clap::Command, args: Vec<OsString>) -> clap::error::Result<Cli> {
    let mut matches = program.try_get_matches_from_mut(args)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut program))
}

fn command(command: Command, detail: Detail, color: ColorChoice) -> anyhow::Result<()> {
    match command {
        Command::Run(args) => run::run(*args, detail, color),
        Command::Embed(args) => embed::run(*args, detail),
        Command::Logits(args) => logits::run(args, detail),
        Command::Tokenize(args) => tokenize::run(args, detail),
        Command::Detokenize(args) => detokenize::run(args, detail),
        Command::Template(args) => template::run(args, detail),
        Command::Perplexity(args) => perplexity::run(args, detail),
        #[cfg(feature = "hub")]
        Command::Pull(args) => pull::run(args, detail),
        Command::List(args) => list::run(args),
        Command::Show(args) => show::run(args, detail),
        Command::Rm(args) => rm::run(args),
        Command::Bench(args) => bench::run(*args, detail),
        Command::Devices(args) => devices::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions(args) => complete::run(args),
        Command::Ps(_) => absent::ps(),
        Command::Stop(_) => absent::stop(),
        Command::Serve(_) => absent::serve(),
        Command::Push(_) => absent::push(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_spelling_of_a_flag_means_the_same() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let base = "tallow run m p --temp 0.5 --top-k 7 --top-p 0.6 --min-p 0.1 --typical-p 0.9 -n 3 -c 99 --repeat-last-n 5";
        for other in [
            "tallow run m p --temperature 0.5 --top_k 7 --top_p 0.6 --min_p 0.1 --typical_p 0.9 --num-predict 3 --ctx-size 99 --repeat_last_n 5",
            "tallow run m p --temperature 0.5 --top-k 7 --top_p 0.6 --min-p 0.1 --typical 0.9 --n-predict 3 --num-ctx 99 --repeat-last-n 5",
            "tallow run m p --temp 0.5 --top-k 7 --top-p 0.6 --min_p 0.1 --typical-p 0.9 --num_predict 3 --num_ctx 99 --repeat-last-n 5",
        ] {
            let parse = |line: &str| match Cli::try_parse_from(words(line)).map(|cli| cli.command) {
                Ok(Command::Run(args)) => format!("{args:?}"),
                _ => panic!("{line} does not parse"),
            };
            assert_eq!(parse(base), parse(other));
        }
    }

    #[test]
    fn flags_that_are_not_built_yet_are_refused() {
        for flag in ["--dtype=f32", "--mirostat=1", "--option"] {
            assert!(Cli::try_parse_from(["tallow", "run", "m", "p", flag]).is_err(), "{flag}");
        }
        for command in ["cp", "create", "help"] {
            assert!(Cli::try_parse_from(["tallow", command]).is_err(), "{command}");
        }
    }
}
