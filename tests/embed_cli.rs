//! `tallow embed` as a script meets it: shapes, ids, formats, exit codes, and what an interruption leaves.

use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn golden(case: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case);
    path.to_str().unwrap().to_owned()
}

/// A model whose texts need no special tokens, so that a text may have none.
fn model() -> String {
    golden("gpt2-prefixed")
}

fn expected(case: &str) -> Value {
    serde_json::from_slice(&std::fs::read(Path::new(&golden(case)).join("expected.json")).unwrap()).unwrap()
}

/// A folder of a test's own, removed afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("tallow-embed-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        std::fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn embed(model: &str, args: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.args(["embed", model, "-t", "1"]).args(args).env_remove("TALLOW_LOG").env("HF_HUB_OFFLINE", "1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that refuses its arguments may be gone before it reads.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn bytes(output: Output) -> Vec<u8> {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "", "a success is silent where no terminal looks");
    output.stdout
}

fn text(output: Output) -> String {
    String::from_utf8(bytes(output)).unwrap()
}

fn parsed(output: Output) -> Value {
    serde_json::from_str(&text(output)).unwrap()
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The exit code and stderr of a run that must fail, and must not have printed a result.
fn failure(output: Output) -> (i32, String) {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{stderr}");
    (output.status.code().unwrap(), stderr)
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn from_le(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn one_text_is_an_array_and_several_are_an_array_of_arrays() {
    let one = parsed(embed(&model(), &["The river runs north.", "--json"], ""));
    let two = parsed(embed(&model(), &["The river runs north.", "Hi", "--json"], ""));
    assert_eq!(one, two[0]);
    assert_eq!((one.as_array().unwrap().len(), two.as_array().unwrap().len()), (floats(&two[1]).len(), 2));
    // Without a flag it is the same.
    assert_eq!(parsed(embed(&model(), &["The river runs north."], "")), one);
    let file = parsed(embed(&model(), &["-f", "-", "--output", "json"], "The river runs north.\n"));
    assert_eq!(file, json!([one]), "the shape of a file does not depend on its length");
    assert_eq!(text(embed(&model(), &["-f", "-", "--json"], "")), "[]\n");
}

#[test]
fn the_vectors_are_those_of_sentence_transformers() {
    let expected = expected("bert-mean");
    let texts: Vec<&str> = expected["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let rows: String = texts.iter().enumerate().map(|(i, text)| format!("{}\n", json!({"id": i, "text": text}))).collect();
    let output = embed(&golden("bert-mean"), &["-f", "-", "--input-format", "jsonl", "--json"], &rows);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    // One of them is longer than the model reads.
    let cut: Vec<_> = stderr.lines().filter(|line| line.starts_with("warning: 1 of 6 texts were cut to 32 tokens")).collect();
    assert_eq!((cut.len(), stderr.lines().count()), (1, 1), "{stderr}");
    let got: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (i, row) in expected["embeddings"].as_array().unwrap().iter().enumerate() {
        let (got, expected) = (floats(&got[i]), floats(row));
        assert_eq!(got.len(), expected.len());
        assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 2e-6), "{:?}", texts[i]);
    }
    let output = embed(&golden("bert-mean"), &["-f", "-", "--input-format", "jsonl", "--truncate", "false"], &rows);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("stdin, line ") && stderr.contains("tokens, 32 are read"), "{stderr}");
    assert!(stderr.contains("--truncate true") && !stderr.contains("error: text "), "{stderr}");
}

#[test]
fn texts_before_one_that_must_not_be_cut_are_written_and_it_is_named() {
    let folder = Scratch::new("long");
    let input = folder
        .write("in.jsonl", "{\"id\": 1, \"text\": \"a\"}\n{\"id\": \"x\", \"text\": \"a b c d e f g\"}\n{\"text\": \"b\"}\n");
    let run = |args: &[&str]| {
        let output = embed(&model(), &[&["-f", &input, "--max-tokens", "2"], args].concat(), "");
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let out = folder.path("out.jsonl");
    let whole = run(&["--output", "jsonl"]);
    assert_eq!((whole.0, rows(&whole.1).len()), (Some(0), 3));
    assert!(
        whole.2.contains("1 of 3 texts were cut to 2 tokens") && whole.2.contains("in.jsonl, line 2 (id \"x\")"),
        "{}",
        whole.2
    );
    // Twice: the second run goes on behind the first row.
    for resume in [false, true] {
        let args = ["--truncate", "false", "--to", &out, "--resume"];
        let (code, _, stderr) = run(&args[..if resume { 5 } else { 4 }]);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("in.jsonl, line 2 (id \"x\")") && stderr.contains("--truncate true"), "{stderr}");
        assert_eq!(folder.read("out.jsonl.partial"), format!("{}\n", whole.1.lines().next().unwrap()));
        assert!(!std::path::Path::new(&out).exists(), "what is not whole has no name");
    }
}

#[test]
fn ids_come_out_as_they_went_in() {
    let folder = Scratch::new("exact");
    let ids = ["123456789012345678901234567890", "1e2", "0.10", "\"\\u0061\"", "[1, 2]"];
    let input = folder.write("in.ndjson", ids.map(|id| format!("{{\"id\": {id}, \"text\": \"a\"}}\n")).concat());
    let out = folder.path("out.jsonl");
    for _ in 0..2 {
        text(embed(&model(), &["-f", &input, "--to", &out, "--resume"], ""));
        let got = folder.read("out.jsonl");
        assert_eq!(got.lines().count(), ids.len());
        for (line, id) in got.lines().zip(ids) {
            assert!(line.starts_with(&format!("{{\"id\":{id},\"tokens\":")), "{line}");
        }
    }
}

#[test]
fn an_output_that_is_the_input_is_refused_and_left_as_it_is() {
    let folder = Scratch::new("same");
    let content = "{\"text\": \"a\"}\n";
    let input = folder.write("in.jsonl", content);
    let mut names = vec![input.clone(), folder.path("./in.jsonl")];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&input, folder.path("link.jsonl")).unwrap();
        std::fs::hard_link(&input, folder.path("hard.jsonl")).unwrap();
        names.extend([folder.path("link.jsonl"), folder.path("hard.jsonl")]);
    }
    for name in &names {
        for more in [&[][..], &["--resume"], &["--similarity"]] {
            let (code, stderr) = failure(embed(&model(), &[&["-f", &input, "--to", name], more].concat(), ""));
            assert_eq!(code, 2, "{stderr}");
            assert!(stderr.contains("is the file of the texts"), "{stderr}");
            assert_eq!(folder.read("in.jsonl"), content);
        }
    }
}

