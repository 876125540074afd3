//! What an Ollama Modelfile says, applied to a checkpoint: parameters become defaults, `SYSTEM` and `MESSAGE` begin a chat,
//! and what can not be applied becomes a note, for those who load the model.
//!
//! Types and meanings are those of Ollama's `Options` (`api/types.go`): whole numbers may be written as floats and are cut,
//! `num_predict` up to 0 is no limit, `seed` -1 none.

use super::Checkpoint;
use crate::error::{Error, Result};
use crate::options::GenerateOptions;
use crate::store::Modelfile;
use crate::text::Message;
use serde_json::Value as Json;

/// Parameters that do not change what tallow answers: how another program places a model, and what holds no memory here.
const HARMLESS: [&str; 14] = [
    "num_keep",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_gqa",
    "use_mmap",
    "use_mlock",
    "low_vram",
    "f16_kv",
    "numa",
    "vocab_only",
    "logits_all",
    "embedding_only",
    "draft_num_predict",
];

/// How a chat with a model begins, and what else its publisher chose that is no option of a generation.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Opening {
    pub system: Option<String>,
    pub history: Vec<Message>,
    /// Positions that a session shall hold, where memory and the model allow it.
    pub context: Option<usize>,
    pub threads: Option<usize>,
    /// What can not be applied, a line each.
    pub notes: Vec<String>,
    /// The same of a template, which one that the caller gives makes pointless.
    pub template_note: Option<String>,
}

impl Checkpoint {
    /// Applies what a Modelfile says over what the weights' file says.
    pub(super) fn apply(&mut self, modelfile: Modelfile) -> Result<()> {
        let Modelfile { file, system, parameters, messages, template, license, adapter, projector } = modelfile;
        let mut opening = Opening { system, history: messages, ..Opening::default() };
        let mut options = self.defaults.clone();
        for (name, value) in &parameters {
            set(&mut options, &mut opening, name, value).map_err(|why| {
                Error::corrupt(&file, format!("parameter {name} is {value}, expected {why}; `ollama create` makes it anew"))
            })?;
        }
        options.validate().map_err(|error| Error::corrupt(&file, error.to_string()))?;
        self.defaults = options;
        self.info.license = license.or(self.info.license.take());
        let name = &self.info.name;
        if adapter {
            opening.notes.push(format!(
                "{name}: its adapter (LoRA) can not be applied, and the answers are those of the model without it"
            ));
        }
        if projector {
            opening.notes.push(format!("{name}: its projector, which reads images, is not used: only text is read"));
        }
        opening.template_note = template.and_then(|template| match &self.info.template {
            Some(own) if *own == template => None,
            Some(_) => Some(format!(
                "{name}: Ollama's template is in Go's language and is not used; the chat template of the model's file is \
                 (`LoadOptions::chat_template` gives another)"
            )),
            None => Some(format!(
                "{name}: Ollama's template is in Go's language and can not be used, and the model's file has none: give one \
                 (`LoadOptions::chat_template`)"
            )),
        });
        self.opening = opening;
        Ok(())
    }
}

/// Sets one parameter; an error says what was expected.
fn set(options: &mut GenerateOptions, opening: &mut Opening, name: &str, value: &Json) -> Result<(), &'static str> {
    let number = || value.as_f64().ok_or("a number");
    let whole = || number().map(|number| number as i64);
    let sampling = &mut options.sampling;
    match name {
        "temperature" => sampling.temperature = number()? as f32,
        "top_p" => sampling.top_p = number()? as f32,
        "min_p" => sampling.min_p = number()? as f32,
        "typical_p" => sampling.typical_p = number()? as f32,
        "repeat_penalty" => sampling.repeat_penalty = number()? as f32,
        "presence_penalty" => sampling.presence_penalty = number()? as f32,
        "frequency_penalty" => sampling.frequency_penalty = number()? as f32,
        "top_k" => sampling.top_k = usize::try_from(whole()?).unwrap_or(0),
        "repeat_last_n" => sampling.repeat_last_n = whole()?.clamp(-1, i64::from(i32::MAX)) as i32,
        "seed" => options.seed = Some(whole()?).filter(|seed| *seed != -1).map(|seed| seed as u64),
        "num_predict" => options.max_tokens = usize::try_from(whole()?).ok().filter(|most| *most > 0),
        "num_ctx" => opening.context = usize::try_from(whole()?).ok().filter(|tokens| *tokens > 0).map(|tokens| tokens.max(4)),
        "num_thread" => opening.threads = usize::try_from(whole()?).ok().filter(|threads| *threads > 0),
        "stop" => options.stop.extend(stops(value)?),
        name if HARMLESS.contains(&name) => {}
        name => opening.notes.push(format!("its parameter {name} ({value}) is none that tallow has, and is not applied")),
    }
    Ok(())
}

/// Strings that end a text; empty ones end nothing.
fn stops(value: &Json) -> Result<Vec<String>, &'static str> {
    let text = |value: &Json| value.as_str().map(str::to_owned).ok_or("a list of texts");
    let all: Vec<String> = match value {
        Json::Array(values) => values.iter().map(text).collect::<Result<_, _>>()?,
        value => vec![text(value)?],
    };
    Ok(all.into_iter().filter(|stop| !stop.is_empty()).collect())
}
