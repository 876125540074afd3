//! Files that are right, wrong in each way we know of, and wrong at random.

use super::*;
use crate::tensors::test_folder::{Folder, golden};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const U32: u32 = 4;
const F32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Writes GGUF files, right or wrong.
#[derive(Clone)]
struct Writer {
    version: u32,
    counts: Option<(u64, u64)>,
    pairs: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    alignment: usize,
    data: Vec<u8>,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Writer {
    fn new() -> Self {
        Writer { version: 3, counts: None, pairs: vec![], tensors: vec![], alignment: 32, data: vec![] }
    }

    fn pair(mut self, key: &str, kind: u32, value: impl AsRef<[u8]>) -> Self {
        self.pairs.push([&text(key), &kind.to_le_bytes()[..], value.as_ref()].concat());
        self
    }

    fn int(self, key: &str, value: u32) -> Self {
        self.pair(key, U32, value.to_le_bytes())
    }

    fn array(self, key: &str, kind: u32, count: u64, elements: impl AsRef<[u8]>) -> Self {
        self.pair(key, ARRAY, [&kind.to_le_bytes(), &count.to_le_bytes()[..], elements.as_ref()].concat())
    }

    /// An entry for a tensor; dimensions innermost first.
    fn entry(mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        let mut bytes = text(name);
        bytes.extend((dims.len() as u32).to_le_bytes());
        bytes.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        self.tensors.push(bytes);
        self
    }

    /// A tensor of floats that counts up from `first`.
    fn floats(mut self, name: &str, dims: &[u64], first: f32) -> Self {
        self.data.resize(self.data.len().next_multiple_of(self.alignment), 0);
        let offset = self.data.len() as u64;
        let count: u64 = dims.iter().product();
        self.data.extend((0..count).flat_map(|i| (first + i as f32).to_le_bytes()));
        self.entry(name, dims, 0, offset)
    }

    fn data(mut self, len: usize) -> Self {
        self.data = vec![0; len];
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let (tensors, pairs) = self.counts.unwrap_or((self.tensors.len() as u64, self.pairs.len() as u64));
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(pairs.to_le_bytes());
        bytes.extend(self.pairs.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(&self.data);
        bytes
    }

    fn read(&self) -> Result<Gguf> {
        Gguf::from_bytes(self.bytes().into(), "bad.gguf")
    }

    fn error(&self) -> String {
        self.read().unwrap_err().to_string()
    }
}

/// A small file with a bit of everything.
fn sample() -> Writer {
    Writer::new()
        .pair("general.architecture", STRING, text("llama"))
        .int("llama.block_count", 2)
        .pair("llama.rope.freq_base", F32, 10000f32.to_le_bytes())
        .pair("tokenizer.ggml.add_bos_token", BOOL, [1])
        .array("tokenizer.ggml.tokens", STRING, 3, ["a", "bc", ""].map(text).concat())
        .array("tokenizer.ggml.scores", F32, 2, [0.5f32, -1.0].map(f32::to_le_bytes).concat())
        .array("tokenizer.ggml.token_type", 5, 3, [1i32, -2, 3].map(i32::to_le_bytes).concat())
        .floats("token_embd.weight", &[3, 2], 1.0)
        .floats("output_norm.weight", &[5], -3.0)
}

#[test]
fn a_file_gives_back_what_was_written() {
    for version in [2, 3] {
        let mut gguf = Writer { version, ..sample() }.read().unwrap();
        let metadata = &mut gguf.metadata;
        assert_eq!(metadata.string("general.architecture").unwrap(), Some("llama"));
        assert_eq!(metadata.u64("llama.block_count").unwrap(), Some(2));
        assert_eq!(metadata.i64("llama.block_count").unwrap(), Some(2));
        assert_eq!(metadata.f64("llama.rope.freq_base").unwrap(), Some(10000.0));
        assert_eq!(metadata.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(true));
        assert_eq!(metadata.f32s("tokenizer.ggml.scores").unwrap(), Some(&[0.5, -1.0][..]));
        assert_eq!(metadata.ints("tokenizer.ggml.token_type").unwrap(), Some(vec![1, -2, 3]));
        assert_eq!(metadata.take_strings("tokenizer.ggml.tokens").unwrap().unwrap(), ["a", "bc", ""]);
        assert_eq!(metadata.strings("tokenizer.ggml.tokens").unwrap(), None);
        assert_eq!(metadata.u64("absent").unwrap(), None);
        assert_eq!(metadata.iter().count(), 6);

        let embed = gguf.weights.take("token_embd.weight", &[2, 3]).unwrap();
        assert_eq!(embed.to_f32(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(gguf.weights.take("output_norm.weight", &[5]).unwrap().to_f32(), [-3.0, -2.0, -1.0, 0.0, 1.0]);
        assert!(gguf.weights.is_empty());
    }
}

#[test]
fn every_scalar_and_array_type_is_read() {
    let gguf = Writer::new()
        .pair("u8", 0, [200])
        .pair("i8", 1, [0xFE])
        .pair("u16", 2, 60000u16.to_le_bytes())
        .pair("i16", 3, (-3i16).to_le_bytes())
        .pair("i32", 5, (-4i32).to_le_bytes())
        .pair("u64", 10, u64::MAX.to_le_bytes())
        .pair("i64", 11, i64::MIN.to_le_bytes())
        .pair("f64", 12, 0.1f64.to_le_bytes())
        .array("u8s", 0, 2, [1, 255])
        .array("i8s", 1, 1, [255])
        .array("u16s", 2, 1, [1, 2])
        .array("i16s", 3, 1, [255, 255])
        .array("u32s", 4, 1, [1, 0, 0, 0])
        .array("bools", 7, 2, [0, 1])
        .array("u64s", 10, 1, u64::MAX.to_le_bytes())
        .array("i64s", 11, 1, (-1i64).to_le_bytes())
        .array("f64s", 12, 1, 0.5f64.to_le_bytes())
        .array("arrays", ARRAY, 1, [&0u32.to_le_bytes()[..], &2u64.to_le_bytes(), &[7, 8]].concat())
        .read()
        .unwrap();
    let metadata = &gguf.metadata;
    let value = |key| metadata.get(key).unwrap().clone();
    assert_eq!(value("u8"), Value::U64(200));
    assert_eq!(value("i8"), Value::I64(-2));
    assert_eq!(value("u16"), Value::U64(60000));
    assert_eq!(value("i16"), Value::I64(-3));
    assert_eq!(value("i32"), Value::I64(-4));
    assert_eq!(value("u64"), Value::U64(u64::MAX));
    assert_eq!(value("i64"), Value::I64(i64::MIN));
    assert_eq!(value("f64"), Value::F64(0.1));
    assert_eq!(metadata.ints("u8s").unwrap(), Some(vec![1, 255]));
    assert_eq!(metadata.ints("i8s").unwrap(), Some(vec![-1]));
    assert_eq!(metadata.ints("u16s").unwrap(), Some(vec![513]));
    assert_eq!(metadata.ints("i16s").unwrap(), Some(vec![-1]));
    assert_eq!(metadata.ints("u32s").unwrap(), Some(vec![1]));
    assert_eq!(metadata.ints("i64s").unwrap(), Some(vec![-1]));
    assert_eq!(value("bools"), Value::Array(Array::Bool(vec![false, true])));
    assert_eq!(value("f64s"), Value::Array(Array::F64(vec![0.5])));
    assert_eq!(value("arrays"), Value::Array(Array::Array(vec![Array::U8(vec![7, 8])])));
    assert!(metadata.ints("u64s").is_err());
}

#[test]
fn a_key_of_the_wrong_type_is_an_error_that_names_file_and_key() {
    let metadata = sample().pair("minus", 5, (-1i32).to_le_bytes()).read().unwrap().metadata;
    let said = |error: Error| error.to_string();
    assert_eq!(
        said(metadata.u64("general.architecture").unwrap_err()),
        "bad.gguf: key general.architecture is a string, expected an integer, 0 or more"
    );
    assert_eq!(said(metadata.u64("minus").unwrap_err()), "bad.gguf: key minus is -1, expected an integer, 0 or more");
    assert_eq!(
        said(metadata.string("llama.block_count").unwrap_err()),
        "bad.gguf: key llama.block_count is 2, expected a string"
    );
    assert_eq!(
        said(metadata.strings("tokenizer.ggml.scores").unwrap_err()),
        "bad.gguf: key tokenizer.ggml.scores is an array, expected an array of strings"
    );
    assert!(metadata.bool("minus").is_err() && metadata.f64("general.architecture").is_err());
    assert!(metadata.ints("tokenizer.ggml.scores").is_err() && metadata.f32s("tokenizer.ggml.tokens").is_err());
    assert_eq!(said(metadata.missing("llama.vocab")), "bad.gguf: key llama.vocab is missing");
}

#[test]
fn text_that_is_no_utf8_is_kept_readable_but_names_must_be_utf8() {
    let broken = [&2u64.to_le_bytes()[..], b"a\xFF"].concat();
    let metadata = Writer::new().pair("general.name", STRING, &broken).read().unwrap().metadata;
    assert_eq!(metadata.string("general.name").unwrap(), Some("a\u{FFFD}"));
    let mut writer = Writer::new();
    writer.pairs.push([&broken[..], &[4, 0, 0, 0, 1, 0, 0, 0]].concat());
    assert_eq!(writer.error(), "bad.gguf: metadata entry 1 of 1: its name is not UTF-8");
    assert_eq!(
        Writer::new().int("", 1).error(),
        "bad.gguf: metadata entry 1 of 1: its name is 0 bytes long, expected 1 to 65535"
    );
}

#[test]
fn files_of_other_kinds_are_named() {
    let error = |bytes: &[u8]| Gguf::from_bytes(bytes.to_vec().into(), "x.gguf").unwrap_err();
    let said = |bytes: &[u8]| error(bytes).to_string();
    assert_eq!(said(b""), "x.gguf: is empty");
    assert_eq!(said(b"hello, world"), "x.gguf: is not a GGUF file");
    assert_eq!(said(b"GG"), "x.gguf: is not a GGUF file");
    assert_eq!(
        said(b"version https://git-lfs.github.com/spec/v1\noid sha256:..."),
        "x.gguf: is not a GGUF file; it looks like a Git LFS pointer, not the file itself (`git lfs pull` fetches it)"
    );
    assert_eq!(said(b"<!DOCTYPE html><html>"), "x.gguf: is not a GGUF file; it looks like a web page");
    assert_eq!(said(b"\x40\0\0\0\0\0\0\0{\"a\":1}"), "x.gguf: is not a GGUF file; it looks like a safetensors file");
    for (magic, name) in [(b"lmgg", "GGML"), (b"fmgg", "GGMF"), (b"tjgg", "GGJT"), (b"algg", "GGLA")] {
        let error = error(&[&magic[..], &[1, 0, 0, 0]].concat());
        assert!(matches!(error, Error::Unsupported { .. }));
        assert_eq!(
            error.to_string(),
            format!(
                "x.gguf: the old {name} format, from before GGUF, is not supported; \
                 supported: GGUF versions 2 and 3, little-endian"
            )
        );
    }
}

#[test]
fn versions_and_byte_orders_that_are_not_read_are_named() {
    let error = |version| Writer { version, ..sample() }.error();
    let supported = "is not supported; supported: GGUF versions 2 and 3, little-endian";
    assert_eq!(error(1), format!("bad.gguf: GGUF version 1 {supported}"));
    assert_eq!(error(4), format!("bad.gguf: GGUF version 4 {supported}"));
    assert_eq!(error(3 << 24), format!("bad.gguf: a big-endian GGUF file {supported}"));
}

#[test]
fn absurd_counts_and_lengths_are_refused_before_anything_is_allocated() {
    let huge = 1u64 << 60;
    let error = Writer { counts: Some((huge, 0)), ..sample() }.error();
    assert!(error.starts_with("bad.gguf: the header: claims 1152921504606846976 tensors, but only "), "{error}");
    let error = Writer { counts: Some((0, u64::MAX)), ..sample() }.error();
    assert!(error.starts_with("bad.gguf: the header: claims 18446744073709551615 metadata entries, but only "), "{error}");
    for kind in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] {
        let error = Writer { alignment: 1, ..Writer::new() }.array("a", kind, huge, [0; 64]).error();
        assert_eq!(
            error,
            "bad.gguf: metadata key a: claims 1152921504606846976 elements, but only 64 bytes follow; \
             the file is cut short or damaged"
        );
    }
    let error = Writer::new().pair("a", STRING, u64::MAX.to_le_bytes()).error();
    assert!(error.starts_with("bad.gguf: metadata key a: claims 18446744073709551615 bytes of text, but only "), "{error}");
}

#[test]
fn arrays_in_arrays_end_somewhere() {
    let mut nested = vec![];
    for _ in 0..100_000 {
        nested.extend(ARRAY.to_le_bytes());
        nested.extend(1u64.to_le_bytes());
    }
    assert_eq!(
        Writer::new().pair("a", ARRAY, nested).error(),
        "bad.gguf: metadata key a: has arrays in arrays, more than 4 deep"
    );
}

#[test]
fn unknown_value_types_and_booleans_are_errors() {
    assert_eq!(Writer::new().pair("a", 13, [0]).error(), "bad.gguf: metadata key a: has the unknown value type 13");
    assert_eq!(Writer::new().array("a", 99, 0, []).error(), "bad.gguf: metadata key a: has the unknown element type 99");
    assert_eq!(Writer::new().pair("a", BOOL, [2]).error(), "bad.gguf: metadata key a: holds neither true nor false");
    assert_eq!(Writer::new().array("a", BOOL, 1, [2]).error(), "bad.gguf: metadata key a: holds neither true nor false");
}

#[test]
fn keys_and_tensors_that_occur_twice_are_errors() {
    assert_eq!(sample().int("llama.block_count", 3).error(), "bad.gguf: metadata key llama.block_count: occurs twice");
    assert_eq!(sample().floats("output_norm.weight", &[2], 0.0).error(), "bad.gguf: tensor output_norm.weight occurs twice");
    assert_eq!(
        sample().entry("output_norm.weight", &[2], 0, 0).error(),
        "bad.gguf: tensors token_embd.weight and output_norm.weight overlap"
    );
}

#[test]
fn the_alignment_is_honoured_and_checked() {
    let wide = Writer { alignment: 256, ..Writer::new() }.int("general.alignment", 256);
    let mut gguf = wide.floats("a", &[2], 1.0).floats("b", &[1], 7.0).read().unwrap();
    assert_eq!(gguf.weights.take("a", &[2]).unwrap().to_f32(), [1.0, 2.0]);
    assert_eq!(gguf.weights.take("b", &[1]).unwrap().to_f32(), [7.0]);
    for bad in [0, 33] {
        assert_eq!(
            Writer::new().int("general.alignment", bad).error(),
            format!("bad.gguf: key general.alignment is {bad}, expected a power of two")
        );
    }
    assert_eq!(
        Writer::new().entry("a", &[2], 0, 16).data(64).error(),
        "bad.gguf: tensor a: has the offset 16, not a multiple of 32"
    );
}

#[test]
fn unknown_tensor_types_are_named_with_what_is_supported() {
    let supported = "supported: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS";
    let error = Writer::new().entry("blk.0.ffn_up.weight", &[256], 22, 0).data(256).read().unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }));
    assert_eq!(
        error.to_string(),
        format!("bad.gguf: tensor blk.0.ffn_up.weight of ggml type 22 (IQ2_S) is not supported; {supported}")
    );
    assert_eq!(
        Writer::new().entry("a", &[256], 1000, 0).data(256).error(),
        format!("bad.gguf: tensor a of ggml type 1000 (unknown to us) is not supported; {supported}")
    );
}

