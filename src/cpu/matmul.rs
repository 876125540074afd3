//! The product of activations with the matrices that share them: how it is cut into tasks.
//!
//! A task is some panels of one matrix times some rows of the input. Outputs are never cut along the columns, so the cut does
//! not show in the results. Few rows: a task is a stretch of weights that takes some microseconds to read. Many rows: the rows
//! are cut as well, so that a small matrix still gives every thread its share.

use super::float::FloatTask;
use super::input::{InputRecords, MatmulInput, Needs};
use super::matrix::{Matrix, MatrixData};
use super::panel::{BLOCK, PanelFormat, ROWS};
use super::parts::Parts;
use super::{Kernels, Pool, float};
use std::ops::Range;

/// Some panels of a matrix times some rows of quantised activations.
pub struct PanelTask<'a> {
    /// How the panels are stored.
    pub format: PanelFormat,
    /// Columns of the matrix, a multiple of 32.
    pub cols: usize,
    /// Whole panels, [`PanelFormat::panel_bytes`] each, the first aligned to a cache line.
    pub panels: &'a [u8],
    /// InputRecords of the format's flavour, for all rows and columns.
    pub records: InputRecords<'a>,
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
}

/// Bytes of weights in a task when there are few rows.
const STRETCH: usize = 24 << 10;
/// From this number of rows on, tasks are cut for arithmetic rather than for reading.
const MANY_ROWS: usize = 16;
/// Panels of quantised weights in a task when there are many rows: they fill tiles under AVX-512, which are three wide.
const PANELS: usize = 6;
/// Those of floats: the tiles are four wide.
const FLOAT_PANELS: usize = 4;
/// The most rows of a task.
pub const MOST_ROWS: usize = 256;
/// Tasks for each thread that are worth aiming at.
const TASKS: usize = 4;

/// The most matrices of a group: queries, keys and values, or gate and up, and some to spare.
const MOST_WEIGHTS: usize = 8;

/// How one matrix is cut: `outputs` of it times `rows` of the input in a task.
#[derive(Clone, Copy, Default)]
struct MatrixCut {
    outputs: usize,
    rows: usize,
    row_parts: usize,
    tasks: usize,
    /// First output of the matrix in the result.
    column: usize,
}

/// `out = x * weightsᵀ + biases`: (rows of x, sum of the weights' rows), the weights' outputs side by side. `input` was prepared from `x`.
///
/// # Panics
/// If a length does not fit, there are more than 8 weights, or `input` was not prepared for weights of these kinds.
pub fn matmul(
    kernels: &'static Kernels,
    pool: &Pool,
    x: &[f32],
    input: &MatmulInput,
    weights: &[Matrix],
    biases: &[Option<Vec<f32>>],
    out: &mut [f32],
) {
    let stride: usize = weights.iter().map(|w| w.rows()).sum();
    assert_eq!(x.len(), input.rows * input.cols, "activations of {} rows", input.rows);
    assert_eq!(out.len(), input.rows * stride, "outputs of {} rows by {weights:?}", input.rows);
    assert!(weights.iter().all(|w| w.cols() == input.cols), "{weights:?} times {} columns", input.cols);
    assert!(Needs::of(weights).within(input.has), "the input was prepared for other weights than {weights:?}");
    assert!(weights.iter().all(|w| !matches!(w.data, MatrixData::Table(_))), "a table among {weights:?}");
    assert_eq!(biases.len(), weights.len());
    assert!(weights.iter().zip(biases).all(|(w, b)| b.as_ref().is_none_or(|b| b.len() == w.rows())), "biases of {weights:?}");
    assert!(weights.len() <= MOST_WEIGHTS, "{} weights in one product", weights.len());
    if out.is_empty() {
        return;
    }
    let mut cuts = [MatrixCut::default(); MOST_WEIGHTS];
    let mut column = 0;
    for (slot, weight) in cuts.iter_mut().zip(weights) {
        *slot = cut(weight, input.rows, pool.threads(), column);
        column += weight.rows();
    }
    let out = Parts::new(out);
    pool.run_together(cuts.iter().map(|cut| cut.tasks).sum(), &|tasks| {
        let mut first = 0;
        for ((weight, bias), cut) in weights.iter().zip(biases).zip(&cuts) {
            // Those of the tasks that are this matrix's, counted from its own first.
            let of_cut = |task: usize| task.clamp(first, first + cut.tasks) - first;
            let (mut task, end) = (of_cut(tasks.start), of_cut(tasks.end));
            first += cut.tasks;
            while task < end {
                // Panels of consecutive tasks lie together; parts of the rows do not.
                let count = if cut.row_parts == 1 { end - task } else { 1 };
                run(kernels, x, input, weight, bias.as_deref(), cut, task..task + count, &out, stride);
                task += count;
            }
        }
    });
}

