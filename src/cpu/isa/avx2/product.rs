//! Products with panels: `vpmaddubsw` with the weights as the unsigned operand or, where there is AVX-VNNI, `vpdpbusd`, which is that and the sum in
//! 32 bits at once.
//!
//! Without, pairs of products are summed in 16 bits, which must not overflow: with activations up to 127, eight lines of 4-bit weights fit
//! (8 · 2 · 15 · 127 = 30480), four of 5-bit ones, two of 6-bit ones. Of 8-bit weights and codes one line fits, if magnitudes are multiplied
//! (2 · 128 · 127 = 32512): the activations take the weights' signs, and each line is summed in 32 bits at once.
//!
//! Two ways with the same arithmetic and the same bits, as under AVX-512: a few rows take the weights as they are unfolded in registers; for many
//! rows a slice of some panels is unfolded once into a scratch in the first-level cache. A tile is one panel times up to 4 rows, whose sums
//! of a block fill half of the 16 registers; their totals wait in memory meanwhile.
//!
//! The compiler has two traps. It sums the lines of a tile output by output, as a tree, and keeps eight lines of weights on the stack meanwhile, at
//! two thirds of the speed: [`pin`] makes it add line by line, as written. And it puts registers on a stack that is aligned to 16 bytes,
//! across cache lines: [`align_stack`].

use super::{LANES, dot};
use crate::cpu::buffer::LINE;
use crate::cpu::input::{self, InputRecord, SCALE, SCALED_SUM, SLICE};
use crate::cpu::matmul::{MOST_ROWS, PanelTask};
use crate::cpu::panel::{BLOCK, LINES, PanelFormat, PanelHead, ROWS, StaticFormat, UNSIGNED_CODES, known};
use crate::cpu::prefetch::{fetch_to, stream, stream_share};
use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::mem::{MaybeUninit, offset_of};

/// Panels whose slices are unfolded side by side; half as many where each value takes two bytes.
const PANELS: usize = 4;
/// Registers across a panel.
const WIDTH: usize = ROWS / LANES;

/// Sixteen numbers, one for each row of a panel.
type Avx2Wide = [__m256; WIDTH];
/// A line of a block: four columns of sixteen rows.
type Avx2Line = [__m256i; WIDTH];

/// Cuts `$rows` rows into tiles of `$most` (2 or 4) and a smaller one, and evaluates `$body` for each, with its first row as `$row` and the number
/// of its rows as the constant `$count`.
macro_rules! tiles {
    ($most:expr, $rows:expr, $row:ident, $count:ident => $body:expr) => {
        for $row in (0..$rows).step_by($most) {
            macro_rules! tile {
                ($number:literal) => {{
                    const $count: usize = $number;
                    $body
                }};
            }
            match ($rows - $row).min($most) {
                1 => tile!(1),
                2 => tile!(2),
                3 if $most > 2 => tile!(3),
                _ if $most > 2 => tile!(4),
                _ => {}
            }
        }
    };
}

/// # Safety
/// The CPU has the instructions of this folder, and AVX-VNNI if `VNNI`; the task's parts are as [`PanelTask`] says.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn panels<const VNNI: bool>(task: &PanelTask) {
    // SAFETY: `matmul` made the task so, and `Kernels::available` found the instructions.
    unsafe { known!(task.format, K => run::<Variant<VNNI, K>>(task)) }
}

/// A format, and whether its products are `vpdpbusd`.
struct Variant<const VNNI: bool, K>(PhantomData<K>);

impl<const VNNI: bool, K: StaticFormat> StaticFormat for Variant<VNNI, K> {
    const FORMAT: PanelFormat = K::FORMAT;
}

impl<const VNNI: bool, K: StaticFormat> KernelParams for Variant<VNNI, K> {
    const VNNI: bool = VNNI;
}

