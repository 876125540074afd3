//! Appending to the caches of all heads at once against appending to one after the other.

use super::*;

#[test]
fn caches_hold_the_same_bits_whoever_appends_to_them() {
    for kernels in sets() {
        for precision in [Precision::F32, Precision::F16] {
            // One token, less than is worth a job, and more, from and to the middle of a group of keys.
            for (heads, dim, steps) in [(3, 64, [1, 7, 100, 1, 300]), (1, 20, [400, 1, 5, 33, 1]), (4, 128, [9, 8, 7, 16, 17])]
            {
                let stride = 2 * heads * dim + 5;
                let make = || -> (Vec<KvRows>, Vec<KvRows>) {
                    let keys = (0..heads).map(|_| KvRows::keys(dim, precision)).collect();
                    (keys, (0..heads).map(|_| KvRows::values(dim, precision)).collect())
                };
                let (mut keys, mut values) = make();
                for (i, rows) in steps.into_iter().enumerate() {
                    let kv = Random(i as u64).floats(rows * stride);
                    for (place, cache) in keys.iter_mut().chain(&mut values).enumerate() {
                        cache.append(kernels, &kv[place * dim..], stride, rows);
                    }
                }
                for threads in [1, 2, 5] {
                    let pool = Pool::new(threads);
                    let (mut got_keys, mut got_values) = make();
                    for (i, rows) in steps.into_iter().enumerate() {
                        let kv = Random(i as u64).floats(rows * stride);
                        append(kernels, &pool, &mut got_keys, &mut got_values, &kv, stride, rows);
                    }
                    let (mut a, mut b) = (vec![0.0; dim], vec![0.0; dim]);
                    for (got, expected) in got_keys.iter().zip(&keys).chain(got_values.iter().zip(&values)) {
                        assert_eq!(got.len(), steps.iter().sum::<usize>());
                        for position in 0..got.len() {
                            got.get(position, &mut a);
                            expected.get(position, &mut b);
                            assert_eq!(bits(&a), bits(&b), "{kernels:?} {precision:?} position {position}, {threads} threads");
                        }
                    }
                }
            }
        }
    }
}