#[test]
fn shapes_that_can_not_be_are_errors() {
    let error = |dims: &[u64], kind| Writer::new().entry("a", dims, kind, 0).data(4096).error();
    assert_eq!(error(&[], 0), "bad.gguf: tensor a: has 0 dimensions, expected 1 to 4");
    assert_eq!(error(&[1; 5], 0), "bad.gguf: tensor a: has 5 dimensions, expected 1 to 4");
    assert_eq!(error(&[4, 0], 0), "bad.gguf: tensor a: has a dimension of 0, or one that is too large");
    assert_eq!(error(&[48, 2], 2), "bad.gguf: tensor a: has rows of 48 elements; Q4_0 needs a multiple of 32");
    assert_eq!(error(&[128], 12), "bad.gguf: tensor a: has rows of 128 elements; Q4_K needs a multiple of 256");
    assert_eq!(error(&[1 << 32, 1 << 32], 0), "bad.gguf: tensor a: is 4294967296x4294967296, too large to be true");
    assert_eq!(error(&[1 << 62], 0), "bad.gguf: tensor a: is 4611686018427387904, too large to be true");
}

#[test]
fn tensors_beyond_the_file_or_over_each_other_are_errors() {
    let file = Writer::new().entry("a", &[64], 0, 0).data(255);
    assert_eq!(
        file.error(),
        format!(
            "bad.gguf: tensor a: its 256 bytes at offset 0 of the data reach beyond the file's {} bytes; \
             the file is cut short or damaged",
            file.bytes().len()
        )
    );
    let error = Writer::new().entry("a", &[64], 0, u64::MAX - 31).data(256).error();
    assert!(error.contains("at offset 18446744073709551584 of the data reach beyond"), "{error}");
    assert_eq!(
        Writer::new().entry("a", &[64], 0, 0).entry("b", &[1], 0, 224).data(256).error(),
        "bad.gguf: tensors a and b overlap"
    );
}