#[test]
fn a_file_of_an_earlier_run_stays_where_a_line_is_bad_and_nothing_looks_whole() {
    let folder = Scratch::new("whole");
    let input = folder.write("in.txt", b"a\nb\n\xff\nc\n");
    let (npy, json) = (folder.path("out.npy"), folder.path("out.json"));
    for older in [None, Some("an older result")] {
        for out in [&npy, &json] {
            if let Some(text) = older {
                std::fs::write(out, text).unwrap();
            }
            let (code, stderr) = failure(embed(&model(), &["-f", &input, "--to", out], ""));
            assert_eq!(code, 2, "{stderr}");
            assert!(stderr.contains("in.txt, line 3: is not UTF-8"), "{stderr}");
            assert_eq!(std::fs::read_to_string(out).ok().as_deref(), older);
            assert!(!std::path::Path::new(&format!("{out}.partial")).exists());
        }
    }
    // A pipe has an array that is whole for what it has.
    let piped = embed(&model(), &["-f", &input, "--json"], "").stdout;
    assert_eq!(serde_json::from_slice::<Value>(&piped).unwrap().as_array().unwrap().len(), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_name_that_stands_for_a_pipe_gets_a_whole_array() {
    let piped = bytes(embed(&model(), &["a", "b", "--output", "npy"], ""));
    assert_eq!(bytes(embed(&model(), &["a", "b", "--output", "npy", "--to", "/dev/stdout"], "")), piped);
}

#[test]
fn lines_and_json_lines_keep_their_order_and_names() {
    let lines = rows(&text(embed(&model(), &["-f", "-"], "first\n\nthird")));
    assert_eq!(lines.iter().map(|row| row["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(lines[1]["tokens"], 0);
    assert!(floats(&lines[1]["embedding"]).iter().all(|x| *x == 0.0), "a text without tokens");
    // Without -f, what is piped in is read.
    assert_eq!(rows(&text(embed(&model(), &[], "first\n\nthird\n"))), lines);

    let folder = Scratch::new("ids");
    let file = folder.write(
        "in.jsonl",
        "{\"id\": \"a\", \"body\": \"first\"}\n{\"id\": 17, \"body\": \"\"}\n{\"body\": \"third\", \"other\": 1}\n",
    );
    let named = rows(&text(embed(&model(), &["-f", &file, "--field", "body"], "")));
    assert_eq!((&named[0]["id"], &named[1]["id"], &named[2]["index"]), (&json!("a"), &json!(17), &json!(2)));
    for (a, b) in lines.iter().zip(&named) {
        assert_eq!(a["embedding"], b["embedding"]);
    }
}

#[test]
fn every_format_holds_the_same_numbers() {
    let folder = Scratch::new("formats");
    let input = folder.write("in.txt", "one\ntwo words\nthree\n");
    let json = parsed(embed(&model(), &["-f", &input, "--json"], ""));
    let all: Vec<f32> = json.as_array().unwrap().iter().flat_map(floats).collect();
    let dim = all.len() / 3;
    assert_eq!(from_le(&bytes(embed(&model(), &["-f", &input, "--output", "raw"], ""))), all);
    let piped = bytes(embed(&model(), &["-f", &input, "--output", "npy"], ""));
    // The name of the file says the format.
    let npy = folder.path("out.npy");
    assert_eq!(text(embed(&model(), &["-f", &input, "--to", &npy], "")), "");
    assert_eq!(std::fs::read(&npy).unwrap(), piped);
    let array = candle_core::Tensor::read_npy(&npy).unwrap();
    assert_eq!(array.dims(), [3, dim]);
    assert_eq!(array.flatten_all().unwrap().to_vec1::<f32>().unwrap(), all);
    let out = folder.path("out.jsonl");
    text(embed(&model(), &["-f", &input, "--to", &out], ""));
    let from_rows: Vec<f32> = rows(&folder.read("out.jsonl")).iter().flat_map(|row| floats(&row["embedding"])).collect();
    assert_eq!(from_rows, all);
    let empty = folder.path("empty.npy");
    text(embed(&model(), &["-f", "-", "--to", &empty], ""));
    assert_eq!(candle_core::Tensor::read_npy(&empty).map(|array| array.dims()[0]).unwrap_or(0), 0);
}

#[test]
fn options_choose_pooling_norm_dimensions_and_prompt() {
    let of = |args: &[&str]| parsed(embed(&model(), &[&["The river runs north.", "--json"], args].concat(), ""));
    let mean = floats(&of(&[]));
    assert_eq!(floats(&of(&["--pooling", "auto", "--normalize", "none"])), mean);
    let tokens = of(&["--pooling", "none"]);
    let tokens: Vec<Vec<f32>> = tokens.as_array().unwrap().iter().map(floats).collect();
    assert_eq!(floats(&of(&["--pooling", "last"])), *tokens.last().unwrap());
    assert_eq!(floats(&of(&["--pooling", "cls"])), tokens[0]);
    let largest = |i: usize| tokens.iter().map(|row| row[i]).fold(f32::NEG_INFINITY, f32::max);
    assert_eq!(floats(&of(&["--pooling", "max"])), (0..mean.len()).map(largest).collect::<Vec<_>>());
    assert_eq!(floats(&of(&["--dimensions", "5"])), mean[..5]);
    let unit = floats(&of(&["--dimensions", "5", "--normalize", "l2"]));
    assert!((unit.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-6);
    let with_prompt = parsed(embed(&model(), &["north.", "--prompt", "The river runs ", "--json"], ""));
    assert_eq!(floats(&with_prompt), mean);
    assert_eq!(floats(&of(&["--batch-tokens", "1"])), mean);
}

#[test]
fn similarity_is_a_table_for_people_and_a_matrix_for_programs() {
    let args = ["The river runs north.", "The river runs south.", "Soup", "--similarity"];
    let matrix = parsed(embed(&model(), &[&args[..], &["--json"]].concat(), ""));
    let matrix: Vec<Vec<f32>> = matrix.as_array().unwrap().iter().map(floats).collect();
    for (i, row) in matrix.iter().enumerate() {
        assert!((row[i] - 1.0).abs() < 1e-5);
        (0..3).for_each(|j| assert!((row[j] - matrix[j][i]).abs() < 1e-6));
    }
    let table = text(embed(&model(), &args, ""));
    let first: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(first[..3], [0, 1, 2].map(|j| format!("{:.4}", matrix[0][j])));
    assert_eq!(first[3..].join(" "), args[0]);
    // One dimension is enough.
    let narrow = [&args[..], &["--dimensions", "1"]].concat();
    assert_eq!(parsed(embed(&model(), &[&narrow[..], &["--json"]].concat(), "")).as_array().unwrap().len(), 3);
    assert_eq!(bytes(embed(&model(), &[&narrow[..], &["--output", "npy"]].concat(), "")).len(), 128 + 9 * 4);
}

#[test]
fn an_interrupted_file_is_resumed_without_repeating_or_losing_a_line() {
    let folder = Scratch::new("resume");
    let lines: String = (0..40).map(|i| format!("{{\"id\": \"n{i}\", \"text\": \"text {i}\"}}\n")).collect();
    let input = folder.write("in.jsonl", lines);
    let out = folder.path("out.jsonl");
    let run = || text(embed(&model(), &["-f", &input, "--to", &out, "--resume"], ""));
    // A file that is not there yet is begun.
    run();
    let whole = folder.read("out.jsonl");
    assert_eq!(rows(&whole).len(), 40);
    let line = whole.find('\n').unwrap() + 1;
    for cut in [0, 1, line - 1, line, line + 1, whole.len() / 2, whole.len() - 1, whole.len()] {
        folder.write("out.jsonl", &whole[..cut]);
        run();
        assert_eq!(folder.read("out.jsonl"), whole, "cut at {cut}");
    }
    // Power that fails leaves zeros.
    folder.write("out.jsonl", format!("{}\0\0\0\0", &whole[..line]));
    run();
    assert_eq!(folder.read("out.jsonl"), whole);
}

#[test]
fn a_file_of_another_input_or_model_is_not_gone_on_with() {
    let folder = Scratch::new("foreign");
    let input = folder.write("in.txt", "a\nb\n");
    let out = folder.path("out.jsonl");
    let run =
        |model: &str, args: &[&str]| failure(embed(model, &[&["-f", &input, "--to", &out, "--resume"], args].concat(), ""));
    for (text, expected) in [
        ("{\"id\": \"x\", \"embedding\": [1.0]}\n", "belongs to \"x\", the input has 0 here"),
        ("{\"index\": 0, \"embedding\": [1.0, 2.0]}\n", "has 2 dimensions"),
        ("{\"index\": 0}\n", "has no embedding"),
        ("some text\n", "is no row of vectors"),
        ("notes without a line's end", "holds something else than rows"),
        ("{\"name\": 1}", "holds something else than rows"),
        ("a\nb\nc\n", "has 3 rows, but"),
    ] {
        folder.write("out.jsonl", text);
        let (code, stderr) = run(&model(), &[]);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(expected) && stderr.contains("give another --to"), "{stderr}");
        assert_eq!(folder.read("out.jsonl"), text, "it is left as it was");
    }
    // Vectors of another kind have as many dimensions.
    folder.write("out.jsonl", "");
    let of = |input: &str, args: &[&str]| embed(&model(), &[&["-f", input, "--to", &out, "--resume"], args].concat(), "");
    text(of(&input, &[]));
    let whole = folder.read("out.jsonl");
    let first = &whole[..=whole.find('\n').unwrap()];
    folder.write("out.jsonl", first);
    let other = folder.write("other.txt", "c\nb\n");
    for (input, args) in [
        (&input, &["--pooling", "max", "--prompt", "x y"][..]),
        (&input, &["--prompt", "x"]),
        (&input, &["--normalize", "l2"]),
        (&other, &[]),
    ] {
        let (code, stderr) = failure(of(input, args));
        assert_eq!(code, 2, "{args:?}: {stderr}");
        assert!(stderr.contains("out.jsonl, line 1: holds another vector"), "{args:?}: {stderr}");
        assert_eq!(folder.read("out.jsonl"), first);
    }
    text(of(&input, &[]));
    assert_eq!(folder.read("out.jsonl"), whole);
    // The last row may be that of a text which another limit does not cut.
    let long = folder.write("long.txt", format!("a\n{}\nb\n", "a long text ".repeat(20)));
    folder.write("out.jsonl", "");
    text(of(&long, &["--max-tokens", "4", "-q"]));
    let whole = folder.read("out.jsonl");
    let (_, stderr) = failure(of(&long, &[]));
    assert!(stderr.contains("out.jsonl, line 2: holds another vector"), "{stderr}");
    assert_eq!(folder.read("out.jsonl"), whole);
    let (code, stderr) = failure(embed(&model(), &["-f", &input, "--to", "/dev/zero", "--output", "jsonl", "--resume"], ""));
    assert!(code == 2 && stderr.contains("no regular file"), "{stderr}");
    let (code, stderr) = run(&model(), &["--output", "raw"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("--resume needs"), "{stderr}");
}

#[test]
fn what_came_before_a_bad_line_is_written_and_the_line_is_named() {
    // Good lines behind it do not take its place, however many.
    let after = "{\"text\": \"c\"}\n".repeat(3000);
    let lines = format!("{{\"text\": \"a\"}}\n{{\"txt\": \"b\"}}\n{after}");
    let output = embed(&model(), &["-f", "-", "--input-format", "jsonl"], &lines);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("stdin, line 2: has no key \"text\", but txt; --field names the text's"), "{stderr}");
    assert_eq!(rows(&String::from_utf8(output.stdout).unwrap()).len(), 1);
}

#[test]
fn wrong_usage_is_told_with_its_exit_code() {
    for (args, code, expected) in [
        (&["a", "-f", "b"][..], 2, "cannot be used with"),
        (&["a", "--pooling", "sum"], 2, "mean, cls, last, max, none"),
        (&["a", "--pooling", "none", "--output", "npy"], 2, "--output json or jsonl"),
        (&["a", "--dimensions", "100000"], 2, "dimensions"),
        (&["a", "--prompt-name", "query"], 2, "has no prompt \"query\": it states none"),
        (&["a", "--batch-tokens", "0"], 2, "batches of 0 tokens"),
        (&["a", "--max-tokens", "0"], 2, "at most 0 tokens"),
        (&["a", "--resume"], 2, "--to"),
        (&["a", "--field", "body"], 2, "cannot be used with"),
        (&["a", "--input-format", "lines"], 2, "cannot be used with"),
        (&["-f", "-", "--field", "body"], 2, "--input-format jsonl"),
        (&["a", "--to", "/no/such/out.parquet"], 2, "--output"),
        (&["-f", "/no/such/file"], 1, "/no/such/file"),
    ] {
        let (got, stderr) = failure(embed(&model(), args, ""));
        assert_eq!(got, code, "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    }
    assert_eq!(failure(embed("/no/such/model.gguf", &["a"], "")).0, 3);
}

#[test]
fn a_reader_that_goes_away_ends_the_program_as_a_success() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.args(["embed", &model(), "-t", "1", "-f", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let lines = "a line\n".repeat(2000);
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stderr, b"");
}

/// Runs `embed` over endless lines until the file `partial` has some bytes, and kills it.
#[cfg(unix)]
fn killed_while_writing(args: &[&str], partial: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.args(["embed", &model(), "-t", "1", "-f", "-"]).args(args);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || while stdin.write_all(&b"a line\n".repeat(1000)).is_ok() {});
    while std::fs::metadata(partial).map_or(0, |metadata| metadata.len()) < 100_000 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    feeding.join().unwrap();
}

#[cfg(unix)]
#[test]
fn what_a_kill_or_a_full_disk_leaves_never_looks_whole_and_an_older_file_stays() {
    use std::os::unix::process::CommandExt;
    let folder = Scratch::new("killed");
    for name in ["out.npy", "out.json", "out.raw", "out.jsonl"] {
        let out = folder.write(name, "an older result");
        let partial = format!("{out}.partial");
        killed_while_writing(&["--to", &out], &partial);
        assert_eq!(folder.read(name), "an older result");
        if name == "out.npy" {
            assert!(candle_core::Tensor::read_npy(&partial).is_err());
        }
        // A limit on the size of files stands for a full disk.
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
        command.args(["embed", &model(), "-t", "1", "-f", "-", "--to", &out]).stdin(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: between fork and exec only two calls are made that are safe there.
        unsafe {
            command.pre_exec(|| {
                let limit = libc::rlimit { rlim_cur: 50_000, rlim_max: 50_000 };
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            })
        };
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(&b"a line\n".repeat(5000));
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(name), "{stderr}");
        assert_eq!(folder.read(name), "an older result");
    }
    // Rows that were kept are gone on with.
    let input = folder.write("in.txt", "a line\n".repeat(3000));
    text(embed(&model(), &["-f", &input, "--to", &folder.path("out.jsonl"), "--resume", "-q"], ""));
    assert_eq!(rows(&folder.read("out.jsonl")).len(), 3000);
    assert!(!std::path::Path::new(&folder.path("out.jsonl.partial")).exists());
}
