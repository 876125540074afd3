//! The registry of families: a row each, and a short file that says what is peculiar about it.

mod bert;
mod gemma;
mod gpt2;
mod granite;
mod llama;
mod mistral;
mod mixtral;
mod olmo2;
mod phi3;
mod qwen;
mod smollm3;
mod starcoder2;

use crate::error::{Error, Result};
use crate::hparams::Hparams;
use crate::spec::{Attention, Head, Spec};
use crate::tensors::names;

/// One family of models.
pub struct Family {
    /// `model_type` of config.json, or `general.architecture` of a GGUF file.
    pub name: &'static str,
    /// How its Hugging Face checkpoints name their tensors.
    pub names: names::Names,
    /// What distinguishes this model from another; [`Family::spec_of`] calls it.
    spec: fn(&Hparams) -> Result<Spec>,
}

/// Every family that runs. GGUF files of Mistral models call themselves `llama`, those of encoders `bert`.
pub static FAMILIES: [Family; 24] = [
    Family { name: "llama", names: names::LLAMA, spec: llama::spec },
    Family { name: "mistral", names: names::LLAMA, spec: mistral::spec },
    Family { name: "qwen2", names: names::LLAMA, spec: qwen::qwen2 },
    Family { name: "qwen3", names: names::QK_NORMED, spec: qwen::qwen3 },
    Family { name: "gemma", names: names::LLAMA, spec: gemma::gemma },
    Family { name: "gemma2", names: names::SANDWICH, spec: gemma::gemma2 },
    Family { name: "gemma3", names: names::SANDWICH_QK_NORMED, spec: gemma::gemma3 },
    Family { name: "gemma3_text", names: names::SANDWICH_QK_NORMED, spec: gemma::gemma3 },
    Family { name: "phi3", names: names::FUSED, spec: phi3::spec },
    Family { name: "smollm3", names: names::LLAMA, spec: smollm3::spec },
    Family { name: "mixtral", names: names::MIXTRAL, spec: mixtral::mixtral },
    Family { name: "qwen3_moe", names: names::QWEN_EXPERTS, spec: mixtral::qwen3_moe },
    Family { name: "qwen3moe", names: names::QWEN_EXPERTS, spec: mixtral::qwen3_moe },
    Family { name: "olmo2", names: names::OUTPUT_NORMED, spec: olmo2::spec },
    Family { name: "granite", names: names::LLAMA, spec: granite::spec },
    Family { name: "starcoder2", names: names::PLAIN, spec: starcoder2::spec },
    Family { name: "gpt2", names: names::GPT2, spec: gpt2::spec },
    Family { name: "bert", names: names::BERT, spec: bert::bert },
    Family { name: "roberta", names: names::BERT, spec: bert::roberta },
    Family { name: "xlm-roberta", names: names::BERT, spec: bert::roberta },
    Family { name: "camembert", names: names::BERT, spec: bert::roberta },
    Family { name: "nomic_bert", names: names::NOMIC_BERT, spec: bert::nomic },
    Family { name: "nomic-bert", names: names::NOMIC_BERT, spec: bert::nomic },
    Family { name: "distilbert", names: names::DISTILBERT, spec: bert::distilbert },
];

impl Family {
    /// What distinguishes the model of `h`, also from its family: a decoder may see the whole text,
    /// and is an encoder then.
    ///
    /// # Errors
    /// [`Error::Unsupported`] and [`Error::Corrupt`], naming the key.
    pub fn spec_of(&self, h: &Hparams) -> Result<Spec> {
        let spec = (self.spec)(h)?;
        let unsupported = |what: String, runs: &str| Err(Error::unsupported(format!("{}: {what}", h.file()), runs));
        if h.flag("use_bidirectional_attention", false)? {
            return unsupported(
                "key use_bidirectional_attention".into(),
                "is_causal = false, where all layers see the whole text",
            );
        }
        if spec.is_encoder() {
            // Encoders' GGUF files say `false`; one that says `true` is not what its family is.
            let stated = h.is_stated("causal");
            return match stated && h.causal()? {
                true => unsupported(format!("key {}.attention.causal = true", h.family()), "encoders that see the whole text"),
                false => Ok(spec),
            };
        }
        if h.causal()? {
            return Ok(spec);
        }
        if spec.attention.window.is_some() {
            let what = "a decoder that sees the whole text (is_causal, attention.causal = false) through a window".into();
            return unsupported(what, "decoders that see all of it");
        }
        let attention = Attention { causal: false, ..spec.attention };
        Ok(Spec { attention, head: Head::None, ..spec })
    }
}

/// The family called `name`; `place` says where the name was read, for the message.
pub fn family(name: &str, place: &str) -> Result<&'static Family> {
    FAMILIES.iter().find(|family| family.name == name).ok_or_else(|| {
        let known: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        Error::unsupported(format!("{place}: the family {name:?}"), known.join(", "))
    })
}
