//! Tokenizers, chat templates and end tokens against what transformers gives, for every golden case of a language model.

use serde_json::Value;
use std::path::{Path, PathBuf};
use tallow::text::{
    ChatTemplate, Detokeniser, EndSources, SpecialTokens, Start, TemplateFiles, Tokenizer, Vocab, end_ids, template_source,
};

/// A golden folder, or the one that `TALLOW_GOLDEN` names.
fn golden() -> PathBuf {
    std::env::var_os("TALLOW_GOLDEN").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from)
}

struct Case {
    folder: PathBuf,
    expected: Value,
    tokenizer: Tokenizer,
}

impl Case {
    fn name(&self) -> String {
        self.folder.file_name().unwrap().to_string_lossy().into_owned()
    }

    fn text(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.join(file)).ok()
    }

    fn json(&self, file: &str) -> Value {
        self.text(file).map(|text| serde_json::from_str(&text).unwrap()).unwrap_or_default()
    }

    fn is_gguf(&self) -> bool {
        self.expected["kind"] == "gguf"
    }

    fn template(&self) -> Option<ChatTemplate> {
        let (jinja, json, config) =
            (self.text("chat_template.jinja"), self.text("chat_template.json"), self.text("tokenizer_config.json"));
        let gguf = self.is_gguf().then(|| gguf_template(&self.folder.join(self.expected["file"].as_str().unwrap()))).flatten();
        let files = TemplateFiles {
            jinja: jinja.as_deref(),
            json: json.as_deref(),
            tokenizer_config: config.as_deref(),
            gguf: gguf.as_deref(),
        };
        let tokens = self.tokenizer.special_tokens();
        Some(ChatTemplate::new(&template_source(&files).unwrap()?, &tokens).unwrap())
    }
}

fn case(name: &str) -> Case {
    let folder = golden().join(name);
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap();
    let tokenizer = match expected["file"].as_str() {
        Some(file) => Tokenizer::from_vocab(vocab(&folder.join(file))).unwrap(),
        None => {
            let text = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
            let tokens =
                SpecialTokens::from_json(text("tokenizer_config.json").as_deref(), text("special_tokens_map.json").as_deref());
            let json = std::fs::read(folder.join("tokenizer.json")).unwrap();
            Tokenizer::from_json(&json, "tokenizer.json").unwrap().with_special_tokens(&tokens.unwrap())
        }
    };
    Case { folder, expected, tokenizer }
}

