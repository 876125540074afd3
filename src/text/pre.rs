//! Pre-tokenizers by the names that `tokenizer.ggml.pre` gives them: how byte-level BPE cuts text before it merges.
//!
//! A row holds the patterns that are applied one after another, each to the parts that the one before left; matches and the
//! text between them both become parts. The patterns are those of the models' own `tokenizer.json` where they are known, and
//! llama.cpp's (`llama-vocab.cpp`) where they are not: the two differ where llama.cpp's regex engine lacks something, and
//! transformers is what tallow is measured by. For the same reason rows say whether the text is put in NFC first, which
//! llama.cpp leaves out.
//!
//! `ignore_merges` takes a whole part that is in the vocabulary as it stands; `add_bos` is the default where the file is
//! silent.

use crate::{Error, Result};

/// One way of cutting text.
#[derive(Debug)]
pub(super) struct Pre {
    names: &'static [&'static str],
    /// Patterns, applied in order.
    pub split: &'static [&'static str],
    /// A part that is a token is that token, whatever the merges say.
    pub ignore_merges: bool,
    /// Whether BOS is added where the file does not say.
    pub add_bos: bool,
    /// Whether text is normalised to NFC first.
    pub nfc: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const DEEPSEEK3: &[&str] = &[
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    concat!(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
];
/// The letters of DeepSeek's own `tokenizer.json`: those of the scripts that have case.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝ",
    r"Ὗ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ",
    r"𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
);

const PLAIN: Pre = Pre { names: &[], split: &[], ignore_merges: false, add_bos: false, nfc: false };

const TABLE: &[Pre] = &[
    Pre { names: &["default", ""], split: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"], ..PLAIN },
    Pre {
        names: &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v1-en",
            "jina-v2-code",
            "roberta-bpe",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "jais",
            "exaone4",
            "trillion",
            "granite-docling",
        ],
        split: &[GPT2],
        ..PLAIN
    },
    Pre { names: &["mpt", "olmo"], split: &[GPT2], nfc: true, ..PLAIN },
    Pre {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        split: &[DIGIT, GPT2],
        ..PLAIN
    },
    Pre {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
        split: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
        ..PLAIN
    },
    Pre { names: &["glm4", "glm5"], split: &[LLAMA3], ignore_merges: true, ..PLAIN },
    Pre { names: &["dbrx", "smaug-bpe", "chatglm-bpe"], split: &[LLAMA3], ..PLAIN },
    Pre { names: &["qwen2", "kormo", "f2llmv2"], split: &[QWEN2], nfc: true, ..PLAIN },
    Pre { names: &["deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"], split: &[QWEN2], ..PLAIN },
    Pre { names: &["qwen35"], split: &[QWEN35], nfc: true, ..PLAIN },
    Pre { names: &["tekken"], split: &[TEKKEN], ignore_merges: true, add_bos: true, ..PLAIN },
    Pre { names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], split: &[GPT4O], ..PLAIN },
    Pre {
        names: &["deepseek-llm"],
        split: &[r"[\r\n]", DEEPSEEK_LETTERS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}+"],
        ..PLAIN
    },
    Pre {
        names: &["deepseek-coder"], split: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", DIGIT], ..PLAIN
    },
    Pre { names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"], split: DEEPSEEK3, ..PLAIN },
    Pre { names: &["falcon"], split: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"], ..PLAIN },
    Pre { names: &["bloom", "poro-chat", "gpt3-finnish"], split: &[BLOOM], ..PLAIN },
    Pre { names: &["viking"], split: &[BLOOM, DIGIT], ..PLAIN },
    Pre {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        split: &[concat!(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*",
            r"|\s*[\r\n]|\s+(?!\S)|\s+"
        )],
        ..PLAIN
    },
    Pre {
        names: &["seed-coder"],
        split: &[concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+",
            r"|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        ..PLAIN
    },
];

/// The row for `name`; a file that names none has `default`.
pub(super) fn find(name: Option<&str>) -> Result<&'static Pre> {
    let name = name.unwrap_or_default();
    TABLE.iter().find(|row| row.names.contains(&name)).ok_or_else(|| {
        let known: Vec<_> = TABLE.iter().flat_map(|row| row.names).filter(|name| !name.is_empty()).copied().collect();
        Error::unsupported(format!("the pre-tokenizer {name:?} (tokenizer.ggml.pre)"), known.join(", "))
    })
}
