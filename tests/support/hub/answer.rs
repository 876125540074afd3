//! What the Hub and its store say to a request, truthfully.

use super::wire::Question;
use super::{Commit, File, Repo, Shared, State, git_oid};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What kind of request it was, for the faults.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Info,
    Tree,
    Head,
    Resolve,
    Store,
    Other,
}

/// A truthful response.
#[derive(Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The path of the file that the request is about.
    pub path: String,
    /// The file whose bytes are the body, where they are.
    pub file: Option<File>,
}

impl Answer {
    fn json(value: &Value) -> Answer {
        let body = value.to_string().into_bytes();
        Answer {
            status: 200,
            headers: vec![("Content-Type", "application/json; charset=utf-8".into())],
            body,
            ..Answer::default()
        }
    }

    pub fn error(status: u16, code: &str, message: &str) -> Answer {
        let mut answer = Answer::json(&json!({ "error": message }));
        answer.status = status;
        if !code.is_empty() {
            answer.headers.push(("X-Error-Code", code.to_owned()));
        }
        answer.headers.push(("X-Error-Message", message.to_owned()));
        answer
    }

    pub fn redirect(status: u16, location: String) -> Answer {
        let body = format!("Redirecting to {location}").into_bytes();
        Answer { status, headers: vec![("Location", location)], body, ..Answer::default() }
    }

    /// A file's bytes, all or those that were asked for.
    fn bytes(file: &File, question: &Question) -> Answer {
        let total = file.bytes.len();
        let etag = format!("\"{}\"", file.etag());
        let mut headers = vec![
            ("Content-Type", "application/octet-stream".to_owned()),
            ("Accept-Ranges", "bytes".to_owned()),
            ("ETag", etag.clone()),
        ];
        let of_this = question.header("if-range").is_none_or(|wanted| wanted == etag);
        let asked = question.header("range").filter(|_| of_this).and_then(|range| parse_range(&range, total));
        let (status, body) = match asked {
            None => (200, file.bytes.to_vec()),
            Some(None) => {
                headers.push(("Content-Range", format!("bytes */{total}")));
                (416, Vec::new())
            }
            Some(Some((start, end))) => {
                headers.push(("Content-Range", format!("bytes {start}-{}/{total}", end - 1)));
                (206, file.bytes[start..end].to_vec())
            }
        };
        Answer { status, headers, body, file: Some(file.clone()), ..Answer::default() }
    }

    pub fn set(&mut self, key: &'static str, value: String) {
        self.headers.retain(|(name, _)| *name != key);
        self.headers.push((key, value));
    }

    fn with_path(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }
}

/// `bytes=a-b`, `bytes=a-` or `bytes=-n` as a half-open range; `Some(None)` where the file has no such bytes.
fn parse_range(range: &str, total: usize) -> Option<Option<(usize, usize)>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => (first, (last + 1).min(total)),
        (Ok(first), Err(_)) => (first, total),
        (Err(_), Ok(count)) => (total.saturating_sub(count), total),
        (Err(_), Err(_)) => return None,
    };
    Some((start < end).then_some((start, end)))
}

impl State {
    pub fn hub_answer(&self, question: &Question, shared: &Shared) -> (Answer, Class) {
        let path = question.target.split('?').next().unwrap_or_default();
        let path = match (self.moved, path.strip_prefix("/moved")) {
            (Some(status), None) => return (Answer::redirect(status, format!("/moved{}", question.target)), Class::Other),
            (_, Some(path)) => path,
            (None, None) => path,
        };
        let parts: Vec<String> = path.trim_start_matches('/').split('/').map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let get = match question.method.as_str() {
            "GET" => Class::Resolve,
            "HEAD" => Class::Head,
            _ => return (Answer::error(405, "", "Method Not Allowed"), Class::Other),
        };
        match parts.as_slice() {
            ["api", "whoami-v2"] => (self.whoami(question), Class::Other),
            ["api", "models", organisation, name] => {
                (self.info(&format!("{organisation}/{name}"), "main", question), Class::Info)
            }
            ["api", "models", organisation, name, "revision", revision @ ..] => {
                (self.info(&format!("{organisation}/{name}"), &revision.join("/"), question), Class::Info)
            }
            ["api", "models", organisation, name, "tree", rest @ ..] => {
                let (revision, _folder) = split_revision(rest);
                (self.tree(&format!("{organisation}/{name}"), &revision, question, shared), Class::Tree)
            }
            ["api", "resolve-cache", "models", organisation, name, sha, path @ ..] => {
                let path = path.join("/");
                (self.resolve(&format!("{organisation}/{name}"), sha, &path, question, shared, false).with_path(&path), get)
            }
            [organisation, name, "resolve", rest @ ..] => {
                let (revision, path) = split_revision(rest);
                let repo = format!("{organisation}/{name}");
                (self.resolve(&repo, &revision, &path, question, shared, self.redirects_small_files).with_path(&path), get)
            }
            _ => (Answer::error(404, "", "Sorry, we can't find the page you are looking for."), Class::Other),
        }
    }

