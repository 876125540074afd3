//! Tokens, gated and private repositories, and the other refusals: who is told what.

use super::*;

fn model() -> Commit {
    Commit::default().lfs("m-Q8_0.gguf", bytes(700, 1)).file("README.md", "a card")
}

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    for redirected in [false, true] {
        let (cache, hub) = (folder("token_host"), Hub::start());
        hub.push("org/model", model());
        hub.token("hf_secret", true);
        if redirected {
            hub.redirect_small_files();
        }
        let options = HubOptions { token: Some("hf_secret".into()), ..options(&hub, &cache) };
        let plan = hub::plan(&reference("org/model"), &options, &PullOptions::default()).unwrap();
        let weights = plan.files.iter().find(|file| file.path.ends_with(".gguf")).unwrap();
        hub::read_range(&plan, weights, &options, 0..16).unwrap();
        // Also when a transfer is taken up again.
        hub.fault(At::Bytes, ".gguf", Kind::Cut(100));
        hub::fetch(&plan, &options, &()).unwrap();
        let (of_hub, of_store): (Vec<_>, Vec<_>) = hub.requests().into_iter().partition(|request| request.host == Host::Hub);
        assert!(of_store.len() >= 3);
        for request in of_store {
            assert_eq!(request.authorization, None, "{request:?}");
        }
        for request in of_hub.iter().filter(|request| !request.target.contains("resolve-cache")) {
            assert_eq!(request.authorization.as_deref(), Some("Bearer hf_secret"), "{request:?}");
        }
        assert_eq!(of_hub.iter().any(|request| request.target.contains("resolve-cache")), redirected);
    }
}

#[test]
fn a_gated_repository_says_where_to_accept_its_licence_and_how_to_give_a_token() {
    let (cache, hub) = (folder("gated"), Hub::start());
    hub.push("org/model", model());
    hub.gate("org/model", "manual");
    hub.token("hf_stranger", false);
    hub.token("hf_friend", true);
    let with = |token: Option<&str>| HubOptions { token: token.map(str::to_owned), ..options(&hub, &cache) };
    let plan = hub::plan(&reference("org/model"), &with(None), &PullOptions::default());
    if let Ok(plan) = plan {
        assert_eq!(plan.gated.as_deref(), Some("manual"));
    }
    let place = format!("{}/org/model", hub.endpoint());
    for (token, words) in [(None, "no token was sent"), (Some("hf_stranger"), "a token was sent")] {
        let error = pull("org/model", &with(token)).unwrap_err();
        assert!(matches!(error, Error::Gated { .. }), "{error:?}");
        assert_says(&error, &["org/model", &place, "HF_TOKEN", "hf auth login", words]);
        assert!(!error.to_string().contains("hf_stranger"));
        assert_eq!(hub::locate(&reference("org/model"), &with(None)).unwrap(), None);
    }
    let pulled = pull("org/model", &with(Some("hf_friend"))).unwrap();
    assert_cache(&cache, &pulled.commit, &[("m-Q8_0.gguf", &bytes(700, 1)), ("README.md", b"a card")]);
}

#[test]
fn a_wrong_token_is_told_from_a_missing_one() {
    let (cache, hub) = (folder("wrong_token"), Hub::start());
    hub.push("org/model", model());
    let error = pull("org/model", &HubOptions { token: Some("hf_typo".into()), ..options(&hub, &cache) }).unwrap_err();
    assert!(matches!(error, Error::Unauthorised { token_sent: true, .. }), "{error:?}");
    assert_says(&error, &["org/model", "HF_TOKEN", "a token was sent"]);
    assert!(!error.to_string().contains("hf_typo"));
}

#[test]
fn a_private_repository_and_one_that_is_not_there_look_the_same_to_a_stranger() {
    let (cache, hub) = (folder("private"), Hub::start());
    hub.push("org/model", model());
    hub.hide("org/model");
    hub.token("hf_owner", true);
    for text in ["org/model", "org/nothing"] {
        let error = pull(text, &options(&hub, &cache)).unwrap_err();
        assert!(matches!(error, Error::Unauthorised { .. } | Error::NotFound { .. }), "{error:?}");
        assert_says(&error, &[text, "private", "HF_TOKEN"]);
    }
    let owner = HubOptions { token: Some("hf_owner".into()), ..options(&hub, &cache) };
    let error = pull("org/nothing", &owner).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    assert_says(&error, &["org/nothing"]);
    pull("org/model", &owner).unwrap();
}

#[test]
fn a_revision_or_a_file_that_is_not_there_is_named() {
    let (cache, hub) = (folder("missing"), Hub::start());
    hub.push("org/model", model());
    for (text, words) in [
        ("org/model@no-such-branch", "no-such-branch"),
        (&format!("org/model@{}", "0".repeat(40)), "00000000"),
        ("org/model:other.gguf", "other.gguf"),
    ] {
        let error = pull(text, &options(&hub, &cache)).unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{text}: {error:?}");
        assert_says(&error, &["org/model", words]);
    }
    assert!(!cache.join("models--org--model/snapshots").exists(), "{:?}", files(&cache));
}

#[test]
fn the_environments_token_and_the_stored_one_are_used() {
    let (home, hub) = (folder("token_env"), Hub::start());
    hub.push("org/model", model());
    hub.gate("org/model", "auto");
    hub.token("hf_environment", true);
    hub.token("hf_stored", true);
    let sent = |text: &str, token: Option<&str>| {
        hub.forget();
        let mut command = child::command(&hub, &home, "pull", text);
        command.envs(token.map(|token| ("HF_TOKEN", token)));
        let said = child::outcome(command);
        let tokens = hub.requests().into_iter().filter_map(|request| request.authorization);
        (said, tokens.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>())
    };
    let (said, tokens) = sent("org/model", None);
    assert!(said.starts_with("error Gated") && tokens.is_empty(), "{said} {tokens:?}");
    std::fs::write(home.join("token"), "hf_stored\n").unwrap();
    let (said, tokens) = sent("org/model", None);
    assert!(said.starts_with("ok"), "{said}");
    assert_eq!(tokens, ["Bearer hf_stored"]);
    std::fs::remove_dir_all(child::cache(&home)).unwrap();
    let (said, tokens) = sent("org/model", Some("hf_environment"));
    assert!(said.starts_with("ok"), "{said}");
    assert_eq!(tokens, ["Bearer hf_environment"], "the environment comes before the file");
}
