//! A model's specification as JSON, which `show` also prints as lines: one place knows the names.

use serde_json::{Value, json};
use tallow::spec::{Head, Mlp, Norm, Pairing, Position, RopeScaling, Spec};

/// The specification as one object.
pub fn json(spec: &Spec) -> Value {
    let attention = &spec.attention;
    json!({
        "family": spec.family,
        "dim": spec.dim,
        "layers": spec.layers,
        "vocab": spec.vocab,
        "context": spec.context,
        "norm": norm(&spec.norm),
        "attention": {
            "heads": attention.heads,
            "kv_heads": attention.kv_heads,
            "head_dim": attention.head_dim,
            "window": attention.window,
            "qkv_bias": attention.qkv_bias,
            "out_bias": attention.out_bias,
            "scale": format!("{:?}", attention.scale),
        },
        "position": position(&spec.position),
        "mlp": mlp(&spec.mlp),
        "head": match spec.head {
            Head::Tied => "tied",
            Head::Own => "own",
        },
    })
}

fn norm(norm: &Norm) -> Value {
    match norm {
        Norm::Rms { eps } => json!({"kind": "rms", "eps": eps}),
        Norm::Layer { eps } => json!({"kind": "layer", "eps": eps}),
    }
}

fn mlp(mlp: &Mlp) -> Value {
    let (kind, act, dim, bias) = match mlp {
        Mlp::Gated { act, dim, bias } => ("gated", act, dim, bias),
        Mlp::Plain { act, dim, bias } => ("plain", act, dim, bias),
    };
    json!({"kind": kind, "act": format!("{act:?}"), "dim": dim, "bias": bias})
}

fn position(position: &Position) -> Value {
    let rope = match position {
        Position::Learned => return json!({"kind": "learned"}),
        Position::Rope(rope) => rope,
    };
    let pairing = match rope.pairing {
        Pairing::Halves => "halves",
        Pairing::Interleaved => "interleaved",
    };
    json!({"kind": "rope", "theta": rope.theta, "dims": rope.dims, "pairing": pairing, "scaling": scaling(&rope.scaling)})
}

fn scaling(scaling: &RopeScaling) -> Value {
    match scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({"kind": "linear", "factor": factor}),
        RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor, truncate } => json!({
            "kind": "yarn",
            "factor": factor,
            "original_context": original_context,
            "beta_fast": beta_fast,
            "beta_slow": beta_slow,
            "attention_factor": attention_factor,
            "truncate": truncate,
        }),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => json!({
            "kind": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_context": original_context,
        }),
        RopeScaling::Factors(factors) => json!({"kind": "factors", "factors": factors}),
    }
}

/// The object's entries as names and values: `attention.heads`, `9`. What is absent has no line.
pub fn lines(value: &Value) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    flatten("", value, &mut lines);
    lines
}

fn flatten(name: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&name, value, lines);
            }
        }
        Value::Null => {}
        Value::String(text) => lines.push((name.to_owned(), text.clone())),
        Value::Array(_) | Value::Bool(_) | Value::Number(_) => lines.push((name.to_owned(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_become_dotted_lines_and_absent_ones_none() {
        let value = json!({"a": 1, "b": {"c": "x", "d": null, "e": {"f": true}}});
        let expected = [("a", "1"), ("b.c", "x"), ("b.e.f", "true")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(lines(&value), expected);
    }
}
