//! Caches of `huggingface_hub` 1.32 and later, where repositories share files: what `rm` frees and what it leaves, in every
//! state that an interruption, another program or an older version can leave such a cache in.

use super::interoperation::{ask, python};
use super::*;
use std::os::unix::fs::symlink;
use tallow::store::hub::Freed;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba98";
/// Of the second repository: Python's client takes a commit for a name of one repository alone.
const SECOND: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// A cache with a store that repositories share.
struct Cache {
    path: PathBuf,
    options: HubOptions,
}

impl Cache {
    fn new(test: &str) -> Cache {
        let path = folder(&format!("shared_{test}"));
        write(&path.join("blobs/.huggingface-shared-blobs"), b"1\n");
        let options = HubOptions {
            cache: path.clone(),
            endpoint: "http://127.0.0.1:1".into(),
            token: None,
            offline: true,
            ..HubOptions::from_env()
        };
        Cache { path, options }
    }

    /// Two repositories of the same weights, with a card of each one's own.
    fn two(test: &str) -> Cache {
        let cache = Cache::new(test);
        for (repo, commit) in [("models--org--a", COMMIT), ("models--org--b", SECOND)] {
            cache.add(repo, commit, "m-Q8_0.gguf", &bytes(1000, 1));
            cache.own(repo, commit, "README.md", repo.as_bytes());
        }
        cache
    }

    /// The file of the store that has these bytes.
    fn stored(&self, bytes: &[u8]) -> PathBuf {
        let hash = server::sha256(&[b"xet", bytes].concat());
        self.path.join("blobs").join(&hash[..2]).join(hash)
    }

    fn refs(&self, bytes: &[u8]) -> PathBuf {
        self.stored(bytes).with_extension("refs")
    }

    /// A file that lies in the store, as `huggingface_hub` puts it there.
    fn add(&self, repo: &str, commit: &str, name: &str, bytes: &[u8]) {
        let (digest, stored) = (server::sha256(bytes), self.stored(bytes));
        if !stored.exists() {
            write(&stored, bytes);
        }
        let known = std::fs::read_to_string(self.refs(bytes)).unwrap_or_default();
        write(&self.refs(bytes), format!("{known}{repo}/blobs/{digest}\n").as_bytes());
        let blob = self.path.join(repo).join("blobs").join(&digest);
        std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
        let hash = stored.file_name().unwrap().to_str().unwrap();
        let _ = std::fs::remove_file(&blob);
        symlink(format!("../../blobs/{}/{hash}", &hash[..2]), &blob).unwrap();
        self.show(repo, commit, name, &digest);
    }

    /// A file of the repository's own.
    fn own(&self, repo: &str, commit: &str, name: &str, bytes: &[u8]) {
        let digest = server::git_oid(bytes);
        write(&self.path.join(repo).join("blobs").join(&digest), bytes);
        self.show(repo, commit, name, &digest);
    }

    fn show(&self, repo: &str, commit: &str, name: &str, digest: &str) {
        let link = self.path.join(repo).join("snapshots").join(commit).join(name);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(format!("../../blobs/{digest}"), &link).unwrap();
        write(&self.path.join(repo).join("refs/main"), commit.as_bytes());
    }

    fn would(&self, text: &str) -> Freed {
        hub::remove(&reference(text), &self.options, true).unwrap()
    }

    /// Removes, and holds the count to what was foretold and to what the disk says.
    #[track_caller]
    fn remove(&self, text: &str) -> Freed {
        let (would, before) = (self.would(text), self.bytes());
        let freed = hub::remove(&reference(text), &self.options, false).unwrap();
        assert_eq!(would, freed, "what was foretold of {text}");
        assert_eq!(before - self.bytes(), freed.bytes, "what the disk says of {text}");
        freed
    }

    /// Bytes of files in the repositories and in the store, without what only keeps the store's books.
    fn bytes(&self) -> u64 {
        let is_content = |path: &&String| path.contains("--") && path.contains("/blobs/") || is_stored(path);
        let size = |path: &String| {
            let metadata = self.path.join(path).symlink_metadata().unwrap();
            if metadata.is_file() && std::os::unix::fs::MetadataExt::nlink(&metadata) == 1 { metadata.len() } else { 0 }
        };
        files(&self.path).iter().filter(is_content).map(size).sum()
    }
}

