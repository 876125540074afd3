//! Files and folders that are right, wrong in each way we know of, and wrong at random.

use super::*;
use crate::tensors::test_folder::{Folder, golden};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A file with this header and so many bytes of data: 1.0 in every four bytes.
fn file(header: &str, data: usize) -> Vec<u8> {
    let data = 1f32.to_le_bytes().into_iter().cycle().take(data);
    (header.len() as u64).to_le_bytes().into_iter().chain(header.bytes()).chain(data).collect()
}

fn read(header: &str, data: usize) -> Result<Weights> {
    from_bytes(file(header, data).into(), "bad.safetensors")
}

fn error(header: &str, data: usize) -> String {
    read(header, data).unwrap_err().to_string()
}

/// A header's entry for a tensor.
fn entry(name: &str, dtype: &str, shape: &[usize], begin: usize, end: usize) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#)
}

fn sample() -> String {
    let entries = [
        r#""__metadata__":{"format":"pt","shape":"any"}"#.to_owned(),
        entry("b", "F16", &[2, 2], 24, 32),
        entry("a", "F32", &[3, 2], 0, 24),
        entry("attn.bias", "BOOL", &[1, 4], 32, 36),
        entry("position_ids", "I64", &[1], 36, 44),
        entry("one", "BF16", &[], 44, 46),
        entry("none", "F32", &[0], 46, 46),
    ];
    format!("{{{}}}", entries.join(","))
}

#[test]
fn a_file_gives_back_what_was_written() {
    let mut weights = read(&sample(), 46).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "attn.bias", "b", "none", "one", "position_ids"]);
    assert_eq!(weights.take("a", &[3, 2]).unwrap().to_f32(), [1.0; 6]);
    let b = weights.take("b", &[2, 2]).unwrap();
    assert_eq!((b.dtype, b.to_f32()), (Dtype::F16, vec![0.0, 1.875, 0.0, 1.875]));
    assert_eq!(weights.take("one", &[]).unwrap().to_f32(), [0.0]);
    assert_eq!(weights.take("none", &[0]).unwrap().to_f32(), [0.0; 0]);
}

#[test]
fn buffers_of_other_types_do_no_harm_until_they_are_taken() {
    let mut weights = read(&sample(), 46).unwrap();
    assert!(weights.contains("attn.bias") && weights.get("attn.bias").is_none());
    assert_eq!(weights.shape("attn.bias"), Some(&[1, 4][..]));
    let error = weights.take("position_ids", &[1]).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }));
    assert_eq!(
        error.to_string(),
        "bad.safetensors: tensor position_ids of type I64 is not supported; supported: F32, F16, BF16"
    );
}

#[test]
fn files_of_other_kinds_are_named() {
    let said = |bytes: &[u8]| from_bytes(bytes.to_vec().into(), "x").unwrap_err().to_string();
    assert_eq!(said(b""), "x: is 0 bytes long, too short for a safetensors file");
    assert_eq!(said(b"1234567"), "x: is 7 bytes long, too short for a safetensors file");
    assert_eq!(
        said(b"version https://git-lfs.github.com/spec/v1"),
        "x: is not a safetensors file; it looks like a Git LFS pointer, not the file itself (`git lfs pull` fetches it)"
    );
    assert_eq!(said(b"GGUF\x03\0\0\0...."), "x: is not a safetensors file; it looks like a GGUF file");
    assert_eq!(
        said(b"PK\x03\x04\0\0\x08\x08\0\0"),
        "x: is not a safetensors file; \
         it looks like a zip archive, as PyTorch writes them; tallow does not run the Python pickle inside"
    );
}

#[test]
fn lying_header_lengths_are_errors() {
    let with_length = |len: u64| [&len.to_le_bytes()[..], b"{}      "].concat();
    let said = |len| from_bytes(with_length(len).into(), "x").unwrap_err().to_string();
    assert_eq!(said(9), "x: claims a header of 9 bytes, but only 8 follow");
    assert_eq!(said(100_000_000), "x: claims a header of 100000000 bytes, but only 8 follow");
    assert_eq!(said(100_000_001), "x: claims a header of 100000001 bytes; the limit is 100000000");
    assert_eq!(said(u64::MAX), "x: claims a header of 18446744073709551615 bytes; the limit is 100000000");
    assert!(from_bytes(with_length(8).into(), "x").unwrap().is_empty());
}

