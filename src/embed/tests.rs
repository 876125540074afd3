//! The way of texts, with a network of ten lines: a token's hidden state is its id, its position, and the texts in its batch.

use super::*;
use crate::backend::{Batch, KvCache};
use crate::checkpoint::{DenseLayer, Similarity};
use crate::model::Forward;
use crate::options::{Cancel, Prompt};
use crate::spec::Activation;
use ndarray::array;
use std::path::Path;
use std::sync::Mutex;

const DIM: usize = 2;

/// Remembers the batches it was given.
struct Fake {
    spec: Spec,
    batches: Arc<Mutex<Vec<Vec<usize>>>>,
}

impl Forward for Fake {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn cache(&self, _: usize) -> Result<KvCache> {
        unreachable!("nothing is remembered between texts")
    }

    fn hidden(&self, batch: &Batch, caches: &mut [&mut KvCache], out: &mut Vec<f32>) -> Result<()> {
        assert!(caches.is_empty());
        let lens: Vec<usize> = (0..batch.sequences()).map(|i| batch.rows(i).len()).collect();
        let positions: Vec<usize> = lens.iter().flat_map(|len| 0..*len).collect();
        out.clear();
        out.extend(batch.outputs.iter().flat_map(|row| [batch.tokens[*row] as f32, positions[*row] as f32]));
        self.batches.lock().unwrap().push(lens);
        Ok(())
    }

    fn logits(&self, _: &Batch, _: &mut [&mut KvCache], _: &mut Vec<f32>) -> Result<()> {
        unreachable!("vectors have no logits")
    }
}

fn spec(pooling: Pooling) -> EmbedSpec {
    EmbedSpec {
        pooling: Ok(pooling),
        include_prompt: true,
        dense: Vec::new(),
        normalise: false,
        dimensions: None,
        prompts: vec![("query".into(), "query: ".into()), ("passage".into(), "passage: ".into())],
        default_prompt: None,
        max_tokens: None,
        prompt_tokens: Vec::new(),
        lower_case: false,
        similarity: Similarity::Cosine,
    }
}

type Batches = Arc<Mutex<Vec<Vec<usize>>>>;

/// An embedder around the fake, with the tokenizer of a golden case, which adds no special tokens.
fn fake(spec: EmbedSpec, options: &EmbedOptions) -> Result<(Embedder, Batches)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2-prefixed");
    let options_of_load = LoadOptions { threads: Some(3), ..LoadOptions::default() };
    let real = Checkpoint::open(folder.to_str().unwrap()).unwrap().load(&options_of_load).unwrap();
    let network = Spec { dim: DIM, ..real.network.spec().clone() };
    let batches = Batches::default();
    let network = Fake { spec: network, batches: batches.clone() };
    let loaded = Loaded { network: Box::new(network), ..real };
    Ok((Embedder::around(loaded, spec, None, options)?, batches))
}

fn of(spec: EmbedSpec, options: EmbedOptions) -> Embedder {
    fake(spec, &options).unwrap().0
}

fn ids(embedder: &Embedder, text: &str) -> Vec<f32> {
    embedder.tokenizer().encode(text, true).unwrap().into_iter().map(|id| id as f32).collect()
}

fn mean(values: &[f32]) -> f32 {
    (values.iter().map(|x| f64::from(*x)).sum::<f64>() / values.len() as f64) as f32
}

const TEXT: &str = "The quick brown fox jumps.";

#[test]
fn each_pooling_is_what_its_name_says() {
    let embedder = of(spec(Pooling::Mean), EmbedOptions::default());
    let ids = ids(&embedder, TEXT);
    let last = (ids.len() - 1) as f32;
    let positions: Vec<f32> = (0..ids.len()).map(|i| i as f32).collect();
    let largest = ids.iter().copied().fold(0.0, f32::max);
    for (pooling, expected) in [
        (Pooling::Mean, [mean(&ids), mean(&positions)]),
        (Pooling::Cls, [ids[0], 0.0]),
        (Pooling::Last, [*ids.last().unwrap(), last]),
        (Pooling::Max, [largest, last]),
    ] {
        let options = EmbedOptions { pooling: Some(pooling), ..EmbedOptions::default() };
        assert_eq!(embedder.embed_with(&[TEXT], &options).unwrap().vectors, array![expected], "{pooling}");
    }
    let options = EmbedOptions { pooling: Some(Pooling::None), ..EmbedOptions::default() };
    let all = embedder.embed_with(&[TEXT, "", "fox"], &options).unwrap();
    assert_eq!(all.tokens[..2], [ids.len(), 0]);
    assert_eq!(all.vectors.nrows(), all.tokens.iter().sum::<usize>());
    for (i, id) in ids.iter().enumerate() {
        assert_eq!(all.vectors.row(i).to_vec(), [*id, i as f32]);
    }
}

