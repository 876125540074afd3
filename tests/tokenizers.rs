//! Tokenizers built from GGUF metadata against the tokenizer.json of the same vocabulary: 10,000 random strings each, of
//! code, many scripts, emoji, odd white space and text that looks like special tokens. No difference is allowed.

use std::path::Path;
use tallow::Checkpoint;
use tallow::text::{Detokeniser, Start, Tokenizer, Vocab};

/// A small generator with a fixed seed (xorshift64, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn text(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.below(12) {
            match self.below(10) {
                0 | 1 => text.push_str(self.of(WORDS)),
                2 => text.push_str(self.of(CODE)),
                3 => text.push_str(self.of(SCRIPTS)),
                4 => text.push_str(self.of(EMOJI)),
                5 => text.push_str(self.of(SPACES)),
                6 => text.push_str(self.of(SPECIAL)),
                7 => text.push_str(&self.below(1_000_000_000).to_string()),
                8 => {
                    let special = self.of(SPECIAL);
                    let cut = self.below(special.len() + 1);
                    text.push_str(special.get(..cut).unwrap_or(""));
                }
                _ => text.push(char::from_u32(self.below(0x3_0000) as u32).unwrap_or('\u{fffd}')),
            }
            if self.below(3) == 0 {
                text.push(' ');
            }
        }
        text
    }
}

const WORDS: &[&str] = &[
    "The river",
    "north",
    "don't",
    "we'll",
    "THEY'RE",
    "I'm",
    "it's",
    "'s",
    "naïve",
    "a",
    "I",
    "wheel",
    "capital of France",
    "Hello",
    "hello",
    "HELLO",
    "tokens",
    "mill",
    "stopped.",
    "What?",
    "no!",
    "e.g.",
    "x",
    "ing",
    "_",
    "--",
    "...",
    "\u{301}",
];
const CODE: &[&str] = &[
    "def read(path):\n    return 1\n",
    "for (int i = 0; i < 10; i++) {",
    "}\n\n",
    "let x: Vec<u8> = vec![];",
    "a->b",
    "!=",
    "//",
    "#include <stdio.h>\r\n",
    "\t\tif x:\n",
    "{\"key\": [1, 2]}",
    "<div class=\"a\">",
    "fn main() {}",
    "=>",
    "::",
    "&&",
    "0x1F",
];
const SCRIPTS: &[&str] = &[
    "東京",
    "こんにちは",
    "안녕하세요",
    "Привет",
    "مرحبا",
    "שלום",
    "हिन्दी",
    "ภาษาไทย",
    "Ελλάδα",
    "Ünïcödé",
    "ﬁ",
    "Ⅳ",
    "½",
    "𝒜",
    "ß",
    "İ",
    "ǅ",
    "אָ",
    "க்ஷ",
    "٣",
    "四",
];
const EMOJI: &[&str] = &["🙂", "👩‍💻", "🏳️‍🌈", "👍🏽", "🇫🇷", "❤️", "\u{200d}", "\u{fe0f}", "🤷‍♀️"];
const SPACES: &[&str] = &[
    " ",
    "  ",
    "   ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    " \t ",
    "\u{a0}",
    "\u{3000}",
    "\u{2009}",
    "\u{200b}",
    "\u{85}",
    "\u{2028}",
    "                ",
    "\n \n",
    "▁",
    "▁▁",
    "\u{feff}",
    "\0",
];
const SPECIAL: &[&str] = &[
    "<s>",
    "</s>",
    "<unk>",
    "<0x0A>",
    "<0xFF>",
    "<|begin_of_text|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "< s>",
    "<|eot_id",
    "[INST]",
    "<<SYS>>",
    "Ġ",
    "Ċ",
    "<|reserved_special_token_0|>",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[unused0]",
    " <mask>",
    "<pad>",
];