fn is_stored(path: &str) -> bool {
    path.starts_with("blobs/") && path.rsplit('/').next().is_some_and(|name| name.len() == 64)
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Bytes, blobs and files that went, and links to what others share.
fn counts(freed: &Freed) -> (u64, usize, usize, usize) {
    (freed.bytes, freed.blobs, freed.files, freed.shared)
}

#[test]
fn a_shared_file_stays_for_the_other_repository_and_goes_with_the_last() {
    let cache = Cache::two("last");
    let weights = bytes(1000, 1);
    let listed = hub::list(&cache.options).unwrap();
    let sizes: Vec<_> = listed.iter().map(|repo| (repo.size, repo.shared, repo.loose)).collect();
    assert_eq!(sizes, [(1014, 1000, 0); 2]);
    assert_eq!(hub::size_on_disk(&listed), 1028, "the weights once");
    assert_eq!(counts(&cache.remove("org/a")), (14, 1, 2, 1));
    assert_eq!(std::fs::read(cache.path.join("models--org--b/snapshots").join(SECOND).join("m-Q8_0.gguf")).unwrap(), weights);
    assert!(!cache.path.join("models--org--a").exists());
    let digest = server::sha256(&weights);
    assert_eq!(std::fs::read_to_string(cache.refs(&weights)).unwrap(), format!("models--org--b/blobs/{digest}\n"));
    assert_eq!(hub::list(&cache.options).unwrap()[0].shared, 0, "nobody else has it now");
    assert_eq!(counts(&cache.remove("org/b")), (1014, 2, 2, 0));
    let left: Vec<_> = files(&cache.path).into_iter().filter(|path| !path.ends_with(".lock")).collect();
    assert_eq!(left, ["blobs/.huggingface-shared-blobs"]);
}

#[test]
fn a_revision_or_a_quantisation_frees_its_shared_files_alone() {
    let cache = Cache::two("parts");
    cache.add("models--org--a", COMMIT, "m-Q4_0.gguf", &bytes(500, 2));
    cache.add("models--org--a", OTHER, "m-Q4_0.gguf", &bytes(500, 2));
    cache.add("models--org--a", OTHER, "m-F16.gguf", &bytes(2000, 3));
    // `main` is OTHER now.
    assert_eq!(counts(&cache.remove("org/a:F16")), (2000, 1, 1, 0));
    assert_eq!(counts(&cache.remove(&format!("org/a@{COMMIT}:Q8_0"))), (0, 0, 1, 1));
    assert_eq!(cache.remove(&format!("org/a@{COMMIT}:Q4_0")).shared, 1, "the other revision has it, and the card is alone");
    assert_eq!(cache.remove("org/a").bytes, 500);
    assert_eq!(cache.remove("org/b").bytes, 1014);
}

/// What has happened to a cache, and whether the weights go with the last repository that is known to use them.
#[test]
fn a_file_whose_users_can_not_be_known_is_never_deleted() {
    type Damage = fn(&Cache, &Path, &Path);
    let cases: [(&str, bool, Damage); 13] = [
        ("no list", false, |_, _, refs| std::fs::remove_file(refs).unwrap()),
        ("a list of no text", false, |_, _, refs| std::fs::write(refs, [0xff, 0xfe, 0]).unwrap()),
        ("a list that is a folder", false, |_, _, refs| {
            std::fs::remove_file(refs).unwrap();
            std::fs::create_dir(refs).unwrap();
        }),
        ("a list that is a link", false, |cache, _, refs| {
            std::fs::rename(refs, cache.path.join("list")).unwrap();
            symlink(cache.path.join("list"), refs).unwrap();
        }),
        ("an empty list", true, |_, _, refs| std::fs::write(refs, "").unwrap()),
        ("a list of nonsense", true, |_, _, refs| std::fs::write(refs, "../../x\n/etc/passwd\n\nmodels--org--a\n").unwrap()),
        ("a list with users who are gone", true, |_, _, refs| {
            let list = std::fs::read_to_string(refs).unwrap();
            std::fs::write(refs, format!("models--gone--x/blobs/{}\n{list}{list}", "0".repeat(64))).unwrap();
        }),
        ("a list that forgot another model", false, |cache, _, refs| {
            let list = std::fs::read(refs).unwrap();
            cache.add("models--org--c", COMMIT, "m-Q8_0.gguf", &bytes(1000, 1));
            std::fs::write(refs, list).unwrap();
        }),
        ("a dataset that uses it", false, |cache, _, _| cache.add("datasets--org--d", COMMIT, "d.gguf", &bytes(1000, 1))),
        ("no mark", false, |cache, _, _| {
            std::fs::remove_file(cache.path.join("blobs/.huggingface-shared-blobs")).unwrap();
        }),
        ("a later layout", false, |cache, _, _| write(&cache.path.join("blobs/.huggingface-shared-blobs"), b"2\n")),
        ("a lock that can not be taken", false, |_, stored, _| {
            std::fs::remove_file(stored.with_extension("lock")).unwrap();
            std::fs::create_dir(stored.with_extension("lock")).unwrap();
        }),
        ("a lock that is a link", false, |cache, stored, _| {
            write(&cache.path.join("precious"), b"text");
            std::fs::remove_file(stored.with_extension("lock")).unwrap();
            symlink(cache.path.join("precious"), stored.with_extension("lock")).unwrap();
        }),
    ];
    for (number, (what, goes, damage)) in cases.into_iter().enumerate() {
        let cache = Cache::two(&format!("damage_{number}"));
        let weights = bytes(1000, 1);
        let (stored, refs) = (cache.stored(&weights), cache.refs(&weights));
        hub::remove(&reference("org/b"), &cache.options, false).unwrap();
        damage(&cache, &stored, &refs);
        let freed = hub::remove(&reference("org/a"), &cache.options, false).unwrap();
        assert_eq!(stored.exists(), !goes, "{what}");
        assert_eq!(freed.bytes, if goes { 1014 } else { 14 }, "{what}");
        assert!(!cache.path.join("models--org--a").exists(), "{what}");
        if stored.exists() {
            assert_eq!(std::fs::read(&stored).unwrap(), weights, "{what}");
        }
        for user in ["models--org--c/snapshots", "datasets--org--d/snapshots"] {
            for name in files(&cache.path.join(user)) {
                assert_eq!(std::fs::read(cache.path.join(user).join(name)).unwrap(), weights, "{what}");
            }
        }
        if let Ok(text) = std::fs::read(cache.path.join("precious")) {
            assert_eq!(text, b"text", "{what}");
        }
    }
}

#[test]
fn what_an_interrupted_removal_left_is_told_and_goes_with_the_next() {
    let cache = Cache::two("interrupted");
    hub::remove(&reference("org/b"), &cache.options, false).unwrap();
    for gone in ["refs", "snapshots"] {
        std::fs::remove_dir_all(cache.path.join("models--org--a").join(gone)).unwrap();
        assert_eq!(hub::locate(&reference("org/a"), &cache.options).unwrap(), None);
    }
    let listed = hub::list(&cache.options).unwrap();
    assert_eq!((listed[0].size, listed[0].loose), (0, 1014));
    assert_eq!(counts(&cache.remove("org/a")), (1014, 2, 0, 0));
    // A file of the store whose last link went, and nothing after it.
    cache.add("models--org--e", COMMIT, "m-Q8_0.gguf", &bytes(70, 7));
    assert!(hub::unused(&cache.options).is_empty());
    std::fs::remove_dir_all(cache.path.join("models--org--e")).unwrap();
    let unused = hub::unused(&cache.options);
    assert_eq!(
        unused.iter().map(|(path, bytes)| (path.clone(), *bytes)).collect::<Vec<_>>(),
        [(cache.stored(&bytes(70, 7)).canonicalize().unwrap(), 70)]
    );
}

#[test]
fn a_second_name_outside_the_cache_keeps_its_bytes_and_they_are_not_counted_as_freed() {
    let cache = Cache::two("hard_links");
    let outside = folder("shared_hard_links_outside");
    cache.own("models--org--a", COMMIT, "notes.txt", &bytes(300, 9));
    let own = cache.path.join("models--org--a/blobs").join(server::git_oid(&bytes(300, 9)));
    std::fs::hard_link(&own, outside.join("own")).unwrap();
    hub::remove(&reference("org/b"), &cache.options, false).unwrap();
    std::fs::hard_link(cache.stored(&bytes(1000, 1)), outside.join("stored")).unwrap();
    assert_eq!(cache.remove("org/a").bytes, 14);
    assert_eq!(std::fs::read(outside.join("own")).unwrap(), bytes(300, 9));
    assert_eq!(std::fs::read(outside.join("stored")).unwrap(), bytes(1000, 1));
    assert!(!cache.stored(&bytes(1000, 1)).exists());
}

#[test]
fn a_link_that_leads_out_of_the_cache_frees_nothing_and_harms_nothing() {
    let cache = Cache::new("outside");
    let outside = folder("shared_outside_target");
    write(&outside.join("weights"), &bytes(400, 4));
    let digest = server::sha256(&bytes(400, 4));
    for repo in ["models--org--a", "models--org--b"] {
        std::fs::create_dir_all(cache.path.join(repo).join("blobs")).unwrap();
        symlink(outside.join("weights"), cache.path.join(repo).join("blobs").join(&digest)).unwrap();
        cache.show(repo, COMMIT, "m-Q8_0.gguf", &digest);
        cache.own(repo, COMMIT, "README.md", repo.as_bytes());
    }
    cache.show("models--org--a", OTHER, "m-Q8_0.gguf", &digest);
    assert_eq!(hub::size_on_disk(&hub::list(&cache.options).unwrap()), 428);
    for (text, bytes) in [("org/b", 14), (&format!("org/a@{COMMIT}"), 14), ("org/a", 0)] {
        assert_eq!(cache.remove(text).bytes, bytes, "{text}");
    }
    assert!(outside.join("weights").exists());
}

#[test]
fn a_cache_that_is_reached_by_a_link_is_the_same_cache() {
    let cache = Cache::two("linked");
    let link = folder("shared_linked_link").join("cache");
    symlink(&cache.path, &link).unwrap();
    let options = HubOptions { cache: link, ..cache.options.clone() };
    let remove = |text: &str| hub::remove(&reference(text), &options, false).unwrap().bytes;
    assert_eq!((remove("org/a"), remove("org/b")), (14, 1014));
}

#[test]
fn a_pull_that_replaces_a_shared_file_leaves_it_to_others_and_frees_it_after_the_last() {
    let cache = Cache::new("forced");
    let hub = Hub::start();
    let commit = hub.push("org/a", Commit::default().lfs("m-Q8_0.gguf", bytes(1000, 1)));
    for repo in ["models--org--a", "models--org--b"] {
        cache.add(repo, &commit, "m-Q8_0.gguf", &bytes(1000, 1));
    }
    let options = options(&hub, &cache.path);
    assert_eq!(pull("org/a", &options).unwrap().fetched, 0, "what the store has is here");
    let force = || {
        let force = PullOptions { force: true, ..PullOptions::default() };
        hub::pull(&reference("org/a"), &options, &force, &()).unwrap()
    };
    force();
    let stored = cache.stored(&bytes(1000, 1));
    assert_eq!(std::fs::read(&stored).unwrap(), bytes(1000, 1));
    assert!(std::fs::read(cache.path.join("models--org--b/snapshots").join(&commit).join("m-Q8_0.gguf")).is_ok());
    hub::remove(&reference("org/b"), &cache.options, false).unwrap();
    assert!(!stored.exists());
    cache.add("models--org--a", OTHER, "m-Q8_0.gguf", &bytes(1000, 1));
    assert!(stored.exists());
    force();
    assert!(!stored.exists(), "its last user has a file of its own now");
    assert_eq!(
        std::fs::read(cache.path.join("models--org--a/snapshots").join(OTHER).join("m-Q8_0.gguf")).unwrap(),
        bytes(1000, 1)
    );
}

/// Whether what `read_hub.py` said is of a version before 1.32.
fn knows_no_store(said: &Value) -> bool {
    let parts: Vec<u32> = said["version"].as_str().unwrap().split('.').filter_map(|part| part.parse().ok()).collect();
    parts[..2] < [1, 32][..]
}

/// The same caches, one emptied by Python and one by tallow, end up equal.
#[test]
fn pythons_client_frees_the_same() {
    let Some(python) = python() else { return };
    let hub = Hub::start();
    for number in 0..4 {
        let make = |who: &str| {
            let cache = Cache::two(&format!("python_{number}_{who}"));
            cache.add("models--org--a", OTHER, "m-F16.gguf", &bytes(2000, 3));
            match number {
                1 => std::fs::remove_file(cache.refs(&bytes(1000, 1))).unwrap(),
                2 => std::fs::write(cache.refs(&bytes(1000, 1)), "nonsense\n").unwrap(),
                3 => cache.add("datasets--org--d", &"d".repeat(40), "d.gguf", &bytes(2000, 3)),
                _ => {}
            }
            cache
        };
        let (theirs, ours) = (make("theirs"), make("ours"));
        for (repo, folder) in [("org/b", "models--org--b"), ("org/a", "models--org--a")] {
            let listed = hub::list(&ours.options).unwrap();
            let said = ask(&python, &hub, &theirs.path, &["remove", repo]);
            if knows_no_store(&said) {
                return eprintln!("skipped: this version of huggingface_hub knows no shared files");
            }
            let own = listed.iter().find(|listed| listed.repo == repo).unwrap();
            assert_eq!(json!(own.size), said["repo"], "{number} {repo}");
            // A list of users that lacks one who is there misleads Python, and costs the other repository its weights.
            if number == 2 {
                let left = |cache: &Cache| {
                    std::fs::read(cache.path.join("models--org--a/snapshots").join(COMMIT).join("m-Q8_0.gguf")).is_ok()
                };
                hub::remove(&reference(repo), &ours.options, false).unwrap();
                assert_eq!((left(&theirs), left(&ours)), (false, true));
                break;
            }
            if number == 0 {
                assert_eq!(json!(hub::size_on_disk(&listed)), said["size"], "{number} {repo}");
            }
            let freed = hub::remove(&reference(repo), &ours.options, false).unwrap();
            assert_eq!(json!(freed.bytes), said["expected"], "{number} {repo}");
            assert!(!theirs.path.join(folder).exists() && !ours.path.join(folder).exists());
            let files = |cache: &Cache| {
                let mut found = files(&cache.path);
                found.retain(|path| !path.ends_with(".lock") && path != "CACHEDIR.TAG" && !path.starts_with("home/"));
                found
            };
            assert_eq!(files(&theirs), files(&ours), "{number} {repo}");
        }
    }
}
