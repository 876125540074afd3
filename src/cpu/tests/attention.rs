//! Attention and the cache's rows against the definition in `f64`, and the promise of equal bits.

use super::*;

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::F16, Precision::Q8_0];

/// Rows of `dim` numbers as a cache holds them.
fn rounded(precision: Precision, x: &[f32], dim: usize) -> Vec<f32> {
    match precision {
        Precision::F32 => x.to_vec(),
        Precision::F16 => x.iter().map(|x| half::f16::from_f32(*x).to_f32()).collect(),
        // Integers have no negative zero.
        Precision::Q8_0 => x.chunks(dim).flat_map(|row| seen(Dtype::Q8_0, row)).map(|x| x as f32 + 0.0).collect(),
    }
}

/// A cache of `len` random positions, and what it should hold, (kv_heads, len, dim).
struct Cache {
    keys: Vec<KvRows>,
    values: Vec<KvRows>,
    k: Vec<f32>,
    v: Vec<f32>,
}

fn cache(kernels: &'static Kernels, precision: Precision, kv_heads: usize, len: usize, dim: usize) -> Cache {
    let mut r = Random(len as u64);
    let (k, v) = (r.floats(kv_heads * len * dim), r.floats(kv_heads * len * dim));
    let rows = |make: fn(usize, Precision) -> KvRows, numbers: &[f32]| {
        let one = |head: usize| {
            let mut rows = make(dim, precision);
            let mut at = 0;
            // In uneven pieces, as prompts and tokens come.
            for step in [1, 5, 16, 40, 3].into_iter().cycle() {
                let count = step.min(len - at);
                rows.append(kernels, &numbers[(head * len + at) * dim..], dim, count);
                at += count;
                if at == len {
                    break;
                }
            }
            rows
        };
        (0..kv_heads).map(one).collect()
    };
    let (keys, values) = (rows(KvRows::keys, &k), rows(KvRows::values, &v));
    Cache { keys, values, k: rounded(precision, &k, dim), v: rounded(precision, &v, dim) }
}

#[derive(Clone, Copy)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    len: usize,
    causal: bool,
    window: Option<usize>,
    cap: Option<f32>,
}

/// The last `rows` positions of a cache.
fn job<'a>(shape: Shape, cache: &'a Cache, q: &'a [f32], rows: usize) -> AttentionJob<'a> {
    AttentionJob {
        q,
        q_stride: shape.heads * shape.dim,
        rows,
        heads: Heads {
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            head_dim: shape.dim,
            scale: 0.3,
            cap: shape.cap,
            causal: shape.causal,
            window: shape.window,
        },
        first: shape.len - rows,
        keys: &cache.keys,
        values: &cache.values,
        cache_start: 0,
    }
}

/// Their attention.
fn attend(kernels: &'static Kernels, pool: &Pool, shape: Shape, cache: &Cache, q: &[f32], rows: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; rows * shape.heads * shape.dim];
    attention(kernels, pool, 1, &|_| job(shape, cache, q, rows), &mut out);
    out
}

fn attend_exactly(shape: Shape, cache: &Cache, q: &[f32], rows: usize) -> Vec<f64> {
    let Shape { heads, kv_heads, dim, len, causal, window, cap } = shape;
    let mut out = Vec::new();
    for row in 0..rows {
        let own = len - rows + row;
        let from = window.map_or(0, |w| (own + 1).saturating_sub(w));
        let to = if causal { own + 1 } else { len };
        for head in 0..heads {
            let q = &q[(row * heads + head) * dim..][..dim];
            let at = |i: usize| (head / (heads / kv_heads) * len + i) * dim;
            let score = |i: usize| q.iter().zip(&cache.k[at(i)..]).map(|(q, k)| *q as f64 * *k as f64).sum::<f64>() * 0.3;
            let capped = |s: f64| cap.map_or(s, |cap| cap as f64 * (s / cap as f64).tanh());
            let scores: Vec<f64> = (from..to).map(|i| capped(score(i))).collect();
            let max = scores.iter().fold(f64::MIN, |a, b| a.max(*b));
            let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            for d in 0..dim {
                let value = |(i, s): (usize, &f64)| (s - max).exp() * cache.v[at(from + i) + d] as f64;
                out.push(scores.iter().enumerate().map(value).sum::<f64>() / sum);
            }
        }
    }
    out
}

