//! A Hub of the tests' own: what huggingface.co answers, on 127.0.0.1, with faults on demand.
//!
//! Two listeners, as in the real one: the Hub itself (information, file tree, `resolve`), reached as `127.0.0.1:PORT`, and
//! the store of large files, to which `resolve` redirects and which is reached as `localhost:PORT`, another host to every
//! client. The store must never see a token; every request is recorded, so that a test can ask.
//!
//! A fault is named by the request that it spoils and how often; everything else is answered truthfully. The trap: a
//! response is described in full first and spoilt last, so that a fault never changes what a later request is told.
//!
//! What the real one sends was read from the clients that understand it: Python's `huggingface_hub` (`file_download.py`,
//! `hf_api.py`, `utils/_http.py`) and the `hf-hub` crate. Python's client is run against this one by `interoperation.rs`.

#![allow(dead_code, reason = "each test program uses its own part of it")]

mod answer;
mod wire;

use sha1::Digest as _;
use std::collections::BTreeMap;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Nothing here takes this long; a test that waits for something that never comes fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running Hub; it stops when dropped.
pub struct Hub {
    shared: Arc<Shared>,
    listeners: Vec<JoinHandle<()>>,
}

struct Shared {
    hub_port: u16,
    store_port: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    repos: BTreeMap<String, Repo>,
    /// Each known token, and whether its owner has accepted the licences of gated repositories.
    tokens: BTreeMap<String, bool>,
    faults: Vec<Fault>,
    requests: Vec<Request>,
    asked: usize,
    connections: Vec<TcpStream>,
    stalled: usize,
    released: usize,
    page: usize,
    redirects_small_files: bool,
    /// Everything has moved to `/moved/...` of the same host, and this status says so.
    moved: Option<u16>,
    /// The file tree names no digests of large files.
    hides_digests: bool,
    stopped: bool,
}

/// A repository as a test describes it; `Hub::push` makes a commit of it.
#[derive(Default, Clone)]
pub struct Commit {
    files: BTreeMap<String, File>,
}

#[derive(Clone)]
struct File {
    bytes: Arc<Vec<u8>>,
    lfs: bool,
}

#[derive(Default)]
struct Repo {
    commits: BTreeMap<String, Commit>,
    refs: BTreeMap<String, String>,
    gated: Option<&'static str>,
    private: bool,
    license: Option<String>,
}

/// A request as it arrived, and what was sent for it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Counts all requests ever made.
    pub number: usize,
    pub host: Host,
    pub method: String,
    /// Undecoded, with its query.
    pub target: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
    pub status: u16,
    /// Bytes of the body that were written to the socket.
    pub sent: usize,
    /// Whether the body was a file's bytes, rather than information about them.
    pub is_file: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    Hub,
    Store,
}

/// Which requests a fault spoils.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Info,
    Tree,
    /// HEAD of a file.
    Head,
    /// GET of a file at the Hub, redirected or not.
    Resolve,
    /// The GET that is answered by the file's bytes, at whichever host.
    Bytes,
}

#[derive(Debug, Clone)]
pub struct Fault {
    pub at: At,
    /// The end of the file's path, for requests of files.
    pub file: String,
    pub kind: Kind,
    /// How many requests it spoils.
    pub times: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The connection closes before the status line.
    Close,
    /// The connection closes after this many bytes of the body.
    Cut(usize),
    /// As `Cut`, with no `Content-Length` that would tell.
    CutUnannounced(usize),
    /// After this many bytes nothing comes until `Hub::release`, or until the client has gone; then the connection closes.
    Stall(usize),
    /// `Content-Length` promises this many bytes more than come.
    Longer(usize),
    /// `Content-Length` promises this many bytes fewer than there are.
    Shorter(usize),
    /// The lowest bit of the file's byte at this offset is wrong, whenever it is served.
    Flip(usize),
    /// ETag and X-Linked-Etag are those of something else.
    Etag,
    /// 200 and the whole file, whatever was asked for.
    IgnoreRange,
    /// 206, from one byte later than asked for, and says so.
    Shifted,
    /// The total in `Content-Range` is one too many.
    Total,
    /// 416, as if the file were shorter.
    Unsatisfiable,
    Status(u16),
    /// 429 with `Retry-After` of so many seconds.
    RateLimit(u64),
    /// 302 to itself.
    Loop,
    /// 200 and a page of HTML, as hotel networks answer.
    Html,
    /// Half of the body, with a `Content-Length` that fits it.
    Half,
    /// The file tree has one more file, of this path.
    ExtraPath(String),
}

impl Commit {
    /// A file that lies in git itself.
    pub fn file(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), File { bytes: Arc::new(bytes.into()), lfs: false });
        self
    }

    /// A file of the large file store.
    pub fn lfs(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), File { bytes: Arc::new(bytes.into()), lfs: true });
        self
    }

    fn sha(&self) -> String {
        let mut hash = sha1::Sha1::new();
        for (path, file) in &self.files {
            hash.update(format!("{path} {}\n", file.git_oid()));
        }
        hex(&hash.finalize())
    }
}

impl File {
    fn sha256(&self) -> String {
        sha256(&self.bytes)
    }