    pub fn store_answer(&self, question: &Question) -> (Answer, Class) {
        if question.method != "GET" {
            // The address is signed for GET alone.
            return (Answer::error(403, "", "SignatureDoesNotMatch"), Class::Other);
        }
        let digest = question.target.split(['/', '?']).find(|part| part.len() == 64).unwrap_or_default();
        let files = self.repos.values().flat_map(|repo| repo.commits.values()).flat_map(|commit| &commit.files);
        match files.into_iter().find(|(_, file)| file.lfs && file.sha256() == digest) {
            Some((path, file)) => {
                let mut answer = Answer::bytes(file, question).with_path(path);
                // A store's own ETag is no digest: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
                if question.header("if-range").is_none() {
                    answer.set("ETag", format!("\"{}-2\"", &digest[..32]));
                }
                (answer, Class::Store)
            }
            None => (Answer::error(404, "", "NoSuchKey"), Class::Store),
        }
    }

    /// Who asks: nobody, or the owner of a token that is known.
    fn asker(&self, question: &Question) -> Result<Option<bool>, Answer> {
        let Some(header) = question.header("authorization") else { return Ok(None) };
        match header.strip_prefix("Bearer ").and_then(|token| self.tokens.get(token)) {
            Some(accepted) => Ok(Some(*accepted)),
            None => Err(Answer::error(401, "", "Invalid credentials in Authorization header")),
        }
    }

    fn whoami(&self, question: &Question) -> Answer {
        match self.asker(question) {
            Ok(Some(_)) => Answer::json(&json!({ "type": "user", "name": "tester", "fullname": "A Tester" })),
            Ok(None) => Answer::error(401, "", "Invalid username or password."),
            Err(refusal) => refusal,
        }
    }

    /// The repository and the commit of a revision, or why there is none for this asker.
    fn find(&self, repo: &str, revision: &str, question: &Question) -> Result<(&Repo, String), Answer> {
        let asker = self.asker(question)?;
        let found = self.repos.get(repo).filter(|repo| !repo.private || asker.is_some());
        let found = match (found, asker) {
            (Some(found), _) => found,
            // What is not there and what is not to be seen look the same to a stranger.
            (None, None) => return Err(Answer::error(401, "RepoNotFound", "Repository not found")),
            (None, Some(_)) => return Err(Answer::error(404, "RepoNotFound", "Repository not found")),
        };
        let commit =
            found.refs.get(revision).cloned().or_else(|| found.commits.contains_key(revision).then(|| revision.to_owned()));
        match commit {
            Some(commit) => Ok((found, commit)),
            None => Err(Answer::error(404, "RevisionNotFound", &format!("Invalid rev id: {revision}"))),
        }
    }

    fn info(&self, id: &str, revision: &str, question: &Question) -> Answer {
        let (repo, sha) = match self.find(id, revision, question) {
            Ok(found) => found,
            Err(refusal) => return refusal,
        };
        let commit = &repo.commits[&sha];
        let with_blobs = query(&question.target, "blobs").is_some();
        let siblings: Vec<Value> = commit.files.iter().map(|(path, file)| sibling(path, file, with_blobs)).collect();
        let mut tags = vec!["text-generation".to_owned(), "region:us".to_owned()];
        tags.extend(repo.license.iter().map(|license| format!("license:{license}")));
        let mut info = json!({
            "_id": "621ffdc036468d709f17434d",
            "id": id,
            "modelId": id,
            "author": id.split('/').next(),
            "sha": sha,
            "lastModified": "2026-01-02T03:04:05.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "private": repo.private,
            "gated": repo.gated.map_or(json!(false), |how| json!(how)),
            "disabled": false,
            "downloads": 7,
            "likes": 1,
            "pipeline_tag": "text-generation",
            "library_name": "transformers",
            "tags": tags,
            "siblings": siblings,
            "spaces": [],
            "usedStorage": commit.files.values().map(|file| file.bytes.len()).sum::<usize>(),
        });
        if let Some(license) = &repo.license {
            info["cardData"] = json!({ "license": license });
        }
        Answer::json(&info)
    }