/// What follows from both.
trait KernelParams: StaticFormat {
    const VNNI: bool;
    /// Whether values have eight bits and are multiplied with their signs.
    const SIGNED: bool = !Self::VNNI && (Self::FORMAT.low == 8 || Self::FORMAT.codes);
    /// Bytes that a value is unfolded to: with a sign to its magnitude and to itself.
    const BYTES: usize = if Self::SIGNED { 2 } else { 1 };
    /// Rows in a tile that unfolds in registers, for which the formats that do it with ease leave more of them.
    const DIRECT: usize = if Self::UNFOLD > 3 { 4 } else { 2 };
    /// Rows from which unfolding to a scratch pays: more, the less it takes to do it in registers for every tile.
    const UNFOLD: usize = match (Self::FORMAT.low, Self::FORMAT.high) {
        // As was measured under AVX-512 with four rows to a tile.
        (4, 0) | (8, _) if Self::VNNI => 13,
        (4, 0) if Self::FORMAT.codes => 8,
        (4, 0) if matches!(Self::FORMAT.head, PanelHead::Six) => 17,
        (4, 0) => 41,
        (8, _) => 25,
        _ => 3,
    };
    /// Rows in a tile that reads a scratch.
    const TILE: usize = if Self::BYTES == 2 || Self::VNNI { 4 } else { 2 };
    /// Lines whose pairs of products fit into 16 bits together.
    const FIT: usize = match Self::FORMAT.low + Self::FORMAT.high {
        6 => 2,
        5 => 4,
        _ => 8,
    };
}

/// # Safety
/// As [`panels`]; `K` is the task's format and what the CPU can do.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run<K: KernelParams>(task: &PanelTask) {
    let panels = task.outputs.div_ceil(ROWS);
    // SAFETY: the task is the one of `panels`, unchanged, and `K` its format.
    unsafe {
        if task.cols == 0 {
            for row in 0..task.rows {
                (0..panels).for_each(|panel| store(task, panel, row, [_mm256_setzero_ps(); WIDTH]));
            }
        } else if task.rows >= K::UNFOLD {
            unfolded::<K>(task);
        } else {
            for panel in 0..panels {
                tiles!(K::DIRECT, task.rows, row, MR => direct::<K, MR>(task, panel, row));
            }
        }
    }
}

/// Adds the bias to a row's sums over a panel, and writes them.
///
/// # Safety
/// As [`panels`]; panel and row are the task's.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn store(task: &PanelTask, panel: usize, row: usize, sums: Avx2Wide) {
    let first = panel * ROWS;
    // SAFETY: the place is valid for the task's rows and outputs, and a bias for its outputs; both arrays have sixteen numbers.
    unsafe {
        let out = task.out.add(row * task.stride + first);
        let bias = task.bias.map(|bias| bias.as_ptr().add(first));
        let write = |out: *mut f32, bias: Option<*const f32>| {
            for (half, sum) in sums.into_iter().enumerate() {
                let bias = bias.map_or(_mm256_setzero_ps(), |bias| _mm256_loadu_ps(bias.add(half * LANES)));
                _mm256_storeu_ps(out.add(half * LANES), _mm256_add_ps(sum, bias));
            }
        };
        let count = task.outputs - first;
        if count >= ROWS {
            return write(out, bias);
        }
        // The last panel's missing outputs have no place: take a detour.
        let (mut sixteen, mut biases) = ([0.0f32; ROWS], [0.0f32; ROWS]);
        if let Some(bias) = bias {
            biases.as_mut_ptr().copy_from_nonoverlapping(bias, count);
        }
        write(sixteen.as_mut_ptr(), Some(biases.as_ptr()));
        out.copy_from_nonoverlapping(sixteen.as_ptr(), count);
    }
}