const SHAPES: [Shape; 10] = [
    Shape { heads: 9, kv_heads: 3, dim: 64, len: 300, causal: true, window: None, cap: None },
    Shape { heads: 2, kv_heads: 2, dim: 32, len: 64, causal: false, window: None, cap: None },
    Shape { heads: 4, kv_heads: 1, dim: 20, len: 257, causal: true, window: Some(40), cap: None },
    Shape { heads: 4, kv_heads: 2, dim: 128, len: 65, causal: true, window: Some(1), cap: None },
    Shape { heads: 1, kv_heads: 1, dim: 1, len: 17, causal: true, window: None, cap: None },
    Shape { heads: 8, kv_heads: 1, dim: 80, len: 130, causal: false, window: None, cap: None },
    Shape { heads: 3, kv_heads: 3, dim: 96, len: 1100, causal: true, window: Some(700), cap: None },
    Shape { heads: 4, kv_heads: 2, dim: 48, len: 270, causal: true, window: Some(100), cap: Some(2.0) },
    Shape { heads: 2, kv_heads: 1, dim: 33, len: 100, causal: true, window: Some(70), cap: None },
    Shape { heads: 2, kv_heads: 1, dim: 160, len: 90, causal: true, window: None, cap: None },
];

#[test]
fn attention_equals_the_definition_in_double_precision() {
    let pool = Pool::new(2);
    for kernels in sets() {
        for shape in SHAPES {
            for precision in PRECISIONS {
                let cache = cache(kernels, precision, shape.kv_heads, shape.len, shape.dim);
                for rows in [1, 2, 17, shape.len.min(200)] {
                    let q = Random(1).floats(rows * shape.heads * shape.dim);
                    let got = attend(kernels, &pool, shape, &cache, &q, rows);
                    let expected = attend_exactly(shape, &cache, &q, rows);
                    close(&got, &expected, 3e-5, &format!("{kernels:?} {precision:?} {} rows of {}", rows, shape.len));
                }
            }
        }
    }
}

#[test]
fn a_narrow_cache_gives_the_bits_of_a_wide_one_that_holds_the_same_numbers() {
    let pool = Pool::new(2);
    for kernels in sets() {
        for shape in SHAPES {
            for precision in [Precision::F16, Precision::Q8_0] {
                let narrow = cache(kernels, precision, shape.kv_heads, shape.len, shape.dim);
                let widened = |make: fn(usize, Precision) -> KvRows, numbers: &[f32]| {
                    let one = |numbers: &[f32]| {
                        let mut rows = make(shape.dim, Precision::F32);
                        rows.append(kernels, numbers, shape.dim, shape.len);
                        rows
                    };
                    numbers.chunks(shape.len * shape.dim).map(one).collect()
                };
                let (keys, values) = (widened(KvRows::keys, &narrow.k), widened(KvRows::values, &narrow.v));
                let wide = Cache { keys, values, k: vec![], v: vec![] };
                for rows in [1, 7, shape.len.min(60)] {
                    let q = Random(4).floats(rows * shape.heads * shape.dim);
                    let [got, expected] = [&narrow, &wide].map(|cache| attend(kernels, &pool, shape, cache, &q, rows));
                    assert_eq!(bits(&got), bits(&expected), "{kernels:?} {precision:?} {rows} rows of {}", shape.len);
                }
            }
        }
    }
}

#[test]
fn attention_has_the_same_bits_whatever_is_computed_beside_it() {
    for kernels in sets() {
        for (shape, precision) in SHAPES.into_iter().flat_map(|shape| PRECISIONS.map(|precision| (shape, precision))) {
            let cache = cache(kernels, precision, shape.kv_heads, shape.len, shape.dim);
            let width = shape.heads * shape.dim;
            let most = shape.len.min(200);
            let q = Random(2).floats(most * width);
            let all = bits(&attend(kernels, &Pool::new(1), shape, &cache, &q, most));
            for threads in [1, 2, 5] {
                let pool = Pool::new(threads);
                for rows in [1, 3, 13, most] {
                    let skip = (most - rows) * width;
                    let got = attend(kernels, &pool, shape, &cache, &q[skip..], rows);
                    assert_eq!(
                        bits(&got),
                        all[skip..],
                        "{kernels:?} {precision:?} {rows} rows of {}, {threads} threads",
                        shape.len
                    );
                }
            }
        }
    }
}

