//! `tallow bench` as a script meets it: names, keys, formats and exit codes, on tiny models. No figure is held against a limit.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// llama-bench's keys and ours, in order.
const KEYS: [&str; 38] = [
    "build_commit",
    "cpu_info",
    "gpu_info",
    "backends",
    "model_filename",
    "model_type",
    "model_size",
    "model_n_params",
    "n_batch",
    "n_threads",
    "type_k",
    "type_v",
    "devices",
    "n_prompt",
    "n_gen",
    "n_depth",
    "test_time",
    "avg_ns",
    "stddev_ns",
    "avg_ts",
    "stddev_ts",
    "median_ts",
    "ci95_lo_ts",
    "ci95_hi_ts",
    "ttft_ns",
    "load_ns",
    "peak_rss",
    "bytes_per_token",
    "bandwidth_pct",
    "peak_pct",
    "kernels",
    "n_texts",
    "texts_ts",
    "ratio",
    "ratio_lo",
    "ratio_hi",
    "samples_ns",
    "samples_ts",
];

fn model(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    path.to_str().unwrap().to_owned()
}

fn q4_0() -> String {
    model("gguf-q4_0-bpe/model-q4_0.gguf")
}

fn bench(model: &str, more: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.args(["bench", "-m", model]).args(more.split_whitespace());
    command.output().unwrap()
}

fn stdout(output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn rows(output: Output) -> Vec<Value> {
    serde_json::from_str(&stdout(output)).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn json_has_llama_benchs_keys_and_ours_and_they_agree() {
    let rows = rows(bench(&q4_0(), "-p 8 -n 4 -pg 6,3 -d 0,5 -r 3 -t 1 -o json"));
    let shape = |row: &Value| ["n_prompt", "n_gen", "n_depth"].map(|key| row[key].as_u64().unwrap());
    let shapes: Vec<_> = rows.iter().map(shape).collect();
    assert_eq!(shapes, [[8, 0, 0], [0, 4, 0], [6, 3, 0], [8, 0, 5], [0, 4, 5], [6, 3, 5]]);
    for (row, [prompt, generate, _]) in rows.iter().zip(shapes) {
        let keys: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, KEYS);
        let tokens = (prompt + generate) as f64;
        let (times, rates) = (numbers(&row["samples_ns"]), numbers(&row["samples_ts"]));
        assert_eq!((times.len(), rates.len()), (3, 3));
        for (time, rate) in times.iter().zip(&rates) {
            assert!((rate * time / (tokens * 1e9) - 1.0).abs() < 1e-3, "{row}");
        }
        let number = |key: &str| row[key].as_f64().unwrap();
        assert!((number("avg_ns") - times.iter().sum::<f64>() / 3.0).abs() <= 1.0);
        assert!((number("avg_ts") / (rates.iter().sum::<f64>() / 3.0) - 1.0).abs() < 1e-9);
        // The mean of rates is at least the rate of the mean time, and equal where the times are.
        let of_mean = tokens * 1e9 / number("avg_ns");
        let most = of_mean * times.iter().cloned().fold(0.0, f64::max) / times.iter().cloned().fold(f64::MAX, f64::min);
        assert!(number("avg_ts") >= 0.999 * of_mean && number("avg_ts") <= 1.001 * most, "{row}");
        let interval = (number("ci95_lo_ts"), number("ci95_hi_ts"));
        assert!(interval.0 <= interval.1 && interval.0 <= number("avg_ts") && number("avg_ts") <= interval.1, "{row}");
        assert_eq!(row["ttft_ns"].is_null(), prompt == 0);
        assert_eq!(row["bytes_per_token"].is_null(), generate == 0);
        assert_eq!(row["bandwidth_pct"].is_null(), prompt > 0);
        assert_eq!(row["peak_pct"].is_null(), generate > 0);
        assert!(number("load_ns") > 0.0 && number("model_size") > 0.0 && number("model_n_params") > 0.0);
        assert_eq!((&row["n_threads"], &row["n_batch"], &row["type_k"]), (&1.into(), &512.into(), &"f16".into()));
        assert_eq!((&row["backends"], &row["devices"], &row["gpu_info"]), (&"CPU".into(), &"cpu".into(), &"".into()));
    }
    let deeper = rows[4]["bytes_per_token"].as_f64().unwrap() - rows[1]["bytes_per_token"].as_f64().unwrap();
    assert!(deeper > 0.0 && deeper % 5.0 == 0.0, "five more positions of cache: {deeper}");
}

#[test]
fn bytes_per_token_are_the_weights_without_what_is_only_looked_up() {
    // GPT-2: the head is the embedding table, read whole; of the positions one row is read.
    let path = model("gguf-gpt2-f16/model-f16.gguf");
    let checkpoint = tallow::Checkpoint::open(&path).unwrap();
    let info = checkpoint.info();
    let positions = info.tensors.iter().find(|tensor| tensor.0 == "position_embd.weight").unwrap();
    let unread = positions.1.bytes(positions.2.iter().product()).unwrap() as u64;
    let rows = rows(bench(&path, "-p 0 -n 1 -d 6 -r 1 --no-warmup --cache-type f32 -o json"));
    let cache = 7 * (2 * checkpoint.spec().layers * checkpoint.spec().dim * 4) as u64;
    assert_eq!(rows[0]["bytes_per_token"].as_f64(), Some((info.bytes - unread + cache) as f64));
    // Heads of 16 numbers: 18 bytes each, and the words that llama-bench has for it.
    let rows = self::rows(bench(&path, "-p 0 -n 1 -d 6 -r 1 --no-warmup --cache-type q8_0 -o json"));
    assert_eq!(rows[0]["bytes_per_token"].as_f64(), Some((info.bytes - unread + cache / 64 * 18) as f64));
    assert_eq!((&rows[0]["type_k"], &rows[0]["type_v"]), (&"q8_0".into(), &"q8_0".into()));
}

#[test]
#[cfg(target_os = "linux")]
fn a_model_takes_its_weights_and_cache_and_little_more() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let rows = rows(bench(path.to_str().unwrap(), "-p 64 -n 0 -d 1000 -r 1 --no-warmup -t 2 -o json"));
    let number = |key: &str| rows[0][key].as_u64().unwrap();
    // 30 layers of 3 heads of 64 dimensions, keys and values in two bytes each.
    let cache = (number("n_prompt") + number("n_depth")) * 30 * 3 * 64 * 2 * 2;
    let most = (number("model_size") + cache) * 11 / 10 + (64 << 20);
    assert!(number("peak_rss") <= most, "{} of at most {most}", number("peak_rss"));
}

