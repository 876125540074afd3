//! Offline is offline: in a process that dies when it asks the kernel for a socket.
//!
//! A seccomp filter kills the whole process at `socket(2)`; it is installed before the program starts, so nothing the
//! program does comes before it. That the proof can fail is shown by the same process with something to fetch.

use super::*;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

/// Kills the process at `socket(2)`, for good.
fn without_sockets() -> std::io::Result<()> {
    let instruction = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let number = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    let mut filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, number),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_socket as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: prctl is async-signal-safe; `program` and the filter it points to live until it returns.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

pub fn shut_in(mut command: Command) -> Command {
    // SAFETY: `without_sockets` allocates nothing and takes no lock.
    unsafe { command.pre_exec(without_sockets) };
    command
}

fn model() -> Commit {
    Commit::default().lfs("m-Q8_0.gguf", bytes(700, 1)).file("README.md", "a card")
}

/// A home whose cache holds the model, and the Hub it came from.
fn cached(test: &str) -> (PathBuf, Hub, Pulled) {
    let (home, hub) = (folder(test), Hub::start());
    hub.push("org/model", model());
    let pulled = pull("org/model", &options(&hub, &child::cache(&home))).unwrap();
    hub.forget();
    (home, hub, pulled)
}

#[test]
fn without_the_cache_the_same_process_dies_for_its_socket() {
    let (home, hub) = (folder("dies"), Hub::start());
    hub.push("org/model", model());
    let output = shut_in(child::command(&hub, &home, "pull", "org/model")).output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
    assert_eq!(hub.connections(), 0);
    assert!(child::outcome(child::command(&hub, &home, "pull", "org/model")).starts_with("ok "), "with sockets it succeeds");
}

#[test]
fn what_is_cached_is_pulled_offline_without_a_socket() {
    let (home, hub, pulled) = cached("offline");
    for (variable, value) in [("HF_HUB_OFFLINE", "1"), ("HF_HUB_OFFLINE", "TRUE"), ("TRANSFORMERS_OFFLINE", "1")] {
        for text in ["org/model", "org/model:Q8_0", "org/model@main", &format!("org/model@{}", pulled.commit)] {
            let mut command = child::command(&hub, &home, "pull", text);
            command.env(variable, value);
            assert_eq!(child::outcome(shut_in(command)), format!("ok {}", pulled.path.display()), "{variable} {text}");
        }
    }
    assert_eq!(hub.requests().len(), 0);
}

#[test]
fn a_commit_that_is_cached_needs_no_socket_even_online() {
    let (home, hub, pulled) = cached("online");
    for pick in ["Q8_0", "m-Q8_0.gguf"] {
        let text = format!("org/model@{}:{pick}", pulled.commit);
        let said = child::outcome(shut_in(child::command(&hub, &home, "pull", &text)));
        assert_eq!(said, format!("ok {}", pulled.path.display()));
    }
    // Which quantisation is meant where none is named, the Hub's list tells: there may be a better one.
    hub.forget();
    pull(&format!("org/model@{}", pulled.commit), &options(&hub, &child::cache(&home))).unwrap();
    assert!(hub.connections() > 0);
}

#[test]
fn locating_a_model_never_needs_a_socket() {
    let (home, hub, pulled) = cached("locate");
    let said = child::outcome(shut_in(child::command(&hub, &home, "locate", "org/model")));
    assert_eq!(said, format!("ok {}", pulled.path.display()));
    assert_eq!(child::outcome(shut_in(child::command(&hub, &home, "locate", "org/other"))), "nothing");
}

#[test]
fn what_is_not_cached_is_refused_offline_without_a_socket() {
    let (home, hub, _) = cached("offline_missing");
    for text in ["org/other", "org/model:Q4_K_M", "org/model@dev", &format!("org/model@{}", "0".repeat(40))] {
        let mut command = child::command(&hub, &home, "pull", text);
        command.env("HF_HUB_OFFLINE", "1");
        let said = child::outcome(shut_in(command));
        assert!(said.starts_with("error NotLocal") && said.contains("org/"), "{text}: {said}");
        assert!(said.contains("offline") && said.contains("HF_HUB_OFFLINE"), "{text}: {said}");
    }
}

#[test]
fn an_interrupted_pull_is_not_there_offline() {
    let (home, hub) = (folder("offline_partial"), Hub::start());
    hub.push("org/model", model());
    hub.faults(At::Bytes, ".gguf", Kind::Cut(0), usize::MAX);
    pull("org/model", &options(&hub, &child::cache(&home))).unwrap_err();
    let mut command = child::command(&hub, &home, "pull", "org/model");
    command.env("HF_HUB_OFFLINE", "1");
    let said = child::outcome(shut_in(command));
    assert!(said.starts_with("error NotLocal"), "{said}");
}

/// A Hub with a model that runs.
fn with_tiny() -> Hub {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf-q8_0-spm/model-q8_0.gguf");
    let hub = Hub::start();
    hub.push("org/tiny", Commit::default().lfs("tiny-Q8_0.gguf", std::fs::read(model).unwrap()).file("README.md", "a card"));
    hub
}

#[test]
fn what_ships_with_the_program_is_found_before_the_network_is_asked() {
    let (home, hub) = (folder("ships"), with_tiny());
    for name in ["smollm2", "SmolLM2", "smollm2:135m"] {
        let said = child::outcome(shut_in(child::command(&hub, &home, "ensure", name)));
        assert!(said.starts_with("ok ") && said.ends_with(".gguf"), "{name}: {said}");
    }
    assert_eq!(hub.connections(), 0);
    // The same process dies for a model that does not.
    let output = shut_in(child::command(&hub, &home, "ensure", "org/tiny")).output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
}

#[test]
fn what_is_ensured_is_fetched_once_and_the_callback_hears_of_it() {
    let (home, hub) = (folder("ensured"), with_tiny());
    let mut running = child::Running::start(child::command(&hub, &home, "ensure", "org/tiny"));
    running.wait_for("advance tiny-Q8_0.gguf ");
    let path = running.wait_for("ok ");
    assert!(path.ends_with("tiny-Q8_0.gguf"), "{path}");
    running.child.wait().unwrap();
    assert_eq!(child::outcome(shut_in(child::command(&hub, &home, "ensure", "org/tiny"))), path);
}

#[test]
fn what_is_not_here_is_refused_offline_in_the_same_words_by_every_way() {
    let (home, hub) = (folder("one_wording"), with_tiny());
    let said = |what: &str| {
        let mut command = child::command(&hub, &home, what, "org/tiny");
        command.env("HF_HUB_OFFLINE", "1");
        child::outcome(shut_in(command))
    };
    assert_eq!(said("ensure"), said("pull"));
    assert!(said("pull").contains("offline nothing is fetched"), "{}", said("pull"));
}
