//! Pulls that end before they are done: resumed, killed, out of disk, and two at once.

use super::*;

fn model() -> Commit {
    Commit::default().lfs("m-Q8_0.gguf", weights()).file("README.md", "a card")
}

fn weights() -> Vec<u8> {
    bytes(1000, 1)
}

fn whole() -> [(&'static str, Vec<u8>); 2] {
    [("m-Q8_0.gguf", weights()), ("README.md", b"a card".to_vec())]
}

#[track_caller]
fn assert_whole(cache: &Path, commit: &str) {
    let whole = whole();
    assert_cache(cache, commit, &whole.each_ref().map(|(path, bytes)| (*path, bytes.as_slice())));
}

/// Requests for the weights' bytes: what was asked for and how much came.
fn transfers(hub: &Hub) -> Vec<(Option<String>, usize)> {
    let of_store = hub.requests().into_iter().filter(|request| request.host == Host::Store);
    of_store.map(|request| (request.range, request.sent)).collect()
}

#[test]
fn an_interrupted_pull_is_resumed_by_the_next_and_no_byte_comes_twice() {
    let (cache, hub) = (folder("resume"), Hub::start());
    let commit = hub.push("org/model", model());
    let options = HubOptions { attempts: 1, ..options(&hub, &cache) };
    for (number, boundary) in [64, 640, 999].into_iter().enumerate() {
        let _ = std::fs::remove_dir_all(&cache);
        hub.forget();
        hub.fault(At::Bytes, ".gguf", Kind::Cut(boundary));
        // A stall of progress cannot hide the failure: there is one attempt, and the next request fails too.
        hub.faults(At::Bytes, ".gguf", Kind::Close, 1);
        let error = pull("org/model", &options).unwrap_err();
        assert!(matches!(error, Error::Network { .. }), "{error:?}");
        hub.heal();
        let plan = hub::plan(&reference("org/model"), &options, &PullOptions::default()).unwrap();
        let file = plan.files.iter().find(|file| file.path == "m-Q8_0.gguf").unwrap();
        assert_eq!((file.present, file.partial), (false, boundary as u64), "{number}");
        let card = plan.files.iter().find(|file| file.path == "README.md").unwrap();
        assert_eq!(plan.missing(), (1000 - boundary + if card.present { 0 } else { 6 }) as u64);
        let repos = hub::list(&options).unwrap();
        assert_eq!(repos.iter().map(|repo| repo.partial).sum::<u64>(), boundary as u64);
        hub.forget();
        struct Seen(Mutex<Vec<(u64, u64)>>);
        impl Progress for Seen {
            fn start(&self, file: &str, size: u64, already: u64) {
                if file == "m-Q8_0.gguf" {
                    self.0.lock().unwrap().push((size, already));
                }
            }
        }
        let seen = Seen(Mutex::default());
        let pulled = hub::pull(&reference("org/model"), &options, &PullOptions::default(), &seen).unwrap();
        assert_eq!(*seen.0.lock().unwrap(), [(1000, boundary as u64)]);
        assert_eq!(transfers(&hub), [(Some(format!("bytes={boundary}-")), 1000 - boundary)]);
        assert_eq!(pulled.fetched, plan.missing());
        assert_whole(&cache, &commit);
    }
}

#[test]
fn within_one_pull_each_attempt_begins_where_the_last_ended() {
    let (cache, hub) = (folder("attempts"), Hub::start());
    let commit = hub.push("org/model", model());
    hub.faults(At::Bytes, ".gguf", Kind::Cut(300), 3);
    pull("org/model", &options(&hub, &cache)).unwrap();
    let ranges: Vec<Option<String>> = transfers(&hub).into_iter().map(|(range, _)| range).collect();
    assert_eq!(ranges.len(), 4);
    for (range, start) in ranges.iter().zip([0, 300, 600, 900]) {
        assert_eq!(range.clone().unwrap_or("bytes=0-".into()), format!("bytes={start}-"));
    }
    assert_eq!(transfers(&hub).iter().map(|(_, sent)| sent).sum::<usize>(), 1000);
    assert_whole(&cache, &commit);
}

#[test]
fn what_an_interrupted_download_left_is_not_trusted() {
    let digest = server::sha256(&weights());
    for (case, left) in [
        ("wrong", bytes(300, 7)),
        ("longer", bytes(2000, 7)),
        ("whole", weights()),
        ("whole_but_wrong", bytes(1000, 7)),
        ("empty", vec![]),
    ] {
        let (cache, hub) = (folder(&format!("left_{case}")), Hub::start());
        let commit = hub.push("org/model", model());
        let blobs = cache.join("models--org--model/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(format!("{digest}.incomplete")), &left).unwrap();
        let first = pull("org/model", &options(&hub, &cache));
        if let Err(error) = &first {
            assert!(matches!(error, Error::Checksum { .. }), "{case}: {error:?}");
            assert!(case.contains("wrong"), "{case}: {error}");
            assert_says(error, &["m-Q8_0.gguf", &digest]);
        }
        if case == "whole" {
            assert_eq!(transfers(&hub), [], "{case}");
        }
        pull("org/model", &options(&hub, &cache)).unwrap();
        assert_whole(&cache, &commit);
    }
}

#[test]
fn a_blob_that_lost_bytes_is_fetched_again() {
    let (cache, hub) = (folder("short_blob"), Hub::start());
    let commit = hub.push("org/model", model());
    let path = pull("org/model", &options(&hub, &cache)).unwrap().path;
    let blob = path.canonicalize().unwrap();
    std::fs::write(&blob, &weights()[..500]).unwrap();
    let again = pull("org/model", &options(&hub, &cache)).unwrap();
    assert_eq!(again.fetched, 1000);
    assert_whole(&cache, &commit);
}

#[test]
fn a_snapshot_that_lost_its_links_is_mended_without_a_transfer() {
    let (cache, hub) = (folder("links"), Hub::start());
    let commit = hub.push("org/model", model());
    pull("org/model", &options(&hub, &cache)).unwrap();
    std::fs::remove_dir_all(cache.join("models--org--model/snapshots")).unwrap();
    assert_eq!(hub::locate(&reference("org/model"), &options(&hub, &cache)).unwrap(), None);
    hub.forget();
    pull("org/model", &options(&hub, &cache)).unwrap();
    assert_eq!(hub.bytes_served(), 0);
    assert_whole(&cache, &commit);
}

#[cfg(unix)]
#[test]
fn a_killed_pull_is_resumed_and_no_byte_comes_twice() {
    for boundary in [0, 64, 640, 999] {
        let (home, hub) = (folder(&format!("kill_{boundary}")), Hub::start());
        let cache = child::cache(&home);
        let commit = hub.push("org/model", model());
        hub.fault(At::Bytes, ".gguf", Kind::Stall(boundary));
        let mut running = child::Running::start(child::command(&hub, &home, "pull", "org/model"));
        hub.wait_for_stall();
        running.wait_for_bytes("m-Q8_0.gguf", boundary);
        // SIGKILL: nothing in the child can tidy up.
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        hub.release();
        assert_eq!(hub::locate(&reference("org/model"), &options(&hub, &cache)).unwrap(), None);
        pull("org/model", &options(&hub, &cache)).unwrap();
        assert_eq!(transfers(&hub).iter().map(|(_, sent)| sent).sum::<usize>(), 1000, "{:?}", transfers(&hub));
        assert_whole(&cache, &commit);
    }
}

#[test]
fn a_cancelled_pull_ends_keeps_what_has_come_and_is_resumed() {
    struct EndAtFirst(tallow::Cancel);
    impl Progress for EndAtFirst {
        fn advance(&self, file: &str, _: u64) {
            if file == "m-Q8_0.gguf" {
                self.0.cancel();
            }
        }
    }
    let (cache, hub) = (folder("cancelled"), Hub::start());
    let commit = hub.push("org/model", model());
    // The rest would come only when the test lets it: what ends the pull is the switch.
    hub.fault(At::Bytes, ".gguf", Kind::Cut(640));
    let cancel = tallow::Cancel::default();
    let backoff = Duration::from_secs(3600);
    let options = HubOptions { cancel: Some(cancel.clone()), backoff, ..options(&hub, &cache) };
    let pulled = |progress: &dyn Progress| hub::pull(&reference("org/model"), &options, &PullOptions::default(), progress);
    assert!(matches!(pulled(&EndAtFirst(cancel.clone())), Err(Error::Cancelled)));
    assert!(matches!(pulled(&()), Err(Error::Cancelled)), "the switch is still set");
    let partial = hub::list(&options).unwrap().iter().map(|repo| repo.partial).sum::<u64>();
    assert_eq!(partial, 640);
    cancel.reset();
    pulled(&()).unwrap();
    assert_eq!(transfers(&hub).iter().map(|(_, sent)| sent).sum::<usize>(), 1000, "{:?}", transfers(&hub));
    assert_whole(&cache, &commit);
}

/// Tells when a pull waits for another, and releases the other then.
struct Release<'a>(&'a Hub);

impl Progress for Release<'_> {
    fn waiting(&self, _: &str) {
        self.0.release();
    }
}

