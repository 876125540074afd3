//! Attention over a cache, in blocks, with the score matrix never built.
//!
//! Online softmax (Milakov & Gimelshein 2018; Dao et al. 2022): for each query the running maximum, the sum of exponentials and the weighted
//! sum of values are carried from block to block of [`POSITIONS`] positions. Positions are further cut into segments of [`SEGMENT`], each with a
//! softmax of its own, which are merged in order: so a long cache can be shared among threads even for a single token.
//! **Blocks and segments start at absolute positions**, so that a query's result has the same bits whatever is computed beside it,
//! in one task or in several.
//!
//! All query heads that read one KV head go together: a *line* is one query position of one of them. The three inner steps are functions of
//! the [`Kernels`]: scores of a block, softmax, weighted sum of values.

mod packed;

use super::parts::Parts;
use super::prefetch::fetch_to;
use super::rows::{self, GROUP, KvRows, PAGE};
use super::{Heads, Kernels, Pool, math};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::cell::{Cell, RefCell};
use std::ops::Range;

pub use packed::{PackedAttention, packed_attention};

/// Positions in a block of scores.
pub const POSITIONS: usize = 64;
/// Positions in a segment; a multiple of [`POSITIONS`].
const SEGMENT: usize = 256;
/// Lines that a task aims at.
const LINES: usize = 96;
/// Tasks for each thread below which segments become tasks of their own.
const TASKS: usize = 4;

// A block is a page of the cache, so that its numbers are in one piece.
const _: () = assert!(POSITIONS == PAGE && SEGMENT == KvRows::STEP);

/// One sequence's attention in one layer.
#[derive(Clone, Copy)]
pub struct AttentionJob<'a> {
    /// Queries: head `h` of row `t` is at `t * q_stride + h * head_dim`.
    pub q: &'a [f32],
    /// Numbers between two rows of queries.
    pub q_stride: usize,
    /// Rows of queries.
    pub rows: usize,
    /// The heads, and what a query sees.
    pub heads: Heads,
    /// Absolute position of the first row of queries.
    pub first: usize,
    /// Keys of each KV head.
    pub keys: &'a [KvRows],
    /// Values of each KV head, as many as keys.
    pub values: &'a [KvRows],
    /// Absolute position of the cache's first row, a multiple of 256.
    pub cache_start: usize,
}

/// Positions of a block that a line sees, relative to the block's start.
pub type Visible = Range<usize>;

/// A block of the cache.
#[derive(Clone, Copy)]
pub enum Cached<'a> {
    /// In single precision.
    F32(Numbers<'a, f32>),
    /// In half precision.
    F16(Numbers<'a, f16>),
    /// In int8, with scales.
    Q8_0(Numbers<'a, i8>),
}

/// Numbers of the cache, from a block's first on.
#[derive(Clone, Copy)]
pub struct Numbers<'a, T> {
    /// As they are stored.
    pub stored: &'a [T],
    /// Those of the next block, to fetch meanwhile; of this one if it is the last.
    pub next: &'a [T],
    /// Of int8 what numbers are multiplied by, in the order of [`KvRows`], else nothing.
    pub scales: &'a [f32],
}

/// Scores of some lines against a block of keys.
pub struct Scores<'a> {
    /// (lines, dim), scaled.
    pub q: &'a [f32],
    /// Numbers in a head.
    pub dim: usize,
    /// Groups of 16 positions, (dim, 16) each: enough for what is visible.
    pub keys: Cached<'a>,
    /// What each line sees; other scores need not be computed.
    pub visible: &'a [Visible],
    /// (lines, [`POSITIONS`]).
    pub out: &'a mut [f32],
}

