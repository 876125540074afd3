//! `tallow devices`: what this machine and this build can run on.

use crate::cli::ui::output;
use candle_core::Device;
use serde::Serialize;
use tallow::DeviceChoice;
use tallow::bench::cpu_name;
use tallow::cpu::Kernels;
use tallow::device::{available_memory, default_threads};

/// Arguments of `devices`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    cpu: Cpu,
    /// Every value that `--device` takes here.
    devices: Vec<String>,
    features: Vec<Feature>,
}

#[derive(Serialize)]
struct Cpu {
    name: String,
    physical_cores: usize,
    logical_cores: usize,
    default_threads: usize,
    /// Kernel sets that this CPU can run, best first.
    kernels: Vec<&'static str>,
    kernels_in_use: &'static str,
    /// Bytes, where the system tells.
    memory_available: Option<u64>,
}

#[derive(Serialize)]
struct Feature {
    name: &'static str,
    built: bool,
    what: &'static str,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let report = report()?;
    if args.json { output::json(&report) } else { output::text(&report.to_string()) }
}

fn report() -> anyhow::Result<Report> {
    let cpu = Cpu {
        name: cpu_name(),
        physical_cores: num_cpus::get_physical(),
        logical_cores: num_cpus::get(),
        default_threads: default_threads(),
        kernels: Kernels::available().into_iter().map(Kernels::name).collect(),
        kernels_in_use: Kernels::get()?.name(),
        memory_available: available_memory(),
    };
    let cuda = (0..).take_while(|ordinal| DeviceChoice::Cuda(0).is_built() && Device::new_cuda(*ordinal).is_ok());
    let metal = (DeviceChoice::Metal.is_built() && Device::new_metal(0).is_ok()).then_some(DeviceChoice::Metal);
    let devices = std::iter::once(DeviceChoice::Cpu).chain(cuda.map(DeviceChoice::Cuda)).chain(metal);
    let features = [
        ("cuda", cfg!(feature = "cuda"), "NVIDIA GPUs"),
        ("cudnn", cfg!(feature = "cudnn"), "NVIDIA GPUs, with cuDNN"),
        ("metal", cfg!(feature = "metal"), "Apple GPUs"),
        ("accelerate", cfg!(feature = "accelerate"), "Apple's BLAS in candle's CPU ops"),
        ("mkl", cfg!(feature = "mkl"), "Intel's BLAS in candle's CPU ops"),
    ];
    let features = features.map(|(name, built, what)| Feature { name, built, what }).into();
    Ok(Report { cpu, devices: devices.map(|device| device.to_string()).collect(), features })
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cpu = &self.cpu;
        writeln!(f, "cpu         {}", cpu.name)?;
        let (physical, logical) = (cpu.physical_cores, cpu.logical_cores);
        writeln!(f, "  cores     {physical} physical, {logical} logical; {} threads by default", cpu.default_threads)?;
        writeln!(f, "  kernels   {} in use; available: {}", cpu.kernels_in_use, cpu.kernels.join(", "))?;
        if let Some(bytes) = cpu.memory_available {
            writeln!(f, "  memory    {} available", crate::cli::ui::number::bytes(bytes))?;
        }
        for device in self.devices.iter().filter(|device| *device != "cpu") {
            writeln!(f, "{device:<11} found")?;
        }
        for feature in &self.features {
            let Feature { name, built, what } = feature;
            if *built {
                writeln!(f, "{name:<11} in this build ({what})")?;
            } else {
                writeln!(f, "{name:<11} not in this build ({what}): cargo build --release --features {name}")?;
            }
        }
        Ok(())
    }
}
