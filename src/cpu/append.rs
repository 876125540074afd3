//! The keys and values of new rows on their way into a cache, a task for each head's keys and each head's values.
//!
//! A token's are few and are written at once. Those of a prompt are many, and to round them and to turn the keys around is work
//! that all threads can share: no two caches have anything in common, so the bits do not depend on who writes which.

use super::parts::Parts;
use super::pool::SERIAL;
use super::{Kernels, KvRows, Pool};

/// Appends `rows` rows to the caches of every KV head: row `t` is the keys of all heads and then their values, from `kv[t * stride]` on.
///
/// # Panics
/// If `kv` is too short, or there are not as many values as keys.
pub fn append(
    kernels: &'static Kernels,
    pool: &Pool,
    keys: &mut [KvRows],
    values: &mut [KvRows],
    kv: &[f32],
    stride: usize,
    rows: usize,
) {
    let heads = keys.len();
    assert_eq!(heads, values.len(), "heads of keys and of values");
    if rows == 0 {
        return;
    }
    let width: usize = keys.iter().chain(&*values).map(KvRows::dim).sum();
    let one = |cache: &mut KvRows, place: usize| cache.append(kernels, &kv[place * cache.dim()..], stride, rows);
    if rows * width < SERIAL {
        return keys.iter_mut().chain(values).enumerate().for_each(|(place, cache)| one(cache, place));
    }
    let (keys, values) = (Parts::new(keys), Parts::new(values));
    pool.run(2 * heads, &|task| {
        let (caches, head) = if task < heads { (&keys, task) } else { (&values, task - heads) };
        // SAFETY: every task has a cache of its own.
        let cache = unsafe { caches.part(head..head + 1) };
        one(&mut cache[0], task);
    });
}