    /// What git holds: the file, or the pointer to it.
    fn git_oid(&self) -> String {
        if self.lfs { git_oid(self.pointer().as_bytes()) } else { git_oid(&self.bytes) }
    }

    fn pointer(&self) -> String {
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n", self.sha256(), self.bytes.len())
    }

    fn etag(&self) -> String {
        if self.lfs { self.sha256() } else { self.git_oid() }
    }
}

/// The id git gives a file of these bytes.
pub fn git_oid(bytes: &[u8]) -> String {
    let mut hash = sha1::Sha1::new();
    hash.update(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hex(&hash.finalize())
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Hub {
    pub fn start() -> Hub {
        let [hub, store] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let port = |listener: &TcpListener| listener.local_addr().expect("a bound port").port();
        let shared = Arc::new(Shared {
            hub_port: port(&hub),
            store_port: port(&store),
            state: Mutex::new(State { page: 3, ..State::default() }),
            changed: Condvar::new(),
        });
        let listeners = [(hub, Host::Hub), (store, Host::Store)]
            .map(|(listener, host)| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || wire::listen(&listener, host, &shared))
            })
            .into();
        Hub { shared, listeners }
    }

    /// What `HF_ENDPOINT` should say.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.shared.hub_port)
    }

    /// Makes a commit the head of `main`, creating the repository; the commit's id.
    pub fn push(&self, repo: &str, commit: Commit) -> String {
        self.push_to(repo, "main", commit)
    }

    /// Makes a commit the head of a branch, a tag or `refs/pr/N`.
    pub fn push_to(&self, repo: &str, reference: &str, commit: Commit) -> String {
        let sha = commit.sha();
        let mut state = self.shared.lock();
        let repo = state.repos.entry(repo.to_owned()).or_default();
        repo.commits.insert(sha.clone(), commit);
        repo.refs.insert(reference.to_owned(), sha.clone());
        sha
    }

    /// Makes a repository gated: `auto` or `manual`.
    pub fn gate(&self, repo: &str, how: &'static str) {
        self.shared.lock().repos.get_mut(repo).expect("a pushed repository").gated = Some(how);
    }

    pub fn hide(&self, repo: &str) {
        self.shared.lock().repos.get_mut(repo).expect("a pushed repository").private = true;
    }

    pub fn license(&self, repo: &str, license: &str) {
        self.shared.lock().repos.get_mut(repo).expect("a pushed repository").license = Some(license.to_owned());
    }

    /// A token the Hub knows; `accepted`: its owner may read gated repositories.
    pub fn token(&self, token: &str, accepted: bool) {
        self.shared.lock().tokens.insert(token.to_owned(), accepted);
    }

    /// How many entries a page of the file tree has.
    pub fn page(&self, entries: usize) {
        self.shared.lock().page = entries;
    }

    /// Small files are redirected to a path of the same host, as the real Hub does with those its cache holds.
    pub fn redirect_small_files(&self) {
        self.shared.lock().redirects_small_files = true;
    }

    /// Everything has moved below `/moved` of this host; requests are told so with this status and a relative address.
    pub fn move_with(&self, status: u16) {
        self.shared.lock().moved = Some(status);
    }

    /// The file tree names no digests of large files, as with hosts that know only git.
    pub fn hide_digests(&self) {
        self.shared.lock().hides_digests = true;
    }

    /// Spoils the next request of this kind for a file whose path ends so.
    pub fn fault(&self, at: At, file: &str, kind: Kind) {
        self.faults(at, file, kind, 1);
    }

    pub fn faults(&self, at: At, file: &str, kind: Kind, times: usize) {
        self.shared.lock().faults.push(Fault { at, file: file.to_owned(), kind, times });
    }

    /// Takes back the faults that were not used up; how many requests they were still to spoil.
    pub fn heal(&self) -> usize {
        self.shared.lock().faults.drain(..).fold(0, |sum, fault| sum.saturating_add(fault.times))
    }

    /// What was asked since the last `forget`.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    pub fn forget(&self) {
        self.shared.lock().requests.clear();
    }

    /// How many connections were ever accepted.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// Bytes of files that were written to sockets since the last `forget`.
    pub fn bytes_served(&self) -> usize {
        self.requests().iter().filter(|request| request.is_file).map(|request| request.sent).sum()
    }

    /// Returns when a response is stalled that was not when this was last called.
    pub fn wait_for_stall(&self) {
        let mut state = self.shared.lock();
        let end = Instant::now() + PATIENCE;
        while state.stalled == 0 {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no response has stalled; the requests were {:#?}", state.requests);
            state = self.shared.changed.wait_timeout(state, left).expect("no holder panics").0;
        }
        state.stalled -= 1;
    }

    /// Ends all stalls: their connections close.
    pub fn release(&self) {
        self.shared.lock().released += 1;
        self.shared.changed.notify_all();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let connections = {
            let mut state = self.shared.lock();
            state.stopped = true;
            state.released += 1;
            std::mem::take(&mut state.connections)
        };
        self.shared.changed.notify_all();
        for connection in connections {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // A connection wakes each `accept`, which then sees that it is over.
        for port in [self.shared.hub_port, self.shared.store_port] {
            let _ = TcpStream::connect(("127.0.0.1", port));
        }
        for listener in self.listeners.drain(..) {
            let _ = listener.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