/// Up to 4 rows times one panel, unfolded in registers.
///
/// # Safety
/// As [`run`]; panel `panel` is the task's, and so are `MR` rows from `row` on.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
unsafe fn direct<K: KernelParams, const MR: usize>(task: &PanelTask, panel: usize, row: usize) {
    let blocks = task.cols / BLOCK;
    let start = input::start(&task.format).unwrap_or(0);
    align_stack();
    let mut sums = [[_mm256_setzero_ps(); WIDTH]; MR];
    // SAFETY: blocks, records and outputs are within the task.
    unsafe {
        let base = task.panels.as_ptr().add(panel * task.format.panel_bytes(task.cols));
        let (mut records, mut count) = (std::ptr::null(), 0);
        for block in 0..blocks {
            if block % SLICE == 0 {
                records = task.records.slice(block / SLICE, row).as_ptr();
                count = (blocks - block).min(SLICE);
            }
            let place = K::place(block);
            let at = base.add(place.values);
            let (scales, mins) = scales::<K>(base.add(place.head), block);
            let weights = |byte, line| {
                // Later rows find the panel in the cache.
                if row == 0 && byte == 0 {
                    stream_share(K::position(base, block), K::BLOCK_BYTES, line, LINES);
                }
                value::<K>(at, byte, line)
            };
            let record = |m| records.add(m * count + block % SLICE);
            multiply::<K, MR>(&mut sums, record, start, weights, (&scales, &mins));
        }
        (0..MR).for_each(|m| store(task, panel, row + m, sums[m]));
    }
}

/// A slice of some panels, unfolded (20 KiB), and what was summed in earlier slices (up to 64 KiB).
#[repr(C, align(64))]
struct Avx2Scratch {
    values: [[[Avx2Line; LINES]; PANELS]; SLICE],
    scales: [[[Avx2Wide; 2]; PANELS]; SLICE],
    mins: [[[Avx2Wide; 2]; PANELS]; SLICE],
    sums: [[Avx2Wide; PANELS]; MOST_ROWS],
}

/// Not inlined: for so much room on the stack each of its pages is touched first, which is a long time for a few rows.
///
/// # Safety
/// As [`run`], with at least one block.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
unsafe fn unfolded<K: KernelParams>(task: &PanelTask) {
    assert!(task.rows <= MOST_ROWS);
    let bytes = K::BYTES;
    let blocks = task.cols / BLOCK;
    let panel_bytes = task.format.panel_bytes(task.cols);
    let mut scratch = MaybeUninit::<Avx2Scratch>::uninit();
    let scratch = scratch.as_mut_ptr();
    let all = task.outputs.div_ceil(ROWS);
    for first in (0..all).step_by(PANELS / bytes) {
        let panels = (all - first).min(PANELS / bytes);
        for from in (0..blocks).step_by(SLICE) {
            let count = (blocks - from).min(SLICE);
            let slice = Avx2Slice { task, scratch, panel: first, from, count };
            for panel in 0..panels {
                // SAFETY: panel and block are within the task, and their places within the scratch, which is written before it is read.
                unsafe {
                    let base = task.panels.as_ptr().add((first + panel) * panel_bytes);
                    for block in 0..count {
                        stream(K::position(base, from + block), K::BLOCK_BYTES);
                        let place = K::place(from + block);
                        let at = base.add(place.values);
                        for byte in 0..bytes {
                            let lines = &mut (*scratch).values[block][panel * bytes + byte];
                            for (i, line) in lines.iter_mut().enumerate() {
                                *line = value::<K>(at, byte, i);
                            }
                        }
                        let (scales, mins) = scales::<K>(base.add(place.head), from + block);
                        (*scratch).scales[block][panel] = scales;
                        if K::FORMAT.mins {
                            (*scratch).mins[block][panel] = mins;
                        }
                    }
                }
            }
            // SAFETY: the scratch holds the slice, and the rows are the task's.
            unsafe {
                tiles!(K::TILE, task.rows, row, MR => {
                    (0..panels).for_each(|panel| slice.tile::<K, MR>(panel, row));
                });
            }
        }
    }
}

/// The slice in a scratch.
struct Avx2Slice<'a, 'b> {
    task: &'a PanelTask<'b>,
    scratch: *mut Avx2Scratch,
    /// First panel.
    panel: usize,
    /// First block.
    from: usize,
    /// Number of blocks.
    count: usize,
}

