//! `tallow show`: what a model is, without loading its weights. The layout is Ollama's.

use crate::cli::args::fetch::Network;
use crate::cli::args::shared::Cache;
use crate::cli::commands::spec;
use crate::cli::ui::number::{bytes, count};
use crate::cli::ui::{complete, memory, output};
use crate::cli::{DEFAULT_MODEL, Detail};
use clap_complete::ArgValueCompleter;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use tallow::{Checkpoint, Error, SampleOptions};

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model, which is on this machine; `tallow pull --dry-run` describes one that is not
    #[arg(default_value = DEFAULT_MODEL, add = ArgValueCompleter::new(complete::models))]
    model: String,
    #[command(flatten)]
    part: Part,
    #[command(flatten)]
    cache: Cache,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// One part alone.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Part {
    /// Only the licence
    #[arg(long)]
    license: bool,
    /// Only the generation parameters
    #[arg(long)]
    parameters: bool,
    /// Only the chat template
    #[arg(long)]
    template: bool,
    /// Only the specification of the network
    #[arg(long)]
    spec: bool,
}

/// Runs the command.
pub fn run(args: Args, detail: Detail) -> anyhow::Result<()> {
    let hub = Network::default().hub();
    // A look at a model is no reason to fetch gigabytes.
    let checkpoint = Checkpoint::at(tallow::find_here(&args.model, &hub)?)?.with_cache(args.cache.cache_type);
    let verbose = detail == Detail::Verbose;
    match part(&args.part, &checkpoint)? {
        Some((name, value, _)) if args.json => output::json(&json!({ name: value })),
        Some((_, _, text)) => output::line(text.trim_end_matches('\n')),
        None if args.json => output::json(&object(&checkpoint, verbose)),
        None => output::text(&blocks(&checkpoint, verbose)),
    }
}

/// The part that was asked for alone: its name, as JSON and as text.
fn part(part: &Part, checkpoint: &Checkpoint) -> anyhow::Result<Option<(&'static str, Value, String)>> {
    let info = checkpoint.info();
    let text = |name: &'static str, text: &Option<String>| {
        let missing = || Error::unsupported(format!("{}: the model states no {name}; this", info.name), "models that do");
        let text = text.clone().ok_or_else(missing)?;
        Ok(Some((name, Value::from(text.clone()), text)))
    };
    if part.license {
        return text("license", &info.license);
    }
    if part.template {
        return text("template", &info.template);
    }
    if part.parameters {
        let rows = parameters(checkpoint);
        return Ok(Some(("parameters", parameters_json(checkpoint), table(&rows, ""))));
    }
    if part.spec {
        let value = spec::json(checkpoint.spec());
        let text = table(&spec::lines(&value), "");
        return Ok(Some(("spec", value, text)));
    }
    Ok(None)
}

/// Everything for a person.
fn blocks(checkpoint: &Checkpoint, verbose: bool) -> String {
    let (info, spec) = (checkpoint.info(), checkpoint.spec());
    let row = |name: &str, value: String| (name.to_owned(), value);
    let mut out = String::new();
    let model = [
        row("architecture", spec.family.to_owned()),
        row("parameters", count(info.parameters)),
        row("context length", spec.context.to_string()),
        row("embedding length", spec.dim.to_string()),
        row("quantization", info.quantisation.to_string()),
        row("format", info.format.to_owned()),
        row("file", info.name.clone()),
    ];
    block(&mut out, "Model", &model);
    let capabilities: Vec<_> = capabilities(checkpoint).into_iter().map(|name| row(name, String::new())).collect();
    block(&mut out, "Capabilities", &capabilities);
    if !spec.is_encoder() {
        block(&mut out, "Parameters", &parameters(checkpoint));
    }
    if let Some(license) = &info.license {
        // A whole text is for --license; its first lines say which one it is.
        let lines: Vec<_> = license.lines().map(str::trim).filter(|line| !line.is_empty()).take(2).collect();
        block(&mut out, "License", &lines.iter().map(|line| row(line, String::new())).collect::<Vec<_>>());
    }
    if let Some(text) = &info.intended_use {
        block(&mut out, "Intended use", &wrapped(text).iter().map(|line| row(line, String::new())).collect::<Vec<_>>());
    }
    let cost = checkpoint.cost();
    let cache = row("cache per 1k tokens", memory::cache(&cost));
    let sizes: Vec<_> =
        std::iter::once(row("weights", bytes(info.bytes))).chain((!spec.is_encoder()).then_some(cache)).collect();
    block(&mut out, "Memory", &sizes);
    let rows = memory::text(&cost);
    // Writing to a string can not fail.
    let _ = writeln!(out, "{}", rows.lines().map(|line| format!("    {line}\n")).collect::<String>());
    if verbose {
        block(&mut out, "Metadata", &info.metadata);
        let tensors: Vec<_> =
            info.tensors.iter().map(|(name, dtype, shape)| row(name, format!("{dtype:<5} {shape:?}"))).collect();
        block(&mut out, "Tensors", &tensors);
    }
    out
}