fn compare(gguf: &str, folder: &str, seed: u64) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let ours = Checkpoint::open(golden.join(gguf).to_str().unwrap()).unwrap();
    let theirs = Checkpoint::open(golden.join(folder).to_str().unwrap()).unwrap();
    // What tokenizer_config.json cleans up in decoded text is not in a GGUF file.
    let json = std::fs::read(golden.join(folder).join("tokenizer.json")).unwrap();
    let bare = Tokenizer::from_json(&json, "tokenizer.json").unwrap();
    let mut random = Random(seed);
    for i in 0..10_000 {
        let text = if i == 0 { String::new() } else { random.text() };
        for special in [false, true] {
            let got = ours.tokenizer().encode(&text, special).unwrap();
            let expected = theirs.tokenizer().encode(&text, special).unwrap();
            assert_eq!(got, expected, "{gguf}: {text:?}, special {special}");
            for skip in [false, true] {
                let got = ours.tokenizer().decode(&got, skip).unwrap();
                let expected = bare.decode(&expected, skip).unwrap();
                assert_eq!(got, expected, "{gguf}: decoding {text:?}, skip {skip}");
            }
        }
    }
}

#[test]
fn a_sentencepiece_vocabulary_gives_the_ids_of_its_tokenizer_json() {
    compare("gguf-q8_0-spm", "llama-mha", 0x9e37_79b9_7f4a_7c15);
}

#[test]
fn byte_level_vocabularies_give_the_ids_of_their_tokenizer_json() {
    compare("gguf-f16-bpe", "llama3-rope-scaling", 0x2545_f491_4f6c_dd1d);
    compare("gguf-q4_0-bpe", "llama3-rope-scaling", 0x1234_5678_9abc_def1);
}

#[test]
fn the_gpt2_vocabulary_gives_the_ids_of_its_tokenizer_json() {
    compare("gguf-gpt2-f16", "gpt2-prefixed", 0xdead_beef_cafe_f00d);
}

#[test]
fn encoders_vocabularies_give_the_ids_of_their_tokenizer_json() {
    compare("gguf-bert-f16", "bert-mean", 0x0123_4567_89ab_cdef);
    compare("gguf-nomic-bert-f16", "nomic-bert-mean", 0x0f0f_1e1e_2d2d_3c3c);
    compare("gguf-bert-q8_0", "bert-cls", 0x0fed_cba9_8765_4321);
    compare("gguf-roberta-f32", "roberta-mean", 0x1111_2222_3333_4444);
    compare("gguf-xlmr-f16", "xlmr-mean", 0x5555_6666_7777_8888);
}

#[test]
fn an_encoders_vocabulary_that_can_not_be_used_names_the_key() {
    let tokens = |tokens: &[&str]| tokens.iter().map(|token| (*token).to_owned()).collect::<Vec<_>>();
    let word_piece =
        Vocab { file: "a.gguf".into(), model: "bert".into(), tokens: tokens(&["[CLS]", "▁a", "b"]), ..Vocab::default() };
    let unigram = Vocab {
        model: "t5".into(),
        tokens: tokens(&["<unk>", "▁a", ""]),
        scores: Some(vec![0.0; 3]),
        unknown: Some(0),
        ..word_piece.clone()
    };
    let fault = |vocab: Vocab| Tokenizer::from_vocab(vocab).unwrap_err().to_string();
    assert!(fault(word_piece).starts_with("a.gguf: tokenizer.ggml.unknown_token_id is missing"));
    assert!(fault(Vocab { scores: None, ..unigram.clone() }).contains("tokenizer.ggml.scores is missing"));
    assert!(fault(Vocab { scores: Some(vec![f32::NAN; 3]), ..unigram.clone() }).contains("tokenizer.ggml.scores holds NaN"));
    assert!(fault(Vocab { unknown: None, ..unigram.clone() }).contains("tokenizer.ggml.unknown_token_id is missing"));
    let damaged = Vocab { charsmap: Some(vec![4, 0, 0, 0, 1, 2, 3, 4]), ..unigram.clone() };
    assert!(fault(damaged).contains("tokenizer.ggml.precompiled_charsmap is damaged"));
    assert_eq!(Tokenizer::from_vocab(unigram).unwrap().encode("a a x", false).unwrap(), [1, 1, 0]);
}

