//! Products with panels: `vpmaddubsw` with the weights as the unsigned operand.
//!
//! Pairs of products are summed in 16 bits, which must not overflow: with activations up to 127, eight lines of 4-bit weights fit
//! (8 · 2 · 15 · 127 = 30480), four of 5-bit ones, two of 6-bit ones. 8-bit weights and codes are taken as signed numbers, their sign moved to
//! the activations, one line at a time.
//!
//! A panel's slice is unfolded into a scratch in the first-level cache, whatever the number of rows; a tile is one panel times 2 rows.

use super::LANES;
use crate::kernels::buffer::LINE;
use crate::kernels::input::{self, Record, SCALE, SCALED_SUM, SLICE};
use crate::kernels::matmul::{MOST_ROWS, PanelTask};
use crate::kernels::panel::{BLOCK, Head, LINES, ROWS, ahead};
use crate::quant::iquants::CODES as SIGNED_CODES;
use std::arch::x86_64::*;
use std::mem::{MaybeUninit, offset_of};

/// Rows in a tile: with three, 16 registers do not hold the sums.
const TILE: usize = 2;
/// Registers across a panel.
const WIDTH: usize = ROWS / LANES;

/// Sixteen numbers, one for each row of a panel.
type Wide = [__m256; WIDTH];

/// # Safety
/// The CPU has the instructions of this folder; the task's parts are as [`PanelTask`] says.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn panels(task: &PanelTask) {
    // SAFETY: the caller's word, which is passed on.
    unsafe {
        match (task.format.low, task.format.high, task.format.head) {
            (4, 0, Head::Scales) if task.format.codes => run::<4, 0, true, { Head::Scales as u8 }>(task),
            (4, 0, Head::BlockBytes) => run::<4, 0, true, { Head::BlockBytes as u8 }>(task),
            (4, 0, Head::Scales) => run::<4, 0, false, { Head::Scales as u8 }>(task),
            (4, 0, Head::ScalesMins) => run::<4, 0, false, { Head::ScalesMins as u8 }>(task),
            (4, 1, Head::Scales) => run::<4, 1, false, { Head::Scales as u8 }>(task),
            (4, 1, Head::ScalesMins) => run::<4, 1, false, { Head::ScalesMins as u8 }>(task),
            (8, 0, _) => run::<8, 0, false, { Head::Scales as u8 }>(task),
            (2, 0, _) => run::<2, 0, false, { Head::Nibbles as u8 }>(task),
            (2, _, _) => run::<2, 1, false, { Head::SixSigned as u8 }>(task),
            (4, 0, _) => run::<4, 0, false, { Head::Six as u8 }>(task),
            (4, 1, _) => run::<4, 1, false, { Head::Six as u8 }>(task),
            (_, _, _) => run::<4, 2, false, { Head::Bytes as u8 }>(task),
        }
    }
}

/// A slice of a panel, unfolded, and what was summed in earlier slices.
#[repr(C, align(64))]
struct Scratch {
    values: [[[__m256i; WIDTH]; LINES]; SLICE],
    scales: [[Wide; 2]; SLICE],
    mins: [[Wide; 2]; SLICE],
    sums: [Wide; MOST_ROWS],
}

