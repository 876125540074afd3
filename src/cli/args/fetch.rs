//! The model a command names, on this machine: found, or fetched first with bars on stderr.
//!
//! Every command that takes a MODEL comes through here, so that all of them fetch, refuse and explain alike.

use crate::cli::Detail;
use crate::cli::ui::progress::Bars;
use std::sync::Arc;
use tallow::store::hub::HubOptions;
use tallow::{Checkpoint, Error, LoadOptions, Model, ModelFiles};

/// Whether a model may be fetched.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Network {
    /// Never fetch: use only what is on this machine, as with HF_HUB_OFFLINE=1
    #[arg(long)]
    pub offline: bool,
}

impl Network {
    /// The Hub as the environment and the flag say.
    pub fn hub(self) -> HubOptions {
        LoadOptions { offline: self.offline, ..LoadOptions::default() }.hub()
    }

    /// The files of the model called `name`, once they are here.
    pub fn ensure(self, name: &str, detail: Detail) -> Result<ModelFiles, Error> {
        let progress = Some(Arc::new(Bars::new(detail)) as _);
        tallow::ensure(name, &LoadOptions { offline: self.offline, progress, ..LoadOptions::default() })
    }

    /// Opens the model called `name`.
    pub fn open(self, name: &str, detail: Detail) -> Result<Checkpoint, Error> {
        Checkpoint::at(self.ensure(name, detail)?)
    }

    /// Loads the model called `name`.
    pub fn load(self, name: &str, options: &LoadOptions, detail: Detail) -> Result<Model, Error> {
        Model::at(self.ensure(name, detail)?, options)
    }
}