/// Scores of a block to weights.
pub struct Softmax<'a> {
    /// (lines, [`POSITIONS`]): scores, which become `exp(score - max)`, 0 where nothing is visible.
    pub scores: &'a mut [f32],
    /// What each line sees.
    pub visible: &'a [Visible],
    /// Largest score so far, (lines).
    pub max: &'a mut [f32],
    /// Sum of weights so far, (lines).
    pub sum: &'a mut [f32],
    /// What earlier sums have to be multiplied by, (lines); the outcome.
    pub correction: &'a mut [f32],
}

/// Adds a block's weighted values.
pub struct Weigh<'a> {
    /// (lines, [`POSITIONS`]).
    pub weights: &'a [f32],
    /// What each line sees.
    pub visible: &'a [Visible],
    /// What the sums are multiplied by first, (lines).
    pub correction: &'a [f32],
    /// Rows of `padded` numbers: enough for what is visible.
    pub values: Cached<'a>,
    /// Numbers in a row, a multiple of 16.
    pub padded: usize,
    /// (lines, padded).
    pub sums: &'a mut [f32],
}

/// What is known of some lines after some positions.
#[derive(Default)]
struct SoftmaxState {
    max: Vec<f32>,
    sum: Vec<f32>,
    /// (lines, padded).
    sums: Vec<f32>,
}

#[derive(Default)]
struct AttentionScratch {
    q: Vec<f32>,
    scores: Vec<f32>,
    correction: Vec<f32>,
    /// Scales of a block's keys and of its values, where the cache has some.
    scales: [Vec<f32>; 2],
    /// Absolute positions that each line sees.
    seen: Vec<Range<usize>>,
    visible: Vec<Visible>,
    segment: SoftmaxState,
    total: SoftmaxState,
}

/// How a call is cut.
#[derive(Default)]
struct AttentionPlan {
    pieces: Vec<QueryPiece>,
    /// Where segments are tasks: a piece by its number, and one of its segments.
    tasks: Vec<(usize, usize)>,
    /// The outcome of each of these tasks.
    states: Vec<SoftmaxState>,
}

thread_local! {
    static SCRATCH: RefCell<AttentionScratch> = RefCell::default();
    /// The calling thread's, for its next call; taken out while it is in use.
    static PLAN: Cell<AttentionPlan> = Cell::default();
}

/// Some rows of queries of one KV head of one job.
struct QueryPiece {
    job: usize,
    head: usize,
    rows: Range<usize>,
    /// Segments that its lines see, by absolute number.
    segments: Range<usize>,
    /// Where the job's results begin.
    out: usize,
    /// Numbers between two rows of results.
    stride: usize,
    /// Where the heads' results lie in a row: no other piece writes there, whatever a job looks like when it is made once more.
    place: Range<usize>,
}

/// The jobs by their numbers. One is made whenever it is needed: a list of them would be memory for every layer of every token.
type Jobs<'f, 'a> = &'f (dyn Fn(usize) -> AttentionJob<'a> + Sync);

/// Computes attention for every job below `count`. Their results lie one after the other in `out`, (rows, heads * head_dim) each.
///
/// A query that sees nothing gets zeroes.
///
/// # Panics
/// If a job's shapes do not fit each other, or `out` has another length than all results.
pub fn attention(kernels: &'static Kernels, pool: &Pool, count: usize, jobs: Jobs, out: &mut [f32]) {
    let mut plan = PLAN.take();
    let end = plan.cut(count, jobs);
    assert_eq!(out.len(), end, "results of {count} jobs");
    let out = Parts::new(out);
    let pieces = &plan.pieces;
    let segments: usize = pieces.iter().map(|piece| piece.segments.len()).sum();
    if pieces.len() < TASKS * pool.threads() && pool.threads() > 1 && segments > pieces.len() {
        by_segments(kernels, pool, jobs, &mut plan, &out);
    } else {
        // Later rows see more: begin with them, so that the threads finish together. Single tokens keep their order, in which each
        // thread meets the texts whose keys and values it has just written.
        let later_first = pieces.iter().any(|piece| piece.rows.len() > 1);
        pool.run(pieces.len(), &|task| {
            let piece = &pieces[if later_first { pieces.len() - 1 - task } else { task }];
            let job = &jobs(piece.job);
            SCRATCH.with_borrow_mut(|scratch| {
                gather(job, piece, scratch);
                let lines = piece.lines(job);
                scratch.total.reset(lines, job.padded());
                for segment in piece.segments.clone() {
                    run(kernels, job, piece, segment, scratch);
                    scratch.total.merge(&scratch.segment, lines, job.padded());
                }
                finish(job, piece, &scratch.total, &out.from(piece.out));
            });
        });
    }
    PLAN.set(plan);
}