/// Every language model among the golden cases.
fn cases() -> Vec<Case> {
    let mut names: Vec<_> = std::fs::read_dir(golden())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("expected.json").exists())
        .map(|folder| folder.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let kinds = ["causal", "gguf"];
    let cases: Vec<_> =
        names.iter().map(|name| case(name)).filter(|case| kinds.iter().any(|kind| case.expected["kind"] == *kind)).collect();
    assert!(cases.len() >= 12, "only {} golden cases", cases.len());
    cases
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn texts_become_the_ids_that_transformers_gives_and_text_again() {
    for case in cases() {
        let name = case.name();
        for record in list(&case.expected["tokenizer"]) {
            let text = record["text"].as_str().unwrap();
            let special = case.tokenizer.encode(text, true).unwrap();
            assert_eq!(special, ids(&record["ids"]), "{name}: {text:?}");
            assert_eq!(case.tokenizer.encode(text, false).unwrap(), ids(&record["ids_no_special"]), "{name}: {text:?}");
            assert_eq!(case.tokenizer.decode(&special, false).unwrap(), record["decoded"], "{name}: {text:?}");
            assert_eq!(case.tokenizer.decode(&special, true).unwrap(), record["decoded_skip_special"], "{name}: {text:?}");
            let pieces = case.tokenizer.pieces(&special);
            assert_eq!(pieces.len(), list(&record["tokens"]).len(), "{name}: {text:?}");
            assert_eq!(Value::from(pieces), record["tokens"], "{name}: {text:?}");
        }
    }
}

#[test]
fn prompts_have_their_ids_and_continuations_their_text() {
    for case in cases() {
        for prompt in list(&case.expected["prompts"]) {
            let what = format!("{}: {}", case.name(), prompt["name"]);
            assert_eq!(
                case.tokenizer.encode(prompt["text"].as_str().unwrap(), true).unwrap(),
                ids(&prompt["input_ids"]),
                "{what}"
            );
            let greedy = ids(&prompt["greedy_ids"]);
            assert_eq!(streamed(Detokeniser::new(&case.tokenizer, Start::Text), &greedy), prompt["greedy_text"], "{what}");
            let raw = Detokeniser::new(&case.tokenizer, Start::Text).keep_special();
            assert_eq!(streamed(raw, &greedy), prompt["greedy_text_raw"], "{what}");
        }
    }
}

fn streamed(mut text: Detokeniser, ids: &[u32]) -> String {
    let mut shown: String = ids.iter().filter_map(|&id| text.push(id)).collect();
    shown.extend(text.finish());
    shown
}

#[test]
fn chats_are_rendered_as_transformers_renders_them() {
    let mut seen = 0;
    for case in cases() {
        let chats = list(&case.expected["chat"]);
        if chats.is_empty() {
            continue;
        }
        let template = case.template().unwrap();
        for chat in chats {
            let what = format!("{}: {}", case.name(), chat["name"]);
            let messages: Vec<tallow::text::Message> = serde_json::from_value(chat["messages"].clone()).unwrap();
            let result = template.render(&messages, true);
            assert_eq!(format!("{result:?}"), format!("{:?}", template.render_json(&chat["messages"], true)), "{what}");
            if let Some(error) = chat["error"].as_str() {
                assert_eq!(result.unwrap_err().to_string(), format!("chat template: {error}"), "{what}");
                continue;
            }
            let text = result.unwrap();
            assert_eq!(text, chat["text"], "{what}");
            assert_eq!(template.render(&messages, false).unwrap(), chat["text_no_generation_prompt"], "{what}");
            assert_eq!(case.tokenizer.encode(&text, false).unwrap(), ids(&chat["ids"]), "{what}");
            seen += 1;
        }
    }
    assert!(seen >= 20, "only {seen} chats");
}

#[test]
fn generation_ends_where_transformers_ends_it() {
    for case in cases() {
        let list_of = |file: &str| match &case.json(file)["eos_token_id"] {
            Value::Null => None,
            list @ Value::Array(_) => Some(ids(list)),
            one => Some(vec![u32::try_from(one.as_u64().unwrap()).unwrap()]),
        };
        let (generation, config) = (list_of("generation_config.json"), list_of("config.json"));
        let sources = EndSources { generation_config: generation.as_deref(), config: config.as_deref(), turn_end: None };
        let ends = end_ids(&case.tokenizer, &sources);
        let expected = ids(&case.expected["eos_token_ids"]);
        if case.is_gguf() {
            assert!(expected.iter().all(|id| ends.contains(id)), "{}: {ends:?}", case.name());
        } else {
            let mut sorted = expected;
            sorted.sort_unstable();
            assert_eq!(ends, sorted, "{}", case.name());
        }
        for prompt in list(&case.expected["prompts"]) {
            let greedy = ids(&prompt["greedy_ids"]);
            let end = greedy.iter().position(|id| ends.contains(id)).map_or(greedy.len(), |at| at + 1);
            assert_eq!(greedy[..end], ids(&prompt["generate_ids"]), "{}: {}", case.name(), prompt["name"]);
        }
    }
}

#[test]
fn the_token_after_an_answer_ends_a_turn() {
    for (name, end) in [("llama-gqa-tied", "<|im_end|>"), ("llama3-rope-scaling", "<|eot_id|>"), ("llama-mha", "</s>")] {
        let case = case(name);
        let end = case.tokenizer.id(end);
        assert!(end.is_some());
        assert_eq!(case.template().unwrap().turn_end(&case.tokenizer), end, "{name}");
    }
}

#[test]
fn a_vocabulary_from_gguf_tokenises_like_its_tokenizer_json() {
    for (gguf, folder) in
        [("gguf-q8_0-spm", "llama-mha"), ("gguf-f16-bpe", "llama3-rope-scaling"), ("gguf-q4_0-bpe", "llama3-rope-scaling")]
    {
        let (gguf, json) = (case(gguf), case(folder));
        let mut random = Random(0x7a11_0e57);
        let marks: Vec<_> =
            (0..512).filter(|&id| json.tokenizer.is_special(id)).filter_map(|id| json.tokenizer.piece(id)).collect();
        for round in 0..10_000 {
            let text = random.text(&marks);
            for special in [true, false] {
                let expected = json.tokenizer.encode(&text, special).unwrap();
                let found = gguf.tokenizer.encode(&text, special).unwrap();
                assert_eq!(found, expected, "{} against {folder}, round {round}: {text:?}", gguf.name());
                if special {
                    let decoded = json.tokenizer.decode(&expected, true).unwrap();
                    assert_eq!(gguf.tokenizer.decode(&found, true).unwrap(), decoded, "{text:?}");
                }
            }
        }
    }
}

#[test]
fn a_stream_of_any_ids_shows_what_decoding_them_gives() {
    for case in cases() {
        let size = u32::try_from(case.tokenizer.vocab_size()).unwrap();
        let mut random = Random(0xdec0de);
        for round in 0..1_500 {
            let n = random.below(40) as usize;
            // Bytes and special tokens are rare among all tokens; half of the rounds stay among the first 260.
            let range = if round % 2 == 0 { size + 4 } else { size.min(260) };
            let mut list: Vec<u32> = (0..n).map(|_| random.below(u64::from(range)) as u32).collect();
            if round % 3 == 0 {
                list = case.tokenizer.encode(&random.text(&[]), true).unwrap();
                list.truncate(n);
            }
            let what = || format!("{}, round {round}: {list:?}", case.name());
            assert_eq!(
                streamed(Detokeniser::new(&case.tokenizer, Start::Text), &list),
                case.tokenizer.decode(&list, true).unwrap(),
                "{}",
                what()
            );
            let raw = Detokeniser::new(&case.tokenizer, Start::Text).keep_special();
            assert_eq!(streamed(raw, &list), case.tokenizer.decode(&list, false).unwrap(), "{}", what());
            let more = streamed(Detokeniser::new(&case.tokenizer, Start::Continuation), &list);
            let text = case.tokenizer.decode(&list, true).unwrap();
            assert!(more == text || more.strip_prefix(' ') == Some(&text), "{}: {more:?}", what());
        }
    }
}

/// xorshift64*: the same strings in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len() as u64) as usize]
    }

    /// Words, code, scripts, emoji, white space, digits, text that looks like special tokens, and parts of such text.
    fn text(&mut self, marks: &[String]) -> String {
        const WORDS: &[&str] = &[
            "the",
            "The",
            "don't",
            "I'LL",
            "we've",
            "Hello",
            "world",
            "tokeniser",
            "naïve",
            "Straße",
            "ſ",
            "'ſ",
            "ПРИВЕТ",
            "мир",
            "γειά",
            "שלום",
            "مرحبا",
            "नमस्ते",
            "ไทย",
            "漢字",
            "かな",
            "カナ",
            "한국어",
            "\u{1100}\u{1161}\u{11a8}",
            "e\u{301}",
            "Å",
            "ﬁ",
            "🙂",
            "👩‍👩‍👧‍👦",
            "🏳️‍🌈",
            "👍🏽",
            "🇫🇷",
            "𝒳",
            "𐍈",
            "fn",
            "main()",
            "{",
            "}",
            "=>",
            "!=",
            "//",
            "/*",
            "*/",
            "#[derive]",
            "x_1",
            "camelCase",
            "&amp;",
            "</div>",
            "\"",
            "\\n",
            "...",
            "—",
            "“",
            "”",
            "’s",
            "'s",
            "'S",
            "€",
            "½",
            "Ⅷ",
            "٣",
            "१२३",
            "1",
            "12",
            "123",
            "1234567",
            "3.14",
            "-0",
            "0x1F",
            "1e-9",
            "<s>",
            "</s>",
            "<unk>",
            "<",
            "s>",
            "<|",
            "|>",
            "<|im_end",
            "<|im_start|>",
            "<0x0A>",
            "<0x",
            "[INST]",
            "▁",
            "▁▁",
            "Ġ",
            "\u{0}",
            "\u{7f}",
            "\u{feff}",
            "\u{200b}",
            "\u{ad}",
            "\u{fffd}",
            "\u{e000}",
        ];
        const SPACES: &[&str] = &[
            " ", " ", " ", " ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", " \n", "\n ", "\u{a0}", "\u{3000}", "\u{2003}",
            "\u{85}", "\u{b}", "\u{c}", "", "", "",
        ];
        let mut text = String::new();
        for _ in 0..self.below(16) {
            match self.below(12) {
                0 => {
                    let space = self.pick(SPACES);
                    text.extend(std::iter::repeat_n(space, self.below(8) as usize));
                }
                1 if !marks.is_empty() => {
                    let mark = &marks[self.below(marks.len() as u64) as usize];
                    let cut = if self.below(2) == 0 { mark.len() } else { self.below(mark.len() as u64) as usize };
                    text.push_str(mark.get(..cut).unwrap_or(mark));
                }
                2 => {
                    for _ in 0..self.below(5) {
                        text.extend(char::from_u32(self.below(0x3000) as u32));
                    }
                }
                3 => text.extend(char::from_u32(self.below(0x11_0000) as u32)),
                4 => {
                    for _ in 0..self.below(9) {
                        text.push(char::from(b' ' + self.below(95) as u8));
                    }
                }
                _ => {
                    text.push_str(self.pick(WORDS));
                    text.push_str(self.pick(SPACES));
                }
            }
        }
        text
    }
}