    fn tree(&self, id: &str, revision: &str, question: &Question, shared: &Shared) -> Answer {
        let (repo, sha) = match self.find(id, revision, question) {
            Ok(found) => found,
            Err(refusal) => return refusal,
        };
        let recursive = query(&question.target, "recursive").is_some_and(|value| value == "true" || value == "1");
        let entries = tree_entries(&repo.commits[&sha], recursive, query(&question.target, "expand").is_some());
        let entries: Vec<Value> = match self.hides_digests {
            true => entries.into_iter().map(without_digest).collect(),
            false => entries,
        };
        let from = query(&question.target, "cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or(0).min(entries.len());
        let to = (from + self.page).min(entries.len());
        let mut answer = Answer::json(&Value::Array(entries[from..to].to_vec()));
        if to < entries.len() {
            let path = question.target.split('?').next().unwrap_or_default();
            let mut next = format!("http://127.0.0.1:{}{path}?cursor={to}", shared.hub_port);
            for key in ["recursive", "expand"] {
                if let Some(value) = query(&question.target, key) {
                    next += &format!("&{key}={value}");
                }
            }
            answer.headers.push(("Link", format!("<{next}>; rel=\"next\"")));
        }
        answer
    }

    fn resolve(&self, id: &str, revision: &str, path: &str, question: &Question, shared: &Shared, redirect: bool) -> Answer {
        let (repo, sha) = match self.find(id, revision, question) {
            Ok(found) => found,
            Err(refusal) => return refusal,
        };
        if repo.gated.is_some() && path != "README.md" {
            match self.asker(question) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => {
                    let message = format!(
                        "Access to model {id} is restricted and you are not in the authorized list. Visit {}/{id} to ask for access.",
                        "https://huggingface.co"
                    );
                    return Answer::error(403, "GatedRepo", &message);
                }
                Ok(None) => {
                    let message = format!(
                        "Access to model {id} is restricted. You must have access to it and be authenticated to access it. Please log in."
                    );
                    return Answer::error(401, "GatedRepo", &message);
                }
                Err(refusal) => return refusal,
            }
        }
        let Some(file) = repo.commits[&sha].files.get(path) else {
            let mut answer = Answer::error(404, "EntryNotFound", "Entry not found");
            answer.set("X-Repo-Commit", sha);
            return answer;
        };
        let etag = format!("\"{}\"", file.etag());
        let mut answer = if question.header("if-none-match").is_some_and(|known| known == etag) {
            Answer { status: 304, headers: vec![("ETag", etag)], ..Answer::default() }
        } else if file.lfs {
            let digest = file.sha256();
            let location = format!(
                "http://localhost:{}/repos/{}/{}/{digest}?response-content-disposition=inline&X-Amz-Expires=3600&X-Amz-Signature=5ad0",
                shared.store_port,
                &digest[..2],
                &digest[2..4]
            );
            let mut answer = Answer::redirect(302, location);
            answer.headers.push(("X-Linked-Size", file.bytes.len().to_string()));
            answer.headers.push(("X-Linked-Etag", etag.clone()));
            // That of the pointer file, which git holds.
            answer.headers.push(("ETag", format!("\"{}\"", file.git_oid())));
            answer
        } else if redirect {
            let mut answer =
                Answer::redirect(307, format!("/api/resolve-cache/models/{id}/{sha}/{path}?etag=%22{}%22", file.etag()));
            answer.headers.push(("X-Linked-Size", file.bytes.len().to_string()));
            answer.headers.push(("X-Linked-Etag", etag));
            answer
        } else {
            Answer::bytes(file, question)
        };
        answer.headers.push(("X-Repo-Commit", sha));
        answer
    }
}

/// A revision that is one part of the address, or one of the refs that clients write with their slashes, and what follows.
fn split_revision(parts: &[&str]) -> (String, String) {
    let words = if parts.first() == Some(&"refs") { 3.min(parts.len()) } else { 1.min(parts.len()) };
    (parts[..words].join("/"), parts[words..].join("/"))
}

fn sibling(path: &str, file: &File, with_blobs: bool) -> Value {
    let mut sibling = json!({ "rfilename": path });
    if with_blobs {
        sibling["size"] = json!(file.bytes.len());
        sibling["blobId"] = json!(file.git_oid());
        if file.lfs {
            let (size, pointer) = (file.bytes.len(), file.pointer().len());
            sibling["lfs"] = json!({ "sha256": file.sha256(), "size": size, "pointerSize": pointer });
        }
    }
    sibling
}

/// Folders before their content, as git orders them.
fn tree_entries(commit: &Commit, recursive: bool, expand: bool) -> Vec<Value> {
    let mut entries = BTreeMap::new();
    for (path, file) in &commit.files {
        for (at, _) in path.match_indices('/') {
            let folder = &path[..at];
            entries
                .insert(folder, json!({ "type": "directory", "oid": git_oid(folder.as_bytes()), "size": 0, "path": folder }));
        }
        let mut entry = json!({ "type": "file", "oid": file.git_oid(), "size": file.bytes.len(), "path": path });
        if file.lfs {
            let (size, pointer) = (file.bytes.len(), file.pointer().len());
            entry["lfs"] = json!({ "oid": file.sha256(), "size": size, "pointerSize": pointer });
        }
        if expand {
            entry["lastCommit"] = json!({ "id": commit.sha(), "title": "Upload", "date": "2026-01-02T03:04:05.000Z" });
            entry["securityFileStatus"] = Value::Null;
        }
        entries.insert(path, entry);
    }
    entries.into_iter().filter(|(path, _)| recursive || !path.contains('/')).map(|(_, entry)| entry).collect()
}

fn without_digest(mut entry: Value) -> Value {
    if let Some(lfs) = entry.get_mut("lfs").and_then(Value::as_object_mut) {
        lfs.remove("oid");
    }
    entry
}

fn query(target: &str, key: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == key).map(|(_, value)| decode(value))
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = text_of(tail.get(..2)).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn text_of(bytes: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(bytes?).ok()
}