/// The same with a task for each segment: one token against a long cache.
fn by_segments(kernels: &'static Kernels, pool: &Pool, jobs: Jobs, plan: &mut AttentionPlan, out: &Parts<f32>) {
    let AttentionPlan { pieces, tasks, states } = plan;
    tasks.clear();
    for (number, piece) in pieces.iter().enumerate() {
        tasks.extend(piece.segments.clone().map(|segment| (number, segment)));
    }
    states.resize_with(tasks.len().max(states.len()), SoftmaxState::default);
    let slots = Parts::new(states);
    pool.run(tasks.len(), &|task| {
        let (piece, segment) = (&pieces[tasks[task].0], tasks[task].1);
        let job = &jobs(piece.job);
        SCRATCH.with_borrow_mut(|scratch| {
            gather(job, piece, scratch);
            run(kernels, job, piece, segment, scratch);
            // SAFETY: every task has its own slot.
            let slot = unsafe { slots.part(task..task + 1) };
            std::mem::swap(&mut slot[0], &mut scratch.segment);
        });
    });
    SCRATCH.with_borrow_mut(|AttentionScratch { total, .. }| {
        let mut states = states.iter();
        for piece in pieces.iter() {
            let job = &jobs(piece.job);
            total.reset(piece.lines(job), job.padded());
            for state in states.by_ref().take(piece.segments.len()) {
                total.merge(state, piece.lines(job), job.padded());
            }
            finish(job, piece, total, &out.from(piece.out));
        }
    });
    // A token's are small and come again with the next; a prompt's are not worth keeping.
    if pieces.iter().any(|piece| piece.rows.len() > 1) {
        states.clear();
    }
}

fn check(job: &AttentionJob) {
    let AttentionJob { heads, rows, .. } = *job;
    heads.check();
    let Heads { kv_heads, head_dim, .. } = heads;
    assert!(job.keys.len() == kv_heads && job.values.len() == kv_heads, "caches of {kv_heads} KV heads");
    let len = job.keys[0].len();
    assert!(job.keys.iter().all(|k| k.are_keys() && k.len() == len && k.dim() == head_dim), "keys of {head_dim} numbers");
    assert!(job.values.iter().all(|v| !v.are_keys() && v.len() == len && v.dim() == head_dim), "values of {head_dim} numbers");
    assert!(job.cache_start.is_multiple_of(SEGMENT), "cache starts at {}", job.cache_start);
    let width = heads.q_width();
    let fits = |len: usize, stride: usize| rows == 0 || (stride >= width && len >= (rows - 1) * stride + width);
    assert!(fits(job.q.len(), job.q_stride), "{rows} rows of queries");
}

impl AttentionPlan {
    /// Cuts the jobs into pieces, and says how many results they have.
    fn cut(&mut self, count: usize, jobs: Jobs) -> usize {
        self.pieces.clear();
        let mut out = 0;
        for index in 0..count {
            let job = &jobs(index);
            check(job);
            let step = (LINES / job.heads.group()).max(1);
            for from in (0..job.rows).step_by(step) {
                let rows = from..(from + step).min(job.rows);
                let segments = segments(job, &rows);
                let width = job.heads.group() * job.heads.head_dim;
                self.pieces.extend((0..job.heads.kv_heads).map(|head| QueryPiece {
                    job: index,
                    head,
                    rows: rows.clone(),
                    segments: segments.clone(),
                    out,
                    stride: job.heads.q_width(),
                    place: head * width..(head + 1) * width,
                }));
            }
            out += job.rows * job.heads.q_width();
        }
        out
    }
}

