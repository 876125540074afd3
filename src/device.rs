//! Where a model runs: the device a user names, the threads, and how much memory there is.

use crate::error::{Error, Result};
use candle_core::Device;

/// A device as users name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// CUDA if this build and machine have it, else Metal, else the CPU.
    #[default]
    Auto,
    /// The CPU, with tallow's own kernels.
    Cpu,
    /// The CPU, with candle's ops and f32 weights: the reference that the kernels are compared with.
    CpuReference,
    /// The CUDA device with this number.
    Cuda(usize),
    /// Apple's GPU.
    Metal,
}

impl std::str::FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cpu-reference" => Ok(DeviceChoice::CpuReference),
            "metal" => Ok(DeviceChoice::Metal),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            other => match other.strip_prefix("cuda:").and_then(|n| n.parse().ok()) {
                Some(ordinal) => Ok(DeviceChoice::Cuda(ordinal)),
                None => Err(Error::unsupported(format!("device {other:?}"), "auto, cpu, cpu-reference, cuda, cuda:N, metal")),
            },
        }
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::CpuReference => f.write_str("cpu-reference"),
            DeviceChoice::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            DeviceChoice::Metal => f.write_str("metal"),
        }
    }
}

/// A device that was found to work.
#[derive(Debug, Clone)]
pub(crate) enum Resolved {
    /// Our own kernels.
    Cpu,
    /// candle's ops on this device.
    Candle(Device),
}

impl DeviceChoice {
    /// Opens the device.
    pub(crate) fn resolve(self) -> Result<(DeviceChoice, Resolved)> {
        match self {
            DeviceChoice::Auto => {
                for choice in [DeviceChoice::Cuda(0), DeviceChoice::Metal] {
                    if choice.is_built() {
                        match choice.resolve() {
                            Ok(found) => return Ok(found),
                            Err(e) => log::info!("{choice} can not be used: {e}"),
                        }
                    }
                }
                Ok((DeviceChoice::Cpu, Resolved::Cpu))
            }
            DeviceChoice::Cpu => Ok((self, Resolved::Cpu)),
            DeviceChoice::CpuReference => Ok((self, Resolved::Candle(Device::Cpu))),
            DeviceChoice::Cuda(_) | DeviceChoice::Metal if !self.is_built() => {
                let feature = if self == DeviceChoice::Metal { "metal" } else { "cuda" };
                Err(Error::unsupported(
                    format!("the device {self}: this build lacks the feature `{feature}`, which"),
                    format!("cpu; or build with `cargo build --release --features {feature}`"),
                ))
            }
            DeviceChoice::Cuda(ordinal) => Ok((self, Resolved::Candle(Device::new_cuda(ordinal)?))),
            DeviceChoice::Metal => Ok((self, Resolved::Candle(Device::new_metal(0)?))),
        }
    }

    /// The device that this choice means here, opened to see whether it works.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where this build lacks it, [`Error::Device`] where the driver refuses it.
    pub fn available(self) -> Result<DeviceChoice> {
        self.resolve().map(|found| found.0)
    }

    /// Whether this build has the code for the device.
    pub fn is_built(self) -> bool {
        match self {
            DeviceChoice::Auto | DeviceChoice::Cpu | DeviceChoice::CpuReference => true,
            DeviceChoice::Cuda(_) => cfg!(feature = "cuda"),
            DeviceChoice::Metal => cfg!(feature = "metal"),
        }
    }
}

/// Threads to use where nobody says: the physical cores this process may run on.
pub fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    num_cpus::get_physical().clamp(1, allowed)
}

/// Bytes of memory that can still be used, where the system tells (Linux: `MemAvailable`, less where a cgroup allows less).
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    let number = |file: &str| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let cgroup =
        number("/sys/fs/cgroup/memory.max").and_then(|max| Some(max.saturating_sub(number("/sys/fs/cgroup/memory.current")?)));
    Some(cgroup.map_or(free, |cgroup| cgroup.min(free)))
}

/// Bytes that a user may still write to the disk of `path`, or of the nearest folder above it that exists; where the system
/// tells.
pub fn free_disk(path: &std::path::Path) -> Option<u64> {
    let path = std::path::absolute(path).ok()?;
    let existing = path.ancestors().find(|folder| folder.exists())?;
    #[cfg(all(unix, feature = "hub"))]
    return rustix::fs::statvfs(existing).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    #[cfg(not(all(unix, feature = "hub")))]
    return Some(existing).and(None);
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_disk_of_a_folder_that_is_not_there_yet_is_that_of_the_one_above() {
        let folder = std::env::temp_dir();
        assert_eq!(super::free_disk(&folder).is_some(), cfg!(all(unix, feature = "hub")));
        assert_eq!(super::free_disk(&folder.join("no/such/folder")).is_some(), cfg!(all(unix, feature = "hub")));
    }
}
