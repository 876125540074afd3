//! Products with float matrices, for every instruction set: written once over [`Lanes`], a row of sixteen numbers in registers.
//!
//! The weights lie in panels of 16 rows, column after column, in the width that the file has: column `k` of a panel is sixteen numbers
//! side by side. So one load gives sixteen outputs their weights, and one activation is spread over all lanes.
//!
//! An output is a sum over slices of [`SLICE_COLUMNS`] columns, in order, and each slice is one chain of fused multiply-adds from zero, in order; the
//! bias comes last. Nothing else enters: results have the same bits under every set, in every tile and beside any other rows. Summing by
//! slices also keeps the rounding errors of long rows small.
//!
//! Many rows: a slice of some panels is widened once into scratch that stays in the second-level cache, and all tiles of rows go over it (Goto &
//! van de Geijn 2008). Few rows: the panels are read as they lie, and fetched ahead.

use super::buffer::LINE;
use super::panel::ROWS;
use super::prefetch::stream_part;
use crate::quant::Dtype;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// Columns of a slice.
const SLICE_COLUMNS: usize = 512;
/// From this number of rows on, widening a slice first is worth it.
const MANY: usize = 12;
/// Columns that a tile goes through in a turn of its loop.
const UNROLLED: usize = 4;
/// Numbers in the largest scratch: a slice of four panels.
const SCRATCH: usize = 4 * SLICE_COLUMNS * ROWS;

/// Some panels of a float matrix times some rows of float activations.
pub struct FloatTask<'a> {
    /// F32, F16 or BF16.
    pub dtype: Dtype,
    /// Columns of the matrix.
    pub cols: usize,
    /// Whole panels of 16 outputs: (outputs / 16, cols, 16) elements.
    pub panels: &'a [u8],
    /// (rows, cols).
    pub x: &'a [f32],
    /// Rows of activations, at least one.
    pub rows: usize,
    /// How many outputs the panels have: up to 16 for each, fewer in the last one.
    pub outputs: usize,
    /// What is added to each output, (outputs).
    pub bias: Option<&'a [f32]>,
    /// Where output `o` of row `r` goes: `out + r * stride + o`. Valid for all rows and outputs, and nobody else's meanwhile.
    pub out: *mut f32,
    /// See `out`.
    pub stride: usize,
    /// Where weights are widened first, if there are rows enough; nobody else's meanwhile.
    pub scratch: Option<NonNull<WidenedSlice>>,
}

/// Sixteen numbers.
pub trait Lanes: Copy {
    /// Zeroes.
    ///
    /// # Safety
    /// For this and all below: the CPU has the instructions of the set that implements it, and pointers are valid for what the first line says.
    unsafe fn zero() -> Self;
    /// The number at `from` in every lane.
    unsafe fn splat(from: *const f32) -> Self;
    /// Sixteen floats at any alignment.
    unsafe fn load(from: *const u8) -> Self;
    /// Sixteen numbers in half precision, widened.
    unsafe fn load_f16(from: *const u8) -> Self;
    /// Sixteen numbers in bfloat16, widened.
    unsafe fn load_bf16(from: *const u8) -> Self;
    /// Sixteen bytes with a sign, widened.
    unsafe fn load_i8(from: *const i8) -> Self;
    /// Writes sixteen floats.
    unsafe fn store(self, to: *mut f32);
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// `self * other`.
    unsafe fn mul(self, other: Self) -> Self;
    /// `self * x + sum`, rounded once.
    unsafe fn mul_add(self, x: Self, sum: Self) -> Self;
}

/// The products of `task` in tiles of `N` panels, at most 4, and up to `M` rows.
///
/// # Safety
/// The CPU has the instructions of `L`; the task's parts are as [`FloatTask`] says.
#[inline(always)]
pub unsafe fn products<L: Lanes, const N: usize, const M: usize>(task: &FloatTask) {
    const { assert!(N <= 4) };
    // SAFETY: the arms differ in the type alone, which is the task's.
    unsafe {
        match task.dtype {
            Dtype::F16 => typed::<L, { Dtype::F16 as u8 }, N, M>(task),
            Dtype::BF16 => typed::<L, { Dtype::BF16 as u8 }, N, M>(task),
            _ => typed::<L, { Dtype::F32 as u8 }, N, M>(task),
        }
    }
}

