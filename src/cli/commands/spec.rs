//! A model's specification as JSON, which `show` also prints as lines: one place knows the names.

use serde_json::{Value, json};
use tallow::spec::{Head, Layers, Mlp, Norm, Pairing, Position, Rope, RopeScaling, Spec};

/// The specification as one object.
pub fn json(spec: &Spec) -> Value {
    let attention = &spec.attention;
    json!({
        "family": spec.family,
        "dim": spec.dim,
        "layers": spec.layers,
        "vocab": spec.vocab,
        "context": spec.context,
        "token_types": spec.token_types,
        "embed_norm": spec.embed_norm,
        "norm": norm(&spec.norm),
        "wiring": format!("{:?}", spec.wiring),
        "attention": {
            "heads": attention.heads,
            "kv_heads": attention.kv_heads,
            "head_dim": attention.head_dim,
            "causal": attention.causal,
            "window": attention.window.as_ref().map(|window| window.size),
            "window_layers": attention.window.as_ref().map(|window| layers(&window.layers)),
            "qkv_bias": attention.qkv_bias,
            "out_bias": attention.out_bias,
            "qk_norm": format!("{:?}", attention.qk_norm),
            "scale": format!("{:?}", attention.scale),
            "cap": attention.cap,
        },
        "position": position(&spec.position),
        "mlp": mlp(&spec.mlp),
        "scale": {
            "embed": spec.scale.embed,
            "residual": spec.scale.residual,
            "logits": spec.scale.logits,
            "cap": spec.scale.cap,
        },
        "head": match spec.head {
            Head::Tied => "tied",
            Head::Own => "own",
            Head::None => "none",
        },
    })
}

fn norm(norm: &Norm) -> Value {
    match norm {
        Norm::Rms { eps, offset } => json!({"kind": "rms", "eps": eps, "offset": offset}),
        Norm::Layer { eps } => json!({"kind": "layer", "eps": eps}),
    }
}

fn mlp(mlp: &Mlp) -> Value {
    let (kind, act, dim, bias) = match mlp {
        Mlp::Gated { act, dim, bias } => ("gated", act, dim, bias),
        Mlp::Plain { act, dim, bias } => ("plain", act, dim, bias),
        Mlp::Experts { act, dim, count, used, renormalise } => {
            let act = format!("{act:?}");
            let rest = json!({"act": act, "dim": dim, "count": count, "used": used, "renormalise": renormalise});
            return with_kind("experts", rest);
        }
    };
    json!({"kind": kind, "act": format!("{act:?}"), "dim": dim, "bias": bias})
}

fn with_kind(kind: &str, mut value: Value) -> Value {
    value["kind"] = kind.into();
    value
}

/// The numbers of some layers; `all`.
fn layers(layers: &Layers) -> Value {
    match layers {
        Layers::All => "all".into(),
        Layers::Listed(listed) => (0..listed.len()).filter(|layer| listed[*layer]).collect(),
    }
}

fn position(position: &Position) -> Value {
    match position {
        Position::Learned { offset } => json!({"kind": "learned", "offset": offset}),
        Position::Rope(ropes) => match ropes.as_slice() {
            [one] => with_kind("rope", rope(one)),
            several => json!({"kind": "rope", "ropes": several.iter().map(rope).collect::<Vec<_>>()}),
        },
    }
}

fn rope(rope: &Rope) -> Value {
    let pairing = match rope.pairing {
        Pairing::Halves => "halves",
        Pairing::Interleaved => "interleaved",
    };
    let (theta, dims, scaling) = (rope.theta, rope.dims, scaling(&rope.scaling));
    json!({"theta": theta, "dims": dims, "pairing": pairing, "scaling": scaling, "layers": layers(&rope.layers)})
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
        RopeScaling::Long { short, long, original_context, attention_factor } => json!({
            "kind": "longrope",
            "short": short,
            "long": long,
            "original_context": original_context,
            "attention_factor": attention_factor,
        }),
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
