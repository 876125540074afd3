//! Arguments that several commands share.

use std::path::PathBuf;
use tallow::quant::Dtype;
use tallow::{CacheType, DeviceChoice, LoadOptions, Overflow};

/// Where and how a model runs.
#[derive(Debug, clap::Args)]
pub struct Device {
    /// Where to run: auto, cpu, cuda, cuda:N, metal, cpu-reference (candle's ops on the CPU)
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceChoice::Auto)]
    device: DeviceChoice,
    /// Run on the CPU; the same as `--device cpu`
    #[arg(long, conflicts_with = "device")]
    cpu: bool,
    /// Threads on the CPU [default: the physical cores]
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    threads: Option<usize>,
}

impl Device {
    /// Options to load a model with.
    pub fn options(&self) -> LoadOptions {
        let device = if self.cpu { DeviceChoice::Cpu } else { self.device };
        LoadOptions { device, threads: self.threads, ..LoadOptions::default() }
    }
}

/// What float weights become when they are loaded.
#[derive(Debug, clap::Args)]
pub struct Quantise {
    /// Hold the float matrices of the blocks as q8_0: a quarter of the memory, int8 kernels, a small loss
    #[arg(long, value_name = "TYPE", value_parser = quantised)]
    quant: Option<Dtype>,
}

impl Quantise {
    /// The same options, with this choice.
    pub fn of(&self, options: LoadOptions) -> LoadOptions {
        LoadOptions { quantise: self.quant, ..options }
    }
}

fn quantised(name: &str) -> Result<Dtype, String> {
    match name.to_ascii_lowercase().as_str() {
        "q8_0" => Ok(Dtype::Q8_0),
        _ => Err("expected q8_0".to_owned()),
    }
}

/// The key/value cache.
#[derive(Debug, clap::Args)]
pub struct Cache {
    /// Element type of the key/value cache: auto (f32 for float weights, f16 for quantised ones), f32, f16, q8_0 (8.5 bits)
    #[arg(long, alias = "cache_type", value_name = "TYPE", default_value = "auto")]
    pub cache_type: CacheType,
}

/// What happens to a prompt that is longer than the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnOverflow {
    /// Refuse it
    Error,
    /// Drop its oldest tokens; in a chat the oldest messages, but never the system message and the newest
    Truncate,
}

impl From<OnOverflow> for Overflow {
    fn from(choice: OnOverflow) -> Overflow {
        match choice {
            OnOverflow::Error => Overflow::Error,
            OnOverflow::Truncate => Overflow::Truncate,
        }
    }
}

/// Token ids as a user writes them: `1,2,3`, with or without brackets and spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens(pub Vec<u32>);

impl std::str::FromStr for Tokens {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let inner = text.trim();
        let inner = inner.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(inner).trim();
        if inner.is_empty() {
            return Ok(Tokens(Vec::new()));
        }
        let ids = inner.split(',').map(|id| id.trim().parse().map_err(|_| format!("{:?} is no token id", id.trim())));
        ids.collect::<Result<_, _>>().map(Tokens)
    }
}

/// A text from a file, or from stdin for `-`.
#[derive(Debug, Clone)]
pub struct Source(pub PathBuf);

impl std::str::FromStr for Source {
    type Err = std::convert::Infallible;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        Ok(Source(path.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_ids_are_read_as_people_and_json_write_them() {
        for text in ["1,2,30", " 1, 2 ,30", "[1, 2, 30]"] {
            assert_eq!(text.parse(), Ok(Tokens(vec![1, 2, 30])), "{text}");
        }
        assert_eq!("".parse(), Ok(Tokens(vec![])));
        assert_eq!("[]".parse(), Ok(Tokens(vec![])));
        for text in ["1,,2", "1,", "-1", "one", "4294967296", "[1"] {
            assert!(text.parse::<Tokens>().is_err(), "{text}");
        }
    }
}
