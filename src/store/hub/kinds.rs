//! What a file of a repository is, by its name.

pub(super) fn is_gguf(path: &str) -> bool {
    path.to_ascii_lowercase().ends_with(".gguf")
}

pub(super) fn is_pickle(path: &str) -> bool {
    [".bin", ".pt", ".pth", ".ckpt"].iter().any(|end| path.ends_with(end))
}

/// Whether a GGUF file holds something else than a language model.
pub(super) fn is_extra(path: &str) -> bool {
    ["mmproj", "imatrix"].iter().any(|word| path.to_ascii_lowercase().contains(word))
}