#[test]
fn texts_are_packed_by_length_within_the_budget_and_come_back_in_order() {
    let options = EmbedOptions { batch_tokens: 8, pooling: Some(Pooling::Cls), ..EmbedOptions::default() };
    let (embedder, batches) = fake(spec(Pooling::Mean), &options).unwrap();
    let texts = [vec![1; 3], vec![2; 5], vec![3; 1], vec![], vec![4; 20], vec![5; 2], vec![6; 3]];
    let vectors = embedder.embed_tokens(&texts).unwrap();
    let firsts: Vec<f32> = vectors.column(0).to_vec();
    // A text without tokens has a vector of zeros.
    assert_eq!(firsts, [1.0, 2.0, 3.0, 0.0, 4.0, 5.0, 6.0]);
    // One that is longer than the budget is alone.
    assert_eq!(*batches.lock().unwrap(), [vec![20], vec![5, 3], vec![3, 2, 1]]);
}

#[test]
fn no_texts_give_no_rows() {
    let embedder = of(spec(Pooling::Mean), EmbedOptions::default());
    assert_eq!(embedder.embed::<&str>(&[]).unwrap().dim(), (0, DIM));
    assert_eq!(embedder.embed_iter(Vec::<String>::new()).count(), 0);
}

#[test]
fn dense_layers_dimensions_and_the_norm_follow_the_pooling_in_this_order() {
    let dense = |weight: Vec<f32>, bias: Option<Vec<f32>>, act| {
        let outputs = weight.len() / DIM;
        DenseLayer { inputs: DIM, outputs, weight, bias, act }
    };
    let first = dense(vec![0.0, 1.0, 1.0, 0.0], None, None);
    let second = dense(vec![1.0, 0.0, 0.0, 2.0, -1.0, 0.0], Some(vec![0.0, 1.0, 0.0]), Some(Activation::Relu));
    let spec = EmbedSpec { dense: vec![first, second], ..spec(Pooling::Last) };
    let embedder = of(spec.clone(), EmbedOptions::default());
    assert_eq!(embedder.dimensions(), 3);
    // The last token is 7 at position 2: swapped by the first layer.
    assert_eq!(embedder.embed_tokens(&[[5, 6, 7]]).unwrap(), array![[2.0, 15.0, 0.0]]);
    let cut = of(spec.clone(), EmbedOptions { dimensions: Some(2), normalise: Some(true), ..EmbedOptions::default() });
    let length = (4.0f64 + 225.0).sqrt();
    assert_eq!(cut.embed_tokens(&[[5, 6, 7]]).unwrap(), array![[(2.0 / length) as f32, (15.0 / length) as f32]]);
    // The model may keep fewer than it has.
    assert_eq!(of(EmbedSpec { dimensions: Some(1), ..spec.clone() }, EmbedOptions::default()).dimensions(), 1);
    for wrong in [0, 4] {
        let options = EmbedOptions { dimensions: Some(wrong), ..EmbedOptions::default() };
        assert!(matches!(fake(spec.clone(), &options), Err(Error::Input(_))), "{wrong}");
    }
    let swapped = EmbedSpec { dense: spec.dense.iter().rev().cloned().collect(), ..spec };
    assert!(matches!(fake(swapped, &EmbedOptions::default()), Err(Error::Corrupt { .. })));
}

#[test]
fn long_texts_are_cut_and_counted_or_refused() {
    let options = EmbedOptions { max_tokens: Some(3), pooling: Some(Pooling::Last), ..EmbedOptions::default() };
    let embedder = of(spec(Pooling::Mean), options.clone());
    let ids = ids(&embedder, TEXT);
    let all = embedder.embed_with(&["a", TEXT], &options).unwrap();
    assert_eq!(all.tokens[1], 3);
    assert_eq!(all.truncated, [Truncated { index: 1, tokens: ids.len() }]);
    assert_eq!(all.vectors.row(1).to_vec(), [ids[2], 2.0]);

    let strict = embedder.with(&EmbedOptions { truncate: false, ..options }).unwrap();
    match strict.embed(&["a", TEXT]).unwrap_err() {
        Error::TextTooLong { index: 1, text, tokens, limit: 3 } => assert_eq!((text.as_str(), tokens), (TEXT, ids.len())),
        other => panic!("{other}"),
    }
    assert!(strict.embed(&["a"]).is_ok());
    let mut stream = strict.embed_iter(["a", TEXT, "b"]);
    assert_eq!(stream.next().unwrap().unwrap().text, "a");
    assert!(matches!(stream.next(), Some(Err(Error::TextTooLong { index: 1, .. }))));
    assert!(stream.next().is_none());
}