/// The `tokenizer.*` keys of a GGUF file, read without the library's own reader.
struct Metadata<'a> {
    bytes: &'a [u8],
}

impl<'a> Metadata<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, rest) = self.bytes.split_at(n);
        self.bytes = rest;
        head
    }

    fn number(&mut self, n: usize) -> u64 {
        self.take(n).iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
    }

    fn string(&mut self) -> String {
        let len = self.number(8) as usize;
        String::from_utf8(self.take(len).to_vec()).unwrap()
    }

    fn value(&mut self, kind: u64) -> Value {
        match kind {
            0 | 1 => self.number(1).into(),
            2 | 3 => self.number(2).into(),
            4 => self.number(4).into(),
            5 => (self.number(4) as u32 as i32).into(),
            6 => f32::from_bits(self.number(4) as u32).into(),
            7 => (self.number(1) != 0).into(),
            8 => self.string().into(),
            9 => {
                let (kind, len) = (self.number(4), self.number(8));
                (0..len).map(|_| self.value(kind)).collect()
            }
            10..=12 => self.number(8).into(),
            other => panic!("value type {other}"),
        }
    }
}

fn metadata(file: &Path) -> serde_json::Map<String, Value> {
    let bytes = std::fs::read(file).unwrap();
    let mut reader = Metadata { bytes: &bytes };
    assert_eq!(reader.take(4), b"GGUF");
    let (_version, _tensors, keys) = (reader.number(4), reader.number(8), reader.number(8));
    let mut map = serde_json::Map::new();
    for _ in 0..keys {
        let key = reader.string();
        let kind = reader.number(4);
        let value = reader.value(kind);
        map.insert(key, value);
    }
    map
}

