//! What a test reads and multiplies, counted from the model's tensors: the numerators of the roofline's shares.

use super::Test;
use crate::arch::FAMILIES;
use crate::checkpoint::ModelInfo;
use crate::spec::{Head, Mlp, Spec};
use crate::tensors::names::gguf_name;
use std::borrow::Cow;

/// The table of token embeddings, of which a token reads one row.
const EMBEDDING: &str = "token_embd.weight";
/// GPT-2's table of positions, likewise.
const POSITIONS: &str = "position_embd.weight";
/// The output matrix where it is not the embedding table.
const OUTPUT: &str = "output.weight";

/// What one test asks of the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Bytes read for each generated token: every weight once, as the file stores it, and the cache at the depth that the
    /// test has on average. `None` for a test that generates nothing.
    pub bytes_per_token: Option<f64>,
    /// Multiplications and additions in the weight matrices to read the prompt, attention's own not counted; `None` for a
    /// test without a prompt.
    pub prompt_operations: Option<f64>,
}

impl Work {
    /// Counts for `test` on the model of `info` and `spec`.
    pub fn of(info: &ModelInfo, spec: &Spec, test: Test) -> Work {
        if test.texts > 0 {
            let operations = 2.0 * row_elements(spec) as f64 * test.tokens() as f64;
            return Work { bytes_per_token: None, prompt_operations: Some(operations) };
        }
        // A checkpoint may hold an output matrix that its model does not use.
        let tied = matches!(spec.head, Head::Tied);
        let (head, unused) = if tied { (EMBEDDING, OUTPUT) } else { (OUTPUT, EMBEDDING) };
        let (mut bytes, mut per_row, mut per_prompt) = (0, 0, 0);
        // The tensors are listed as the file calls them; what a family has no name for is no weight.
        let names =
            FAMILIES.iter().find(|family| family.name == spec.family && info.format != "gguf").map(|family| family.names);
        for (stored, dtype, shape) in &info.tensors {
            let name = match names {
                Some(names) => gguf_name(names, stored).map(|(name, _)| Cow::Owned(name)),
                None => Some(Cow::Borrowed(stored.as_str())),
            };
            let Some(name) = name else { continue };
            if name == unused || name == POSITIONS {
                continue;
            }
            // Of a mixture's experts a token reads some.
            let share = match spec.mlp {
                Mlp::Experts { count, used, .. } if name.contains("_exps.") || name.contains(".experts.") => (used, count),
                Mlp::Experts { .. } | Mlp::Gated { .. } | Mlp::Plain { .. } => (1, 1),
            };
            let elements = shape.iter().product::<usize>() / share.1 * share.0;
            bytes += dtype.bytes(elements).unwrap_or_default();
            if name == head {
                per_prompt += elements;
            } else if shape.len() > 1 {
                per_row += elements;
            }
        }
        let windows: Vec<usize> = (0..spec.layers).map(|layer| spec.attention.window_of(layer).unwrap_or(usize::MAX)).collect();
        let seen = |position: usize| windows.iter().map(|w| position.min(*w) as f64).sum::<f64>() / windows.len() as f64;
        let first = test.depth + test.prompt + 1;
        let positions = (0..test.generate).map(|i| seen(first + i)).sum::<f64>() / test.generate as f64;
        let cache = positions * info.cache_bytes_per_token as f64;
        let operations = 2.0 * (per_row as f64 * test.prompt as f64 + per_prompt as f64);
        Work {
            bytes_per_token: (test.generate > 0).then_some(bytes as f64 + cache),
            prompt_operations: (test.prompt > 0).then_some(operations),
        }
    }
}

/// Elements of the matrices that each token of a text goes through on its way to its hidden state.
fn row_elements(spec: &Spec) -> usize {
    let attention = &spec.attention;
    let (queries, keys) = (attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim);
    let mlp = match spec.mlp {
        Mlp::Gated { dim, .. } => 3 * dim,
        Mlp::Plain { dim, .. } => 2 * dim,
        Mlp::Experts { dim, count, used, .. } => 3 * dim * used + count,
    };
    spec.layers * spec.dim * (2 * queries + 2 * keys + mlp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    #[test]
    fn folders_and_files_count_the_embedding_table_for_nothing_and_the_head_once() {
        for (case, element) in [("llama-mha", 4.0), ("llama-gqa-tied", 4.0), ("gpt2-hub", 4.0), ("gguf-f16-bpe", 2.0)] {
            let mut path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case);
            if case.starts_with("gguf") {
                path.push("model-f16.gguf");
            }
            let model = Model::load(path.to_str().unwrap()).unwrap();
            let (info, spec) = (model.info(), model.spec());
            let test = |prompt, generate| Work::of(info, spec, Test { prompt, generate, depth: 0, texts: 0 });
            let (rows, head) = (row_elements(spec) as f64, (spec.vocab * spec.dim) as f64);
            assert_eq!(test(7, 0).prompt_operations, Some(2.0 * (7.0 * rows + head)), "{case}");
            // Norms and biases are read as well, and one position of the cache.
            let bytes = test(0, 1).bytes_per_token.unwrap() / (element * (rows + head));
            assert!((1.0..1.1).contains(&bytes), "{case}: {bytes}");
        }
    }
}
