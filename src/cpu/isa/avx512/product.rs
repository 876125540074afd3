//! Products with panels: `vpdpbusd` with the weights as the unsigned operand.
//!
//! Two ways with the same arithmetic and the same bits. A few rows: values are unfolded in registers, a panel at a time, and the memory is
//! the limit. Many rows: some panels and a slice of the columns are unfolded once into a scratch that stays in the first-level cache,
//! and a tile of 3 panels times 4 rows (12 integer and 12 float accumulators) runs over it; unfolding costs next to nothing then,
//! and one inner loop serves every format. The trap there: loads. A broadcast as the memory operand of the multiplication halves its rate,
//! so each broadcast goes to a register and serves all panels.
//!
//! Scaling takes two instructions: an integer sum `n` is the float [`BIAS`]` + n` already, see there, so `n s = (BIAS + n) s - BIAS s`, and then
//! `sum + n s a` with the scale `a` of the activations. Scales of weights have at most 19 significant bits, so `BIAS s` is exact and `n s` rounded once.

use super::BIAS;
use crate::cpu::buffer::LINE;
use crate::cpu::input::{self, InputRecord, SCALE, SCALED_SUM, SLICE};
use crate::cpu::matmul::{MOST_ROWS, PanelTask};
use crate::cpu::panel::{BLOCK, LINES, PanelFormat, PanelHead, ROWS, StaticFormat, UNSIGNED_CODES, known};
use crate::cpu::prefetch::{fetch, fetch_to, stream_share};
use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::{MaybeUninit, offset_of};

/// The most rows that are multiplied while the values of a block are in registers; for more, unfolding to a scratch pays.
const FEW: usize = 8;
/// Panels in a tile.
const PANELS: usize = 3;
/// Rows in a tile.
const TILE: usize = 4;

/// # Safety
/// The CPU has the instructions of this folder; the task's parts are as [`PanelTask`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
pub unsafe fn panels(task: &PanelTask) {
    // SAFETY: `matmul` made the task so, and `Kernels::available` found the instructions.
    unsafe { known!(task.format, K => run::<K>(task)) }
}

/// # Safety
/// As [`panels`]; `K` is the task's format.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
unsafe fn run<K: StaticFormat>(task: &PanelTask) {
    if task.rows > FEW && task.cols > 0 {
        // SAFETY: the task is the one of `panels`, unchanged.
        return unsafe { unfolded::<K>(task) };
    }
    for panel in 0..task.outputs.div_ceil(ROWS) {
        // One turn, but where there are no columns.
        for first in (0..task.rows).step_by(FEW) {
            // SAFETY: panels and rows below the task's numbers of both.
            unsafe {
                match task.rows - first {
                    1 => direct::<K, 1>(task, panel, first),
                    2 => direct::<K, 2>(task, panel, first),
                    3 => direct::<K, 3>(task, panel, first),
                    4 => direct::<K, 4>(task, panel, first),
                    5 => direct::<K, 5>(task, panel, first),
                    6 => direct::<K, 6>(task, panel, first),
                    7 => direct::<K, 7>(task, panel, first),
                    _ => direct::<K, FEW>(task, panel, first),
                }
            }
        }
    }
}