impl Avx2Slice<'_, '_> {
    /// `MR` rows times one panel's slice.
    ///
    /// # Safety
    /// As [`run`]; the scratch holds the slice of panel `panel`, and there are `MR` rows from `row` on.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline(never)]
    unsafe fn tile<K: KernelParams, const MR: usize>(&self, panel: usize, row: usize) {
        let Avx2Slice { task, scratch, panel: first, from, count } = *self;
        let bytes = K::BYTES;
        let start = input::start(&task.format).unwrap_or(0);
        align_stack();
        let mut sums = [[_mm256_setzero_ps(); WIDTH]; MR];
        // SAFETY: rows, panels and blocks are within the task and the scratch.
        unsafe {
            if from > 0 {
                for (m, sums) in sums.iter_mut().enumerate() {
                    *sums = (&(*scratch).sums)[row + m][panel];
                }
            }
            let records = task.records.slice(from / SLICE, row).as_ptr();
            for block in 0..count {
                // By address, not by index: a compiler that sees at most 8 blocks unrolls them all.
                let values = &*(&raw const (*scratch).values).cast::<[[Avx2Line; LINES]; PANELS]>().add(block);
                let values = &values[panel * bytes..][..bytes];
                let scales = &*(&raw const (*scratch).scales).cast::<[[Avx2Wide; 2]; PANELS]>().add(block);
                let mins = &*(&raw const (*scratch).mins).cast::<[[Avx2Wide; 2]; PANELS]>().add(block);
                let weights = |byte: usize, line: usize| values[byte][line];
                let record = |m| records.add(m * count + block);
                // The records of the next tile, in time: half as many panels share them as elsewhere, and they come from far if rows and
                // columns are many.
                if K::SIGNED && panel == 0 {
                    (0..MR).for_each(|m| fetch_to::<1>(records.wrapping_add((MR + m) * count + block).cast(), LINE));
                }
                let factors = (&scales[panel], &mins[panel]);
                multiply::<K, MR>(&mut sums, record, start, weights, factors);
            }
            for (m, sums) in sums.into_iter().enumerate() {
                if from + count < task.cols / BLOCK {
                    (&mut (*scratch).sums)[row + m][panel] = sums;
                } else {
                    store(task, first + panel, row + m, sums);
                }
            }
        }
    }
}

/// Adds `MR` rows times a block of a panel to their sums: `record` says where a row's block lies, `weights` gives a line of the values or,
/// with signs, of their magnitudes (0) and the values (1), `factors` are scales and mins.
///
/// # Safety
/// The CPU has the instructions; `record` gives records for all rows below `MR`, and `start` is the format's.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn multiply<K: KernelParams, const MR: usize>(
    sums: &mut [Avx2Wide; MR],
    record: impl Fn(usize) -> *const InputRecord,
    start: usize,
    weights: impl Fn(usize, usize) -> Avx2Line,
    (scales, mins): (&[Avx2Wide; 2], &[Avx2Wide; 2]),
) {
    let halves = K::FORMAT.halves();
    let fit = K::FIT.min(LINES / halves);
    let one = _mm256_set1_epi16(1);
    // Four columns of each row.
    let quads = |line: usize| {
        let mut x = [_mm256_setzero_si256(); MR];
        // SAFETY: the four bytes are within the record.
        x.iter_mut().enumerate().for_each(|(m, x)| *x = unsafe { _mm256_set1_epi32(record(m).cast::<i32>().add(line).read()) });
        x
    };
    for half in 0..halves {
        let lines = half * LINES / halves..(half + 1) * LINES / halves;
        let mut integers = [[_mm256_setzero_si256(); WIDTH]; MR];
        if K::VNNI {
            for line in lines {
                let x = quads(line);
                for (p, weight) in weights(0, line).into_iter().enumerate() {
                    for (integers, x) in integers.iter_mut().zip(x) {
                        // SAFETY: `K` says that the CPU has it.
                        integers[p] = unsafe { dot(integers[p], weight, x) };
                    }
                }
            }
        } else if K::SIGNED {
            for line in lines {
                let x = quads(line);
                for (p, (magnitude, weight)) in weights(0, line).into_iter().zip(weights(1, line)).enumerate() {
                    for (integers, x) in integers.iter_mut().zip(x) {
                        let words = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(x, weight));
                        integers[p] = _mm256_add_epi32(integers[p], _mm256_madd_epi16(words, one));
                        pin(&mut integers[p]);
                    }
                }
            }
        } else {
            for from in lines.step_by(fit) {
                let mut words = [[_mm256_setzero_si256(); WIDTH]; MR];
                for line in from..from + fit {
                    let x = quads(line);
                    for (p, weight) in weights(0, line).into_iter().enumerate() {
                        for (words, x) in words.iter_mut().zip(x) {
                            words[p] = _mm256_add_epi16(words[p], _mm256_maddubs_epi16(weight, x));
                            pin(&mut words[p]);
                        }
                    }
                }
                for (integers, words) in integers.iter_mut().zip(words) {
                    for (integer, word) in integers.iter_mut().zip(words) {
                        *integer = _mm256_add_epi32(*integer, _mm256_madd_epi16(word, one));
                    }
                }
            }
        }
        for (m, integers) in integers.into_iter().enumerate() {
            // SAFETY: within the record.
            let rest = |index: usize| unsafe { _mm256_broadcast_ss(&*record(m).cast::<f32>().add(REST + index)) };
            let factor = rest(SCALE);
            for (p, integer) in integers.into_iter().enumerate() {
                let sum = &mut sums[m][p];
                let integer = if K::FORMAT.mins {
                    *sum = _mm256_fmadd_ps(mins[half][p], rest(SCALED_SUM + half), *sum);
                    integer
                } else if K::SIGNED {
                    integer
                } else {
                    _mm256_add_epi32(integer, _mm256_castps_si256(rest(start + half)))
                };
                *sum = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(integer), scales[half][p]), factor, *sum);
            }
        }
    }
}