#[test]
fn a_split_model_is_joined_from_any_part() {
    let folder = Folder::new();
    let part = |number: u32, writer: Writer| {
        let numbered = writer.int("split.no", number).int("split.count", 3).int("split.tensors.count", 3);
        folder.write(&format!("m-{:05}-of-00003.gguf", number + 1), numbered.bytes())
    };
    let paths = [
        part(0, Writer::new().int("llama.block_count", 9).floats("a", &[2], 1.0)),
        part(1, Writer::new().floats("b", &[2], 3.0)),
        part(2, Writer::new().floats("c", &[2], 5.0)),
    ];
    for path in &paths {
        let mut gguf = Gguf::open(path).unwrap();
        assert_eq!(gguf.metadata.u64("llama.block_count").unwrap(), Some(9));
        assert_eq!(gguf.weights.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(gguf.weights.take("c", &[2]).unwrap().to_f32(), [5.0, 6.0]);
    }
    let shown = |path: &Path| path.display().to_string();

    // Each part alone, as bytes.
    let error = Gguf::from_bytes(std::fs::read(&paths[1]).unwrap().into(), "m").unwrap_err();
    assert_eq!(
        error.to_string(),
        "m: part 2 of 3 of a split model, given as bytes, is not supported; \
         supported: a whole model as bytes, or the path of a part with the others beside it"
    );
    // Renamed.
    let renamed = folder.write("renamed.gguf", std::fs::read(&paths[1]).unwrap());
    assert_eq!(
        Gguf::open(&renamed).unwrap_err().to_string(),
        format!(
            "{}: is part 2 of 3 of a split model, but its name does not end in -00002-of-00003.gguf, \
             so the others can not be found",
            shown(&renamed)
        )
    );
    // The same tensor in two parts.
    part(1, Writer::new().floats("a", &[2], 3.0));
    assert_eq!(Gguf::open(&paths[0]).unwrap_err().to_string(), format!("{}: tensor a occurs twice", shown(&paths[1])));
    // A tensor less than promised.
    part(1, Writer::new());
    assert_eq!(
        Gguf::open(&paths[0]).unwrap_err().to_string(),
        format!("{}: all parts together have 2 tensors, expected 3", shown(&paths[0]))
    );
    // Not the part that its name says.
    std::fs::copy(&paths[2], &paths[1]).unwrap();
    assert_eq!(
        Gguf::open(&paths[0]).unwrap_err().to_string(),
        format!("{}: its metadata does not say that it is part 2 of 3", shown(&paths[1]))
    );
    // Missing.
    std::fs::remove_file(&paths[1]).unwrap();
    let error = Gguf::open(&paths[2]).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
    assert_eq!(
        error.to_string(),
        format!("model not found: {}; it is part 2 of 3 of a split model; all parts must lie together", shown(&paths[1]))
    );
}

#[test]
fn split_numbers_that_contradict_are_errors() {
    let split = |no: u32, count: u32| Writer::new().int("split.no", no).int("split.count", count);
    assert_eq!(split(3, 3).error(), "bad.gguf: key split.no is 3, expected less than split.count, which is 3");
    assert_eq!(Writer::new().int("split.count", 2).error(), "bad.gguf: key split.no is missing");
    assert!(split(0, 1).read().is_ok());
}

/// The first two and the last two values.
fn ends(values: &[f32]) -> [f32; 4] {
    [values[0], values[1], values[values.len() - 2], values[values.len() - 1]]
}

/// Types, tokenizer and three tensors, with the values that the Python package reads.
#[test]
fn the_reference_files_open_with_their_types_and_values() {
    let cases = [
        (
            "gguf-f16-bpe/model-f16.gguf",
            [
                [0.57177734, 0.07354736, 0.3269043, -0.35742188],
                [-0.21899414, -0.037017822, 0.17089844, -0.2265625],
                [0.86315084, 0.88531804, 0.99457794, 0.71355927],
            ],
        ),
        (
            "gguf-q8_0-spm/model-q8_0.gguf",
            [
                [0.08129883, 0.3912506, 0.3414421, 0.12533951],
                [0.108911514, -0.12017822, -0.040540695, 0.24012566],
                [0.94651175, 0.9317058, 1.1039487, 0.6863706],
            ],
        ),
        (
            "gguf-q4_0-bpe/model-q4_0.gguf",
            [
                [0.113220215, -0.113220215, 0.3013916, -0.50231934],
                [-0.09832764, -0.04916382, -0.14950562, 0.29901123],
                [1.0003188, 0.94604224, 1.0895525, 1.0958017],
            ],
        ),
    ];
    for (case, [embed, key, norm]) in cases {
        let path = golden(case);
        let expected = std::fs::read(path.with_file_name("expected.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
        let mut gguf = Gguf::open(&path).unwrap();
        let types = expected["tensor_types"].as_object().unwrap();
        assert_eq!(types.len(), gguf.weights.len());
        for (name, dtype) in types {
            assert_eq!(gguf.weights.get(name).unwrap().dtype.name(), dtype.as_str().unwrap(), "{case} {name}");
        }
        let bos = gguf.metadata.u64("tokenizer.ggml.bos_token_id").unwrap();
        assert_eq!(bos, expected["bos_token_id"].as_u64());
        assert_eq!(gguf.metadata.take_strings("tokenizer.ggml.tokens").unwrap().unwrap().len(), 512);
        for (name, shape, values) in [
            ("token_embd.weight", &[512, 64][..], embed),
            ("blk.1.attn_k.weight", &[32, 64], key),
            ("output_norm.weight", &[64], norm),
        ] {
            let tensor = gguf.weights.take(name, shape).unwrap();
            assert!(tensor.data.is_mapped());
            assert_eq!(ends(&tensor.to_f32()), values, "{case} {name}");
        }
    }
}

#[test]
fn the_default_model_opens_with_its_types_and_values() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let mut gguf = Gguf::open(path).unwrap();
    let metadata = &mut gguf.metadata;
    assert_eq!(metadata.string("general.architecture").unwrap(), Some("llama"));
    assert_eq!(metadata.u64("llama.block_count").unwrap(), Some(30));
    assert_eq!(metadata.f64("llama.rope.freq_base").unwrap(), Some(100000.0));
    assert_eq!(metadata.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(false));
    assert_eq!(metadata.ints("tokenizer.ggml.token_type").unwrap().unwrap().len(), 49152);
    let tokens = metadata.take_strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!((tokens.len(), tokens[2].as_str()), (49152, "<|im_end|>"));
    assert_eq!(metadata.strings("tokenizer.ggml.merges").unwrap().unwrap()[0], "\u{120} t");

    let weights = &mut gguf.weights;
    assert_eq!(weights.len(), 272);
    for (name, dtype, shape, values) in [
        ("token_embd.weight", Dtype::Q8_0, &[49152, 576][..], [-0.106544495, 0.032978058, -0.11989403, -0.04170227]),
        ("blk.29.ffn_down.weight", Dtype::Q4_1, &[576, 1536], [-0.27331543, 0.1862793, -0.08984375, 0.056640625]),
        ("output_norm.weight", Dtype::F32, &[576], [1.7578125, 1.8203125, 1.921875, 1.984375]),
    ] {
        let tensor = weights.take(name, shape).unwrap();
        assert_eq!((tensor.dtype, ends(&tensor.to_f32())), (dtype, values), "{name}");
    }
    let names: Vec<_> = weights.names().map(str::to_owned).collect();
    for name in names {
        let shape = weights.shape(&name).unwrap().to_vec();
        weights.take(&name, &shape).unwrap();
    }
}

/// Reads `bytes`, and whatever they hold; what matters is that this ends, and not in a panic.
fn survives(bytes: Vec<u8>) -> bool {
    let Ok(mut gguf) = Gguf::from_bytes(bytes.into(), "fuzz.gguf") else { return false };
    let names: Vec<_> = gguf.weights.names().map(str::to_owned).collect();
    for name in names {
        let shape = gguf.weights.shape(&name).unwrap().to_vec();
        if let Ok(tensor) = gguf.weights.take(&name, &shape) {
            assert_eq!(tensor.to_f32().len(), tensor.elements());
        }
    }
    gguf.metadata.iter().for_each(|(_, value)| drop(format!("{value:?}")));
    true
}

#[test]
fn every_cut_file_is_an_error() {
    let whole = sample().bytes();
    assert!(survives(whole.clone()));
    for len in 0..whole.len() {
        assert!(!survives(whole[..len].to_vec()), "{len} of {} bytes", whole.len());
    }
    let whole = std::fs::read(golden("gguf-q4_0-bpe/model-q4_0.gguf")).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..300 {
        let len = rng.next_u64() as usize % whole.len();
        assert!(!survives(whole[..len].to_vec()), "{len} of {} bytes", whole.len());
    }
}

#[test]
fn damaged_files_give_errors_or_values_and_never_panic() {
    let whole = sample().bytes();
    let structure = whole.len() - 64;
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut read = 0;
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + rng.next_u32() % 3 {
            let at = rng.next_u64() as usize % structure;
            bytes[at] = match rng.next_u32() % 4 {
                0 => 0xFF,
                1 => 0,
                2 => bytes[at] ^ 1 << (rng.next_u32() % 8),
                _ => rng.next_u32() as u8,
            };
        }
        read += usize::from(survives(bytes));
    }
    assert!((1000..19_000).contains(&read), "{read} of 20000 files were still readable: the test has lost its point");
}