/// Everything for a script.
fn object(checkpoint: &Checkpoint, verbose: bool) -> Value {
    let (info, spec, cost) = (checkpoint.info(), checkpoint.spec(), checkpoint.cost());
    let mut object = json!({
        "model": {
            "name": info.name,
            "format": info.format,
            "architecture": spec.family,
            "parameters": info.parameters,
            "context_length": spec.context,
            "embedding_length": spec.dim,
            "quantization": info.quantisation.to_string(),
        },
        "capabilities": capabilities(checkpoint),
        "parameters": parameters_json(checkpoint),
        "license": info.license,
        "intended_use": info.intended_use,
        "template": info.template,
        "memory": {
            "weights": cost.weights,
            "cache_per_token": cost.cache_per_token,
            "beyond_window": memory::beyond_window(&cost),
            "contexts": memory::contexts(&cost),
        },
        "spec": spec::json(spec),
    });
    if verbose {
        let metadata: Map<String, Value> = info.metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        let tensor = |(name, dtype, shape): &(String, tallow::quant::Dtype, Vec<usize>)| json!({"name": name, "type": dtype.to_string(), "shape": shape});
        object["metadata"] = Value::Object(metadata);
        object["tensors"] = info.tensors.iter().map(tensor).collect();
    }
    object
}

fn capabilities(checkpoint: &Checkpoint) -> Vec<&'static str> {
    if checkpoint.spec().is_encoder() {
        return vec!["embedding"];
    }
    let chat = checkpoint.template().ok().flatten().map(|_| "chat");
    std::iter::once("completion").chain(chat).collect()
}

/// The options that a generation starts from, and the tokens that end it.
fn parameters(checkpoint: &Checkpoint) -> Vec<(String, String)> {
    let sampling = sampling(checkpoint).into_iter().map(|(name, value)| (name.to_owned(), value.to_string()));
    let stop = stop(checkpoint).into_iter().map(|piece| ("stop".to_owned(), format!("{piece:?}")));
    sampling.chain(stop).collect()
}

fn parameters_json(checkpoint: &Checkpoint) -> Value {
    let mut object: Map<String, Value> =
        sampling(checkpoint).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    object.insert("stop".to_owned(), json!(stop(checkpoint)));
    Value::Object(object)
}

fn sampling(checkpoint: &Checkpoint) -> Vec<(&'static str, Value)> {
    let SampleOptions { temperature, top_k, top_p, min_p, repeat_penalty, repeat_last_n, .. } = checkpoint.defaults().sampling;
    vec![
        ("temperature", float(temperature)),
        ("top_k", json!(top_k)),
        ("top_p", float(top_p)),
        ("min_p", float(min_p)),
        ("repeat_penalty", float(repeat_penalty)),
        ("repeat_last_n", json!(repeat_last_n)),
    ]
}

/// `0.8` where a widened f32 would read 0.800000011920929.
fn float(value: f32) -> Value {
    json!(value.to_string().parse::<f64>().unwrap_or(f64::from(value)))
}

fn stop(checkpoint: &Checkpoint) -> Vec<String> {
    checkpoint.tokenizer().pieces(checkpoint.end_ids())
}

/// Lines of a width that people read with ease.
fn wrapped(text: &str) -> Vec<String> {
    const WIDTH: usize = 88;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => *line = format!("{line} {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A title and its rows, indented.
fn block(out: &mut String, title: &str, rows: &[(String, String)]) {
    if !rows.is_empty() {
        // Writing to a string can not fail.
        let _ = writeln!(out, "  {title}\n{}", table(rows, "    "));
    }
}

/// Two columns, the first as wide as its widest entry.
fn table(rows: &[(String, String)], indent: &str) -> String {
    let width = rows.iter().map(|row| row.0.chars().count()).max().unwrap_or(0) + 4;
    let line = |(name, value): &(String, String)| format!("{indent}{name:<width$}{value}").trim_end().to_owned() + "\n";
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_values_leave_no_spaces() {
        let rows = [("a", "1"), ("longer", "2"), ("none", "")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(table(&rows, "  "), "  a         1\n  longer    2\n  none\n");
    }

    #[test]
    fn floats_are_shown_as_they_were_written() {
        assert_eq!(float(0.8).to_string(), "0.8");
        assert_eq!(float(1.0).to_string(), "1.0");
    }
}
