//! The model a command names, on this machine: found, or fetched first with bars on stderr.
//!
//! Every command that takes a MODEL comes through here, so that all of them fetch, refuse and explain alike.

use crate::cli::Detail;
use tallow::store::hub::HubOptions;
use tallow::{Checkpoint, Error, LoadOptions, Located, Model, Place};

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
        let mut hub = HubOptions::from_env();
        hub.offline |= self.offline;
        hub
    }

    /// Where the model called `name` is, once it is here.
    pub fn locate(self, name: &str, detail: Detail) -> Result<Located, Error> {
        let hub = self.hub();
        let reference = match tallow::find_with(name, &hub)? {
            Place::Here(located) => return Ok(located),
            Place::Hub(reference) => reference,
        };
        #[cfg(feature = "hub")]
        if !hub.offline {
            crate::cli::commands::pull::fetch(name, &reference, &hub, detail)?;
            if let Place::Here(located) = tallow::find_with(name, &hub)? {
                return Ok(located);
            }
        }
        let _ = detail;
        Err(tallow::not_here(name, &reference, &hub))
    }

    /// Opens the model called `name`.
    pub fn open(self, name: &str, detail: Detail) -> Result<Checkpoint, Error> {
        Checkpoint::at(self.locate(name, detail)?)
    }

    /// Loads the model called `name`.
    pub fn load(self, name: &str, options: &LoadOptions, detail: Detail) -> Result<Model, Error> {
        Model::at(self.locate(name, detail)?, options)
    }
}
