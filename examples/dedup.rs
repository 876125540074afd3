//! Leaves out lines that say the same as an earlier one, in other words.
//!
//!     cargo run --release --example dedup -- lines.txt [THRESHOLD] [MODEL] > fewer.txt
//!
//! Needs a file of lines, `-` for stdin. THRESHOLD is the cosine from which two lines are the same (0.9 where it is left out);
//! MODEL is a folder or a name (`all-minilm`, which is fetched once; offline where it is on this machine, or with
//! models/SmolLM2-135M-Instruct.Q4_1.gguf, whose vectors need a threshold near 1). What was left out is told on stderr.

use std::io::{BufRead, BufReader, Read};
use tallow::{EmbedOptions, Embedder, LoadOptions, ndarray::ArrayView2};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(file) = args.first() else { return Err("usage: dedup FILE [THRESHOLD] [MODEL]".into()) };
    let threshold: f32 = args.get(1).map_or(Ok(0.9), |text| text.parse())?;
    let model = args.get(2).map_or("all-minilm", String::as_str);
    // Normalised, so that the dot product is the cosine.
    let options = EmbedOptions { normalise: Some(true), ..EmbedOptions::default() };
    let embedder = Embedder::load_with(model, &LoadOptions::default(), &options)?;

    let input: Box<dyn Read> = if file == "-" { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(file)?) };
    let mut broken = None;
    let lines = BufReader::new(input).lines().map_while(|line| line.map_err(|error| broken = Some(error)).ok()).fuse();

    // What is kept stays in memory; the input does not: it may be a stream.
    let (mut kept, mut vectors): (Vec<String>, Vec<f32>) = (Vec::new(), Vec::new());
    let (dim, mut dropped) = (embedder.dimensions(), 0);
    for embedding in embedder.embed_iter(lines) {
        let embedding = embedding?;
        let earlier = ArrayView2::from_shape((kept.len(), dim), &vectors)?;
        let this = ArrayView2::from_shape((dim, 1), &embedding.vector)?;
        let scores = earlier.dot(&this);
        let nearest = (0..kept.len()).max_by(|a, b| scores[[*a, 0]].total_cmp(&scores[[*b, 0]]));
        match nearest.filter(|i| scores[[*i, 0]] >= threshold) {
            Some(i) => {
                dropped += 1;
                eprintln!("{:.3}  {:?} is {:?}", scores[[i, 0]], embedding.text, kept[i]);
            }
            None => {
                println!("{}", embedding.text);
                kept.push(embedding.text);
                vectors.extend(embedding.vector);
            }
        }
    }
    if let Some(error) = broken {
        return Err(error.into());
    }
    eprintln!("{} lines kept, {dropped} left out", kept.len());
    Ok(())
}