#[test]
fn two_pulls_at_once_fetch_each_byte_once_and_both_succeed() {
    let (cache, hub) = (folder("two"), Hub::start());
    let commit = hub.push("org/model", model());
    hub.fault(At::Bytes, ".gguf", Kind::Stall(640));
    let options = options(&hub, &cache);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| pull("org/model", &options).unwrap());
        hub.wait_for_stall();
        let second = hub::pull(&reference("org/model"), &options, &PullOptions::default(), &Release(&hub)).unwrap();
        assert_eq!(first.join().unwrap().path, second.path);
    });
    assert_eq!(transfers(&hub).iter().map(|(_, sent)| sent).sum::<usize>(), 1000, "{:?}", transfers(&hub));
    assert_whole(&cache, &commit);
}

#[test]
fn two_processes_at_once_fetch_each_byte_once_and_both_succeed() {
    let (home, hub) = (folder("two_processes"), Hub::start());
    let commit = hub.push("org/model", model());
    hub.fault(At::Bytes, ".gguf", Kind::Stall(640));
    let mut first = child::Running::start(child::command(&hub, &home, "pull", "org/model"));
    hub.wait_for_stall();
    let mut second = child::Running::start(child::command(&hub, &home, "pull", "org/model"));
    second.wait_for("waiting m-Q8_0.gguf");
    hub.release();
    assert_eq!(first.wait_for("ok "), second.wait_for("ok "));
    assert_eq!(transfers(&hub).iter().map(|(_, sent)| sent).sum::<usize>(), 1000, "{:?}", transfers(&hub));
    assert_whole(&child::cache(&home), &commit);
}