#[test]
fn headers_that_are_no_json_or_the_wrong_json_are_errors() {
    let starts = |header: &str, start: &str| {
        let error = error(header, 4);
        assert!(error.starts_with(start), "{error}");
    };
    starts("{\"a\":", "bad.safetensors: its header is not valid: EOF while parsing");
    starts("[1]", "bad.safetensors: its header is not valid: invalid type: sequence, expected an object whose keys are");
    starts("{\"a\":1}", "bad.safetensors: its header is not valid: invalid type: integer `1`, expected struct TensorInfo");
    starts(
        &format!("{{{}}}", entry("a", "F99", &[1], 0, 4)),
        "bad.safetensors: its header is not valid: unknown variant `F99`, expected one of",
    );
    starts(
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        "bad.safetensors: its header is not valid: invalid value: integer `-1`, expected usize",
    );
    starts(&"[".repeat(100_000), "bad.safetensors: its header is not valid: invalid type: sequence");
    starts(
        &format!("{{\"__metadata__\":{}", "[".repeat(100_000)),
        "bad.safetensors: its header is not valid: EOF while parsing a list",
    );
}

#[test]
fn names_that_occur_twice_are_errors() {
    let header = format!("{{{},{}}}", entry("a", "F32", &[1], 0, 4), entry("a", "F32", &[1], 0, 4));
    let error = error(&header, 4);
    assert!(error.starts_with("bad.safetensors: its header is not valid: tensor a occurs twice"), "{error}");
}

#[test]
fn offsets_that_can_not_be_are_errors_that_name_the_tensor() {
    let one = |begin, end, data| error(&format!("{{{}}}", entry("a", "F32", &[1], begin, end)), data);
    assert_eq!(
        one(0, 8, 4),
        "bad.safetensors: tensor a: its bytes 0 to 8 are not within the 4 bytes of data; the file is cut short or damaged"
    );
    assert_eq!(
        one(4, 0, 4),
        "bad.safetensors: tensor a: its bytes 4 to 0 are not within the 4 bytes of data; the file is cut short or damaged"
    );
    assert_eq!(one(4, 8, 8), "bad.safetensors: tensor a overlaps the one before it, or leaves a gap");
    assert_eq!(one(0, 4, 8), "bad.safetensors: its tensors take 4 bytes, but 8 follow the header");
    let two = format!("{{{},{}}}", entry("a", "F32", &[2], 0, 8), entry("b", "F32", &[1], 4, 8));
    assert_eq!(error(&two, 8), "bad.safetensors: tensor b overlaps the one before it, or leaves a gap");
}

#[test]
fn shapes_that_do_not_fit_the_bytes_are_errors() {
    let one = |dtype, shape: &[usize]| error(&format!("{{{}}}", entry("a", dtype, shape, 0, 4)), 4);
    assert_eq!(one("F32", &[2]), "bad.safetensors: tensor a: has 4 bytes, 2 of F32 need 8");
    assert_eq!(one("F16", &[3, 2]), "bad.safetensors: tensor a: has 4 bytes, 3x2 of F16 need 12");
    assert_eq!(one("F4", &[7]), "bad.safetensors: tensor a: has 4 bytes, 7 of F4 need 4");
    assert_eq!(one("F32", &[1 << 32, 1 << 32]), "bad.safetensors: tensor a: is 4294967296x4294967296, too large to be true");
    assert_eq!(one("F32", &[1 << 62]), "bad.safetensors: tensor a: is 4611686018427387904, too large to be true");
}