/// # Safety
/// As [`products`]; `TYPE` is the task's.
#[inline(always)]
unsafe fn typed<L: Lanes, const TYPE: u8, const N: usize, const M: usize>(task: &FloatTask) {
    // SAFETY: panels and slices are within the task.
    unsafe {
        if task.cols == 0 {
            return biases(task);
        }
        let panels = task.outputs.div_ceil(ROWS);
        for panel in (0..panels - panels % N).step_by(N) {
            group::<L, TYPE, N, M>(task, panel);
        }
        for panel in panels - panels % N..panels {
            group::<L, TYPE, 1, M>(task, panel);
        }
    }
}

/// # Safety
/// As [`typed`].
unsafe fn biases(task: &FloatTask) {
    for row in 0..task.rows {
        for output in 0..task.outputs {
            // SAFETY: the task's outputs.
            unsafe { *task.out.add(row * task.stride + output) = task.bias.map_or(0.0, |bias| bias[output]) };
        }
    }
}

/// A slice of a group of panels: column `k` of panel `n` lies at `start + n * panel + k * column`.
struct FloatSlice {
    start: *const u8,
    panel: usize,
    column: usize,
    columns: usize,
    /// Where the slice begins in the row.
    at: usize,
    /// Bytes of a panel from there on; those of panels that lie as they are stored.
    left: usize,
}

/// Room for a slice of some panels, widened.
#[repr(C, align(64))]
pub struct WidenedSlice([f32; SCRATCH]);

/// A set's `products` of `task`, with a scratch if it has rows enough.
///
/// # Safety
/// As `products` says.
pub unsafe fn run(products: unsafe fn(&FloatTask), task: FloatTask) {
    // SAFETY: the set of `products` and the task are the caller's, unchanged.
    unsafe { if task.rows < MANY { products(&task) } else { with_scratch(products, task) } }
}

/// Not a part of [`run`]: for so much room on the stack each of its pages is touched first, which is a long time for a few rows.
///
/// # Safety
/// As [`run`].
#[inline(never)]
unsafe fn with_scratch(products: unsafe fn(&FloatTask), mut task: FloatTask) {
    let mut scratch = MaybeUninit::<WidenedSlice>::uninit();
    task.scratch = NonNull::new(scratch.as_mut_ptr());
    // SAFETY: as `run`; the scratch is this function's own until it returns.
    unsafe { products(&task) }
}

/// All rows times panels `panel` to `panel + N`.
///
/// # Safety
/// As [`typed`]; the panels are the task's.
#[inline(always)]
unsafe fn group<L: Lanes, const TYPE: u8, const N: usize, const M: usize>(task: &FloatTask, panel: usize) {
    let width = task.dtype.block_bytes();
    let bytes = task.cols * ROWS * width;
    for at in (0..task.cols).step_by(SLICE_COLUMNS) {
        let columns = SLICE_COLUMNS.min(task.cols - at);
        // SAFETY: the slice lies within the panels, and the scratch has room for it.
        unsafe {
            let start = task.panels.as_ptr().add(panel * bytes + at * ROWS * width);
            let stored = FloatSlice { start, panel: bytes, column: ROWS * width, columns, at, left: bytes - at * ROWS * width };
            if let Some(scratch) = task.scratch {
                let scratch = scratch.as_ptr().cast::<f32>();
                for k in 0..columns {
                    for n in 0..N {
                        let weights = load::<L, TYPE>(stored.start.add(n * stored.panel + k * stored.column));
                        weights.store(scratch.add((k * N + n) * ROWS));
                    }
                }
                let (panel_bytes, column_bytes) = (4 * ROWS, 4 * N * ROWS);
                let widened =
                    FloatSlice { start: scratch.cast(), panel: panel_bytes, column: column_bytes, columns, at, left: 0 };
                rows::<L, { Dtype::F32 as u8 }, false, N, M>(task, panel, &widened);
            } else {
                rows::<L, TYPE, true, N, M>(task, panel, &stored);
            }
        }
    }
}

/// All rows times one slice.
///
/// # Safety
/// As [`group`].
#[inline(always)]
unsafe fn rows<L: Lanes, const TYPE: u8, const STORED: bool, const N: usize, const M: usize>(
    task: &FloatTask,
    panel: usize,
    slice: &FloatSlice,
) {
    let mut row = 0;
    while row < task.rows {
        let left = task.rows - row;
        // SAFETY: the rows are the task's.
        row += unsafe {
            if left >= M {
                tile::<L, TYPE, STORED, N, M>(task, panel, slice, row)
            } else if left >= 4 {
                tile::<L, TYPE, STORED, N, 4>(task, panel, slice, row)
            } else if left >= 2 {
                tile::<L, TYPE, STORED, N, 2>(task, panel, slice, row)
            } else {
                tile::<L, TYPE, STORED, N, 1>(task, panel, slice, row)
            }
        }
    }
}