#[test]
fn jobs_of_any_shape_have_their_results_one_after_the_other() {
    let rows = [1, 40, 0, 7];
    for kernels in sets() {
        let caches: Vec<Cache> =
            SHAPES.iter().map(|shape| cache(kernels, Precision::F32, shape.kv_heads, shape.len, shape.dim)).collect();
        let q = Random(4).floats(40 * 800);
        let mut expected = Vec::new();
        for i in 0..rows.len() {
            expected.extend(attend(kernels, &Pool::new(1), SHAPES[i], &caches[i], &q, rows[i]));
        }
        for threads in [1, 2, 5] {
            let mut out = vec![f32::NAN; expected.len()];
            let jobs = |i: usize| job(SHAPES[i], &caches[i], &q, rows[i]);
            attention(kernels, &Pool::new(threads), rows.len(), &jobs, &mut out);
            assert_eq!(bits(&out), bits(&expected), "{kernels:?} {threads} threads");
        }
    }
}

#[test]
fn a_cache_without_its_dropped_front_gives_the_same_bits() {
    let shape = SHAPES[6];
    for (kernels, precision) in sets().into_iter().flat_map(|kernels| PRECISIONS.map(|precision| (kernels, precision))) {
        let mut cache = cache(kernels, precision, shape.kv_heads, shape.len, shape.dim);
        let q = Random(3).floats(shape.heads * shape.dim);
        let pool = Pool::new(1);
        let before = attend(kernels, &pool, shape, &cache, &q, 1);
        cache.keys.iter_mut().chain(&mut cache.values).for_each(|rows| rows.drop_front(256));
        let mut after = vec![0.0; before.len()];
        let job = AttentionJob { cache_start: 256, ..job(shape, &cache, &q, 1) };
        attention(kernels, &pool, 1, &|_| job, &mut after);
        assert_eq!(bits(&before), bits(&after), "{kernels:?} {precision:?}");
    }
}

#[test]
fn rows_come_back_from_the_cache_and_truncation_forgets() {
    for kernels in sets() {
        for (precision, dim) in PRECISIONS.into_iter().flat_map(|precision| [20, 32, 33, 80].map(|dim| (precision, dim))) {
            let len = 70;
            let mut cache = cache(kernels, precision, 1, len, dim);
            let same = |rows: &KvRows, numbers: &[f32]| {
                let mut out = vec![0.0; dim];
                for position in 0..rows.len() {
                    rows.get(position, &mut out);
                    assert_eq!(bits(&out), bits(&numbers[position * dim..][..dim]), "position {position}");
                }
            };
            for (rows, numbers) in [(&mut cache.keys[0], &cache.k), (&mut cache.values[0], &cache.v)] {
                same(rows, numbers);
                rows.truncate(100);
                assert_eq!(rows.len(), len);
                rows.truncate(37);
                assert_eq!(rows.len(), 37);
                // What was rounded once is not moved by rounding it again.
                rows.append(kernels, &numbers[37 * dim..], dim, 5);
                same(rows, numbers);
                assert!(rows.bytes() <= 128 * dim.next_multiple_of(16) * 4, "{}", rows.bytes());
                rows.drop_front(256);
                assert!(rows.is_empty());
            }
        }
    }
}

#[test]
fn a_position_is_stored_with_the_same_bits_however_it_came() {
    let (len, dim, stride) = (150, 80, 100);
    let x = Random(6).floats(len * stride);
    for kernels in sets() {
        for precision in PRECISIONS {
            for make in [KvRows::keys, KvRows::values] {
                let in_chunks = |size: usize| {
                    let mut rows = make(dim, precision);
                    for at in (0..len).step_by(size) {
                        rows.append(kernels, &x[at * stride..], stride, size.min(len - at));
                    }
                    rows
                };
                let mut again = in_chunks(len);
                again.truncate(43);
                again.append(kernels, &x[43 * stride..], stride, len - 43);
                let at_once = in_chunks(len);
                for rows in [in_chunks(1), in_chunks(7), in_chunks(64), again] {
                    assert!(rows.data == at_once.data, "{kernels:?} {precision:?}");
                }
            }
        }
    }
}

