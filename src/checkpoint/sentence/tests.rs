use super::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder of a test's own, removed afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tallow-sentence-{}-{number}", std::process::id()));
        for (name, text) in files {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Adds the weights of a dense layer of 2 inputs and 1 output.
    fn with_dense(self, folder: &str, tensors: &[(&str, &[usize], &[f32])]) -> Folder {
        let mut header = serde_json::Map::new();
        let mut data = Vec::new();
        for (name, shape, values) in tensors {
            let start = data.len();
            values.iter().for_each(|value| data.extend(value.to_le_bytes()));
            header.insert(
                (*name).to_owned(),
                serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}),
            );
        }
        let header = Json::Object(header).to_string();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
        std::fs::write(self.0.join(folder).join("model.safetensors"), bytes).unwrap();
        self
    }

    fn read(&self) -> Result<EmbedSpec> {
        Sources::Folder(NamedFiles::on_disk(&self.0)).read()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// modules.json of these kinds, of which the i-th lies in `i_KIND`.
fn modules(kinds: &[&str]) -> String {
    let path = |i: usize, kind: &str| if i == 0 { String::new() } else { format!("{i}_{kind}") };
    let entry = |(i, kind): (usize, &&str)| serde_json::json!({"idx": i, "name": i.to_string(), "path": path(i, kind), "type": format!("sentence_transformers.models.{kind}")});
    Json::Array(kinds.iter().enumerate().map(entry).collect()).to_string()
}

#[test]
fn a_folder_without_modules_is_pooled_by_the_mean_and_a_gguf_file_also_normalised() {
    let spec = Folder::new(&[]).read().unwrap();
    assert_eq!((spec.pooling.clone(), spec.normalise, spec.max_tokens), (Ok(Pooling::Mean), false, None));
    for (number, pooling) in [
        (None, Pooling::Mean),
        (Some(0), Pooling::None),
        (Some(1), Pooling::Mean),
        (Some(2), Pooling::Cls),
        (Some(3), Pooling::Last),
    ] {
        let spec = Sources::Gguf("m.gguf".into(), number).read().unwrap();
        assert_eq!((spec.pooling.clone(), spec.normalise), (Ok(pooling), true));
    }
    assert!(matches!(Sources::Gguf("m.gguf".into(), Some(4)).read(), Err(Error::Unsupported { .. })));
    assert!(matches!(Sources::Gguf("m.gguf".into(), Some(9)).read(), Err(Error::Corrupt { .. })));
}

#[test]
fn each_step_of_the_layout_is_read_where_modules_json_says_it_is() {
    let folder = Folder::new(&[
        ("modules.json", &modules(&["Transformer", "Pooling", "Dense", "Normalize"])),
        ("1_Pooling/config.json", r#"{"word_embedding_dimension": 2, "pooling_mode_cls_token": true, "include_prompt": false}"#),
        (
            "2_Dense/config.json",
            r#"{"in_features": 2, "out_features": 1, "bias": true, "activation_function": "torch.nn.modules.activation.Tanh"}"#,
        ),
        ("sentence_bert_config.json", r#"{"max_seq_length": 256, "do_lower_case": true}"#),
        ("tokenizer_config.json", r#"{"model_max_length": 512}"#),
        (
            "config_sentence_transformers.json",
            r#"{"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "query", "similarity_fn_name": "dot"}"#,
        ),
    ])
    .with_dense("2_Dense", &[("linear.weight", &[1, 2], &[0.5, -1.0]), ("linear.bias", &[1], &[0.25])]);
    let spec = folder.read().unwrap();
    let dense =
        DenseLayer { inputs: 2, outputs: 1, weight: vec![0.5, -1.0], bias: Some(vec![0.25]), act: Some(Activation::Tanh) };
    let expected = EmbedSpec {
        pooling: Ok(Pooling::Cls),
        include_prompt: false,
        dense: vec![dense],
        normalise: true,
        dimensions: None,
        prompts: vec![("query".into(), "query: ".into()), ("passage".into(), "passage: ".into())],
        default_prompt: Some("query".into()),
        max_tokens: Some(256),
        prompt_tokens: Vec::new(),
        lower_case: true,
        similarity: Similarity::Dot,
    };
    assert_eq!(spec, expected);
    assert_eq!(spec.prompt("document"), Some("passage: "));
    assert_eq!(spec.prompt("clustering"), None);
}

#[test]
fn a_number_of_dimensions_that_no_vector_has_is_an_error_that_names_the_key() {
    let of = |dim: &str| {
        let config = format!(r#"{{"truncate_dim": {dim}}}"#);
        Folder::new(&[("config_sentence_transformers.json", &config)]).read()
    };
    assert_eq!(of("2").unwrap().dimensions, Some(2));
    assert_eq!(of("null").unwrap().dimensions, None);
    for bad in ["0", "-1", "1.5", "\"a\""] {
        assert!(of(bad).unwrap_err().to_string().contains("truncate_dim"), "{bad}");
    }
}

#[test]
fn older_and_newer_files_name_the_same_pooling() {
    let of = |config: &str| {
        let modules = modules(&["Transformer", "Pooling"]);
        Folder::new(&[("modules.json", &modules), ("1_Pooling/config.json", config)]).read().unwrap().pooling
    };
    for (old, new, pooling) in [
        ("pooling_mode_mean_tokens", "mean", Pooling::Mean),
        ("pooling_mode_cls_token", "cls", Pooling::Cls),
        ("pooling_mode_max_tokens", "max", Pooling::Max),
        ("pooling_mode_lasttoken", "lasttoken", Pooling::Last),
    ] {
        assert_eq!(of(&format!(r#"{{"{old}": true}}"#)), Ok(pooling));
        assert_eq!(of(&format!(r#"{{"pooling_mode": "{new}"}}"#)), Ok(pooling));
        assert_eq!(of(&format!(r#"{{"pooling_mode": ["{new}"]}}"#)), Ok(pooling));
    }
    assert_eq!(of("{}"), Ok(Pooling::Mean));
    // They are no error yet: the caller may choose another pooling.
    assert!(of(r#"{"pooling_mode_weightedmean_tokens": true}"#).unwrap_err().ends_with("weightedmean"));
    assert!(of(r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#).unwrap_err().contains("cls and mean"));
}

#[test]
fn the_tokenizers_limit_counts_where_the_layout_has_none() {
    let of = |files: &[(&str, &str)]| Folder::new(files).read().unwrap().max_tokens;
    assert_eq!(of(&[("tokenizer_config.json", r#"{"model_max_length": 512}"#)]), Some(512));
    assert_eq!(of(&[("tokenizer_config.json", r#"{"model_max_length": 1e30}"#)]), None);
    let roberta = ("sentence_roberta_config.json", r#"{"max_seq_length": 128}"#);
    assert_eq!(of(&[roberta, ("tokenizer_config.json", r#"{"model_max_length": 512}"#)]), Some(128));
}

#[test]
fn what_can_not_be_done_is_a_typed_error_that_names_the_file() {
    let dense = |config: &str| {
        let modules = modules(&["Transformer", "Pooling", "Dense"]);
        let weight: (&str, &[usize], &[f32]) = ("linear.weight", &[1, 2], &[0.5, -1.0]);
        let files = [("modules.json", modules.as_str()), ("1_Pooling/config.json", "{}"), ("2_Dense/config.json", config)];
        Folder::new(&files).with_dense("2_Dense", &[weight]).read()
    };
    assert_eq!(dense(r#"{"in_features": 2, "out_features": 1, "bias": false}"#).unwrap().dense[0].act, Some(Activation::Tanh));
    for (config, expected) in [
        (r#"{"in_features": 2, "out_features": 1, "bias": true}"#, "linear.bias is missing"),
        (r#"{"in_features": 3, "out_features": 1, "bias": false}"#, "linear.weight is 1x2, expected 1x3"),
        (r#"{"in_features": 2, "bias": false}"#, "out_features is no positive number"),
        (r#"{"in_features": 2, "out_features": 1, "activation_function": "torch.nn.Softmax"}"#, "torch.nn.Softmax"),
        (r#"{"in_features": 2, "out_features": 1, "use_residual": true}"#, "use_residual"),
    ] {
        let error = dense(config).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. } | Error::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    for (modules, expected) in [
        ("{}", "no list"),
        (r#"[{"path": "", "type": "sentence_transformers.models.WordEmbeddings"}]"#, "WordEmbeddings"),
        (r#"[{"path": "../x", "type": "sentence_transformers.models.Dense"}]"#, "leads out"),
        (r#"[{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]"#, "is missing"),
    ] {
        let error = Folder::new(&[("modules.json", modules)]).read().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn modules_in_another_order_are_refused_and_so_are_those_of_others() {
    let read = |modules: &str| Folder::new(&[("modules.json", modules), ("1_Pooling/config.json", "{}")]).read();
    assert!(read(&modules(&["Transformer", "Pooling", "Normalize"])).is_ok());
    for kinds in [&["Transformer"][..], &["Transformer", "Normalize"], &["Transformer", "Pooling", "Normalize", "Normalize"]] {
        let error = read(&modules(kinds)).unwrap_err().to_string();
        assert!(error.contains("in this order") && error.contains("modules.json"), "{error}");
    }
    let foreign = r#"[{"path": "", "type": "sentence_transformers.models.Transformer"}, {"path": "1_Dense", "type": "pylate.models.Dense"}]"#;
    assert!(read(foreign).unwrap_err().to_string().contains("pylate.models.Dense"));
}
