//! Attention of a packed batch against attention over caches, bit for bit.

use super::*;

/// (sequences, heads, kv_heads, dim, causal, window, cap)
type PackedShape = (&'static [usize], usize, usize, usize, bool, Option<usize>, Option<f32>);

const SHAPES: [PackedShape; 7] = [
    (&[1, 17, 0, 300, 16], 12, 12, 32, false, None, None),
    (&[5, 1030, 2], 2, 2, 16, false, None, None),
    (&[40, 3, 600], 6, 2, 64, true, None, None),
    (&[1100], 4, 1, 20, true, Some(300), None),
    (&[7, 1, 1], 9, 3, 8, true, Some(3), Some(2.0)),
    (&[3; 70], 4, 4, 64, false, None, None),
    (&[], 1, 1, 4, true, None, None),
];

fn packed(kernels: &'static Kernels, pool: &Pool, shape: PackedShape, qkv: &[f32]) -> Vec<f32> {
    let (lengths, heads, kv_heads, head_dim, causal, window, cap) = shape;
    let mut start = 0;
    let sequences: Vec<_> = lengths
        .iter()
        .map(|len| {
            start += len;
            start - len..start
        })
        .collect();
    let mut out = vec![f32::NAN; start * heads * head_dim];
    let heads = Heads { heads, kv_heads, head_dim, scale: 0.3, cap, causal, window };
    let job = PackedAttention { qkv, sequences: &sequences, heads, out: &mut out };
    packed_attention(kernels, pool, job);
    out
}

/// One sequence by way of a cache.
fn cached(kernels: &'static Kernels, shape: PackedShape, qkv: &[f32], len: usize) -> Vec<f32> {
    let (_, heads, kv_heads, head_dim, causal, window, cap) = shape;
    let width = (heads + 2 * kv_heads) * head_dim;
    let rows = |make: fn(usize, Precision) -> KvRows, at: usize| -> Vec<KvRows> {
        let one = |head| {
            let mut rows = make(head_dim, Precision::F32);
            rows.append(kernels, &qkv[(at + head) * head_dim..], width, len);
            rows
        };
        (0..kv_heads).map(one).collect()
    };
    let (keys, values) = (rows(KvRows::keys, heads), rows(KvRows::values, heads + kv_heads));
    let mut out = vec![f32::NAN; len * heads * head_dim];
    let job = AttentionJob {
        q: qkv,
        q_stride: width,
        rows: len,
        heads: Heads { heads, kv_heads, head_dim, scale: 0.3, cap, causal, window },
        first: 0,
        keys: &keys,
        values: &values,
        cache_start: 0,
    };
    attention(kernels, &Pool::new(1), 1, &|_| job, &mut out);
    out
}

#[test]
fn a_packed_batch_gives_each_sequence_the_bits_that_a_cache_gives() {
    for kernels in sets() {
        for shape in SHAPES {
            let (lengths, heads, kv_heads, dim, ..) = shape;
            let width = (heads + 2 * kv_heads) * dim;
            let qkv = Random(5).floats(lengths.iter().sum::<usize>() * width);
            let mut expected = Vec::new();
            let mut rest = qkv.as_slice();
            for &len in lengths.iter().filter(|len| **len > 0) {
                expected.extend(cached(kernels, shape, rest, len));
                rest = &rest[len * width..];
            }
            for threads in [1, 2, 5] {
                let got = packed(kernels, &Pool::new(threads), shape, &qkv);
                assert_eq!(bits(&got), bits(&expected), "{kernels:?} {shape:?} {threads} threads");
            }
        }
    }
}