/// Where a record's rest begins, in numbers.
const REST: usize = offset_of!(InputRecord, rest) / 4;

/// Keeps the compiler from computing `x` in another order, or later, than it is written, for such statements stay in sequence: no instruction.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn pin(x: &mut __m256i) {
    // SAFETY: nothing is done.
    unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) * x, options(nomem, nostack, preserves_flags)) }
}

/// Has the stack of the function that this becomes a part of aligned to a register's size, as the compiler does for a variable that asks for it,
/// but not for registers that it puts there: no instruction.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn align_stack() {
    let mut variable = MaybeUninit::<__m256i>::uninit();
    // SAFETY: nothing is done.
    unsafe { std::arch::asm!("/* {0} */", in(reg) variable.as_mut_ptr(), options(nostack, preserves_flags)) }
}

/// Avx2Line `line` of a block's values, one byte each; if they are multiplied with their signs the magnitudes (`byte` 0) or the values with
/// them.
///
/// # Safety
/// `values` points to a block of these planes; `line` is below 8.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn value<K: KernelParams>(values: *const u8, byte: usize, line: usize) -> Avx2Line {
    let PanelFormat { low: bits, high: high_bits, .. } = K::FORMAT;
    let codes = if K::SIGNED { &CODES_OF[byte] } else { &UNSIGNED_CODES };
    // SAFETY: the table has sixteen bytes.
    let codes = unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(codes.as_ptr().cast())) };
    let low = |x: __m256i| _mm256_and_si256(x, _mm256_set1_epi8(15));
    let high = |x: __m256i| low(_mm256_srli_epi16::<4>(x));
    let mut parts = [_mm256_setzero_si256(); WIDTH];
    for (part, value) in parts.iter_mut().enumerate() {
        // SAFETY: a block has `low + high` lines.
        let load = |line: usize| unsafe { _mm256_load_si256(values.add(line * LINE + part * 32).cast()) };
        *value = match bits {
            8 if !K::SIGNED => load(line),
            8 => {
                let signed = _mm256_xor_si256(load(line), _mm256_set1_epi8(i8::MIN));
                if byte == 0 { _mm256_abs_epi8(signed) } else { signed }
            }
            4 => {
                let pair = load(line % 4);
                let nibble = if line < 4 { low(pair) } else { high(pair) };
                if K::FORMAT.codes { _mm256_shuffle_epi8(codes, nibble) } else { nibble }
            }
            _ => {
                let quartet = load(line / 4);
                let pair = match line % 4 {
                    0 => quartet,
                    1 => _mm256_srli_epi16::<2>(quartet),
                    2 => _mm256_srli_epi16::<4>(quartet),
                    _ => _mm256_srli_epi16::<6>(quartet),
                };
                _mm256_and_si256(pair, _mm256_set1_epi8(3))
            }
        };
        if high_bits > 0 {
            // To the place above the low bits, where `mask` keeps them.
            let (plane, from, mask) =
                if high_bits == 1 { (load(bits), line, 1 << bits) } else { (load(bits + line / 4), line % 4 * 2, 3 << bits) };
            let moved = match bits as i32 - from as i32 {
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
            *value = _mm256_or_si256(*value, _mm256_and_si256(moved, _mm256_set1_epi8(mask as i8)));
        }
    }
    parts
}

