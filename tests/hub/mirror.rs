//! Mirrors that send requests on to another host, hosts whose paths have moved, and what a token does meanwhile.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// A host that answers every request by sending it on; it stops when dropped.
struct Mirror {
    port: u16,
    tokens: Arc<Mutex<Vec<Option<String>>>>,
}

impl Mirror {
    fn start(target: String, status: u16) -> Mirror {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let tokens: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
        let seen = Arc::clone(&tokens);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                match answer(&stream, &target, status) {
                    Some(token) => seen.lock().unwrap().push(token),
                    None => return,
                }
            }
        });
        Mirror { port, tokens }
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Sends one request on; its `Authorization`, `None` at the end of the mirror.
fn answer(mut stream: &TcpStream, target: &str, status: u16) -> Option<Option<String>> {
    let mut lines = BufReader::new(stream).lines();
    let line = lines.next()?.ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut token, mut line) = (None, lines.next()?.ok()?);
    while let Some((key, value)) = line.split_once(':') {
        if key.eq_ignore_ascii_case("authorization") {
            token = Some(value.trim().to_owned());
        }
        line = lines.next()?.ok()?;
    }
    let _ =
        write!(stream, "HTTP/1.1 {status} Moved\r\nLocation: {target}{path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    Some(token)
}

fn model() -> Commit {
    let commit = Commit::default().file("config.json", "{}").file("tokenizer.json", "{ }").file("README.md", "a card");
    commit.lfs("model.safetensors", bytes(900, 1))
}

#[test]
fn a_mirror_that_sends_every_request_on_is_followed_and_the_token_is_not() {
    for status in [301, 302, 303, 307, 308] {
        for hides in [false, true] {
            let (cache, hub) = (folder(&format!("mirror_{status}_{hides}")), Hub::start());
            let commit = hub.push("org/model", model());
            // Several pages: the Hub names the address of the next, which is its own and not the mirror's.
            hub.page(1);
            if hides {
                hub.hide_digests();
            }
            let mirror = Mirror::start(hub.endpoint(), status);
            let options = HubOptions { endpoint: mirror.endpoint(), token: Some("hf_secret".into()), ..options(&hub, &cache) };
            let pulled = pull("org/model", &options).unwrap_or_else(|e| panic!("{status}: {e}"));
            let files: [(&str, &[u8]); 4] = [
                ("config.json", b"{}"),
                ("tokenizer.json", b"{ }"),
                ("README.md", b"a card"),
                ("model.safetensors", &bytes(900, 1)),
            ];
            assert_eq!(pulled.commit, commit);
            assert_cache(&cache, &commit, &files);
            let seen = mirror.tokens.lock().unwrap().clone();
            assert!(!seen.is_empty() && seen.iter().all(|token| token.as_deref() == Some("Bearer hf_secret")), "{seen:?}");
            for request in hub.requests() {
                assert_eq!(request.authorization, None, "{status}: {request:?}");
            }
        }
    }
}

#[test]
fn relative_redirects_stay_with_the_host_and_so_does_the_token() {
    for status in [301, 302, 303, 307, 308] {
        let (cache, hub) = (folder(&format!("moved_{status}")), Hub::start());
        hub.push("org/model", model());
        hub.token("hf_secret", true);
        hub.gate("org/model", "auto");
        hub.hide_digests();
        hub.move_with(status);
        let options = HubOptions { token: Some("hf_secret".into()), ..options(&hub, &cache) };
        pull("org/model", &options).unwrap_or_else(|e| panic!("{status}: {e}"));
        for request in hub.requests() {
            let expected = if request.host == Host::Hub { Some("Bearer hf_secret") } else { None };
            assert_eq!(request.authorization.as_deref(), expected, "{status}: {request:?}");
        }
    }
}

#[test]
fn a_mirror_that_sends_requests_to_itself_is_an_error_and_no_endless_loop() {
    let (cache, hub) = (folder("mirror_loop"), Hub::start());
    hub.push("org/model", model());
    let mirror = Mirror::start(String::new(), 308);
    let error = pull("org/model", &HubOptions { endpoint: mirror.endpoint(), ..options(&hub, &cache) }).unwrap_err();
    assert!(matches!(error, Error::Network { .. }), "{error:?}");
    assert_says(&error, &["org/model", "redirect"]);
    assert!(mirror.tokens.lock().unwrap().len() < 100);
}

#[test]
fn a_token_that_no_request_can_carry_is_an_error_before_anything_is_asked() {
    let (home, hub) = (folder("token_characters"), Hub::start());
    hub.push("org/model", model());
    let said = |token: &str| {
        let mut command = child::command(&hub, &home, "pull", "org/model");
        command.env("HF_TOKEN", token);
        child::outcome(command)
    };
    let error = said("hf_se\u{e9}cret");
    assert!(error.starts_with("error Input") && error.contains("HF_TOKEN") && !error.contains("hf_se"), "{error}");
    assert!(hub.requests().is_empty());
    std::fs::write(home.join("token"), "hf_\tstored").unwrap();
    let error = child::outcome(child::command(&hub, &home, "pull", "org/model"));
    assert!(error.contains(home.join("token").to_str().unwrap()), "{error}");
    hub.token("hf_broken", true);
    assert!(said("hf_\r\nbroken\n").starts_with("ok"), "line breaks are taken out");
    assert!(hub.requests().iter().any(|request| request.authorization.as_deref() == Some("Bearer hf_broken")));
}

#[test]
fn a_timeout_beyond_all_clocks_is_no_panic() {
    let (home, hub) = (folder("timeouts"), Hub::start());
    hub.push("org/model", model());
    for value in ["18446744073709551615", "9223372036854775807", "1000000000000000000000000", "0", "-5", "many"] {
        let mut command = child::command(&hub, &home, "pull", "org/model");
        command.env("HF_HUB_DOWNLOAD_TIMEOUT", value);
        let said = child::outcome(command);
        assert!(said.starts_with("ok"), "{value}: {said}");
        std::fs::remove_dir_all(child::cache(&home)).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn variables_and_tildes_in_the_paths_of_the_environment_are_followed() {
    let (home, hub) = (folder("expanded"), Hub::start());
    hub.push("org/model", model());
    for (variable, value, cache) in [
        ("HF_HOME", "$HOME/a", "a/hub"),
        ("HF_HOME", "${HOME}/b", "b/hub"),
        ("HF_HOME", "~/c", "c/hub"),
        ("HF_HUB_CACHE", "$HOME/$PART", "part"),
        ("HUGGINGFACE_HUB_CACHE", "~/${PART}2", "part2"),
        ("XDG_CACHE_HOME", "$HOME/x", "x/huggingface/hub"),
    ] {
        let mut command = child::command(&hub, &home, "pull", "org/model");
        command.env_remove("HF_HOME").env("HOME", &home).env("PART", "part").env(variable, value);
        let said = child::outcome(command);
        assert!(said.starts_with("ok"), "{variable}={value}: {said}");
        assert!(home.join(cache).join("models--org--model/refs/main").is_file(), "{variable}={value}: {:?}", files(&home));
    }
}
