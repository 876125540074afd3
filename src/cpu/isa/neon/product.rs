//! Products with panels: `sdot`, whose lane is one row of a panel and whose four bytes are that row's columns in a line.
//!
//! Both operands are signed: values of up to six bits are that as they are, 8-bit ones and codes become signed numbers without a zero point.
//! A register of activations serves four lines, each picking a lane of it.
//!
//! A panel's slice is unfolded into a scratch in the first-level cache, whatever the number of rows; a tile is one panel times 2 rows.

use super::{LANES, dot, halves};
use crate::cpu::buffer::LINE;
use crate::cpu::input::{self, InputRecord, SCALE, SCALED_SUM, SLICE};
use crate::cpu::matmul::{MOST_ROWS, PanelTask};
use crate::cpu::panel::{BLOCK, LINES, PanelFormat, PanelHead, ROWS, StaticFormat, known};
use crate::cpu::prefetch::stream;
use crate::quant::iquants::CODES as SIGNED_CODES;
use std::arch::aarch64::*;
use std::mem::MaybeUninit;

/// Rows in a tile: their sums, integers and floats, stay in registers. With three, 32 do not hold them.
const TILE: usize = 2;
/// Registers across a panel.
const WIDTH: usize = ROWS / LANES;
/// Registers of activations in a block.
const PARTS: usize = BLOCK / 16;

/// Sixteen numbers, one for each row of a panel.
type NeonWide = [float32x4_t; WIDTH];
/// A line of weights.
type NeonLine = [int8x16_t; WIDTH];

/// # Safety
/// The CPU has dot products if `DOT`; the task's parts are as [`PanelTask`] says.
#[target_feature(enable = "neon")]
pub unsafe fn panels<const DOT: bool>(task: &PanelTask) {
    // SAFETY: `matmul` made the task so, and `Kernels::available` found the instructions.
    unsafe { known!(task.format, K => run::<DOT, K>(task)) }
}

/// A slice of a panel, unfolded, and what was summed in earlier slices.
#[repr(C, align(64))]
struct NeonScratch {
    values: [[NeonLine; LINES]; SLICE],
    scales: [[NeonWide; 2]; SLICE],
    mins: [[NeonWide; 2]; SLICE],
    sums: [NeonWide; MOST_ROWS],
}

/// # Safety
/// As [`panels`]; `K` is the task's format.
#[target_feature(enable = "neon")]
unsafe fn run<const DOT: bool, K: StaticFormat>(task: &PanelTask) {
    assert!(task.rows <= MOST_ROWS);
    let blocks = task.cols / BLOCK;
    let panel_bytes = task.format.panel_bytes(task.cols);
    // Signed weights need no zero point.
    let start = if K::FORMAT.low == 8 || K::FORMAT.codes { None } else { input::start(&task.format) };
    let mut scratch = MaybeUninit::<NeonScratch>::uninit();
    let scratch = scratch.as_mut_ptr();
    // SAFETY: the scratch is there, and zeroes are floats. What a format lacks stays zero.
    unsafe {
        (&raw mut (*scratch).scales).write_bytes(0, 1);
        (&raw mut (*scratch).mins).write_bytes(0, 1);
    }
    for panel in 0..task.outputs.div_ceil(ROWS) {
        // SAFETY: panels, blocks and rows are within the task, and the scratch is written before it is read.
        unsafe {
            for row in 0..task.rows {
                (*scratch).sums[row] = [vdupq_n_f32(0.0); WIDTH];
            }
            let base = task.panels.as_ptr().add(panel * panel_bytes);
            for from in (0..blocks).step_by(SLICE) {
                let count = (blocks - from).min(SLICE);
                for block in 0..count {
                    stream(K::position(base, from + block), K::BLOCK_BYTES);
                    let place = K::place(from + block);
                    unfold::<K>(base.add(place.values), &mut (*scratch).values[block]);
                    let head = base.add(place.head);
                    scales::<K>(head, from + block, &mut (*scratch).scales[block], &mut (*scratch).mins[block]);
                }
                let whole = task.rows - task.rows % TILE;
                for row in (0..whole).step_by(TILE) {
                    tile::<DOT, K, TILE>(task, scratch, from, count, row, start);
                }
                if whole < task.rows {
                    tile::<DOT, K, 1>(task, scratch, from, count, whole, start);
                }
            }
            store(task, panel, &(*scratch).sums);
        }
    }
}

/// Adds biases and writes a panel's outputs.
///
/// # Safety
/// As [`panels`].
#[target_feature(enable = "neon")]
unsafe fn store(task: &PanelTask, panel: usize, sums: &[NeonWide; MOST_ROWS]) {
    let first = panel * ROWS;
    let count = (task.outputs - first).min(ROWS);
    let mut bias = [0.0f32; ROWS];
    if let Some(all) = task.bias {
        bias[..count].copy_from_slice(&all[first..first + count]);
    }
    for (row, sums) in sums[..task.rows].iter().enumerate() {
        let mut out = [0.0f32; ROWS];
        for (part, sum) in sums.iter().enumerate() {
            // SAFETY: both arrays have sixteen numbers.
            unsafe {
                let bias = vld1q_f32(bias.as_ptr().add(part * LANES));
                vst1q_f32(out.as_mut_ptr().add(part * LANES), vaddq_f32(*sum, bias));
            }
        }
        // SAFETY: the place is valid for the task's rows and outputs.
        unsafe {
            let place = task.out.add(row * task.stride + first);
            place.copy_from_nonoverlapping(out.as_ptr(), count);
        }
    }
}

