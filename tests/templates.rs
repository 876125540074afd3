//! Chat templates against transformers: real ones by digests of the prompts, random ones by their texts.
//!
//! What is expected was written by tests/golden/make_chat_templates.py and make_templates.py. Equal text, or both raise.

use serde_json::Value;
use std::path::PathBuf;
use tallow::text::{ChatTemplate, SpecialTokens};

/// 2024-07-26 13:05:09, where the scripts stop the clock.
const CLOCK: i64 = 1_721_999_109;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/templates").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(data(name)).unwrap()
}

/// The template with the tokens that the test names.
fn compiled(source: &str, tokens: &Value) -> tallow::Result<ChatTemplate> {
    let token = |name: &str| tokens[name].as_str().map(str::to_owned);
    let tokens = SpecialTokens {
        bos: token("bos_token"),
        eos: token("eos_token"),
        padding: token("pad_token"),
        unknown: token("unk_token"),
        ..SpecialTokens::default()
    };
    Ok(ChatTemplate::new(source, &tokens)?.with_clock(Some(CLOCK)))
}

/// 64-bit FNV-1a.
fn digest(text: &str) -> String {
    let state =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{state:016x}")
}

#[test]
fn real_templates_render_what_transformers_renders() {
    let expected: Value = serde_json::from_str(&text("real.json")).unwrap();
    let chats = expected["chats"].as_array().unwrap();
    let mut differ = Vec::new();
    let mut count = 0;
    for (name, row) in expected["templates"].as_object().unwrap() {
        let template = compiled(&text(&format!("real/{name}")), &expected["tokens"]);
        for (number, (chat, wanted)) in chats.iter().zip(row.as_array().unwrap()).enumerate() {
            let variables: Vec<_> =
                chat["variables"].as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            let prompt = chat["add_generation_prompt"].as_bool().unwrap();
            let rendered = template.as_ref().map_err(ToString::to_string).and_then(|template| {
                template.render_json_with(&chat["messages"], &variables, prompt).map_err(|error| error.to_string())
            });
            let got = rendered.as_deref().map_or_else(|_| "raises".to_owned(), digest);
            if got != *wanted {
                differ.push(format!("{name}, chat {number}: expected {wanted}, got {got}: {rendered:?}"));
            }
            count += 1;
        }
    }
    assert!(count >= 1400, "only {count} cases were found");
    assert!(differ.is_empty(), "{} of {count} differ:\n{}", differ.len(), differ.join("\n"));
}

/// Runs the cases of a file, of which there are at least `least`.
fn compare(file: &str, least: usize) {
    let all = text(file);
    let mut lines = all.lines();
    let chats: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    let mut differ = Vec::new();
    let mut count = 0;
    for line in lines {
        let case: Value = serde_json::from_str(line).unwrap();
        let chat = &chats[case["chat"].as_u64().unwrap() as usize];
        let variables = [("tools", chat["tools"].clone()), ("documents", chat["documents"].clone())];
        let prompt = chat["add_generation_prompt"].as_bool().unwrap();
        let rendered = compiled(case["template"].as_str().unwrap(), chat)
            .and_then(|template| template.render_json_with(&chat["messages"], &variables, prompt))
            .map_err(|error| error.to_string());
        let same = match case["text"].as_str() {
            Some(text) => rendered.as_deref() == Ok(text),
            None => rendered.is_err(),
        };
        if !same {
            differ.push(format!("{line}\n  got {rendered:?}"));
        }
        count += 1;
    }
    assert!(count >= least, "only {count} cases were found");
    assert!(differ.is_empty(), "{} of {count} differ:\n{}", differ.len(), differ.join("\n"));
}

#[test]
fn random_templates_render_what_transformers_renders_or_raise_where_it_raises() {
    compare("random.jsonl", 500);
}

/// Every filter, test, method and operator at its edges, one line each: tests/templates/edges.txt.
#[test]
fn the_corners_of_the_language_are_those_of_jinja() {
    compare("edges.jsonl", 480);
}
