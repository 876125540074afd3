//! The memory a model needs with each context, and whether this machine has it.

use super::show::bytes;
use super::table;
use serde_json::Value;
use tallow::Cost;

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

/// The same for a script.
pub fn json(cost: &Cost) -> Value {
    let row = |context| serde_json::json!({ "context": context, "bytes": cost.need(context), "fits": cost.fits(context) });
    cost.contexts().into_iter().map(row).collect()
}
