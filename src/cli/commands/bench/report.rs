//! The report: llama-bench's fields and ours, as a table, CSV or JSON.

use super::{Readings, Ready};
use crate::cli::ui::output;
use crate::cli::ui::time::{nanoseconds, rfc3339};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use tallow::DeviceChoice;
use tallow::bench::{Measurement, Peer, Plan, Roofline, Summary, Work, cpu_name};

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A Markdown table
    Md,
    /// A line of names, then a line for each test; no single samples
    Csv,
    /// An array of objects
    Json,
    /// An object a line
    Jsonl,
}

/// One test on one model: the keys of a JSON object, in order.
#[derive(Serialize)]
pub struct Row {
    build_commit: String,
    cpu_info: String,
    gpu_info: String,
    backends: String,
    model_filename: String,
    model_type: String,
    model_size: u64,
    model_n_params: u64,
    n_batch: usize,
    n_threads: usize,
    type_k: String,
    type_v: String,
    devices: String,
    n_prompt: usize,
    n_gen: usize,
    n_depth: usize,
    test_time: String,
    avg_ns: u64,
    stddev_ns: u64,
    avg_ts: f64,
    stddev_ts: f64,
    /// Ours from here on, but for the samples.
    median_ts: f64,
    ci95_lo_ts: f64,
    ci95_hi_ts: f64,
    ttft_ns: Option<u64>,
    load_ns: Option<u64>,
    /// Of the process, which holds all models of the report.
    peak_rss: Option<u64>,
    bytes_per_token: Option<f64>,
    bandwidth_pct: Option<f64>,
    peak_pct: Option<f64>,
    kernels: &'static str,
    /// Of vectors: texts that are embedded together, and how many in a second.
    n_texts: Option<usize>,
    texts_ts: Option<f64>,
    /// Of a peer: tallow's tokens per second over its, sample by sample.
    ratio: Option<f64>,
    ratio_lo: Option<f64>,
    ratio_hi: Option<f64>,
    samples_ns: Vec<u64>,
    samples_ts: Vec<f64>,
    #[serde(skip)]
    test: String,
}

impl Row {
    /// What `measured` came to; without `roofline` there are no shares.
    pub fn new(ready: &Ready, measured: &Measurement, roofline: Option<&Roofline>, peak_rss: Option<u64>, plan: &Plan) -> Row {
        let info = ready.model.info();
        let roofline = roofline.filter(|_| super::is_cpu(info.device));
        let test = measured.test;
        let samples_ns: Vec<u64> = measured.samples.iter().map(|sample| nanoseconds(sample.time)).collect();
        let samples_ts = measured.rates();
        let nanos: Vec<f64> = samples_ns.iter().map(|ns| *ns as f64).collect();
        let time = Summary::of(&nanos, plan.seed).unwrap_or(NOTHING);
        let rate = Summary::of(&samples_ts, plan.seed).unwrap_or(NOTHING);
        let work = Work::of(info, ready.model.spec(), test);
        // A mixed test is bound by both limits in turn, so that neither share means anything.
        let seconds = time.mean * 1e-9;
        let share = |work: Option<f64>, of: Option<f64>| Some(100.0 * work? / of.filter(|of| *of > 0.0)? / seconds.max(1e-9));
        let read = work.bytes_per_token.filter(|_| test.prompt == 0).map(|bytes| bytes * test.generate as f64);
        let multiplied = work.prompt_operations.filter(|_| test.generate == 0);
        let (backends, gpu) = backend(info.device);
        Row {
            build_commit: format!("tallow {}", env!("CARGO_PKG_VERSION")),
            cpu_info: cpu_name(),
            gpu_info: if gpu { info.device.to_string() } else { String::new() },
            backends: backends.to_owned(),
            model_filename: ready.name.clone(),
            model_type: format!("{} {} {}", ready.model.spec().family, size(info.parameters), info.quantisation),
            model_size: info.bytes,
            model_n_params: info.parameters,
            n_batch: plan.batch,
            n_threads: info.threads,
            type_k: info.cache_type.to_string(),
            type_v: info.cache_type.to_string(),
            devices: info.device.to_string(),
            n_prompt: test.prompt,
            n_gen: test.generate,
            n_depth: test.depth,
            test_time: format!("{}Z", rfc3339(measured.started).split('.').next().unwrap_or_default()),
            avg_ns: time.mean as u64,
            stddev_ns: time.deviation as u64,
            avg_ts: rate.mean,
            stddev_ts: rate.deviation,
            median_ts: rate.median,
            ci95_lo_ts: rate.interval.0,
            ci95_hi_ts: rate.interval.1,
            ttft_ns: measured.first_token().map(nanoseconds),
            load_ns: Some(nanoseconds(ready.load)),
            peak_rss,
            bytes_per_token: work.bytes_per_token,
            bandwidth_pct: share(read, roofline.map(|roofline| roofline.bandwidth)),
            peak_pct: share(multiplied, roofline.map(|roofline| roofline.peak(info.quantisation))),
            kernels: info.kernels,
            n_texts: Some(test.texts).filter(|texts| *texts > 0),
            texts_ts: measured.text_rates().and_then(|rates| Summary::of(&rates, plan.seed)).map(|rate| rate.mean),
            ratio: None,
            ratio_lo: None,
            ratio_hi: None,
            samples_ns,
            samples_ts,
            test: test.to_string(),
        }
    }