/// # Safety
/// As [`panels`]; `LOW`, `HIGH` and `HEAD` are the task's.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run<const LOW: usize, const HIGH: usize, const CODES: bool, const HEAD: u8>(task: &PanelTask) {
    assert!(task.rows <= MOST_ROWS);
    let blocks = task.cols / BLOCK;
    let panel_bytes = task.format.panel_bytes(task.cols);
    let mut scratch = MaybeUninit::<Scratch>::uninit();
    let scratch = scratch.as_mut_ptr();
    for panel in 0..task.outputs.div_ceil(ROWS) {
        // SAFETY: panels, blocks and rows are within the task, and the scratch is written before it is read.
        unsafe {
            for row in 0..task.rows {
                (*scratch).sums[row] = [_mm256_setzero_ps(); WIDTH];
            }
            let values = task.panels.as_ptr().add(panel * panel_bytes);
            let heads = values.add(blocks * LINE * (LOW + HIGH));
            for from in (0..blocks).step_by(SLICE) {
                let count = (blocks - from).min(SLICE);
                for block in 0..count {
                    let at = values.add((from + block) * LINE * (LOW + HIGH));
                    let (later, head) = ahead(&task.format, values, blocks, from + block);
                    for line in 0..LOW + HIGH {
                        _mm_prefetch::<_MM_HINT_T0>(later.wrapping_add(line * LINE).cast());
                    }
                    _mm_prefetch::<_MM_HINT_T0>(head.cast());
                    unfold::<LOW, HIGH, CODES>(at, &mut (*scratch).values[block]);
                    ((*scratch).scales[block], (*scratch).mins[block]) = scales::<HEAD>(heads, from + block);
                }
                let whole = task.rows - task.rows % TILE;
                for row in (0..whole).step_by(TILE) {
                    tile::<LOW, HIGH, CODES, HEAD, TILE>(task, scratch, from, count, row);
                }
                if whole < task.rows {
                    tile::<LOW, HIGH, CODES, HEAD, 1>(task, scratch, from, count, whole);
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
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn store(task: &PanelTask, panel: usize, sums: &[Wide; MOST_ROWS]) {
    let first = panel * ROWS;
    let count = (task.outputs - first).min(ROWS);
    let mut bias = [0.0f32; ROWS];
    if let Some(all) = task.bias {
        bias[..count].copy_from_slice(&all[first..first + count]);
    }
    for (row, sums) in sums[..task.rows].iter().enumerate() {
        let mut out = [0.0f32; ROWS];
        for (half, sum) in sums.iter().enumerate() {
            // SAFETY: both arrays have sixteen numbers.
            unsafe {
                let bias = _mm256_loadu_ps(bias.as_ptr().add(half * LANES));
                _mm256_storeu_ps(out.as_mut_ptr().add(half * LANES), _mm256_add_ps(*sum, bias));
            }
        }
        // SAFETY: the place is valid for the task's rows and outputs.
        unsafe {
            let place = task.out.add(row * task.stride + first);
            place.copy_from_nonoverlapping(out.as_ptr(), count);
        }
    }
}

/// `MR` rows times a slice of a panel.
///
/// # Safety
/// As [`run`]; the scratch holds blocks `from..from + count`, and there are `MR` rows from `row` on.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn tile<const LOW: usize, const HIGH: usize, const CODES: bool, const HEAD: u8, const MR: usize>(
    task: &PanelTask,
    scratch: *mut Scratch,
    from: usize,
    count: usize,
    row: usize,
) {
    let halves = if HEAD == Head::SixSigned as u8 || HEAD == Head::Bytes as u8 || HEAD == Head::Nibbles as u8 { 2 } else { 1 };
    let mins = HEAD == Head::ScalesMins as u8 || HEAD == Head::Six as u8 || HEAD == Head::Nibbles as u8;
    // Lines whose pairs of products fit into 16 bits together.
    let signed = LOW == 8 || CODES;
    let run = match LOW + HIGH {
        _ if signed => 1,
        6 => 2,
        5 => 4,
        _ => 8,
    };
    // Signed weights need no zero point.
    let start = if signed { None } else { input::start(&task.format) };
    let ones = _mm256_set1_epi16(1);
    // SAFETY: rows and blocks are within the task and the scratch.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); WIDTH]; MR];
        sums.copy_from_slice(&(&(*scratch).sums)[row..row + MR]);
        let records = task.records.slice(from / SLICE, row).as_ptr();
        for block in 0..count {
            let record = |m: usize| records.add(m * count + block);
            let values = &(*scratch).values[block];
            for half in 0..halves {
                let mut integers = [[_mm256_setzero_si256(); WIDTH]; MR];
                if let Some(start) = start {
                    for (m, integers) in integers.iter_mut().enumerate() {
                        let value = _mm256_castps_si256(_mm256_broadcast_ss(rest(record(m), start + half)));
                        *integers = [value; WIDTH];
                    }
                }
                let end = (half + 1) * LINES / halves;
                let mut line = half * LINES / halves;
                while line < end {
                    let stop = (line + run).min(end);
                    let mut words = [[_mm256_setzero_si256(); WIDTH]; MR];
                    while line < stop {
                        for (m, words) in words.iter_mut().enumerate() {
                            let x = _mm256_set1_epi32(record(m).cast::<i32>().add(line).read());
                            for (word, weight) in words.iter_mut().zip(values[line]) {
                                let product = if signed {
                                    _mm256_maddubs_epi16(_mm256_abs_epi8(weight), _mm256_sign_epi8(x, weight))
                                } else {
                                    _mm256_maddubs_epi16(weight, x)
                                };
                                *word = _mm256_add_epi16(*word, product);
                            }
                        }
                        line += 1;
                    }
                    for (integers, words) in integers.iter_mut().zip(words) {
                        for (integer, word) in integers.iter_mut().zip(words) {
                            *integer = _mm256_add_epi32(*integer, _mm256_madd_epi16(word, ones));
                        }
                    }
                }
                let (scales, minima) = (&(*scratch).scales[block][half], &(*scratch).mins[block][half]);
                for (m, integers) in integers.into_iter().enumerate() {
                    let factor = _mm256_broadcast_ss(rest(record(m), SCALE));
                    for (p, integer) in integers.into_iter().enumerate() {
                        let mut sum = sums[m][p];
                        if mins {
                            let factor = _mm256_broadcast_ss(rest(record(m), SCALED_SUM + half));
                            sum = _mm256_fmadd_ps(minima[p], factor, sum);
                        }
                        let scale = _mm256_mul_ps(scales[p], factor);
                        sums[m][p] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(integer), scale, sum);
                    }
                }
            }
        }
        (&mut (*scratch).sums)[row..row + MR].copy_from_slice(&sums);
    }
}

/// Element `index` of a record's rest.
///
/// # Safety
/// `record` points to a record that lives long enough, `index` is below 8.
#[inline(always)]
unsafe fn rest<'a>(record: *const Record, index: usize) -> &'a f32 {
    // SAFETY: within the record; integers are read as floats only to be copied.
    unsafe { &*record.byte_add(offset_of!(Record, rest)).cast::<f32>().add(index) }
}

/// A block's values, one byte each; 8-bit ones and codes as signed numbers.
///
/// # Safety
/// `values` points to a block of these planes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn unfold<const LOW: usize, const HIGH: usize, const CODES: bool>(
    values: *const u8,
    out: &mut [[__m256i; WIDTH]; LINES],
) {
    // SAFETY: the table has sixteen bytes.
    let codes = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(SIGNED_CODES.as_ptr().cast()) });
    for part in 0..WIDTH {
        // SAFETY: a block has `LOW + HIGH` lines.
        let load = |line: usize| unsafe { _mm256_load_si256(values.add(line * LINE + part * 32).cast()) };
        for (i, line) in out.iter_mut().enumerate() {
            let mut value = match LOW {
                8 => _mm256_xor_si256(load(i), _mm256_set1_epi8(-128)),
                4 => {
                    let pair = load(i % 4);
                    let nibble = if i < 4 { pair } else { _mm256_srli_epi16::<4>(pair) };
                    let nibble = _mm256_and_si256(nibble, _mm256_set1_epi8(15));
                    if CODES { _mm256_shuffle_epi8(codes, nibble) } else { nibble }
                }
                _ => {
                    let quartet = load(i / 4);
                    let pair = match i % 4 {
                        0 => quartet,
                        1 => _mm256_srli_epi16::<2>(quartet),
                        2 => _mm256_srli_epi16::<4>(quartet),
                        _ => _mm256_srli_epi16::<6>(quartet),
                    };
                    _mm256_and_si256(pair, _mm256_set1_epi8(3))
                }
            };
            if HIGH > 0 {
                // To the place above the low bits, where `mask` keeps them.
                let (plane, from, mask) =
                    if HIGH == 1 { (load(LOW), i, 1 << LOW) } else { (load(LOW + i / 4), i % 4 * 2, 3 << LOW) };
                let moved = match LOW as i32 - from as i32 {
                    -5 => _mm256_srli_epi16::<5>(plane),
                    -4 => _mm256_srli_epi16::<4>(plane),
                    -3 => _mm256_srli_epi16::<3>(plane),
                    -2 => _mm256_srli_epi16::<2>(plane),
                    -1 => _mm256_srli_epi16::<1>(plane),
                    0 => plane,
                    1 => _mm256_slli_epi16::<1>(plane),
                    2 => _mm256_slli_epi16::<2>(plane),
                    3 => _mm256_slli_epi16::<3>(plane),
                    _ => _mm256_slli_epi16::<4>(plane),
                };
                value = _mm256_or_si256(value, _mm256_and_si256(moved, _mm256_set1_epi8(mask as i8)));
            }
            line[part] = value;
        }
    }
}

