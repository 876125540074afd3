//! all-MiniLM-L6-v2 against sentence-transformers, on 500 texts of many scripts and lengths: tests/golden/make_minilm.py made
//! the values. The model is 90 MB, so it is not in the repository: `TALLOW_MINILM=DIR cargo test --release --test minilm`.

use std::path::Path;
use tallow::{DeviceChoice, EmbedOptions, Embedder, LoadOptions, ndarray::Array2};

/// The model's folder; says so where none is named.
fn minilm() -> Option<String> {
    let folder = std::env::var("TALLOW_MINILM").ok();
    if folder.is_none() {
        eprintln!("left out: TALLOW_MINILM names no folder of sentence-transformers/all-MiniLM-L6-v2");
    }
    folder
}

fn expected() -> (Vec<String>, Array2<f32>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/minilm");
    let texts: Vec<String> = serde_json::from_slice(&std::fs::read(folder.join("texts.json")).unwrap()).unwrap();
    let vectors = candle_core::Tensor::read_npy(folder.join("vectors.npy")).unwrap();
    let (rows, dim) = vectors.dims2().unwrap();
    (texts, Array2::from_shape_vec((rows, dim), vectors.flatten_all().unwrap().to_vec1().unwrap()).unwrap())
}

#[test]
fn vectors_of_500_texts_differ_by_less_than_1e_5_from_sentence_transformers() {
    let Some(folder) = minilm() else { return };
    let (texts, expected) = expected();
    assert_eq!(texts.len(), 500);
    for device in [DeviceChoice::Cpu, DeviceChoice::CpuReference] {
        let load = LoadOptions { device, ..LoadOptions::default() };
        let embedder = Embedder::load_with(&folder, &load, &EmbedOptions::default()).unwrap();
        // The reference is slow: some of the texts are enough.
        let step = if device == DeviceChoice::Cpu { 1 } else { 25 };
        let some: Vec<&String> = texts.iter().step_by(step).collect();
        let all = embedder.embed_with(&some, embedder.options()).unwrap();
        let mut worst = (0.0, 0);
        for (i, row) in all.vectors.outer_iter().enumerate() {
            let pairs = row.into_iter().zip(expected.row(i * step));
            let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            worst = if difference > worst.0 { (difference, i) } else { worst };
        }
        println!("{device}: the largest difference is {:.2e}, {} texts were cut", worst.0, all.truncated.len());
        assert!(worst.0 < 1e-5, "{device}: {:?} differs by {}", some[worst.1], worst.0);
        if step == 1 {
            assert_eq!(all.truncated.len(), 47);
        }
    }
}

#[test]
fn int8_weights_keep_the_direction_of_every_vector() {
    let Some(folder) = minilm() else { return };
    let (texts, expected) = expected();
    let load = LoadOptions { quantise: Some(tallow::quant::Dtype::Q8_0), ..LoadOptions::default() };
    let embedder = Embedder::load_with(&folder, &load, &EmbedOptions::default()).unwrap();
    let got = embedder.embed(&texts).unwrap();
    let cosine = |i: usize| got.row(i).iter().zip(expected.row(i)).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let mut losses: Vec<f64> = (0..texts.len()).map(|i| 1.0 - cosine(i)).collect();
    losses.sort_by(f64::total_cmp);
    let mean = losses.iter().sum::<f64>() / losses.len() as f64;
    println!(
        "1 - cosine: mean {mean:.1e}, median {:.1e}, 99 % below {:.1e}, worst {:.1e}",
        losses[250], losses[495], losses[499]
    );
    assert!(mean < 1e-3 && losses[499] < 1e-2);
}
