//! Semantic search over a folder of text files: the paragraphs that are nearest in meaning to a question.
//!
//!     cargo run --release --example search -- FOLDER "How are downloads resumed?" [MODEL]
//!
//! Needs a folder of .txt or .md files. MODEL is a folder or a name; `all-minilm` where it is left out, which is fetched once
//! (90 MB). Offline, models/SmolLM2-135M-Instruct.Q4_1.gguf of the repository does for a try.

use std::path::{Path, PathBuf};

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        match entry?.path() {
            path if path.is_dir() => files(&path, found)?,
            path if path.extension().is_some_and(|e| e == "txt" || e == "md") => found.push(path),
            _ => {}
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, question, model @ ..] = args.as_slice() else { return Err("usage: search FOLDER QUESTION [MODEL]".into()) };
    let embedder = tallow::Embedder::load(model.first().map_or("all-minilm", String::as_str))?;
    let (mut paths, mut paragraphs) = (Vec::new(), Vec::new());
    files(Path::new(folder), &mut paths)?;
    for path in paths {
        let text = std::fs::read_to_string(&path)?;
        paragraphs.extend(text.split("\n\n").filter(|p| !p.trim().is_empty()).map(|p| (path.clone(), p.trim().to_owned())));
    }
    let vectors = embedder.embed(&paragraphs.iter().map(|(_, text)| text).collect::<Vec<_>>())?;
    for (i, score) in embedder.top_k(&embedder.embed(&[question])?, &vectors, 5).remove(0) {
        println!("{score:.3}  {}\n{}\n", paragraphs[i].0.display(), paragraphs[i].1);
    }
    Ok(())
}