    /// What a peer came to on the model that is `ready`, beside `ours`: our samples of the same test.
    pub fn of_peer(peer: &Peer, ready: &Ready, measured: &Measurement, ours: Option<&Measurement>, seed: u64) -> Row {
        let plan = Plan { repetitions: 0, warm_up: false, seed, batch: peer.batch };
        let row = Row::new(ready, measured, None, None, &plan);
        let text = |key: &str| peer.about[key].as_str().unwrap_or_default().to_owned();
        let theirs = measured.rates();
        let ratios: Vec<f64> = ours.map_or(Vec::new(), |ours| ours.rates().iter().zip(&theirs).map(|(a, b)| a / b).collect());
        let ratio = Summary::of(&ratios, seed);
        Row {
            build_commit: format!("llama.cpp {}", text("build_commit")),
            backends: format!("llama.cpp {}", text("backends")),
            model_type: text("model_type"),
            load_ns: None,
            ttft_ns: row.ttft_ns.filter(|_| measured.test.generate == 0),
            bytes_per_token: None,
            kernels: "",
            ratio: ratio.map(|ratio| ratio.mean),
            ratio_lo: ratio.map(|ratio| ratio.interval.0),
            ratio_hi: ratio.map(|ratio| ratio.interval.1),
            ..row
        }
    }
}

/// What no samples come to.
const NOTHING: Summary = Summary { mean: 0.0, median: 0.0, deviation: 0.0, interval: (0.0, 0.0) };

/// llama-bench's word for the device, and whether it is a GPU.
fn backend(device: DeviceChoice) -> (&'static str, bool) {
    match device {
        DeviceChoice::Cuda(_) => ("CUDA", true),
        DeviceChoice::Metal => ("Metal", true),
        DeviceChoice::CpuReference => ("CPU reference", false),
        DeviceChoice::Cpu | DeviceChoice::Auto => ("CPU", false),
    }
}

/// A number of parameters in the way models are named: `135M`, `1.1B`, `7B`.
fn size(parameters: u64) -> String {
    let (value, unit) = match parameters as f64 {
        value if value >= 999.5e6 => (value / 1e9, "B"),
        value if value >= 999.5e3 => (value / 1e6, "M"),
        value => (value / 1e3, "K"),
    };
    let text = if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") };
    format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}

/// Prints the report.
pub fn print(format: Format, rows: &[Row], rooflines: &BTreeMap<usize, Roofline>, readings: &Readings) -> anyhow::Result<()> {
    match format {
        Format::Md => output::text(&table(rows, rooflines, readings)),
        Format::Csv => output::text(&csv(rows)?),
        Format::Json => output::json(&rows),
        Format::Jsonl => rows.iter().try_for_each(output::json),
    }
}