/// # Safety
/// As [`rows`], with `T` rows from `row` on, which it returns.
#[inline(always)]
unsafe fn tile<L: Lanes, const TYPE: u8, const STORED: bool, const N: usize, const T: usize>(
    task: &FloatTask,
    panel: usize,
    slice: &FloatSlice,
    row: usize,
) -> usize {
    let columns = slice.columns;
    // SAFETY: rows, columns and outputs are within the task; fetching ahead is harmless.
    unsafe {
        let x = task.x.as_ptr().add(row * task.cols + slice.at);
        let mut sums = [[L::zero(); N]; T];
        // Some columns a turn: finding a column's activations takes as many instructions as multiplying them.
        // Of six rows fewer: what is fetched ahead keeps the compiler from taking one column after the other, and their weights in registers.
        let turn = if STORED && T > 4 { 1 } else { UNROLLED };
        let whole = columns - columns % turn;
        for k in (0..whole).step_by(turn) {
            for k in k..k + turn {
                column::<L, TYPE, STORED, N, T>(slice, k, x.add(k), task.cols, &mut sums);
            }
        }
        for k in whole..columns {
            column::<L, TYPE, STORED, N, T>(slice, k, x.add(k), task.cols, &mut sums);
        }
        let last = slice.at + columns == task.cols;
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                let output = (panel + n) * ROWS;
                let out = task.out.add((row + m) * task.stride + output);
                let bias = if last { task.bias.map(|bias| bias.as_ptr().add(output)) } else { None };
                let outputs = task.outputs - output;
                if outputs >= ROWS {
                    finish(sum, slice.at == 0, bias, out);
                } else {
                    // The last panel's missing outputs have no place: take a detour.
                    let copy = |from: *const f32| {
                        let mut sixteen = [0.0; ROWS];
                        std::ptr::copy_nonoverlapping(from, sixteen.as_mut_ptr(), outputs);
                        sixteen
                    };
                    let mut sixteen = copy(out);
                    let bias = bias.map(copy);
                    finish(sum, slice.at == 0, bias.as_ref().map(|bias| bias.as_ptr()), sixteen.as_mut_ptr());
                    std::ptr::copy_nonoverlapping(sixteen.as_ptr(), out, outputs);
                }
            }
        }
    }
    T
}

/// Column `k` of a slice times one activation of `T` rows, `stride` numbers apart from `x` on.
///
/// # Safety
/// As [`tile`]; `x` points to the first row's activation of that column.
#[inline(always)]
unsafe fn column<L: Lanes, const TYPE: u8, const STORED: bool, const N: usize, const T: usize>(
    slice: &FloatSlice,
    k: usize,
    x: *const f32,
    stride: usize,
    sums: &mut [[L; N]; T],
) {
    // SAFETY: rows and columns are within the task; fetching ahead is harmless.
    unsafe {
        let column = slice.start.add(k * slice.column);
        let mut weights = [L::zero(); N];
        for n in 0..N {
            // Each line once: it may hold more than one column.
            let at = k * slice.column;
            if STORED && at.is_multiple_of(LINE) {
                stream_part(slice.start.wrapping_add(n * slice.panel), at, slice.left, (N - 1) * slice.panel);
            }
            weights[n] = load::<L, TYPE>(column.add(n * slice.panel));
        }
        for m in 0..T {
            let x = L::splat(x.add(m * stride));
            for n in 0..N {
                sums[m][n] = weights[n].mul_add(x, sums[m][n]);
            }
        }
    }
}

/// Adds the sum of a slice, and the bias, to what the slices before have left in `out`.
///
/// # Safety
/// Pointers are valid for sixteen numbers.
#[inline(always)]
unsafe fn finish<L: Lanes>(mut sum: L, begins: bool, bias: Option<*const f32>, out: *mut f32) {
    // SAFETY: `tile` hands in places of sixteen numbers: the task's, or its own for a last panel that has fewer.
    unsafe {
        if !begins {
            sum = L::load(out.cast_const().cast()).add(sum);
        }
        if let Some(bias) = bias {
            sum = sum.add(L::load(bias.cast()));
        }
        sum.store(out);
    }
}

/// # Safety
/// `from` points to sixteen numbers of `TYPE`, at any alignment.
#[inline(always)]
unsafe fn load<L: Lanes, const TYPE: u8>(from: *const u8) -> L {
    // SAFETY: the arms differ in the type alone, which is that of the numbers at `from`.
    unsafe {
        if TYPE == Dtype::F16 as u8 {
            L::load_f16(from)
        } else if TYPE == Dtype::BF16 as u8 {
            L::load_bf16(from)
        } else {
            L::load(from)
        }
    }
}