#[test]
fn prompts_are_written_before_each_text_and_pooled_or_not_as_the_model_says() {
    let named = |name: &str| EmbedOptions { prompt: Prompt::Named(name.into()), ..EmbedOptions::default() };
    let embedder = of(spec(Pooling::Mean), named("query"));
    let plain = embedder.with(&EmbedOptions::default()).unwrap();
    let of_text = |text: &str| plain.embed(&[text]).unwrap();
    assert_eq!(embedder.embed(&["fox"]).unwrap(), of_text("query: fox"));
    assert_eq!(embedder.embed_with(&["fox"], &named("document")).unwrap().vectors, of_text("passage: fox"));
    let text = EmbedOptions { prompt: Prompt::Text("title: ".into()), ..EmbedOptions::default() };
    assert_eq!(embedder.embed_with(&["fox"], &text).unwrap().vectors, of_text("title: fox"));
    let error = embedder.with(&named("clustering")).unwrap_err().to_string();
    assert!(error.contains("clustering") && error.contains("query, passage"), "{error}");

    let default = EmbedSpec { default_prompt: Some("query".into()), ..spec(Pooling::Mean) };
    let embedder = of(default, EmbedOptions::default());
    assert_eq!(embedder.embed(&["fox"]).unwrap(), of_text("query: fox"));
    let none = EmbedOptions { prompt: Prompt::None, ..EmbedOptions::default() };
    assert_eq!(embedder.embed_with(&["fox"], &none).unwrap().vectors, of_text("fox"));

    let apart = EmbedSpec { include_prompt: false, ..spec(Pooling::Mean) };
    let embedder = of(apart, named("query"));
    let (prompt, whole) = (ids(&embedder, "query: "), ids(&embedder, "query: fox"));
    assert_eq!(embedder.embed(&["fox"]).unwrap()[[0, 0]], mean(&whole[prompt.len()..]));
}

#[test]
fn texts_are_lower_cased_where_the_model_says_so() {
    let embedder = of(EmbedSpec { lower_case: true, ..spec(Pooling::Mean) }, EmbedOptions::default());
    assert_eq!(embedder.embed(&["FOX Über"]).unwrap(), embedder.embed(&["fox über"]).unwrap());
    let plain = of(spec(Pooling::Mean), EmbedOptions::default());
    assert_ne!(plain.embed(&["FOX"]).unwrap(), plain.embed(&["fox"]).unwrap());
}

#[test]
fn a_pooling_that_is_missing_is_told_and_can_be_replaced() {
    let odd = EmbedSpec { pooling: Err("1_Pooling/config.json: weightedmean".into()), ..spec(Pooling::Mean) };
    let error = fake(odd.clone(), &EmbedOptions::default()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("weightedmean"), "{error}");
    assert!(fake(odd, &EmbedOptions { pooling: Some(Pooling::Mean), ..EmbedOptions::default() }).is_ok());
}

#[test]
fn a_stream_gives_what_a_slice_gives_over_several_windows() {
    let embedder = of(spec(Pooling::Last), EmbedOptions { max_tokens: Some(4), ..EmbedOptions::default() });
    let texts: Vec<String> = (0..2 * run::WINDOW_TEXTS + 5).map(|i| format!("{i} and some {i}")).collect();
    let all = embedder.embed_with(&texts, embedder.options()).unwrap();
    assert!(!all.truncated.is_empty());
    let mut cut = Vec::new();
    for (i, embedding) in embedder.embed_iter(&texts).enumerate() {
        let embedding = embedding.unwrap();
        assert_eq!(embedding.text, &texts[i]);
        assert_eq!(embedding.vector, all.vectors.row(i).to_vec());
        assert_eq!(embedding.tokens, all.tokens[i]);
        cut.extend(embedding.cut_from.map(|tokens| Truncated { index: i, tokens }));
    }
    assert_eq!(cut, all.truncated);
    let mut into = vec![0.0; texts.len() * DIM];
    embedder.embed_into(&texts, &mut into).unwrap();
    assert_eq!(into, all.vectors.as_slice().unwrap());
}

#[test]
fn a_buffer_of_another_size_and_one_without_a_pooling_are_refused() {
    let embedder = of(spec(Pooling::Mean), EmbedOptions::default());
    assert!(matches!(embedder.embed_into(&["a"], &mut [0.0; 3]), Err(Error::Input(_))));
    let none = embedder.with(&EmbedOptions { pooling: Some(Pooling::None), ..EmbedOptions::default() }).unwrap();
    assert!(matches!(none.embed_into(&["a"], &mut [0.0; 2]), Err(Error::Input(_))));
}

#[test]
fn cancelling_ends_the_work_and_the_embedder_goes_on() {
    let cancel = Cancel::default();
    let embedder = of(spec(Pooling::Mean), EmbedOptions { cancel: Some(cancel.clone()), ..EmbedOptions::default() });
    cancel.cancel();
    assert!(matches!(embedder.embed(&["a"]), Err(Error::Cancelled)));
    assert!(matches!(embedder.embed_iter(["a"]).next(), Some(Err(Error::Cancelled))));
    cancel.reset();
    assert!(embedder.embed(&["a"]).is_ok());
}

#[test]
fn tokens_are_the_same_from_several_threads_and_from_one() {
    let embedder = of(spec(Pooling::Mean), EmbedOptions::default());
    let texts: Vec<String> = (0..1000).map(|i| format!("text number {i} {}", "word ".repeat(i % 37))).collect();
    let together = embedder.embed(&texts).unwrap();
    for (i, text) in texts.iter().enumerate() {
        assert_eq!(embedder.embed(&[text]).unwrap().row(0), together.row(i), "{text}");
    }
}