/// Up to [`FEW`] rows times one panel, unfolded in registers.
///
/// # Safety
/// As [`panels`]; panel `panel` is the task's, and so are `MR` rows from `row` on.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn direct<K: StaticFormat, const MR: usize>(task: &PanelTask, panel: usize, row: usize) {
    let blocks = task.cols / BLOCK;
    let mut sums = [_mm512_setzero_ps(); MR];
    // SAFETY: blocks, records and outputs are within the task; fetching ahead of it is harmless.
    unsafe {
        let base = task.panels.as_ptr().add(panel * task.format.panel_bytes(task.cols));
        let mut records = std::ptr::null();
        let mut width = 0;
        for block in 0..blocks {
            if block % SLICE == 0 {
                records = task.records.slice(block / SLICE, row).as_ptr();
                width = (blocks - block).min(SLICE);
            }
            let place = K::place(block);
            let few = Few {
                lines: unfold::<K>(base.add(place.values)),
                record: records.add(block % SLICE),
                width,
                stream: K::position(base, block),
            };
            let (scales, mins) = scales::<K>(base.add(place.head), block);
            // Not a loop, which a compiler may leave rolled: lines and accumulators would go through memory.
            few.half::<K, MR, 0>(scales[0], mins[0], &mut sums);
            if K::FORMAT.halves() == 2 {
                few.half::<K, MR, 1>(scales[1], mins[1], &mut sums);
            }
        }
        let first = panel * ROWS;
        let mask = super::mask(task.outputs - first);
        for (m, sum) in sums.into_iter().enumerate() {
            let bias = match task.bias {
                Some(bias) => _mm512_maskz_loadu_ps(mask, bias.as_ptr().add(first)),
                None => _mm512_setzero_ps(),
            };
            let out = task.out.add((row + m) * task.stride + first);
            _mm512_mask_storeu_ps(out, mask, _mm512_add_ps(sum, bias));
        }
    }
}

/// A block that is multiplied with a few rows.
struct Few {
    lines: [__m512i; LINES],
    /// That of the first row.
    record: *const InputRecord,
    /// InputRecords between those of two rows.
    width: usize,
    /// What is fetched ahead is counted from here.
    stream: *const u8,
}

impl Few {
    /// Half `HALF` of the block, of one or two, times `MR` rows.
    ///
    /// # Safety
    /// As [`panels`]; `MR` rows have records.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
    #[inline]
    unsafe fn half<K: StaticFormat, const MR: usize, const HALF: usize>(
        &self,
        scale: __m512,
        min: __m512,
        sums: &mut [__m512; MR],
    ) {
        let lines = const { LINES / K::FORMAT.halves() };
        let start = const { input::start(&K::FORMAT) };
        let rows: [_; MR] = std::array::from_fn(|m| opaque(self.record.wrapping_add(m * self.width)));
        let record = |m: usize| rows[m];
        let mut integers = [biased_zero(); MR];
        let offset = offset(scale);
        // SAFETY: record and lines are those of a block of the task; fetching ahead is harmless.
        unsafe {
            for m in 0..MR {
                if K::FORMAT.mins {
                    sums[m] = _mm512_fmadd_ps(min, float(record(m), SCALED_SUM + HALF), sums[m]);
                } else {
                    integers[m] = integer(record(m), start.unwrap_or(0) + HALF);
                }
            }
            for line in HALF * lines..(HALF + 1) * lines {
                stream_share(self.stream, K::BLOCK_BYTES, line, LINES);
                for (m, integers) in integers.iter_mut().enumerate() {
                    *integers = _mm512_dpbusd_epi32(*integers, self.lines[line], quad(record(m), line));
                }
            }
            for m in 0..MR {
                let product = _mm512_fmadd_ps(_mm512_castsi512_ps(integers[m]), scale, offset);
                sums[m] = _mm512_fmadd_ps(product, float(record(m), SCALE), sums[m]);
            }
        }
    }
}

/// The same address, of which the compiler does not know how it came about. Else it addresses by a base and an index, and with those a load
/// that belongs to a multiplication is taken apart from it early: there is room for half as many in the processor's buffers.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)]
fn opaque<T>(mut address: *const T) -> *const T {
    // SAFETY: no instruction at all; what the address points to is not touched.
    unsafe { asm!("/* {} */", inout(reg) address, options(pure, nomem, nostack, preserves_flags)) };
    address
}

/// Where integer sums start that no record has a start for.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
fn biased_zero() -> __m512i {
    _mm512_castps_si512(_mm512_set1_ps(BIAS))
}

/// What takes the bias away from integer sums times these scales.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
fn offset(scales: __m512) -> __m512 {
    _mm512_mul_ps(scales, _mm512_set1_ps(-BIAS))
}