/// The segments that some rows see between them.
fn segments(job: &AttentionJob, rows: &Range<usize>) -> Range<usize> {
    let seen = job.sees(rows.start).start..job.sees(rows.end - 1).end;
    if seen.is_empty() { 0..0 } else { seen.start / SEGMENT..seen.end.div_ceil(SEGMENT) }
}

impl AttentionJob<'_> {
    /// Numbers in a row of values.
    fn padded(&self) -> usize {
        self.heads.head_dim.next_multiple_of(GROUP)
    }

    /// Absolute positions in the cache that row `t` sees. Both ends grow with `t`.
    fn sees(&self, t: usize) -> Range<usize> {
        let own = self.first + t;
        let cache = self.cache_start..self.cache_start + self.keys[0].len();
        let start = self.heads.window.map_or(0, |window| (own + 1).saturating_sub(window));
        let end = if self.heads.causal { own + 1 } else { usize::MAX };
        start.clamp(cache.start, cache.end)..end.clamp(cache.start, cache.end)
    }
}

impl QueryPiece {
    fn lines(&self, job: &AttentionJob) -> usize {
        self.rows.len() * job.heads.group()
    }
}

/// Lays the piece's queries side by side, scaled, and finds what each sees.
fn gather(job: &AttentionJob, piece: &QueryPiece, scratch: &mut AttentionScratch) {
    scratch.seen.clear();
    for row in piece.rows.clone() {
        scratch.seen.extend(std::iter::repeat_n(job.sees(row), job.heads.group()));
    }
    scratch.q.resize(piece.lines(job) * job.heads.head_dim, 0.0);
    let mut lines = scratch.q.chunks_exact_mut(job.heads.head_dim);
    for row in piece.rows.clone() {
        let start = row * job.q_stride + piece.head * job.heads.group() * job.heads.head_dim;
        let heads = &job.q[start..start + job.heads.group() * job.heads.head_dim];
        for (q, line) in heads.chunks_exact(job.heads.head_dim).zip(&mut lines) {
            line.iter_mut().zip(q).for_each(|(line, q)| *line = q * job.heads.scale);
        }
    }
}

/// One segment for one piece, from the queries in `scratch` to `scratch.segment`.
fn run(kernels: &Kernels, job: &AttentionJob, piece: &QueryPiece, segment: usize, scratch: &mut AttentionScratch) {
    let (lines, dim, padded) = (piece.lines(job), job.heads.head_dim, job.padded());
    let AttentionScratch { q, scores, correction, scales, seen, visible, segment: state, .. } = scratch;
    state.reset(lines, padded);
    scores.resize(lines * POSITIONS, 0.0);
    correction.resize(lines, 0.0);
    let (keys, values) = (&job.keys[piece.head], &job.values[piece.head]);
    for block in (segment * SEGMENT..(segment + 1) * SEGMENT).step_by(POSITIONS) {
        visible.clear();
        visible.extend(seen.iter().map(|seen| {
            let inside = |position: usize| position.clamp(block, block + POSITIONS) - block;
            inside(seen.start)..inside(seen.end)
        }));
        if visible.iter().all(|seen| seen.is_empty()) {
            continue;
        }
        // What is visible lies in the cache, so the block's start does too.
        let block = (block - job.cache_start) / POSITIONS;
        let [key_scales, value_scales] = &mut *scales;
        let (keys, values) = (cached(keys, block, key_scales), cached(values, block, value_scales));
        let mut task = Scores { q, dim, keys, visible, out: scores };
        // SAFETY: the CPU has the instructions; `check` and the resizing above make the lengths what they have to be.
        unsafe { (kernels.scores)(&mut task) }
        if let Some(cap) = job.heads.cap {
            kernels.cap(scores, cap);
        }
        let SoftmaxState { max, sum, sums } = state;
        let mut task = Softmax { scores, visible, max, sum, correction };
        // SAFETY: the CPU has the instructions; `reset` and the resizing above give every line its numbers.
        unsafe { (kernels.softmax)(&mut task) }
        let mut task = Weigh { weights: scores, visible, correction, values, padded, sums };
        // SAFETY: the CPU has the instructions; weights, corrections and sums have a line each, values what is visible.
        unsafe { (kernels.weigh)(&mut task) }
    }
}