#[test]
fn models_threads_and_tests_are_all_combined() {
    let models = format!("{},{}", q4_0(), model("llama-gqa-tied"));
    let rows = rows(bench(&models, "-p 4-8*2 -n 0 -t 1,2 -r 2 --no-warmup -o json"));
    let seen: Vec<_> = rows
        .iter()
        .map(|row| (row["model_filename"] == q4_0().as_str(), row["n_threads"].as_u64(), row["n_prompt"].as_u64()))
        .collect();
    let expected = [true, false].into_iter().flat_map(|first| {
        [1, 2].into_iter().flat_map(move |threads| [4, 8].map(|prompt| (first, Some(threads), Some(prompt))))
    });
    assert_eq!(seen, expected.collect::<Vec<_>>());
    assert_eq!((&rows[0]["type_k"], &rows[4]["type_k"]), (&"f16".into(), &"f32".into()));
}

#[test]
fn a_single_token_can_be_measured() {
    for tests in ["-p 1 -n 0", "-p 0 -n 1"] {
        let rows = rows(bench(&q4_0(), &format!("{tests} -r 1 -t 1 --no-warmup -o json")));
        assert!(rows[0]["avg_ts"].as_f64().unwrap() > 0.0, "{tests}");
    }
}

#[test]
fn every_format_has_a_line_for_each_test() {
    let run = |format: &str| stdout(bench(&q4_0(), &format!("-p 4 -n 2 -r 2 -t 2 --no-warmup -o {format}")));
    let table = run("md");
    let lines: Vec<_> = table.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(lines.len(), 4, "{table}");
    for name in ["| model ", " size |", " params |", "| backend", " threads |", " test |", " t/s |", " 95 % CI |"] {
        assert!(lines[0].contains(name), "{table}");
    }
    assert!(lines[2].contains(" pp4 |") && lines[3].contains(" tg2 |") && lines[2].contains(" ± "), "{table}");
    assert!(table.contains("2 threads: reads ") && table.contains(" GB/s"), "{table}");
    let jsonl = run("jsonl");
    let objects: Vec<Value> = jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((objects.len(), &objects[1]["n_gen"]), (2, &2.into()));
    let csv = run("csv");
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), 3, "{csv}");
    assert_eq!(lines[0], KEYS[..36].join(","));
    assert!(lines[1].starts_with("\"tallow ") && lines[1].contains("\",\"CPU\",\""), "{csv}");
}