/// Four of a record's values in every lane.
///
/// # Safety
/// `record` points to a record, `line` is below 8.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn quad(record: *const InputRecord, line: usize) -> __m512i {
    // SAFETY: the four bytes are within the record.
    unsafe { _mm512_set1_epi32(record.cast::<i32>().add(line).read()) }
}

const REST: usize = offset_of!(InputRecord, rest) / 4;

/// Element `index` of a record's rest, as an integer, in every lane.
///
/// # Safety
/// `record` points to a record, `index` is below 8.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn integer(record: *const InputRecord, index: usize) -> __m512i {
    // SAFETY: within the record.
    unsafe { _mm512_set1_epi32(record.cast::<i32>().add(REST + index).read()) }
}

/// Element `index` of a record's rest, as a float, in every lane.
///
/// # Safety
/// `record` points to a record, `index` is below 8.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn float(record: *const InputRecord, index: usize) -> __m512 {
    // SAFETY: within the record.
    unsafe { _mm512_set1_ps(record.cast::<f32>().add(REST + index).read()) }
}

/// A block's values, one byte each.
///
/// # Safety
/// `values` points to a block of these planes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn unfold<K: StaticFormat>(values: *const u8) -> [__m512i; LINES] {
    let PanelFormat { low, high, .. } = K::FORMAT;
    // SAFETY: a block has `low + high` lines.
    let load = |line: usize| unsafe { _mm512_loadu_si512(values.add(line * LINE).cast()) };
    // SAFETY: the table has sixteen bytes.
    let codes = _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(UNSIGNED_CODES.as_ptr().cast()) });
    let mut lines = [_mm512_setzero_si512(); LINES];
    for (i, line) in lines.iter_mut().enumerate() {
        *line = match low {
            8 => load(i),
            4 => {
                let pair = load(i % 4);
                let nibble = if i < 4 { pair } else { _mm512_srli_epi16::<4>(pair) };
                let nibble = _mm512_and_si512(nibble, _mm512_set1_epi8(15));
                if K::FORMAT.codes { _mm512_shuffle_epi8(codes, nibble) } else { nibble }
            }
            _ => {
                let quartet = load(i / 4);
                let pair = match i % 4 {
                    0 => quartet,
                    1 => _mm512_srli_epi16::<2>(quartet),
                    2 => _mm512_srli_epi16::<4>(quartet),
                    _ => _mm512_srli_epi16::<6>(quartet),
                };
                _mm512_and_si512(pair, _mm512_set1_epi8(3))
            }
        };
        if high == 0 {
            continue;
        }
        // To the place above the low bits, where `mask` keeps them.
        let (plane, from, mask) = if high == 1 { (load(low), i, 1 << low) } else { (load(low + i / 4), i % 4 * 2, 3 << low) };
        let left = low as i32 - from as i32;
        let moved = match left {
            -5 => _mm512_srli_epi16::<5>(plane),
            -4 => _mm512_srli_epi16::<4>(plane),
            -3 => _mm512_srli_epi16::<3>(plane),
            -2 => _mm512_srli_epi16::<2>(plane),
            -1 => _mm512_srli_epi16::<1>(plane),
            0 => plane,
            1 => _mm512_slli_epi16::<1>(plane),
            2 => _mm512_slli_epi16::<2>(plane),
            3 => _mm512_slli_epi16::<3>(plane),
            _ => _mm512_slli_epi16::<4>(plane),
        };
        // line | moved & mask
        *line = _mm512_ternarylogic_epi32::<0xf8>(*line, moved, _mm512_set1_epi8(mask as i8));
    }
    lines
}

