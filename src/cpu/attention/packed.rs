//! Attention of sequences that lie end to end over their own keys and values, none of which are kept.
//!
//! A task is a stretch of one sequence for some KV heads. It lays the keys and values of a head into rows of its thread's own,
//! as a cache would hold them, and walks those at once, while they are in the processor's cache: a batch of any number of
//! sequences takes two rows of memory for each thread, as long as its longest sequence. A long sequence is cut into
//! stretches of [`STRETCH`] queries, each of which lays out what it sees by itself; that is a copy for hundreds of products.
//! Short ones take several heads to a task. As a query's result does not depend on what is computed beside it, neither cut
//! shows in the bits.

use super::{AttentionJob, LINES, Parts, QueryPiece, SCRATCH, finish, gather, run, segments};
use crate::cpu::{Heads, Kernels, KvRows, Pool, Precision};
use std::cell::RefCell;
use std::ops::Range;

/// Queries in a task.
const STRETCH: usize = 512;
/// Scores below which a task takes another head.
const SCORES: usize = 1 << 13;

/// The attention of a whole batch in one layer.
pub struct PackedAttention<'a> {
    /// (rows, (heads + 2 kv_heads) * head_dim): the queries of a row, its keys and its values.
    pub qkv: &'a [f32],
    /// The rows of each sequence, one sequence after another.
    pub sequences: &'a [Range<usize>],
    /// The heads, and what a query sees.
    pub heads: Heads,
    /// Results, (rows, heads * head_dim). Rows of no sequence are left as they are.
    pub out: &'a mut [f32],
}

/// Some rows of queries of one sequence for some KV heads.
struct PackedTask {
    sequence: Range<usize>,
    rows: Range<usize>,
    heads: Range<usize>,
}

thread_local! {
    /// Keys and values of one head.
    static LAID: RefCell<Option<(KvRows, KvRows)>> = const { RefCell::new(None) };
}

/// Computes the attention of every row of every sequence.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn packed_attention(kernels: &'static Kernels, pool: &Pool, mut batch: PackedAttention) {
    let out = std::mem::take(&mut batch.out);
    batch.heads.check();
    let rows = batch.qkv.len() / batch.heads.qkv_width();
    assert!(out.len() == rows * batch.heads.q_width(), "{rows} rows of results");
    // Results of different sequences are written by different threads.
    let ends = || batch.sequences.iter().flat_map(|rows| [rows.start, rows.end]);
    assert!(ends().is_sorted() && ends().all(|end| end <= rows), "sequences one after another in {rows} rows");
    let mut tasks: Vec<PackedTask> = batch.sequences.iter().flat_map(|sequence| cut(&batch, sequence)).collect();
    // The long ones first, so that the threads finish together.
    tasks.sort_by_key(|task| std::cmp::Reverse(task.rows.len() * task.sequence.len() * task.heads.len()));
    let outs = Parts::new(out);
    pool.run(tasks.len(), &|task| {
        let task = &tasks[task];
        LAID.with_borrow_mut(|laid| {
            for head in task.heads.clone() {
                one_head(kernels, &batch, task, head, laid, &outs);
            }
        });
    });
}

fn cut(batch: &PackedAttention, sequence: &Range<usize>) -> Vec<PackedTask> {
    let len = sequence.len();
    let mut tasks = Vec::new();
    for from in (0..len).step_by(STRETCH) {
        let rows = from..(from + STRETCH).min(len);
        let kv_heads = batch.heads.kv_heads;
        let heads = (SCORES / (rows.len() * len * batch.heads.group())).clamp(1, kv_heads);
        for head in (0..kv_heads).step_by(heads) {
            let heads = head..(head + heads).min(kv_heads);
            tasks.push(PackedTask { sequence: sequence.clone(), rows: rows.clone(), heads });
        }
    }
    tasks
}

fn one_head(
    kernels: &'static Kernels,
    batch: &PackedAttention,
    task: &PackedTask,
    head: usize,
    laid: &mut Option<(KvRows, KvRows)>,
    outs: &Parts<f32>,
) {
    let Heads { heads, kv_heads, head_dim: dim, causal, window, .. } = batch.heads;
    let (group, width) = (batch.heads.group(), batch.heads.qkv_width());
    if laid.as_ref().is_none_or(|(keys, _)| keys.dim() != dim) {
        *laid = Some((KvRows::keys(dim, Precision::F32), KvRows::values(dim, Precision::F32)));
    }
    let (keys, values) = laid.as_mut().expect("it was made above");
    // What no query of this stretch sees is not laid out, but where it begins is a matter of whole segments.
    let seen = if causal { task.rows.end } else { task.sequence.len() };
    let start = window.map_or(0, |window| (task.rows.start + 1).saturating_sub(window)) / KvRows::STEP * KvRows::STEP;
    let qkv = &batch.qkv[task.sequence.start * width..task.sequence.end * width];
    for (rows, at) in [(&mut *keys, heads + head), (&mut *values, heads + kv_heads + head)] {
        rows.truncate(0);
        rows.append(kernels, &qkv[start * width + at * dim..], width, seen - start);
    }
    let job = AttentionJob {
        q: &qkv[head * group * dim..],
        q_stride: width,
        rows: task.sequence.len(),
        heads: Heads { heads: group, kv_heads: 1, ..batch.heads },
        first: 0,
        keys: std::slice::from_ref(keys),
        values: std::slice::from_ref(values),
        cache_start: start,
    };
    let out_width = batch.heads.q_width();
    let out = outs.from(task.sequence.start * out_width + head * group * dim);
    let step = (LINES / group).max(1);
    for from in task.rows.clone().step_by(step) {
        let rows = from..(from + step).min(task.rows.end);
        let segments = segments(&job, &rows);
        let piece = QueryPiece { job: 0, head: 0, rows, segments, out: 0, stride: out_width, place: 0..group * dim };
        SCRATCH.with_borrow_mut(|scratch| {
            gather(&job, &piece, scratch);
            let lines = piece.lines(&job);
            scratch.total.reset(lines, job.padded());
            for segment in piece.segments.clone() {
                run(kernels, &job, &piece, segment, scratch);
                scratch.total.merge(&scratch.segment, lines, job.padded());
            }
            finish(&job, &piece, &scratch.total, &out);
        });
    }
}
