//! Ollama's commands that have no meaning without a server or an account: one line each that says so.

use crate::cli::ui::failure::usage;

/// Whatever was given beside the command.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<String>,
}

pub fn ps() -> anyhow::Result<()> {
    Err(usage("there is no `tallow ps`: a model lives in the process that runs it, so the system's `ps` shows it"))
}

pub fn stop() -> anyhow::Result<()> {
    Err(usage("there is no `tallow stop`: a model lives in the process that runs it and ends with it; Ctrl-C ends an answer"))
}

pub fn serve() -> anyhow::Result<()> {
    Err(usage("there is no `tallow serve`: tallow runs models in the process that asks; use `tallow run`, or the library"))
}

pub fn push() -> anyhow::Result<()> {
    Err(usage("there is no `tallow push`: tallow runs models and does not publish them; `hf upload` does"))
}