/// `MR` rows times a slice of a panel; `start` is where integer sums start, see [`input::start`].
///
/// # Safety
/// As [`run`]; the scratch holds blocks `from..from + count`, and there are `MR` rows from `row` on.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn tile<const DOT: bool, K: StaticFormat, const MR: usize>(
    task: &PanelTask,
    scratch: *mut NeonScratch,
    from: usize,
    count: usize,
    row: usize,
    start: Option<usize>,
) {
    let PanelFormat { mins, .. } = K::FORMAT;
    let halves = K::FORMAT.halves();
    // SAFETY: rows and blocks are within the task and the scratch.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); WIDTH]; MR];
        sums.copy_from_slice(&(&(*scratch).sums)[row..row + MR]);
        let records = task.records.slice(from / SLICE, row).as_ptr();
        for block in 0..count {
            let record = |m: usize| records.add(m * count + block);
            let values = &(*scratch).values[block];
            for half in 0..halves {
                let mut integers = [[vdupq_n_s32(0); WIDTH]; MR];
                if let Some(start) = start {
                    for (m, integers) in integers.iter_mut().enumerate() {
                        *integers = [vdupq_n_s32((*record(m)).rest[start + half] as i32); WIDTH];
                    }
                }
                for part in half * PARTS / halves..(half + 1) * PARTS / halves {
                    let mut x = [vdupq_n_s8(0); MR];
                    for (m, x) in x.iter_mut().enumerate() {
                        *x = vld1q_s8((*record(m)).values.as_ptr().add(part * 16));
                    }
                    line::<DOT, 0, MR>(&mut integers, &values[4 * part], &x);
                    line::<DOT, 1, MR>(&mut integers, &values[4 * part + 1], &x);
                    line::<DOT, 2, MR>(&mut integers, &values[4 * part + 2], &x);
                    line::<DOT, 3, MR>(&mut integers, &values[4 * part + 3], &x);
                }
                let (scales, minima) = (&(*scratch).scales[block][half], &(*scratch).mins[block][half]);
                for (m, integers) in integers.into_iter().enumerate() {
                    let factor = rest(record(m), SCALE);
                    for (p, integer) in integers.into_iter().enumerate() {
                        let mut sum = sums[m][p];
                        if mins {
                            sum = vfmaq_n_f32(sum, minima[p], rest(record(m), SCALED_SUM + half));
                        }
                        sums[m][p] = vfmaq_n_f32(sum, vmulq_f32(vcvtq_f32_s32(integer), scales[p]), factor);
                    }
                }
            }
        }
        (&mut (*scratch).sums)[row..row + MR].copy_from_slice(&sums);
    }
}

/// One line of the weights times quad `QUAD` of each row's activations.
///
/// # Safety
/// The CPU has dot products if `DOT`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn line<const DOT: bool, const QUAD: i32, const MR: usize>(
    sums: &mut [[int32x4_t; WIDTH]; MR],
    weights: &NeonLine,
    x: &[int8x16_t; MR],
) {
    for (sums, x) in sums.iter_mut().zip(x) {
        for (sum, weights) in sums.iter_mut().zip(weights) {
            // SAFETY: the CPU has dot products where `DOT` is, as asked above.
            *sum = unsafe { dot::<DOT, QUAD>(*sum, *weights, *x) };
        }
    }
}

/// Element `index` of a record's rest, as a float.
///
/// # Safety
/// `record` points to a record.
#[inline(always)]
unsafe fn rest(record: *const InputRecord, index: usize) -> f32 {
    // SAFETY: a record has `rest` numbers behind its values, and the indices are constants below that.
    f32::from_bits(unsafe { (*record).rest[index] })
}

/// A block's values, one byte each; 8-bit ones and codes as signed numbers.
///
/// # Safety
/// `values` points to a block of these planes.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn unfold<K: StaticFormat>(values: *const u8, out: &mut [NeonLine; LINES]) {
    let PanelFormat { low, high, .. } = K::FORMAT;
    // SAFETY: the table has sixteen bytes.
    let codes = unsafe { vld1q_s8(SIGNED_CODES.as_ptr()) };
    for part in 0..WIDTH {
        // SAFETY: a block has `low + high` lines.
        let load = |line: usize| unsafe { vld1q_u8(values.add(line * LINE + part * 16)) };
        for (i, line) in out.iter_mut().enumerate() {
            let mut value = match low {
                8 => veorq_u8(load(i), vdupq_n_u8(0x80)),
                4 => vandq_u8(shift(load(i % 4), -(i as i32 / 4 * 4)), vdupq_n_u8(15)),
                _ => vandq_u8(shift(load(i / 4), -(i as i32 % 4 * 2)), vdupq_n_u8(3)),
            };
            if high > 0 {
                // To the place above the low bits, where `mask` keeps them.
                let (plane, from, mask) =
                    if high == 1 { (load(low), i, 1 << low) } else { (load(low + i / 4), i % 4 * 2, 3 << low) };
                value = vorrq_u8(value, vandq_u8(shift(plane, low as i32 - from as i32), vdupq_n_u8(mask)));
            }
            let value = vreinterpretq_s8_u8(value);
            line[part] = if K::FORMAT.codes { vqtbl1q_s8(codes, vreinterpretq_u8_s8(value)) } else { value };
        }
    }
}