fn gguf_template(file: &Path) -> Option<String> {
    metadata(file).get("tokenizer.chat_template")?.as_str().map(str::to_owned)
}

fn vocab(file: &Path) -> Vocab {
    let map = metadata(file);
    let key = |name: &str| map.get(&format!("tokenizer.ggml.{name}")).cloned().unwrap_or_default();
    let text = |name: &str| key(name).as_str().map(str::to_owned);
    let texts = |name: &str| serde_json::from_value::<Option<Vec<String>>>(key(name)).unwrap();
    let id = |name: &str| key(name).as_u64().map(|id| id as u32);
    Vocab {
        file: file.display().to_string(),
        model: text("model").unwrap(),
        pre: text("pre"),
        tokens: texts("tokens").unwrap(),
        scores: serde_json::from_value(key("scores")).unwrap(),
        types: serde_json::from_value(key("token_type")).unwrap(),
        merges: texts("merges"),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        unknown: id("unknown_token_id"),
        separator: id("seperator_token_id"),
        padding: id("padding_token_id"),
        eot: id("eot_token_id"),
        eom: id("eom_token_id"),
        add_bos: key("add_bos_token").as_bool(),
        add_eos: key("add_eos_token").as_bool(),
        add_space_prefix: key("add_space_prefix").as_bool(),
    }
}