/// Scales and mins of a block, for both halves where they differ.
///
/// # Safety
/// `heads` points to the panel's heads, which reach to `block`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn scales<const HEAD: u8>(heads: *const u8, block: usize) -> ([Wide; 2], [Wide; 2]) {
    let zero = [_mm256_setzero_ps(); WIDTH];
    let minus = _mm256_set1_ps(-0.0);
    // SAFETY: the offsets are those of `panel::Head`.
    let bytes = |at: *const u8| unsafe { _mm_loadu_si128(at.cast()) };
    let half = |at: *const u8| [_mm256_cvtph_ps(bytes(at)), _mm256_cvtph_ps(bytes(at.wrapping_add(16)))];
    let integers = |x: __m128i| [_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(x))];
    let times = |d: Wide, x: [__m256i; WIDTH]| {
        [_mm256_mul_ps(d[0], _mm256_cvtepi32_ps(x[0])), _mm256_mul_ps(d[1], _mm256_cvtepi32_ps(x[1]))]
    };
    let negative = |x: Wide| x.map(|x| _mm256_xor_ps(x, minus));
    // SAFETY: as above.
    unsafe {
        if HEAD == Head::Scales as u8 {
            ([half(heads.add(block * Head::Scales.bytes())), zero], [zero, zero])
        } else if HEAD == Head::ScalesMins as u8 {
            let head = heads.add(block * Head::ScalesMins.bytes());
            ([half(head), zero], [half(head.add(32)), zero])
        } else if HEAD == Head::Six as u8 {
            let head = heads.add(block / 8 * Head::Six.bytes());
            let (field, group) = (head.add(64), block % 8);
            let scale = times(half(head), integers(six_bits(field, group)));
            let min = times(negative(half(head.add(32))), integers(six_bits(field, 8 + group)));
            ([scale, zero], [min, zero])
        } else if HEAD == Head::SixSigned as u8 {
            let head = heads.add(block / 8 * Head::SixSigned.bytes());
            let (d, field, group) = (half(head), head.add(32), block % 8 * 2);
            let signed = |x: [__m256i; WIDTH]| x.map(|x| _mm256_sub_epi32(x, _mm256_set1_epi32(32)));
            let scale = |group: usize| times(d, signed(integers(six_bits(field, group))));
            ([scale(group), scale(group + 1)], [zero, zero])
        } else if HEAD == Head::BlockBytes as u8 {
            let head = heads.add(block / 8 * Head::BlockBytes.bytes());
            let x = bytes(head.add(32 + block % 8 * ROWS));
            let signed = [_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(x))];
            ([times(half(head), signed), zero], [zero, zero])
        } else if HEAD == Head::Bytes as u8 {
            let head = heads.add(block / 8 * Head::Bytes.bytes());
            let (d, field, group) = (half(head), head.add(32), block % 8 * 2);
            let signed = |x: __m128i| [_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(x))];
            let scale = |group: usize| times(d, signed(bytes(field.add(ROWS * group))));
            ([scale(group), scale(group + 1)], [zero, zero])
        } else {
            let head = heads.add(block / 8 * Head::Nibbles.bytes());
            let (d, dmin) = (half(head), negative(half(head.add(32))));
            let (field, group, low) = (head.add(64), block % 8 * 2, _mm_set1_epi8(15));
            let pair = [bytes(field.add(ROWS * group)), bytes(field.add(ROWS * (group + 1)))];
            let scale = |x: __m128i| times(d, integers(_mm_and_si128(x, low)));
            let min = |x: __m128i| times(dmin, integers(_mm_and_si128(_mm_srli_epi16::<4>(x), low)));
            ([scale(pair[0]), scale(pair[1])], [min(pair[0]), min(pair[1])])
        }
    }
}

/// Numbers `16 group` to `16 group + 15` of a six-bit field.
///
/// # Safety
/// `field` points to 192 bytes, `group` is below 16.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn six_bits(field: *const u8, group: usize) -> __m128i {
    // SAFETY: within the field.
    let bytes = |at: usize| unsafe { _mm_loadu_si128(field.add(at).cast()) };
    if group < 12 {
        return _mm_and_si128(bytes(ROWS * group), _mm_set1_epi8(63));
    }
    let at = ROWS * (group - 12);
    let low = _mm_and_si128(_mm_srli_epi16::<6>(bytes(at)), _mm_set1_epi8(3));
    let middle = _mm_and_si128(_mm_srli_epi16::<4>(bytes(64 + at)), _mm_set1_epi8(12));
    let high = _mm_and_si128(_mm_srli_epi16::<2>(bytes(128 + at)), _mm_set1_epi8(48));
    _mm_or_si128(_mm_or_si128(low, middle), high)
}