/// Scales and mins of a block, for both halves where they differ.
///
/// # Safety
/// `head` points to the head that serves `block`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline]
unsafe fn scales<K: StaticFormat>(head: *const u8, block: usize) -> ([__m512; 2], [__m512; 2]) {
    let zero = _mm512_setzero_ps();
    // SAFETY: the offsets are those of `panel::PanelHead`.
    let half = |at: *const u8| unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) };
    // SAFETY: the offsets are those of `panel::PanelHead`.
    let bytes = |at: *const u8| unsafe { _mm_loadu_si128(at.cast()) };
    let unsigned = |x: __m128i| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(x));
    // SAFETY: the offsets are those of `panel::PanelHead`.
    unsafe {
        match K::FORMAT.head {
            PanelHead::Scales => {
                let scale = half(head);
                ([scale, scale], [zero, zero])
            }
            PanelHead::ScalesMins => {
                let (scale, min) = (half(head), half(head.add(32)));
                ([scale, scale], [min, min])
            }
            PanelHead::Six => {
                let (field, group) = (head.add(64), block % 8);
                let scale = _mm512_mul_ps(half(head), unsigned(six_bits(field, group)));
                let min = _mm512_mul_ps(half(head.add(32)), unsigned(six_bits(field, 8 + group)));
                let min = _mm512_xor_ps(min, _mm512_set1_ps(-0.0));
                ([scale, scale], [min, min])
            }
            PanelHead::SixSigned => {
                let (d, field, group) = (half(head), head.add(32), block % 8 * 2);
                let scale = |group: usize| {
                    let sixth = _mm512_cvtepu8_epi32(six_bits(field, group));
                    _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_sub_epi32(sixth, _mm512_set1_epi32(32))))
                };
                ([scale(group), scale(group + 1)], [zero, zero])
            }
            PanelHead::BlockBytes => {
                let signed = _mm512_cvtepi8_epi32(bytes(head.add(32 + block % 8 * ROWS)));
                let scale = _mm512_mul_ps(half(head), _mm512_cvtepi32_ps(signed));
                ([scale, scale], [zero, zero])
            }
            PanelHead::Bytes => {
                let (d, field, group) = (half(head), head.add(32), block % 8 * 2);
                let scale =
                    |group: usize| _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes(field.add(ROWS * group)))));
                ([scale(group), scale(group + 1)], [zero, zero])
            }
            PanelHead::Nibbles => {
                let (d, dmin, field, group) = (half(head), half(head.add(32)), head.add(64), block % 8 * 2);
                let dmin = _mm512_xor_ps(dmin, _mm512_set1_ps(-0.0));
                let low = _mm_set1_epi8(15);
                let pair = [bytes(field.add(ROWS * group)), bytes(field.add(ROWS * (group + 1)))];
                let scale = |x: __m128i| _mm512_mul_ps(d, unsigned(_mm_and_si128(x, low)));
                let min = |x: __m128i| _mm512_mul_ps(dmin, unsigned(_mm_and_si128(_mm_srli_epi16::<4>(x), low)));
                ([scale(pair[0]), scale(pair[1])], [min(pair[0]), min(pair[1])])
            }
        }
    }
}

/// Numbers `16 group` to `16 group + 15` of a six-bit field.
///
/// # Safety
/// `field` points to 192 bytes, `group` is below 16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
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

/// A slice of some panels, unfolded (15 to 21 KiB), and what was summed in earlier slices (up to 48 KiB).
///
/// The sums do not wait in the output itself: its rows may be a power of two apart, which would put them all into a few sets of the caches.
#[repr(C, align(64))]
struct Avx512Scratch {
    values: [[[__m512i; LINES]; PANELS]; SLICE],
    scales: [[[__m512; PANELS]; 2]; SLICE],
    offsets: [[[__m512; PANELS]; 2]; SLICE],
    mins: [[[__m512; PANELS]; 2]; SLICE],
    sums: [[__m512; PANELS]; MOST_ROWS],
}