#[test]
fn a_clone_shares_pages_until_one_of_the_two_writes() {
    let (len, dim) = (150, 80);
    let shared = |a: &KvRows, b: &KvRows| {
        let own: Vec<_> = b.memory().collect();
        a.memory().filter(|page| own.contains(page)).count()
    };
    let all = |rows: &KvRows| {
        let mut out = vec![0.0; rows.len() * dim];
        out.chunks_mut(dim).enumerate().for_each(|(position, out)| rows.get(position, out));
        bits(&out)
    };
    for (kernels, precision) in sets().into_iter().flat_map(|kernels| PRECISIONS.map(|precision| (kernels, precision))) {
        let Cache { keys, values, .. } = cache(kernels, precision, 1, len, dim);
        // In int8 the scales are in pages of their own.
        let parts = if precision == Precision::Q8_0 { 2 } else { 1 };
        for original in keys.iter().chain(&values) {
            let before = all(original);
            let more = Random(8).floats(70 * dim);
            let mut longer = original.clone();
            assert_eq!(shared(original, &longer), 3 * parts);
            longer.append(kernels, &more, dim, 70);
            assert_eq!(shared(original, &longer), 2 * parts, "the page of positions 128 to 191 is copied");
            assert_eq!(all(&longer)[..len * dim], before);

            let mut shorter = original.clone();
            shorter.truncate(100);
            assert_eq!(shared(original, &shorter), 3 * parts, "forgetting writes nothing");
            shorter.append(kernels, &more, dim, 1);
            assert_eq!(shared(original, &shorter), 2 * parts);
            assert_eq!(all(&shorter)[..100 * dim], before[..100 * dim]);
            assert_eq!(all(original), before);

            let mut cut = longer.clone();
            cut.append(kernels, &more, dim, 60);
            cut.drop_front(256);
            assert_eq!((cut.len(), shared(&longer, &cut)), (24, 0));
            assert_eq!(all(&longer)[..len * dim], before);
        }
    }
}

#[test]
fn a_cache_in_int8_takes_17_bits_where_one_in_half_precision_takes_32() {
    for make in [KvRows::keys, KvRows::values] {
        let [f16, q8_0] = [Precision::F16, Precision::Q8_0].map(|precision| {
            let mut rows = make(64, precision);
            rows.append(&isa::scalar::KERNELS, &vec![1.0; 300 * 64], 64, 300);
            rows.bytes()
        });
        assert_eq!((f16, q8_0), (320 * 64 * 2, 320 * 64 * 17 / 16));
    }
}

#[test]
fn what_is_not_finite_spoils_its_own_block_of_an_int8_cache_and_no_other() {
    let (len, dim) = (20, 80);
    for kernels in sets() {
        for make in [KvRows::keys, KvRows::values] {
            // The last is finite, but 127 times what half precision holds is less.
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e7] {
                let mut x = Random(7).floats(len * dim);
                x[5 * dim + 40] = bad;
                let mut rows = make(dim, Precision::Q8_0);
                rows.append(kernels, &x, dim, len);
                let mut out = vec![0.0; dim];
                for position in 0..len {
                    rows.get(position, &mut out);
                    let spoilt = |d: usize| position == 5 && (32..64).contains(&d);
                    assert!((0..dim).all(|d| out[d].is_finite() != spoilt(d)), "{kernels:?} {bad} {position}: {out:?}");
                }
            }
        }
    }
}

#[test]
fn a_query_that_sees_nothing_gets_zeroes() {
    let shape = Shape { heads: 2, kv_heads: 1, dim: 16, len: 0, causal: true, window: None, cap: None };
    for kernels in sets() {
        let cache = Cache {
            keys: vec![KvRows::keys(16, Precision::F32)],
            values: vec![KvRows::values(16, Precision::F32)],
            k: vec![],
            v: vec![],
        };
        let mut shape = shape;
        shape.len = 1;
        assert_eq!(attend(kernels, &Pool::new(1), shape, &cache, &[1.0; 32], 1), [0.0; 32]);
    }
}