fn cut(weight: &Matrix, rows: usize, threads: usize, column: usize) -> MatrixCut {
    let row_bytes = weight.bytes() / weight.rows().max(1);
    let floats = matches!(weight.data, MatrixData::Floats(_));
    let (outputs, row_parts) = if rows < MANY_ROWS {
        // Whole tiles where they are enough for all.
        let tile = if floats && weight.rows() >= threads * TASKS * FLOAT_PANELS * ROWS { FLOAT_PANELS } else { 1 };
        ((STRETCH / row_bytes.max(1)).max(1).next_multiple_of(tile * ROWS), 1)
    } else {
        let outputs = if floats { FLOAT_PANELS } else { PANELS } * ROWS;
        let columns = weight.rows().div_ceil(outputs);
        let wanted = (threads * TASKS).div_ceil(columns.max(1)).min(rows / (2 * MANY_ROWS));
        (outputs, wanted.max(rows.div_ceil(MOST_ROWS)).max(1))
    };
    let rows = rows.div_ceil(row_parts);
    MatrixCut { outputs, rows, row_parts, tasks: weight.rows().div_ceil(outputs) * row_parts, column }
}

#[allow(clippy::too_many_arguments)]
fn run(
    kernels: &'static Kernels,
    x: &[f32],
    input: &MatmulInput,
    weight: &Matrix,
    bias: Option<&[f32]>,
    cut: &MatrixCut,
    tasks: Range<usize>,
    out: &Parts<f32>,
    stride: usize,
) {
    let first = tasks.start / cut.row_parts * cut.outputs;
    let outputs = (tasks.len() * cut.outputs).min(weight.rows() - first);
    let from = (tasks.start % cut.row_parts * cut.rows).min(input.rows);
    let rows = cut.rows.min(input.rows - from);
    if rows == 0 {
        return;
    }
    let bias = bias.map(|bias| &bias[first..first + outputs]);
    let cols = weight.cols();
    // The address of the task's last output is checked as well: it is what the kernels rely on.
    let start = from * stride + cut.column + first;
    out.at(start + (rows - 1) * stride + outputs);
    let out = out.at(start);
    match &weight.data {
        MatrixData::Floats(panels) => {
            let panel_bytes = weight.dtype().block_bytes() * cols * ROWS;
            let task = FloatTask {
                dtype: weight.dtype(),
                cols,
                panels: &panels[first / ROWS * panel_bytes..][..outputs.div_ceil(ROWS) * panel_bytes],
                x: &x[from * cols..][..rows * cols],
                rows,
                outputs,
                bias,
                out,
                stride,
                scratch: None,
            };
            // SAFETY: the CPU has the instructions, the slices have the lengths stated, and no two tasks share an output.
            unsafe { float::run(kernels.floats, task) }
        }
        MatrixData::Panels { format, panels } => {
            let panel_bytes = format.panel_bytes(cols);
            let records = if format.group == 16 { &input.narrow } else { &input.wide };
            let records = InputRecords { all: records, total: input.rows, first: from, blocks: cols / BLOCK };
            let task = PanelTask {
                format: *format,
                cols,
                panels: &panels[first / ROWS * panel_bytes..][..outputs.div_ceil(ROWS) * panel_bytes],
                records,
                rows,
                outputs,
                bias,
                out,
                stride,
            };
            // SAFETY: as above; panels start on a cache line because their sizes are whole lines.
            unsafe { (kernels.panels)(&task) }
        }
        MatrixData::Table(_) => unreachable!("a table was given to be multiplied"),
    }
}
