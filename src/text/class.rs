//! The classes of tokenizers that transformers has, as far as they change what `tokenizer.json`
//! says.
//!
//! A class brings tokens for roles that no file names, and settings of its own.
//! `tokenizer_config.json` names it, else `config.json`, else the family has one. Every class that
//! is not here leaves `tokenizer.json` as it is.

/// A class of tokenizers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Class {
    /// WordPiece, lower-cased unless `do_lower_case` is false.
    Bert,
    Roberta,
    XlmRoberta,
    Gpt2,
    Qwen2,
    Llama,
    /// Llama's tokens, without its `add_prefix_space`: where no file names the class, and for
    /// Mistral's families whatever they name.
    Mistral,
    Gemma,
    /// `PreTrainedTokenizerFast` and all others.
    #[default]
    Plain,
}

/// Names of classes without the `Fast` at their end.
const NAMES: &[(&str, Class)] = &[
    ("BertTokenizer", Class::Bert),
    ("DistilBertTokenizer", Class::Bert),
    ("ElectraTokenizer", Class::Bert),
    ("ConvBertTokenizer", Class::Bert),
    ("MobileBertTokenizer", Class::Bert),
    ("SqueezeBertTokenizer", Class::Bert),
    ("LayoutLMTokenizer", Class::Bert),
    ("LxmertTokenizer", Class::Bert),
    ("RetriBertTokenizer", Class::Bert),
    ("DPRQuestionEncoderTokenizer", Class::Bert),
    ("DPRContextEncoderTokenizer", Class::Bert),
    ("RobertaTokenizer", Class::Roberta),
    ("LongformerTokenizer", Class::Roberta),
    ("XLMRobertaTokenizer", Class::XlmRoberta),
    ("CamembertTokenizer", Class::XlmRoberta),
    ("GPT2Tokenizer", Class::Gpt2),
    ("GPTNeoXTokenizer", Class::Gpt2),
    ("Qwen2Tokenizer", Class::Qwen2),
    ("LlamaTokenizer", Class::Llama),
    ("CodeLlamaTokenizer", Class::Llama),
    ("GemmaTokenizer", Class::Gemma),
];

/// The classes of families whose files name none.
const FAMILIES: &[(&str, Class)] = &[
    ("bert", Class::Bert),
    ("distilbert", Class::Bert),
    ("nomic_bert", Class::Bert),
    ("roberta", Class::Roberta),
    ("xlm-roberta", Class::XlmRoberta),
    ("camembert", Class::XlmRoberta),
    ("gpt2", Class::Gpt2),
    ("starcoder2", Class::Gpt2),
    ("qwen2", Class::Qwen2),
    ("qwen3", Class::Qwen2),
    ("qwen3_moe", Class::Qwen2),
    ("llama", Class::Mistral),
    ("mistral", Class::Mistral),
    ("mixtral", Class::Mistral),
    ("gemma", Class::Gemma),
    ("gemma2", Class::Gemma),
    ("gemma3", Class::Gemma),
    ("gemma3_text", Class::Gemma),
];

impl Class {
    /// The class called `name`, else the family's. Llama's is for SentencePiece: byte-level
    /// tokenizers that name it are followed as they are, as transformers does.
    pub(super) fn of(name: Option<&str>, family: &str, byte_level: bool) -> Class {
        let find = |list: &[(&str, Class)], name: &str| list.iter().find(|row| row.0 == name).map(|row| row.1);
        let class = match name {
            Some(name) => find(NAMES, name.strip_suffix("Fast").unwrap_or(name)),
            None => find(FAMILIES, family),
        };
        let class = match class {
            Some(Class::Llama) if matches!(family, "mistral" | "mixtral") => Some(Class::Mistral),
            other => other,
        };
        class
            .filter(|class| !(byte_level && matches!(class, Class::Llama | Class::Mistral | Class::Gemma)))
            .unwrap_or(Class::Plain)
    }

    /// Whether `do_lower_case`, `strip_accents` and `tokenize_chinese_chars` count.
    pub(super) fn lowercases(self) -> bool {
        self == Class::Bert
    }

    /// `add_prefix_space` where `tokenizer_config.json` does not state it.
    pub(super) fn prefix_space(self) -> Option<bool> {
        matches!(self, Class::Gpt2 | Class::Roberta).then_some(false)
    }

    /// The token for a role that no file names.
    pub(super) fn token(self, role: &str) -> Option<&'static str> {
        let table: &[(&str, &str)] = match self {
            Class::Bert => &[
                ("unk_token", "[UNK]"),
                ("sep_token", "[SEP]"),
                ("pad_token", "[PAD]"),
                ("cls_token", "[CLS]"),
                ("mask_token", "[MASK]"),
            ],
            Class::Roberta | Class::XlmRoberta => &[
                ("bos_token", "<s>"),
                ("eos_token", "</s>"),
                ("unk_token", "<unk>"),
                ("sep_token", "</s>"),
                ("pad_token", "<pad>"),
                ("cls_token", "<s>"),
                ("mask_token", "<mask>"),
            ],
            Class::Gpt2 => &[("bos_token", "<|endoftext|>"), ("eos_token", "<|endoftext|>"), ("unk_token", "<|endoftext|>")],
            Class::Qwen2 => &[("eos_token", "<|endoftext|>"), ("unk_token", "<|endoftext|>"), ("pad_token", "<|endoftext|>")],
            Class::Llama | Class::Mistral => &[("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")],
            Class::Gemma => &[("bos_token", "<bos>"), ("eos_token", "<eos>"), ("unk_token", "<unk>"), ("pad_token", "<pad>")],
            Class::Plain => &[],
        };
        table.iter().find(|row| row.0 == role).map(|row| row.1)
    }
}
