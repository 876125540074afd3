//! Requests from the wire and answers onto it, spoilt where a fault says so.

use super::answer::{Answer, Class};
use super::{At, Fault, Host, Kind, PATIENCE, Request, Shared, State, git_oid};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub fn listen(listener: &TcpListener, host: Host, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        let mut state = shared.lock();
        if state.stopped {
            return;
        }
        state.connections.extend(stream.try_clone());
        drop(state);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || converse(&stream, host, &shared));
    }
}

/// Answers the requests of one connection until either side has had enough.
fn converse(stream: &TcpStream, host: Host, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    while let Some(question) = read_question(&mut reader) {
        let (answer, fault, number) = {
            let mut state = shared.lock();
            let (answer, class) = match host {
                Host::Hub => state.hub_answer(&question, shared),
                Host::Store => state.store_answer(&question),
            };
            let fault = state.take_fault(class, &answer);
            state.asked += 1;
            let number = state.asked;
            state.requests.push(Request {
                number,
                host,
                method: question.method.clone(),
                target: question.target.clone(),
                range: question.header("range"),
                authorization: question.header("authorization"),
                status: answer.status,
                sent: 0,
                is_file: answer.file.is_some() && question.method == "GET",
            });
            (answer, fault, number)
        };
        let wire = Wire::new(answer, fault, &question);
        let sent = wire.send(stream, shared, number);
        if sent.is_none() || wire.closes {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

pub struct Question {
    pub method: String,
    pub target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Question {
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }
}

fn read_question(reader: &mut BufReader<&TcpStream>) -> Option<Question> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((key, value)) = line.trim_end().split_once(':') else { break };
        headers.push((key.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut question = Question { method, target, headers, body: Vec::new() };
    let length = question.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    question.body = vec![0; length];
    reader.read_exact(&mut question.body).ok()?;
    Some(question)
}

impl State {
    fn take_fault(&mut self, class: Class, answer: &Answer) -> Option<Kind> {
        let fits = |fault: &Fault| {
            let at = match fault.at {
                At::Info => class == Class::Info,
                At::Tree => class == Class::Tree,
                At::Head => class == Class::Head,
                At::Resolve => class == Class::Resolve,
                At::Bytes => class == Class::Store || (class == Class::Resolve && answer.file.is_some()),
            };
            at && (matches!(fault.at, At::Info | At::Tree) || answer.path.ends_with(&fault.file))
        };
        let at = self.faults.iter().position(fits)?;
        let kind = self.faults[at].kind.clone();
        self.faults[at].times -= 1;
        if self.faults[at].times == 0 {
            self.faults.remove(at);
        }
        Some(kind)
    }
}

/// A response as it goes over the wire, spoilt if it is to be.
struct Wire {
    head: Vec<u8>,
    body: Vec<u8>,
    /// Silence after this many bytes of the body, until the release.
    stall: Option<usize>,
    closes: bool,
    status: u16,
}

impl Wire {
    fn new(mut answer: Answer, fault: Option<Kind>, question: &Question) -> Wire {
        let whole = answer.file.clone().filter(|_| question.method == "GET");
        let mut length = Some(answer.body.len());
        let mut keep = usize::MAX;
        let (mut closes, mut silent, mut stall) = (false, false, None);
        match fault {
            None => {}
            Some(Kind::Close) => (silent, closes) = (true, true),
            Some(Kind::Cut(bytes)) => (keep, closes) = (bytes, true),
            Some(Kind::CutUnannounced(bytes)) => (keep, length, closes) = (bytes, None, true),
            Some(Kind::Stall(bytes)) => (stall, closes) = (Some(bytes), true),
            Some(Kind::Longer(bytes)) => (length, closes) = (Some(answer.body.len() + bytes), true),
            Some(Kind::Shorter(bytes)) => (length, closes) = (Some(answer.body.len().saturating_sub(bytes)), true),
            Some(Kind::Flip(offset)) => {
                let start =
                    answer.headers.iter().find(|(key, _)| *key == "Content-Range").map_or(0, |(_, range)| first_byte(range));
                if let Some(byte) = offset.checked_sub(start).and_then(|at| answer.body.get_mut(at)) {
                    *byte ^= 1;
                }
            }
            Some(Kind::Etag) => {
                let (wrong, linked) = (format!("\"{}\"", "0".repeat(40)), format!("\"{}\"", "0".repeat(64)));
                answer.set("ETag", wrong);
                if answer.headers.iter().any(|(key, _)| *key == "X-Linked-Etag") {
                    answer.set("X-Linked-Etag", linked);
                }
            }
            Some(Kind::IgnoreRange) => {
                if let Some(file) = whole {
                    answer.status = 200;
                    answer.headers.retain(|(key, _)| *key != "Content-Range");
                    answer.body = file.bytes.to_vec();
                    length = Some(answer.body.len());
                }
            }
            Some(Kind::Shifted) => {
                if let Some(file) = whole {
                    let total = file.bytes.len();
                    let start = total - answer.body.len();
                    let shifted = (start + 1).min(total - 1);
                    answer.status = 206;
                    answer.set("Content-Range", format!("bytes {shifted}-{}/{total}", total - 1));
                    answer.body = file.bytes[shifted..].to_vec();
                    length = Some(answer.body.len());
                }
            }
            Some(Kind::Total) => {
                if let Some(file) = whole {
                    let total = file.bytes.len();
                    let start = total - answer.body.len();
                    answer.status = 206;
                    answer.set("Content-Range", format!("bytes {start}-{}/{}", total - 1, total + 1));
                }
            }
            Some(Kind::Unsatisfiable) => {
                let total = whole.map_or(0, |file| file.bytes.len());
                answer = Answer::error(416, "", "Range Not Satisfiable");
                answer.set("Content-Range", format!("bytes */{total}"));
                length = Some(answer.body.len());
            }
            Some(Kind::Status(status)) => {
                answer = Answer::error(status, "", "Something went wrong");
                length = Some(answer.body.len());
            }
            Some(Kind::RateLimit(seconds)) => {
                answer = Answer::error(429, "", "We had to rate limit your IP");
                answer.set("Retry-After", seconds.to_string());
                length = Some(answer.body.len());
            }
            Some(Kind::Loop) => {
                answer = Answer::redirect(302, question.target.clone());
                length = Some(answer.body.len());
            }
            Some(Kind::Html) => {
                answer.body = b"<!doctype html><title>Welcome to our hotel</title>".to_vec();
                answer.set("Content-Type", "text/html".to_owned());
                length = Some(answer.body.len());
            }
            Some(Kind::Half) => {
                answer.body.truncate(answer.body.len() / 2);
                length = Some(answer.body.len());
            }
            Some(Kind::ExtraPath(path)) => {
                let mut entries: Vec<Value> = serde_json::from_slice(&answer.body).expect("a page of the tree");
                entries.push(json!({ "type": "file", "oid": git_oid(b"evil"), "size": 4, "path": path }));
                answer.body = Value::Array(entries).to_string().into_bytes();
                length = Some(answer.body.len());
            }
        }
        let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
        for (key, value) in &answer.headers {
            head += &format!("{key}: {value}\r\n");
        }
        match length {
            Some(length) if answer.status != 304 => head += &format!("Content-Length: {length}\r\n"),
            _ => {}
        }
        if closes {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        answer.body.truncate(keep);
        if question.method == "HEAD" {
            answer.body.clear();
        }
        if silent {
            (head, answer.body) = (String::new(), Vec::new());
        }
        Wire { head: head.into_bytes(), body: answer.body, stall, closes, status: answer.status }
    }

    /// `None`: the client has gone.
    fn send(&self, mut stream: &TcpStream, shared: &Shared, number: usize) -> Option<()> {
        let note = |sent: usize| {
            if let Some(request) = shared.lock().requests.iter_mut().find(|request| request.number == number) {
                (request.status, request.sent) = (self.status, sent);
            }
        };
        let first = self.stall.unwrap_or(self.body.len()).min(self.body.len());
        // Before the bytes, so that whoever has them finds them counted.
        note(first);
        stream.write_all(&self.head).ok()?;
        stream.write_all(&self.body[..first]).ok()?;
        if self.stall.is_some() {
            stall(stream, shared);
        }
        Some(())
    }
}

/// Returns when the stalls are released or the client has gone.
fn stall(stream: &TcpStream, shared: &Shared) {
    let before = {
        let mut state = shared.lock();
        state.stalled += 1;
        state.released
    };
    shared.changed.notify_all();
    let end = Instant::now() + PATIENCE;
    let _ = stream.set_read_timeout(Some(Duration::from_millis(10)));
    while shared.lock().released == before && Instant::now() < end {
        // Nothing is to be read here but the end; a time-out says that the client still waits.
        match stream.peek(&mut [0]) {
            Ok(0) => return,
            Ok(_) => return,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

fn first_byte(content_range: &str) -> usize {
    content_range.trim_start_matches("bytes ").split('-').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Other",
    }
}