/// The table, below a line for each number of threads that says what the machine can do.
fn table(rows: &[Row], rooflines: &BTreeMap<usize, Roofline>, readings: &Readings) -> String {
    let mut out = String::new();
    let kernels = rows.iter().map(|row| row.kernels).find(|name| !name.is_empty());
    for roofline in rooflines.values() {
        let (least, most) = readings.range(roofline.threads, roofline.bandwidth);
        let reads = |least: String, most: String| if least == most { least } else { format!("{least} to {most}") };
        let (plural, kernels) = (if roofline.threads == 1 { "" } else { "s" }, kernels.unwrap_or_default());
        let _ = writeln!(
            out,
            "{}, kernels {kernels}, {} thread{plural}: reads {} GB/s; multiplies {:.0} GOPS in int8 and {:.0} GFLOPS in f32, \
             in registers\n",
            cpu_name(),
            roofline.threads,
            reads(format!("{:.1}", least / 1e9), format!("{:.1}", most / 1e9)),
            roofline.int8 / 1e9,
            roofline.f32 / 1e9,
        );
    }
    let head = [
        "model",
        "size",
        "params",
        "backend",
        "threads",
        "test",
        "t/s",
        "95 % CI",
        "texts/s",
        "% bandwidth",
        "% peak",
        "tallow / peer",
    ];
    let (has_texts, has_peer) = (rows.iter().any(|row| row.n_texts.is_some()), rows.iter().any(|row| row.ratio.is_some()));
    let columns: Vec<usize> = (0..head.len())
        .filter(|i| match head[*i] {
            "texts/s" => has_texts,
            "% bandwidth" => !has_texts,
            "tallow / peer" => has_peer,
            _ => true,
        })
        .collect();
    let percent = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.1}"));
    let cells: Vec<[String; 12]> = rows
        .iter()
        .map(|row| {
            [
                row.model_type.clone(),
                mebibytes(row.model_size),
                millions(row.model_n_params),
                row.backends.clone(),
                if row.n_threads > 0 { row.n_threads.to_string() } else { String::new() },
                row.test.clone(),
                format!("{:.2} ± {:.2}", row.avg_ts, row.stddev_ts),
                format!("{:.2} to {:.2}", row.ci95_lo_ts, row.ci95_hi_ts),
                row.texts_ts.map_or(String::new(), |rate| format!("{rate:.2}")),
                percent(row.bandwidth_pct),
                percent(row.peak_pct),
                ratio(row),
            ]
        })
        .collect();
    let longest = |i: usize| cells.iter().map(|row| row[i].chars().count()).chain([head[i].len()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(longest).collect();
    // Words to the left, figures to the right, as llama-bench has them.
    let left = |i: usize| matches!(head[i], "model" | "backend");
    let mut line = |cell: &dyn Fn(usize) -> String| {
        let cells = columns.iter().map(|&i| match left(i) {
            true => format!(" {:<1$} |", cell(i), widths[i]),
            false => format!(" {:>1$} |", cell(i), widths[i]),
        });
        let _ = writeln!(out, "|{}", cells.collect::<String>());
    };
    line(&|i| head[i].to_owned());
    line(&|i| format!("{}{}", "-".repeat(widths[i] - 1), if left(i) { "-" } else { ":" }));
    cells.iter().for_each(|row| line(&|i| row[i].clone()));
    out
}

/// `9.81 (8.95 to 10.40)`.
fn ratio(row: &Row) -> String {
    match (row.ratio, row.ratio_lo, row.ratio_hi) {
        (Some(ratio), Some(low), Some(high)) => format!("{ratio:.2} ({low:.2} to {high:.2})"),
        _ => String::new(),
    }
}

fn mebibytes(bytes: u64) -> String {
    let mebi = bytes as f64 / (1 << 20) as f64;
    if mebi < 1024.0 { format!("{mebi:.2} MiB") } else { format!("{:.2} GiB", mebi / 1024.0) }
}

fn millions(count: u64) -> String {
    if count < 1_000_000_000 { format!("{:.2} M", count as f64 / 1e6) } else { format!("{:.2} B", count as f64 / 1e9) }
}

/// Every field in quotes, as llama-bench writes them; arrays are left to JSON.
fn csv(rows: &[Row]) -> anyhow::Result<String> {
    let mut out = String::new();
    for (i, row) in rows.iter().enumerate() {
        let Value::Object(fields) = serde_json::to_value(row)? else { continue };
        let fields: Vec<_> = fields.iter().filter(|(_, value)| !value.is_array()).collect();
        if i == 0 {
            let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
            let _ = writeln!(out, "{}", names.join(","));
        }
        let quoted = fields.iter().map(|(_, value)| {
            let text = match value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            format!("\"{}\"", text.replace('"', "\"\""))
        });
        let _ = writeln!(out, "{}", quoted.collect::<Vec<_>>().join(","));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_models_are_named() {
        for (parameters, name) in
            [(134_515_008, "135M"), (1_100_048_384, "1.1B"), (7_000_000_000, "7B"), (31_500, "32K"), (70_553_706_496, "71B")]
        {
            assert_eq!(size(parameters), name);
        }
    }
}
