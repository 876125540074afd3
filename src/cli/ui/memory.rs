//! The memory a model needs with each context, and whether this machine has it.

use crate::cli::ui::number::bytes;
use crate::cli::ui::table;
use serde_json::{Value, json};
use tallow::Cost;

/// Tokens that the cache's size is stated for.
const TOKENS: u64 = 1024;

/// The memory that each context takes, and whether it is there.
pub fn text(cost: &Cost) -> String {
    let fits = |context| match cost.fits(context) {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    };
    let row = |context: usize| [context.to_string(), bytes(cost.need(context)), fits(context).to_owned()];
    let rows: Vec<_> = cost.contexts().into_iter().map(row).collect();
    let heading = cost.available.map_or("FITS HERE".to_owned(), |have| format!("FITS IN {}", bytes(have)));
    table::columns(["CONTEXT", "MEMORY", &heading], &rows)
}

/// The cache of 1k tokens: one size, or two where layers with a window stop growing before the model's context is full.
pub fn cache(cost: &Cost) -> String {
    let size = |per_token: u64| bytes(TOKENS.saturating_mul(per_token));
    let first = size(cost.cache_per_token);
    match cost.beyond_window().filter(|beyond| beyond.tokens < cost.context) {
        Some(beyond) => format!("{first} up to {} tokens, {} beyond", beyond.tokens, size(beyond.cache_per_token)),
        None => first,
    }
}

/// What a token costs where the layers with a window have stopped growing, for a script; `null` where none has one.
pub fn beyond_window(cost: &Cost) -> Value {
    cost.beyond_window()
        .map_or(Value::Null, |beyond| json!({ "tokens": beyond.tokens, "cache_per_token": beyond.cache_per_token }))
}

/// The memory of each context for a script.
pub fn contexts(cost: &Cost) -> Value {
    let row = |context| json!({ "context": context, "bytes": cost.need(context), "fits": cost.fits(context) });
    cost.contexts().into_iter().map(row).collect()
}
