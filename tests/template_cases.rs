//! Cases of `tests/cases` that are about chat templates: small inputs from bug reports of other engines, with what
//! transformers 5.24 gives for them.
//!
//! A folder has `NAME.jinja` with `NAME.expected` or `NAME.raises`, which replace the template of `_base`; or `model/`, whose
//! files replace those of `_base`, with `expected`. `messages.json` is what is rendered, `what.txt` says what the case is
//! about. Folders of other kinds belong to other tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn cases() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    /// A copy of `_base`.
    fn of_base(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("tallow-template-cases-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let folder = Folder(folder);
        folder.add(&cases().join("_base"));
        folder
    }

    fn add(&self, from: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let file = entry.unwrap();
            std::fs::copy(file.path(), self.0.join(file.file_name())).unwrap();
        }
    }

    fn render(&self, case: &Path, variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
        command.arg("template").arg(&self.0).arg("--messages").arg(case.join("messages.json")).arg("--offline");
        command.envs(variables.iter().copied()).output().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether the output is the expected text, byte for byte; otherwise what it was.
fn check(output: &Output, expected: Option<&[u8]>) -> Result<(), String> {
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match expected {
        Some(expected) if output.status.success() && output.stdout == expected => Ok(()),
        None if output.status.code() == Some(1) && errors.contains("chat template: ") => Ok(()),
        Some(expected) => Err(format!("expected {:?}, got {text:?} {errors}", String::from_utf8_lossy(expected))),
        None => Err(format!("expected an error of the template, got {text:?} {errors}")),
    }
}

#[test]
fn templates_of_bug_reports_render_what_transformers_renders() {
    let mut failures = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(cases()).unwrap() {
        let case = entry.unwrap().path();
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        for file in std::fs::read_dir(&case).unwrap() {
            let source = file.unwrap().path();
            if source.extension().is_none_or(|ending| ending != "jinja") {
                continue;
            }
            let expected = std::fs::read(source.with_extension("expected")).ok();
            if expected.is_none() && !source.with_extension("raises").exists() {
                continue;
            }
            let stem = source.file_stem().unwrap().to_string_lossy().into_owned();
            let folder = Folder::of_base(&format!("{name}-{stem}"));
            std::fs::copy(&source, folder.0.join("chat_template.jinja")).unwrap();
            if let Err(why) = check(&folder.render(&case, &[]), expected.as_deref()) {
                failures.push(format!("{name}, {stem}: {why}"));
            }
            count += 1;
        }
    }
    assert!(count >= 24, "only {count} templates were found");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_files_of_a_folder_give_the_template_and_its_tokens_as_in_transformers() {
    for name in ["80-template-named-token", "82-chat-template-json"] {
        let case = cases().join(name);
        let folder = Folder::of_base(name);
        folder.add(&case.join("model"));
        let expected = std::fs::read_to_string(case.join("expected")).unwrap();
        if let Err(why) = check(&folder.render(&case, &[]), Some(expected.trim_end().as_bytes())) {
            panic!("{name}: {why}");
        }
    }
}

#[test]
fn the_templates_beside_a_folders_own_count_before_its_config() {
    let case = cases().join("82-chat-template-json");
    let folder = Folder::of_base("additional");
    folder.add(&case.join("model"));
    let additional = folder.0.join("additional_chat_templates");
    std::fs::create_dir(&additional).unwrap();
    std::fs::write(additional.join("rag.jinja"), "R").unwrap();
    let failed = folder.render(&case, &[]);
    check(&failed, None).unwrap();
    assert!(String::from_utf8_lossy(&failed.stderr).contains("(rag)"));
    std::fs::write(folder.0.join("chat_template.jinja"), "J").unwrap();
    check(&folder.render(&case, &[]), Some(b"J")).unwrap();
}

#[cfg(unix)]
#[test]
fn the_clock_of_a_template_shows_local_time() {
    let case = cases().join("29-template-local-time");
    let folder = Folder::of_base("clock");
    std::fs::write(folder.0.join("chat_template.jinja"), "{{ strftime_now('%s %H') }}").unwrap();
    for (zone, ahead) in [("LINT-14", 14), ("UTC0", 0), ("EST5", -5)] {
        let output = folder.render(&case, &[("TZ", zone)]);
        let text = String::from_utf8(output.stdout).unwrap();
        let (seconds, hour) = text.split_once(' ').unwrap_or_else(|| panic!("{text:?}"));
        let expected = (seconds.parse::<i64>().unwrap() / 3600 + ahead).rem_euclid(24);
        assert_eq!(hour.parse::<i64>().unwrap(), expected, "TZ={zone}: {text}");
    }
}

#[test]
fn an_empty_template_of_a_gguf_file_counts_as_none() {
    let model = cases().join("38-gguf-empty-chat-template/model.gguf");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    let output = command.arg("run").arg(model).args(["Hi there", "-n", "2", "--temp", "0"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("no chat template"), "{errors}");
}