/// Shifts each byte, to the left if `by` is positive.
#[target_feature(enable = "neon")]
#[inline]
fn shift(x: uint8x16_t, by: i32) -> uint8x16_t {
    match by {
        -6 => vshrq_n_u8::<6>(x),
        -5 => vshrq_n_u8::<5>(x),
        -4 => vshrq_n_u8::<4>(x),
        -3 => vshrq_n_u8::<3>(x),
        -2 => vshrq_n_u8::<2>(x),
        -1 => vshrq_n_u8::<1>(x),
        0 => x,
        1 => vshlq_n_u8::<1>(x),
        2 => vshlq_n_u8::<2>(x),
        3 => vshlq_n_u8::<3>(x),
        _ => vshlq_n_u8::<4>(x),
    }
}

/// Scales and mins of a block, as far as the format has them: for one half or both.
///
/// # Safety
/// `head` points to the head that serves `block`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn scales<K: StaticFormat>(head: *const u8, block: usize, scales: &mut [NeonWide; 2], mins: &mut [NeonWide; 2]) {
    // SAFETY: the offsets below are those of `panel::PanelHead`.
    let bytes = |at: *const u8| unsafe { vld1q_u8(at) };
    let half = |at: *const u8| {
        // SAFETY: likewise.
        let ([a, b], [c, d]) = unsafe { (halves(at), halves(at.add(16))) };
        [a, b, c, d]
    };
    let times = |d: NeonWide, x: uint8x16_t| {
        let x = vreinterpretq_s8_u8(x);
        let (low, high) = (vmovl_s8(vget_low_s8(x)), vmovl_high_s8(x));
        let integers = [vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)];
        let mut product = d;
        for (product, integer) in product.iter_mut().zip(integers) {
            *product = vmulq_f32(*product, vcvtq_f32_s32(integer));
        }
        product
    };
    let negative = |x: NeonWide| x.map(|x| vnegq_f32(x));
    // SAFETY: the offsets are those of `panel::PanelHead`.
    unsafe {
        match K::FORMAT.head {
            PanelHead::Scales => {
                scales[0] = half(head);
            }
            PanelHead::ScalesMins => {
                (scales[0], mins[0]) = (half(head), half(head.add(32)));
            }
            PanelHead::Six => {
                let (field, group) = (head.add(64), block % 8);
                scales[0] = times(half(head), six_bits(field, group));
                mins[0] = times(negative(half(head.add(32))), six_bits(field, 8 + group));
            }
            PanelHead::SixSigned => {
                let (d, field, group) = (half(head), head.add(32), block % 8 * 2);
                let scale = |group: usize| times(d, vsubq_u8(six_bits(field, group), vdupq_n_u8(32)));
                *scales = [scale(group), scale(group + 1)];
            }
            PanelHead::BlockBytes => {
                scales[0] = times(half(head), bytes(head.add(32 + block % 8 * ROWS)));
            }
            PanelHead::Bytes => {
                let (d, field, group) = (half(head), head.add(32), block % 8 * 2);
                *scales = [0, 1].map(|i| times(d, bytes(field.add(ROWS * (group + i)))));
            }
            PanelHead::Nibbles => {
                let (d, dmin) = (half(head), negative(half(head.add(32))));
                let (field, group) = (head.add(64), block % 8 * 2);
                let pair = [bytes(field.add(ROWS * group)), bytes(field.add(ROWS * (group + 1)))];
                *scales = pair.map(|x| times(d, vandq_u8(x, vdupq_n_u8(15))));
                *mins = pair.map(|x| times(dmin, vshrq_n_u8::<4>(x)));
            }
        }
    }
}

/// Numbers `16 group` to `16 group + 15` of a six-bit field.
///
/// # Safety
/// `field` points to 192 bytes, `group` is below 16.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn six_bits(field: *const u8, group: usize) -> uint8x16_t {
    // SAFETY: within the field.
    let bytes = |at: usize| unsafe { vld1q_u8(field.add(at)) };
    if group < 12 {
        return vandq_u8(bytes(ROWS * group), vdupq_n_u8(63));
    }
    let at = ROWS * (group - 12);
    let low = vshrq_n_u8::<6>(bytes(at));
    let middle = vandq_u8(vshrq_n_u8::<4>(bytes(64 + at)), vdupq_n_u8(12));
    let high = vandq_u8(vshrq_n_u8::<2>(bytes(128 + at)), vdupq_n_u8(48));
    vorrq_u8(vorrq_u8(low, middle), high)
}