/// The magnitudes of what four-bit codes mean, and the values.
const CODES_OF: [[u8; 16]; 2] = {
    let (mut codes, mut i) = ([[0; 16]; 2], 0);
    while i < 16 {
        let value = UNSIGNED_CODES[i] ^ 0x80;
        codes[0][i] = (value as i8).unsigned_abs();
        codes[1][i] = value;
        i += 1;
    }
    codes
};

/// Scales and mins of a block, for both halves where they differ.
///
/// # Safety
/// `head` points to the head that serves `block`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn scales<K: StaticFormat>(head: *const u8, block: usize) -> ([Avx2Wide; 2], [Avx2Wide; 2]) {
    let zero = [_mm256_setzero_ps(); WIDTH];
    let minus = _mm256_set1_ps(-0.0);
    // SAFETY: the offsets are those of `panel::PanelHead`.
    let bytes = |at: *const u8| unsafe { _mm_loadu_si128(at.cast()) };
    let half = |at: *const u8| [_mm256_cvtph_ps(bytes(at)), _mm256_cvtph_ps(bytes(at.wrapping_add(16)))];
    let integers = |x: __m128i| [_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(x))];
    let times = |d: Avx2Wide, x: [__m256i; WIDTH]| {
        [_mm256_mul_ps(d[0], _mm256_cvtepi32_ps(x[0])), _mm256_mul_ps(d[1], _mm256_cvtepi32_ps(x[1]))]
    };
    let negative = |x: Avx2Wide| x.map(|x| _mm256_xor_ps(x, minus));
    // SAFETY: the offsets are those of `panel::PanelHead`.
    unsafe {
        match K::FORMAT.head {
            PanelHead::Scales => ([half(head), zero], [zero, zero]),
            PanelHead::ScalesMins => ([half(head), zero], [half(head.add(32)), zero]),
            PanelHead::Six => {
                let (field, group) = (head.add(64), block % 8);
                let scale = times(half(head), integers(six_bits(field, group)));
                let min = times(negative(half(head.add(32))), integers(six_bits(field, 8 + group)));
                ([scale, zero], [min, zero])
            }
            PanelHead::SixSigned => {
                let (d, field, group) = (half(head), head.add(32), block % 8 * 2);
                let signed = |x: [__m256i; WIDTH]| x.map(|x| _mm256_sub_epi32(x, _mm256_set1_epi32(32)));
                let scale = |group: usize| times(d, signed(integers(six_bits(field, group))));
                ([scale(group), scale(group + 1)], [zero, zero])
            }
            PanelHead::BlockBytes => {
                let x = bytes(head.add(32 + block % 8 * ROWS));
                let signed = [_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(x))];
                ([times(half(head), signed), zero], [zero, zero])
            }
            PanelHead::Bytes => {
                let (d, field, group) = (half(head), head.add(32), block % 8 * 2);
                let signed = |x: __m128i| [_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(x))];
                let scale = |group: usize| times(d, signed(bytes(field.add(ROWS * group))));
                ([scale(group), scale(group + 1)], [zero, zero])
            }
            PanelHead::Nibbles => {
                let (d, dmin) = (half(head), negative(half(head.add(32))));
                let (field, group, low) = (head.add(64), block % 8 * 2, _mm_set1_epi8(15));
                let pair = [bytes(field.add(ROWS * group)), bytes(field.add(ROWS * (group + 1)))];
                let scale = |x: __m128i| times(d, integers(_mm_and_si128(x, low)));
                let min = |x: __m128i| times(dmin, integers(_mm_and_si128(_mm_srli_epi16::<4>(x), low)));
                ([scale(pair[0]), scale(pair[1])], [min(pair[0]), min(pair[1])])
            }
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
