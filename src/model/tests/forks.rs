//! Forks of a text: what they take, and that each goes on as if it were alone.

use super::*;
use crate::backend::KvCache;

/// A text of `len` tokens without a pattern; another for each `seed`.
fn noise(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| 3 + (seed * 7919 + i).wrapping_mul(2_654_435_761) % 400).collect()
}

fn loaded_with(case: &str, device: DeviceChoice, cache_type: CacheType) -> Loaded {
    let options = LoadOptions { device, threads: Some(2), cache_type, ..LoadOptions::default() };
    Checkpoint::open(golden(case).to_str().unwrap()).unwrap().load(&options).unwrap()
}

/// Reads `tokens` in chunks; gives the logits of the last.
fn read(network: &dyn Forward, cache: &mut KvCache, tokens: &[u32], chunk: usize) -> Vec<f32> {
    let mut logits = Vec::new();
    for tokens in tokens.chunks(chunk) {
        network.logits(&Batch::last(tokens), &mut [&mut *cache], &mut logits).unwrap();
    }
    logits
}

fn cache_after(network: &dyn Forward, tokens: &[u32]) -> KvCache {
    let mut cache = network.cache(4096).unwrap();
    read(network, &mut cache, tokens, 512);
    cache
}

/// The logits of the last of `tokens`, read by a cache of its own, and what they must equal: on the
/// host to the bit.
fn assert_same(what: &str, device: DeviceChoice, network: &dyn Forward, tokens: &[u32], got: &[f32]) {
    let fresh = read(network, &mut network.cache(4096).unwrap(), tokens, 512);
    match device {
        DeviceChoice::Cpu => assert!(bits(got) == bits(&fresh), "{what}: other bits"),
        _ => assert_close(what, got, &fresh),
    }
}

/// Models without a window, with one in each layer, and with one in some; every type of cache.
fn cases() -> Vec<(&'static str, DeviceChoice, CacheType)> {
    let models = ["llama-gqa-tied", "mistral-window8", "gemma3-text"];
    let host = [CacheType::F32, CacheType::F16, CacheType::Q8_0].map(|kind| (DeviceChoice::Cpu, kind));
    let kinds = host.into_iter().chain([(DeviceChoice::CpuReference, CacheType::F32)]);
    kinds.flat_map(|(device, kind)| models.map(|model| (model, device, kind))).collect()
}

#[test]
fn forks_of_a_long_text_take_the_memory_of_what_they_write() {
    // From the folder of golden cases; the first is the default model.
    let models = [
        ("../../models/SmolLM2-135M-Instruct.Q4_1.gguf", CacheType::F16),
        ("llama-gqa-tied", CacheType::F32),
        ("llama-gqa-tied", CacheType::Q8_0),
    ];
    for (model, cache_type) in models {
        let model = loaded_with(model, DeviceChoice::Cpu, cache_type);
        let network = &*model.network;
        let dim = network.spec().attention.head_dim;
        let row = 2 * network.spec().layers * network.spec().attention.kv_heads * cache_type.bytes(dim) as usize;

        let text = cache_after(network, &noise(0, 500));
        let mut forks = vec![text.clone(); 40];
        assert_eq!(KvCache::bytes_of(&forks), text.bytes(), "what nobody has written to is there once");
        for i in 0..8 {
            let tokens: Vec<u32> = (0..40).map(|fork| 3 + fork * 8 + i).collect();
            let batch = Batch { tokens, starts: (0..40).collect(), outputs: Vec::new(), ..Batch::default() };
            let mut caches: Vec<_> = forks.iter_mut().collect();
            network.logits(&batch, &mut caches, &mut Vec::new()).unwrap();
        }
        // Of 512 positions each fork has the last page of 64 for itself.
        let taken = KvCache::bytes_of(forks.iter().chain([&text]));
        assert_eq!(taken, (512 + 40 * 64) * row, "{cache_type}");
        assert!(taken < 40 * 500 * row / 6, "{cache_type}: {taken} bytes");
        assert!(forks.iter().all(|fork| fork.bytes() == text.bytes()));
        // What is shared outlives the text that read it.
        drop(text);
        assert_eq!(KvCache::bytes_of(&forks), (512 - 64 + 40 * 64) * row, "{cache_type}");
    }
}

#[test]
fn forks_written_on_several_threads_equal_texts_that_are_read_again() {
    for (case, device, kind) in cases() {
        let model = loaded_with(case, device, kind);
        let network = &*model.network;
        let text = noise(0, 700);
        let cache = cache_after(network, &text);
        std::thread::scope(|scope| {
            for seed in 1..=4 {
                let (text, mut fork) = (&text, cache.clone());
                scope.spawn(move || {
                    // Beyond the page that all share, and, where there are windows, beyond a step of theirs.
                    let more = noise(seed, 90 * seed as usize);
                    let logits = read(network, &mut fork, &more, seed as usize * 2 - 1);
                    let what = format!("fork {seed} of {case} on {device}, {kind}");
                    assert_same(&what, device, network, &[&text[..], &more].concat(), &logits);
                });
            }
        });
        // Put away meanwhile, and taken up again.
        let mut cache = cache;
        let more = noise(9, 70);
        let logits = read(network, &mut cache, &more, 1);
        assert_same(&format!("{case} on {device}, {kind}"), device, network, &[text, more].concat(), &logits);
    }
}

#[test]
fn a_fork_that_is_cut_back_leaves_its_sibling_alone() {
    for (case, device, kind) in cases() {
        let model = loaded_with(case, device, kind);
        let network = &*model.network;
        let (text, more) = (noise(0, 600), noise(5, 30));
        let mut cache = network.cache(4096).unwrap();
        read(network, &mut cache, &text[..560], 512);
        // A chunk that is a forward of its own, so that a window still sees what comes before it.
        read(network, &mut cache, &text[560..], 40);
        // Into the middle of a page, to the start of one, and to where a window can not go back.
        for len in [590, 576, 561, 300, 0] {
            let mut fork = cache.clone();
            let held = fork.truncate(len);
            assert!(held == len || held == 0 && case != "llama-gqa-tied", "{held} of {len}");
            let other = [&text[held..len], &more].concat();
            let logits = read(network, &mut fork, &other, 17);
            let what = format!("{case} on {device}, {kind}, cut back to {len}");
            assert_same(&what, device, network, &[&text[..len], &more].concat(), &logits);

            let mut sibling = cache.clone();
            let logits = read(network, &mut sibling, &more, 17);
            let what = format!("the sibling of {what}");
            assert_same(&what, device, network, &[&text[..], &more].concat(), &logits);
        }
    }
}