/// A folder with an index and two shards, and what the index says.
fn sharded_folder(weight_map: &str) -> Folder {
    let folder = Folder::new();
    folder.write("model.safetensors.index.json", format!(r#"{{"metadata":{{"total_size":8}},"weight_map":{weight_map}}}"#));
    folder.write("one.safetensors", file(&format!("{{{}}}", entry("a", "F32", &[1], 0, 4)), 4));
    let two = [entry("b", "F32", &[1], 0, 4), entry("extra", "F32", &[1], 4, 8)].join(",");
    folder.write("sub/two.safetensors", file(&format!("{{{two}}}"), 8));
    folder
}

fn folder_error(weight_map: &str) -> String {
    let folder = sharded_folder(weight_map);
    let error = open(folder.path()).unwrap_err().to_string();
    error.replace(&folder.path().display().to_string(), "DIR")
}

#[test]
fn shards_are_read_as_the_index_says() {
    let folder = sharded_folder(r#"{"a":"one.safetensors","b":"sub/two.safetensors"}"#);
    for path in [folder.path().to_owned(), folder.path().join(INDEX)] {
        let mut weights = open(path).unwrap();
        assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(weights.take("b", &[1]).unwrap().to_f32(), [1.0]);
        let error = weights.take("b", &[1]).unwrap_err().to_string();
        assert_eq!(error, format!("{}: tensor b is missing", folder.path().join(INDEX).display()));
        let error = weights.take("a", &[2]).unwrap_err().to_string();
        let shard = folder.path().join("one.safetensors");
        assert_eq!(error, format!("{}: tensor a is 1, expected 2", shard.display()));
    }
}

#[test]
fn shard_paths_that_leave_the_folder_are_errors() {
    for bad in ["../one.safetensors", "/etc/passwd", "sub/../../x", "./one.safetensors", ".", "..", ""] {
        assert_eq!(
            folder_error(&format!(r#"{{"a":"{bad}"}}"#)),
            format!("DIR/model.safetensors.index.json: names the shard {bad:?}, which is outside of the folder")
        );
    }
}

#[test]
fn missing_shards_and_tensors_are_named() {
    assert_eq!(
        folder_error(r#"{"a":"one.safetensors","b":"three.safetensors"}"#),
        "model not found: DIR/three.safetensors; \
         DIR/model.safetensors.index.json names this shard; the download may be incomplete"
    );
    assert_eq!(
        folder_error(r#"{"c":"one.safetensors"}"#),
        "DIR/one.safetensors: tensor c is missing, which model.safetensors.index.json says is here"
    );
}

#[test]
fn broken_indexes_are_errors() {
    let start = "DIR/model.safetensors.index.json: is not a valid index: ";
    for (map, reason) in [
        ("3", "invalid type: integer `3`, expected an object whose keys are tensor names"),
        (r#"{"a":1}"#, "invalid type: integer `1`, expected a string"),
        (r#"{"a":"one.safetensors""#, "EOF while parsing an object"),
        (r#"{"a":"one.safetensors","a":"sub/two.safetensors"}"#, "tensor a occurs twice"),
    ] {
        let error = folder_error(map);
        assert!(error.starts_with(&format!("{start}{reason}")), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_work_as_in_a_hub_cache() {
    let cache = Folder::new();
    let blob = cache.write("blobs/0123abcd", file(&format!("{{{}}}", entry("a", "F32", &[1], 0, 4)), 4));
    assert!(blob.exists());
    let link = |name: &str| {
        let snapshot = cache.path().join("snapshots/main");
        std::fs::create_dir_all(&snapshot).unwrap();
        std::os::unix::fs::symlink("../../blobs/0123abcd", snapshot.join(name)).unwrap();
        snapshot
    };
    let snapshot = link("part.safetensors");
    cache.write("snapshots/main/model.safetensors.index.json", r#"{"weight_map":{"a":"part.safetensors"}}"#);
    assert!(open(&snapshot).unwrap().contains("a"));
    link("model.safetensors");
    assert!(open(&snapshot).unwrap().file().ends_with("model.safetensors"));
}

#[test]
fn folders_without_safetensors_say_what_was_expected() {
    let folder = Folder::new();
    let shown = folder.path().display().to_string();
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
    assert_eq!(
        error.to_string(),
        format!("model not found: {shown}; expected model.safetensors or model.safetensors.index.json in this folder")
    );
    folder.write("pytorch_model.bin", b"PK\x03\x04");
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "{shown}/pytorch_model.bin: a Python pickle, which can run any code when it is read, is not supported; \
             supported: safetensors and GGUF; look for a safetensors revision of the repository, or convert it with \
             transformers' save_pretrained where you trust it"
        )
    );
}

/// Numbers and types of tensors, and the first two and last two values of some, as Python reads them.
#[test]
fn the_reference_folders_open_with_their_types_and_values() {
    fn take(weights: &mut Weights, name: &str, dtype: Dtype, shape: &[usize]) -> [f32; 4] {
        let tensor = weights.take(name, shape).unwrap();
        assert_eq!((tensor.dtype, tensor.data.is_mapped()), (dtype, true));
        let values = tensor.to_f32();
        [values[0], values[1], values[values.len() - 2], values[values.len() - 1]]
    }
    let mut weights = open(golden("llama-mha")).unwrap();
    assert_eq!(weights.len(), 21);
    let embed = take(&mut weights, "model.embed_tokens.weight", Dtype::F32, &[512, 48]);
    assert_eq!(embed, [0.7782555, 0.3330935, -0.18226464, -0.45731774]);

    let mut weights = open(golden("llama-sharded-bf16")).unwrap();
    assert_eq!(weights.len(), 30);
    let key = take(&mut weights, "model.layers.1.self_attn.k_proj.weight", Dtype::BF16, &[32, 64]);
    assert_eq!(key, [0.060302734, 0.3125, 0.061767578, 0.122558594]);
    let norm = take(&mut weights, "model.norm.weight", Dtype::BF16, &[64]);
    assert_eq!(norm, [1.0390625, 0.953125, 1.140625, 0.6171875]);

    let mut weights = open(golden("gpt2-hub/model.safetensors")).unwrap();
    assert_eq!(weights.len(), 43);
    let mask = take(&mut weights, "h.0.attn.bias", Dtype::F32, &[1, 1, 104, 104]);
    assert_eq!(mask, [1.0, 0.0, 1.0, 1.0]);
    let attn = take(&mut weights, "h.0.attn.c_attn.weight", Dtype::F32, &[40, 120]);
    assert_eq!(attn, [0.12650485, 0.024005879, -0.2715188, -0.041772734]);
}

/// Reads `bytes`, and whatever they hold; what matters is that this ends, and not in a panic.
fn survives(bytes: Vec<u8>) -> bool {
    let Ok(mut weights) = from_bytes(bytes.into(), "fuzz.safetensors") else { return false };
    let names: Vec<_> = weights.names().map(str::to_owned).collect();
    for name in names {
        let shape = weights.shape(&name).unwrap().to_vec();
        if let Ok(tensor) = weights.take(&name, &shape) {
            assert_eq!(tensor.to_f32().len(), tensor.elements());
        }
    }
    true
}

#[test]
fn every_cut_file_is_an_error() {
    let whole = file(&sample(), 46);
    assert!(survives(whole.clone()));
    for len in 0..whole.len() {
        assert!(!survives(whole[..len].to_vec()), "{len} of {} bytes", whole.len());
    }
    let whole = std::fs::read(golden("gpt2-hub/model.safetensors")).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..300 {
        let len = rng.next_u64() as usize % whole.len();
        assert!(!survives(whole[..len].to_vec()), "{len} of {} bytes", whole.len());
    }
}

#[test]
fn damaged_files_give_errors_or_values_and_never_panic() {
    let whole = file(&sample(), 46);
    let json = br#"0123456789{}[]",:-e FB"#;
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut read = 0;
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + rng.next_u32() % 2 {
            let at = rng.next_u64() as usize % (whole.len() - 46);
            bytes[at] = match rng.next_u32() % 4 {
                0 => bytes[at] ^ 1 << (rng.next_u32() % 8),
                1 => rng.next_u32() as u8,
                _ => json[rng.next_u32() as usize % json.len()],
            };
        }
        read += usize::from(survives(bytes));
    }
    assert!((500..19_000).contains(&read), "{read} of 20000 files were still readable: the test has lost its point");
}