#[test]
fn a_unigram_vocabulary_may_go_without_the_space_in_front() {
    let vocab = Vocab {
        model: "t5".into(),
        tokens: ["<unk>", "▁", "a", "b", "▁a"].map(str::to_owned).to_vec(),
        scores: Some(vec![0.0, -2.0, -1.0, -1.0, -1.5]),
        unknown: Some(0),
        add_space_prefix: Some(false),
        ..Vocab::default()
    };
    let tokenizer = Tokenizer::from_vocab(vocab).unwrap();
    assert_eq!(tokenizer.encode("  ab \n a ", false).unwrap(), [2, 3, 4]);
}

#[test]
fn streamed_text_is_the_decoded_text_and_never_half_a_character() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let cases = [
        "llama-mha",
        "llama-gqa-tied",
        "gpt2-hub",
        "mistral-no-window",
        "mistral-nemo-headdim",
        "gguf-q8_0-spm",
        "gguf-f16-bpe",
        "bert-mean",
        "gguf-bert-f16",
        "gguf-xlmr-f16",
    ];
    for (i, case) in cases.into_iter().enumerate() {
        let checkpoint = Checkpoint::open(golden.join(case).to_str().unwrap()).unwrap();
        let tokenizer = checkpoint.tokenizer();
        let mut random = Random(77 + i as u64);
        for _ in 0..1_000 {
            // Random ids are mostly broken characters; ids of real text are whole ones.
            let ids: Vec<u32> = match random.below(2) {
                0 => (0..random.below(20)).map(|_| random.below(tokenizer.vocab_size()) as u32).collect(),
                _ => tokenizer.encode(&random.text(), false).unwrap(),
            };
            let whole = tokenizer.decode(&ids, true).unwrap();
            let mut stream = Detokeniser::new(tokenizer, Start::Text);
            let mut text = String::new();
            for id in &ids {
                text.push_str(&stream.push(*id).unwrap_or_default());
                assert!(whole.starts_with(&text), "{case}: {ids:?} shows {text:?} of {whole:?}");
            }
            text.push_str(&stream.finish().unwrap_or_default());
            assert_eq!(text, whole, "{case}: {ids:?}");
        }
    }
}

#[test]
fn nothing_is_shown_that_may_become_a_stop_string() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama-gqa-tied");
    let checkpoint = Checkpoint::open(golden.to_str().unwrap()).unwrap();
    let tokenizer = checkpoint.tokenizer();
    let mut random = Random(99);
    for _ in 0..1_000 {
        let ids = tokenizer.encode(&random.text(), false).unwrap();
        let whole = tokenizer.decode(&ids, true).unwrap();
        let chars: Vec<char> = whole.chars().collect();
        if chars.len() < 4 {
            continue;
        }
        let at = random.below(chars.len() - 2);
        let stop: String = chars[at..(at + 1 + random.below(4)).min(chars.len())].iter().collect();
        let mut expected = &whole[..whole.find(&stop).unwrap()];
        // Special tokens are not shown, and end the text all the same where they spell a part of the stop string.
        let special: String =
            ids.iter().filter(|id| tokenizer.is_special(**id)).filter_map(|id| tokenizer.piece(*id)).collect();
        let is_spelt = special.contains(|c| stop.contains(c));
        let mut stream = Detokeniser::new(tokenizer, Start::Text).stop_at([stop.as_str()]);
        let mut text = String::new();
        for id in &ids {
            text.push_str(&stream.push(*id).unwrap_or_default());
            assert!(expected.starts_with(&text), "{stop:?}: shows {text:?} of {whole:?}");
        }
        text.push_str(&stream.finish().unwrap_or_default());
        if is_spelt && expected.starts_with(&text) {
            expected = &text;
        }
        assert_eq!((text.as_str(), stream.stopped()), (expected, Some(stop.as_str())), "{whole:?}");
    }
}