/// Block `block` of the rows; its scales are widened into `scales`.
fn cached<'a>(rows: &'a KvRows, block: usize, scales: &'a mut Vec<f32>) -> Cached<'a> {
    match &rows.data {
        rows::RowsData::F32(pages) => Cached::F32(Numbers::new(pages.page_and_next(block), &[])),
        rows::RowsData::F16(pages) => Cached::F16(Numbers::new(pages.page_and_next(block), &[])),
        rows::RowsData::Q8_0(data) => {
            let (halves, next) = data.scales.page_and_next(block);
            // Kernels fetch the next numbers, but they never see these scales.
            fetch_to::<2>(next.as_ptr().cast(), size_of_val(next));
            scales.resize(halves.len(), 0.0);
            halves.convert_to_f32_slice(scales);
            Cached::Q8_0(Numbers::new(data.numbers.page_and_next(block), scales))
        }
    }
}

impl<'a, T> Numbers<'a, T> {
    fn new((stored, next): (&'a [T], &'a [T]), scales: &'a [f32]) -> Numbers<'a, T> {
        Numbers { stored, next, scales }
    }
}

/// Writes a piece's results to `out`, which begins with its job's.
fn finish(job: &AttentionJob, piece: &QueryPiece, total: &SoftmaxState, out: &Parts<f32>) {
    let padded = job.padded();
    let mut line = 0;
    for row in piece.rows.clone() {
        let start = row * piece.stride;
        // SAFETY: these heads of this row are no other piece's.
        let out = unsafe { out.part(start + piece.place.start..start + piece.place.end) };
        for out in out.chunks_exact_mut(job.heads.head_dim) {
            let sums = &total.sums[line * padded..][..job.heads.head_dim];
            let factor = if total.sum[line] == 0.0 { 0.0 } else { 1.0 / total.sum[line] };
            out.iter_mut().zip(sums).for_each(|(out, x)| *out = x * factor);
            line += 1;
        }
    }
}

impl SoftmaxState {
    fn reset(&mut self, lines: usize, padded: usize) {
        let fill = |vec: &mut Vec<f32>, len: usize, value: f32| {
            vec.clear();
            vec.resize(len, value);
        };
        fill(&mut self.max, lines, f32::NEG_INFINITY);
        fill(&mut self.sum, lines, 0.0);
        fill(&mut self.sums, lines * padded, 0.0);
    }

    /// Takes in the positions that come next.
    fn merge(&mut self, next: &SoftmaxState, lines: usize, padded: usize) {
        for line in 0..lines {
            let (old, new) = (self.max[line], next.max[line]);
            let sums = &mut self.sums[line * padded..][..padded];
            let more = &next.sums[line * padded..][..padded];
            if new == f32::NEG_INFINITY {
                continue;
            }
            if old == f32::NEG_INFINITY {
                self.sum[line] = next.sum[line];
                sums.copy_from_slice(more);
                self.max[line] = new;
                continue;
            }
            let max = if new > old { new } else { old };
            let (keep, take) = (math::exp::<false>(old - max), math::exp::<false>(new - max));
            self.sum[line] = self.sum[line] * keep + next.sum[line] * take;
            sums.iter_mut().zip(more).for_each(|(x, y)| *x = *x * keep + y * take);
            self.max[line] = max;
        }
    }
}
