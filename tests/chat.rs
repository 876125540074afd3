//! A chat as a user has it: the real binary on a pseudo-terminal, keys in, screen out.
//!
//! The terminal is made by `script` (util-linux). Nothing waits for a time: each step waits for the text that the step
//! before must bring up, and gives up loudly if it does not come.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Stands at a prompt where nothing was typed yet.
const PROMPT: &str = "(/? for help)";
const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const UP: &str = "\u{1b}[A";

/// A program on a terminal.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Receiver<Vec<u8>>,
    /// What has come and was not expected yet.
    seen: Vec<u8>,
}

/// A folder of one test, empty.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chat").join(test);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

impl Terminal {
    /// `tallow run` with these arguments; `None`, with a word about it, where there is no `script`.
    fn run(test: &str, args: &[&str]) -> Option<Terminal> {
        Terminal::run_with(test, &[], args)
    }

    /// The same with some environment variables.
    fn run_with(test: &str, variables: &[(&str, &str)], args: &[&str]) -> Option<Terminal> {
        if Command::new("script").arg("--version").output().is_err() {
            eprintln!("skipped: there is no `script` here to make a terminal");
            return None;
        }
        let words = [&[env!("CARGO_BIN_EXE_tallow"), "run"], args].concat();
        let quoted: Vec<_> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
        let line = format!("stty rows 24 cols 200; exec {}", quoted.join(" "));
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-c", &line, "/dev/null"]);
        command.env("SHELL", "/bin/sh").env("TERM", "xterm").env_remove("TALLOW_LOG").env_remove("NO_COLOR");
        command.env("TALLOW_MODELS", Path::new(env!("CARGO_MANIFEST_DIR")).join("models"));
        command.env("TALLOW_HISTORY", folder(test).join("below").join("history"));
        command.env("HF_HOME", folder(test).join("hub")).envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let (keys, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (send, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = out.read(&mut bytes) {
                if send.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Some(Terminal { child, keys, screen, seen: Vec::new() })
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits for a text and returns what came up to its end.
    fn expect(&mut self, text: &str) -> String {
        loop {
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            if let Some(at) = seen.find(text) {
                let end = at + text.len();
                self.seen = seen.as_bytes()[end..].to_vec();
                return seen[..end].to_owned();
            }
            match self.screen.recv_timeout(Duration::from_secs(300)) {
                Ok(bytes) => self.seen.extend(bytes),
                Err(_) => panic!("{text:?} did not come; there is {seen:?}"),
            }
        }
    }

    /// Enters a line and waits for the next prompt; returns what came between.
    fn enter(&mut self, line: &str) -> String {
        self.press(&format!("{line}\r"));
        // The editor draws the line, and draws it a last time when it is entered.
        self.expect(PROMPT)
    }

    /// The exit code; the program must be about to end.
    fn code(mut self) -> i32 {
        let status = self.child.wait().unwrap();
        status.code().unwrap()
    }
}

/// The numbers of the line of `/stats` that begins with `name`.
fn numbers(stats: &str, name: &str) -> Vec<usize> {
    let at = stats.find(name).unwrap_or_else(|| panic!("{name:?} is not in {stats:?}"));
    let line = stats[at..].lines().next().unwrap();
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

/// The default model's token for a word.
fn token(word: &str) -> u64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.args(["tokenize", "smollm2", word, "--no-special", "--json"]);
    let output = command.env("TALLOW_MODELS", Path::new(env!("CARGO_MANIFEST_DIR")).join("models")).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["tokens"][0].as_u64().unwrap()
}

fn golden(case: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case).to_str().unwrap().to_owned()
}

#[test]
fn a_chat_opens_its_model_once() {
    let Some(mut chat) = Terminal::run_with("opens-once", &[("TALLOW_LOG", "debug")], &["-n", "2"]) else { return };
    let before = chat.expect(PROMPT);
    let answer = chat.enter("Hi");
    assert_eq!((before.matches("debug: opening ").count(), answer.matches("debug: opening ").count()), (1, 0), "{before}");
    chat.press(CTRL_D);
    assert_eq!(chat.code(), 0);
}

#[test]
fn a_chat_of_two_turns_reads_only_what_is_new_and_ends_with_success() {
    let Some(mut chat) = Terminal::run("two-turns", &["--temp", "0", "-n", "8"]) else { return };
    chat.expect(PROMPT);
    chat.enter("What is a lighthouse?");
    let first = chat.enter("/stats");
    assert_eq!(numbers(&first, "messages")[0], 2, "{first}");
    chat.enter("Who looks after it?");
    let second = chat.enter("/stats");
    assert_eq!(numbers(&second, "messages")[0], 4, "{second}");
    let (before, prompt) = (numbers(&first, "context")[0], numbers(&second, "last prompt"));
    let (all, new) = (prompt[0], prompt[1]);
    // The last token of an answer is read when something follows it; the rest of the first turn is there.
    assert!(all > before && new <= all - before + 1, "{before} tokens after the first turn, then {all}, {new} of them new");

    let again = chat.enter("/regen");
    let third = chat.enter("/stats");
    assert_eq!((numbers(&third, "messages"), numbers(&third, "last prompt")[1]), (vec![4], 1), "{again} {third}");

    let set = chat.enter("/set parameter num_predict 2");
    assert!(set.contains("Set num_predict to 2."), "{set}");
    assert!(chat.enter("/set parameter num_gpu 1").contains("tallow has no parameter num_gpu"));
    assert!(chat.enter("/set parameter top_p 7").contains("top_p is 7, expected from 0 to 1"));
    chat.enter("/set system \"Be brief.\"");
    assert!(chat.enter("/show system").contains("Be brief."));
    assert!(chat.enter("And then?").contains("[the answer ends at num_predict, 2 tokens]"));
    assert!(chat.enter("/nothing").contains("unknown command /nothing; /? lists the commands"));
    chat.enter("/clear");
    let cleared = chat.enter("/stats");
    assert_eq!((numbers(&cleared, "context")[0], numbers(&cleared, "messages")[0]), (0, 1), "{cleared}");
    chat.press("/bye\r");
    assert_eq!(chat.code(), 0);
}

#[test]
fn ctrl_c_stops_the_answer_keeps_its_part_and_only_ctrl_d_ends_the_chat() {
    // An answer that is one word again and again, and does not end.
    let bias = format!("{}=1000", token(" river"));
    let Some(mut chat) = Terminal::run("ctrl-c", &["--ignore-eos", "--temp", "0", "--logit-bias", &bias]) else { return };
    chat.expect(PROMPT);
    chat.press("Tell a story.\r");
    chat.expect("river river river");
    chat.press(CTRL_C);
    chat.expect(PROMPT);
    let stats = chat.enter("/stats");
    assert_eq!(numbers(&stats, "messages")[0], 2, "{stats}");
    assert!(numbers(&stats, "context")[0] < 4000, "{stats}");

    chat.press(CTRL_C);
    chat.expect("Use Ctrl + d or /bye to exit.");
    chat.expect(PROMPT);
    chat.press("this is not sent");
    chat.expect("sent");
    chat.press(CTRL_C);
    chat.expect(PROMPT);
    assert_eq!(numbers(&chat.enter("/stats"), "messages")[0], 2);
    chat.press(UP);
    chat.expect("/stats");
    chat.press(CTRL_C);
    chat.expect(PROMPT);
    chat.press(CTRL_D);
    assert_eq!(chat.code(), 0);
}

#[test]
fn blocks_and_pastes_are_one_message_and_the_history_is_its_owners() {
    let model = golden("llama-gqa-tied");
    let Some(mut chat) = Terminal::run("blocks", &[&model, "--temp", "0", "-n", "3"]) else { return };
    chat.expect(PROMPT);
    chat.press("\"\"\"one\r");
    chat.expect("... ");
    chat.press("/bye\r");
    chat.expect("... ");
    chat.enter("three\"\"\"");
    assert_eq!(numbers(&chat.enter("/stats"), "messages")[0], 2);
    // As a terminal sends a paste, and then the key that enters it.
    chat.press("\u{1b}[200~one\r\n/bye\r\nthree\u{1b}[201~");
    chat.expect("three");
    chat.enter("");
    assert_eq!(numbers(&chat.enter("/stats"), "messages")[0], 4);
    // Lines that come faster than they are answered wait for their turn.
    chat.press("first\rsecond\r/stats\r");
    chat.expect("messages");
    chat.expect(PROMPT);
    assert_eq!(numbers(&chat.enter("/stats"), "messages")[0], 8);
    chat.press("/bye\r");
    assert_eq!(chat.code(), 0);

    use std::os::unix::fs::PermissionsExt;
    let history = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chat/blocks/below/history");
    assert_eq!(std::fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(history.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let history = std::fs::read_to_string(history).unwrap();
    assert!(history.contains("\"\"\"one\\n/bye\\nthree\"\"\"\n") && history.contains("one\\n/bye\\nthree\n"), "{history}");
}

#[test]
fn the_placeholder_is_grey_unless_no_color_or_the_flag_says_otherwise() {
    let model = golden("llama-gqa-tied");
    for (variables, args, coloured) in [
        (&[][..], &[][..], true),
        (&[("NO_COLOR", "1")], &[], false),
        (&[], &["--color", "never"], false),
        (&[("NO_COLOR", "1")], &["--color", "always"], true),
    ] {
        let Some(mut chat) = Terminal::run_with("colours", variables, &[&["-m", &model, "--raw"], args].concat()) else {
            return;
        };
        let shown = chat.expect(PROMPT);
        assert_eq!(shown.contains("\u{1b}[90m"), coloured, "{variables:?} {args:?}: {shown:?}");
        chat.press(CTRL_D);
        assert_eq!(chat.code(), 0);
    }
}

#[test]
fn a_full_context_drops_the_oldest_messages_and_tells_and_the_chat_goes_on() {
    let model = golden("llama-gqa-tied");
    let Some(mut chat) = Terminal::run("full", &[&model, "--temp", "0", "-n", "8", "--ignore-eos", "-c", "96"]) else { return };
    chat.expect(PROMPT);
    let dropped = (0..40).map(|turn| chat.enter(&format!("Turn {turn}: the river runs north."))).find(|text| {
        assert!(!text.contains("error"), "{text}");
        text.contains("were dropped")
    });
    let dropped = dropped.expect("forty turns do not fit into 96 tokens");
    assert!(dropped.contains("warning: the chat is longer than the context of 96: its oldest "), "{dropped}");
    let stats = chat.enter("/stats");
    assert!(numbers(&stats, "context")[0] <= 96 && numbers(&stats, "messages")[1] >= 2, "{stats}");
    let long = chat.enter(&"river ".repeat(120));
    assert!(long.contains("the newest message") && long.contains("the context holds 96"), "{long}");
    // It is taken back, and the talk goes on.
    assert_eq!(numbers(&chat.enter("/stats"), "messages"), numbers(&stats, "messages"));
    chat.enter("And now?");
    chat.press("/bye\r");
    assert_eq!(chat.code(), 0);
}

#[test]
fn an_interrupted_run_ends_with_130_and_leaves_whole_lines() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.args(["run", "Tell a long story about the lighthouse keeper.", "--ignore-eos", "--temp", "0"]);
    command.env("TALLOW_MODELS", Path::new(env!("CARGO_MANIFEST_DIR")).join("models"));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut text = vec![0; 20];
    child.stdout.as_mut().unwrap().read_exact(&mut text).unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    text.extend(&output.stdout);
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(text).unwrap();
    assert!(text.ends_with('\n') && !text.ends_with("\n\n") && text.len() > 20, "{text:?}");
}