/// Not inlined: for so much room on the stack each of its pages is touched first, which is a long time for a few rows.
///
/// # Safety
/// As [`run`], with at least one block.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
#[inline(never)]
unsafe fn unfolded<K: StaticFormat>(task: &PanelTask) {
    let blocks = task.cols / BLOCK;
    let panel_bytes = task.format.panel_bytes(task.cols);
    let halves = K::FORMAT.halves();
    assert!(task.rows <= MOST_ROWS);
    let mut scratch = MaybeUninit::<Avx512Scratch>::uninit();
    let scratch = scratch.as_mut_ptr();
    for first in (0..task.outputs.div_ceil(ROWS)).step_by(PANELS) {
        let panels = (task.outputs.div_ceil(ROWS) - first).min(PANELS);
        for from in (0..blocks).step_by(SLICE) {
            let count = (blocks - from).min(SLICE);
            for panel in 0..panels {
                // SAFETY: panel and block are within the task, and their places within the scratch, which is written before it is read.
                unsafe {
                    let base = task.panels.as_ptr().add((first + panel) * panel_bytes);
                    for block in 0..count {
                        // The slice after this one, while rows go over it.
                        fetch(K::position(base, from + block + SLICE), K::BLOCK_BYTES);
                        let place = K::place(from + block);
                        (*scratch).values[block][panel] = unfold::<K>(base.add(place.values));
                        let (scales, mins) = scales::<K>(base.add(place.head), from + block);
                        for half in 0..halves {
                            (*scratch).scales[block][half][panel] = scales[half];
                            (*scratch).offsets[block][half][panel] = offset(scales[half]);
                            if K::FORMAT.mins {
                                (*scratch).mins[block][half][panel] = mins[half];
                            }
                        }
                    }
                }
            }
            let slice = Avx512Slice { task, scratch, panel: first, from, count };
            // SAFETY: the scratch holds what the slice says.
            unsafe {
                match (halves, K::FORMAT.mins) {
                    (1, false) => slice.rows::<1, false>(panels),
                    (1, true) => slice.rows::<1, true>(panels),
                    (_, false) => slice.rows::<2, false>(panels),
                    (_, true) => slice.rows::<2, true>(panels),
                }
            }
        }
    }
}

/// All rows of a task times the slice in a scratch.
struct Avx512Slice<'a, 'b> {
    task: &'a PanelTask<'b>,
    scratch: *mut Avx512Scratch,
    /// First panel.
    panel: usize,
    /// First block.
    from: usize,
    /// Number of blocks.
    count: usize,
}

impl Avx512Slice<'_, '_> {
    /// # Safety
    /// As [`run`]; the scratch holds the slice of `panels` panels.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
    unsafe fn rows<const HALVES: usize, const MINS: bool>(&self, panels: usize) {
        // SAFETY: the rows are the task's, and the scratch holds `panels` panels, as asked above.
        unsafe {
            match panels {
                1 => self.tiles::<HALVES, MINS, 1>(),
                2 => self.tiles::<HALVES, MINS, 2>(),
                _ => self.tiles::<HALVES, MINS, PANELS>(),
            }
        }
    }

    /// # Safety
    /// As [`Avx512Slice::rows`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
    #[inline]
    unsafe fn tiles<const HALVES: usize, const MINS: bool, const NP: usize>(&self) {
        let rows = self.task.rows;
        let whole = rows - rows % TILE;
        // SAFETY: the rows are the task's.
        unsafe {
            for row in (0..whole).step_by(TILE) {
                self.tile::<HALVES, MINS, NP, TILE>(row);
            }
            match rows - whole {
                1 => self.tile::<HALVES, MINS, NP, 1>(whole),
                2 => self.tile::<HALVES, MINS, NP, 2>(whole),
                3 => self.tile::<HALVES, MINS, NP, 3>(whole),
                _ => {}
            }
        }
    }