/// When the process that fetches dies, the one that waits goes on with its bytes.
#[cfg(unix)]
#[test]
fn a_pull_that_waits_for_a_killed_one_takes_over() {
    let (home, hub) = (folder("take_over"), Hub::start());
    let commit = hub.push("org/model", model());
    hub.fault(At::Bytes, ".gguf", Kind::Stall(640));
    let mut first = child::Running::start(child::command(&hub, &home, "pull", "org/model"));
    hub.wait_for_stall();
    first.wait_for_bytes("m-Q8_0.gguf", 640);
    let mut second = child::Running::start(child::command(&hub, &home, "pull", "org/model"));
    second.wait_for("waiting m-Q8_0.gguf");
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    second.wait_for("ok ");
    assert_eq!(transfers(&hub).iter().map(|(_, sent)| sent).sum::<usize>(), 1000, "{:?}", transfers(&hub));
    assert_whole(&child::cache(&home), &commit);
}

/// A limit on the size of files stands for the disk: the write fails in the same place, with EFBIG for ENOSPC.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_names_the_file_and_a_later_pull_succeeds() {
    use std::os::unix::process::CommandExt;
    for limit in [64, 100, 512, 999] {
        let (home, hub) = (folder(&format!("full_{limit}")), Hub::start());
        let commit = hub.push("org/model", model());
        let mut command = child::command(&hub, &home, "pull", "org/model");
        let full = move || {
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            // SAFETY: both calls are async-signal-safe, and `limit` outlives the one that reads it.
            let set = unsafe {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                libc::setrlimit(libc::RLIMIT_FSIZE, &limit)
            };
            if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: `full` allocates nothing and takes no lock.
        unsafe { command.pre_exec(full) };
        let said = child::outcome(command);
        assert!(said.starts_with("error Io"), "{said}");
        assert!(said.contains(&server::sha256(&weights())) || said.contains("m-Q8_0.gguf"), "{said}");
        let cache = child::cache(&home);
        assert_eq!(hub::locate(&reference("org/model"), &options(&hub, &cache)).unwrap(), None);
        pull("org/model", &options(&hub, &cache)).unwrap();
        assert_whole(&cache, &commit);
    }
}