#[cfg(unix)]
#[test]
fn a_peer_takes_turns_and_the_ratio_is_ours_over_its() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peer");
    std::fs::create_dir_all(&folder).unwrap();
    let (tool, calls) = (folder.join("llama-bench"), folder.join("calls"));
    let _ = std::fs::remove_file(&calls);
    let answer = r#"{"build_commit": "abc", "backends": "CPU", "model_type": "llama tiny", "samples_ns": [4000000]}"#;
    std::fs::write(&tool, format!("#!/bin/sh\necho \"$@\" >> '{}'\necho '{answer}'\n", calls.display())).unwrap();
    std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o755)).unwrap();
    let peer = format!("--peer llama-bench={}", tool.display());
    let found = rows(bench(&q4_0(), &format!("-p 8 -n 4 -b 6 -r 3 -t 1 --no-warmup -o json {peer}")));
    assert_eq!(found.len(), 4);
    for (ours, theirs) in [(0, 2), (1, 3)] {
        let (ours, theirs) = (&found[ours], &found[theirs]);
        assert_eq!((&ours["ratio"], &ours["n_batch"]), (&Value::Null, &6.into()));
        assert_eq!((&theirs["build_commit"], &theirs["load_ns"]), (&"llama.cpp abc".into(), &Value::Null));
        assert_eq!((&theirs["n_prompt"], &theirs["n_gen"]), (&ours["n_prompt"], &ours["n_gen"]));
        let ratios = numbers(&ours["samples_ts"]).into_iter().zip(numbers(&theirs["samples_ts"])).map(|(a, b)| a / b);
        let mean = ratios.sum::<f64>() / 3.0;
        assert!((theirs["ratio"].as_f64().unwrap() / mean - 1.0).abs() < 1e-9, "{theirs}");
        assert!(
            theirs["ratio_lo"].as_f64() <= theirs["ratio"].as_f64() && theirs["ratio"].as_f64() <= theirs["ratio_hi"].as_f64()
        );
    }
    // Every other round is in reverse.
    let calls: Vec<bool> = std::fs::read_to_string(&calls).unwrap().lines().map(|line| line.contains("-p 8 -n 0")).collect();
    assert_eq!(calls, [true, false, false, true, true, false]);
    let table = stdout(bench(&q4_0(), &format!("-p 8 -n 0 -r 1 -t 1 {peer}")));
    assert!(table.contains(" tallow / peer |") && table.contains("llama.cpp CPU"), "{table}");
}

#[test]
fn a_device_that_this_build_lacks_is_told_and_the_others_are_measured() {
    if cfg!(any(feature = "cuda", feature = "metal")) {
        return;
    }
    let output = bench(&q4_0(), "--device cuda,cpu -p 4 -n 0 -r 1 --no-warmup -o json");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("cuda:0 is left out: this build has no code for it"), "{stderr}");
    assert_eq!(rows(output).len(), 1);
    let output = bench(&q4_0(), "--device cuda,metal -p 4 -n 0 -r 1");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{stderr}");
    assert!(stderr.contains("error: no device to measure on"), "{stderr}");
}

#[test]
fn what_can_not_be_measured_is_refused() {
    for (more, code) in [
        ("-p 0 -n 0", 2),
        ("-r 0", 2),
        ("-t 0 -p 1", 2),
        ("-p 4-1", 2),
        ("-pg 4", 2),
        ("-o html", 2),
        ("--peer candle=x", 2),
        ("-b 0", 2),
        ("--peer llama-bench=no-such-program -p 1 -n 0", 2),
        ("--device quantum", 2),
    ] {
        let output = bench(&q4_0(), more);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{more}");
    }
    assert_eq!(bench("no-such-model", "-p 1").status.code(), Some(3));
}

#[test]
fn vectors_are_measured_by_length_and_number_of_texts() {
    let model = model("bert-mean");
    let rows = rows(bench(&model, "--embed -p 4,16 --texts 1,3 -r 2 -t 1 -o json"));
    let shape = |row: &Value| ["n_texts", "n_prompt", "n_gen"].map(|key| row[key].as_u64().unwrap());
    assert_eq!(rows.iter().map(shape).collect::<Vec<_>>(), [[1, 4, 0], [3, 4, 0], [1, 16, 0], [3, 16, 0]]);
    for row in &rows {
        assert_eq!(row.as_object().unwrap().keys().collect::<Vec<_>>(), KEYS);
        assert_eq!(numbers(&row["samples_ts"]).len(), 2);
        let (tokens, texts) = (row["avg_ts"].as_f64().unwrap(), row["texts_ts"].as_f64().unwrap());
        assert!((tokens / texts / row["n_prompt"].as_f64().unwrap() - 1.0).abs() < 1e-6);
        assert!(row["peak_pct"].as_f64().unwrap() > 0.0);
        assert!(row["bandwidth_pct"].is_null());
    }
    let table = stdout(bench(&model, "--embed -p 4 --texts 2 -r 1 -t 1"));
    assert!(table.contains("texts/s") && table.contains("embed2x4"), "{table}");
    let too_long = bench(&model, "--embed -p 4000 -r 1 -t 1");
    assert!(!too_long.status.success() && String::from_utf8_lossy(&too_long.stderr).contains("32 are read"));
    assert_eq!(bench(&model, "--embed -n 4").status.code(), Some(2));
    assert_eq!(bench(&model, "--embed --cache-type f16").status.code(), Some(2));
}