    /// # Safety
    /// As [`Avx512Slice::rows`]; there are `MR` rows from `row` on.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]
    #[inline]
    unsafe fn tile<const HALVES: usize, const MINS: bool, const NP: usize, const MR: usize>(&self, row: usize) {
        let Avx512Slice { task, scratch, panel, from, count } = *self;
        let blocks = task.cols / BLOCK;
        let start = input::start(&task.format).unwrap_or(0);
        let mut sums = [[_mm512_setzero_ps(); NP]; MR];
        // SAFETY: rows, panels and blocks are within the task and the scratch.
        unsafe {
            let mask = |p: usize| super::mask(task.outputs - (panel + p) * ROWS);
            let out = |m: usize, p: usize| task.out.add((row + m) * task.stride + (panel + p) * ROWS);
            if from > 0 {
                for (m, sums) in sums.iter_mut().enumerate() {
                    sums.copy_from_slice(&(&(*scratch).sums)[row + m][..NP]);
                }
            }
            let records = task.records.slice(from / SLICE, row).as_ptr();
            for block in 0..count {
                let record = |m: usize| records.add(m * count + block);
                // Those of the next tile come from the second-level cache.
                for m in 0..MR {
                    fetch_to::<1>(records.wrapping_add((MR + m) * count + block).cast(), LINE);
                }
                // By address, not by index: a compiler that sees at most 8 blocks unrolls them all, which is more than the cache of
                // decoded instructions holds, and a third slower.
                let values = &*(&raw const (*scratch).values).cast::<[[__m512i; LINES]; PANELS]>().add(block);
                let scales = &*(&raw const (*scratch).scales).cast::<[[__m512; PANELS]; 2]>().add(block);
                let offsets = &*(&raw const (*scratch).offsets).cast::<[[__m512; PANELS]; 2]>().add(block);
                let mins = &*(&raw const (*scratch).mins).cast::<[[__m512; PANELS]; 2]>().add(block);
                for half in 0..HALVES {
                    if MINS {
                        for (m, sums) in sums.iter_mut().enumerate() {
                            let factor = float(record(m), SCALED_SUM + half);
                            for (sum, min) in sums.iter_mut().zip(&mins[half]) {
                                *sum = _mm512_fmadd_ps(*min, factor, *sum);
                            }
                        }
                    }
                    let mut integers = [[biased_zero(); NP]; MR];
                    if !MINS {
                        for (m, integers) in integers.iter_mut().enumerate() {
                            *integers = [integer(record(m), start + half); NP];
                        }
                    }
                    for line in half * LINES / HALVES..(half + 1) * LINES / HALVES {
                        let mut weights = [_mm512_setzero_si512(); NP];
                        for (p, weight) in weights.iter_mut().enumerate() {
                            *weight = values[p][line];
                        }
                        for (m, integers) in integers.iter_mut().enumerate() {
                            let x = quad(record(m), line);
                            for (integer, weight) in integers.iter_mut().zip(weights) {
                                *integer = _mm512_dpbusd_epi32(*integer, weight, x);
                            }
                        }
                    }
                    let (scales, offsets) = (&scales[half], &offsets[half]);
                    for m in 0..MR {
                        let factor = float(record(m), SCALE);
                        for p in 0..NP {
                            let product = _mm512_fmadd_ps(_mm512_castsi512_ps(integers[m][p]), scales[p], offsets[p]);
                            sums[m][p] = _mm512_fmadd_ps(product, factor, sums[m][p]);
                        }
                    }
                }
            }
            if from + count < blocks {
                for (m, sums) in sums.iter().enumerate() {
                    (&mut (*scratch).sums)[row + m][..NP].copy_from_slice(sums);
                }
                return;
            }
            if let Some(bias) = task.bias {
                for sums in &mut sums {
                    for (p, sum) in sums.iter_mut().enumerate() {
                        let bias = _mm512_maskz_loadu_ps(mask(p), bias.as_ptr().add((panel + p) * ROWS));
                        *sum = _mm512_add_ps(*sum, bias);
                    }
                }
            }
            for (m, sums) in sums.into_iter().enumerate() {
                for (p, sum) in sums.into_iter().enumerate() {
                    _mm512_mask_storeu_ps(out(m, p), mask(p), sum);
                }
            }
        }
    }
}
