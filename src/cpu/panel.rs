//! How quantised weights lie in memory: panels of 16 rows, with the file's bits per weight (IQ4_XS: 1.5 % more).
//!
//! Every block format is seen as `w = scale * (u - zero)` or `w = scale * u + min`, with unsigned `u`, and scales (and mins)
//! that hold for a group of 16 or 32 columns. A panel takes 16 rows and cuts the columns into blocks of 32:
//!
//! * **values**, for each block. Byte `4r + c` of line `i` (64 bytes) belongs to row `r` and column `4i + c` of the block: the
//!   four bytes that one lane of `vpdpbusd` eats lie together. Eight such lines make a block. In memory they are folded into bit
//!   planes of 8, 4, 2 or 1 bits, see [`PanelFormat::low`] and [`PanelFormat::high`].
//! * **heads**: what the scales are made of, for one block or for eight (the K formats), see [`PanelHead`].
//!
//! A panel is a sequence of sections: as many heads as fill whole cache lines, then the values of the blocks that they serve. So it is read as
//! one stream, whatever its length, and every block starts on a cache line. (With all heads behind all values, short panels were read at
//! four fifths of the rate.)
//!
//! | format | bits per weight | values | head |
//! |---|---|---|---|
//! | Q4_0 | 4.5 | 4 | scales |
//! | Q4_1 | 5 | 4 | scales and mins |
//! | Q5_0 | 5.5 | 4 + 1 | scales |
//! | Q5_1 | 6 | 4 + 1 | scales and mins |
//! | Q8_0 | 8.5 | 8 | scales |
//! | Q2_K | 2.625 | 2 | nibble scales and mins |
//! | Q3_K | 3.4375 | 2 + 1 | 6-bit scales |
//! | Q4_K | 4.5 | 4 | 6-bit scales and mins |
//! | Q5_K | 5.5 | 4 + 1 | 6-bit scales and mins |
//! | Q6_K | 6.5625 | 4 + 2 | byte scales |
//! | IQ4_NL | 4.5 | 4, codes | scales |
//! | IQ4_XS | 4.3125 | 4, codes | byte scales |
//!
//! This file packs, and takes apart in plain Rust: the reference for every vector unit. Block layouts: ggml's `ggml-common.h`.

use super::buffer::LINE;
use crate::quant::Dtype;
use crate::quant::iquants::{CODES, iq4_xs_scales};

/// Rows in a panel.
pub const ROWS: usize = 16;
/// Columns in a block of a panel.
pub const BLOCK: usize = 32;
/// Lines of a block once its planes are unfolded to bytes.
pub const LINES: usize = BLOCK / 4;

/// What four-bit codes mean, plus 128: unsigned, as the kernels want values.
pub const UNSIGNED_CODES: [u8; 16] = {
    let (mut codes, mut i) = ([0; 16], 0);
    while i < 16 {
        codes[i] = CODES[i] as u8 ^ 0x80;
        i += 1;
    }
    codes
};

/// What distinguishes one block format from another, for the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PanelFormat {
    /// The block format that it is made from.
    pub dtype: Dtype,
    /// Bits of a value in the first plane: 2, 4 or 8.
    ///
    /// 4: line `j` of 4 holds line `j` of the block in its low nibbles and line `j + 4` in its high ones. 2: line `j` of 2 holds
    /// line `4j + t` in the bits from `2t`. 8: the bytes themselves.
    pub low: usize,
    /// Bits of a value in the second plane, above those of the first: 0, 1 or 2.
    ///
    /// 1: one line, whose bit `i` belongs to line `i`. 2: as above.
    pub high: usize,
    /// What is subtracted from a value before it is scaled; 0 where there are mins.
    pub zero: i32,
    /// Columns that share a scale: 16 or 32.
    pub group: usize,
    /// Whether each group has a minimum that is added.
    pub mins: bool,
    /// Whether a stored value is an index into [`CODES`], and the value meant is the entry there plus `zero`.
    pub codes: bool,
    /// How scales and mins are stored.
    pub head: PanelHead,
}

/// How the scales (and mins) of a panel are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PanelHead {
    /// For each block, 16 scales in f16.
    Scales,
    /// For each block, 16 scales and 16 mins in f16.
    ScalesMins,
    /// For each 8 blocks, 16 `d` and 16 `dmin` in f16 and a [six-bit field](six_bits) of 8 x 16 scales, then 8 x 16 mins.
    Six,
    /// For each 8 blocks, 16 `d` in f16 and a [six-bit field](six_bits) of 16 x 16 scales, of which 32 is subtracted.
    SixSigned,
    /// For each 8 blocks, 16 `d` in f16 and 16 x 16 signed bytes.
    Bytes,
    /// For each 8 blocks, 16 `d` and 16 `dmin` in f16 and 16 x 16 bytes, scale in the low nibble, min in the high one.
    Nibbles,
    /// For each 8 blocks, 16 `d` in f16 and 8 x 16 signed bytes.
    BlockBytes,
}

impl PanelHead {
    /// Bytes of one head.
    pub const fn bytes(self) -> usize {
        match self {
            PanelHead::Scales => 32,
            PanelHead::ScalesMins => 64,
            PanelHead::Six => 64 + 192,
            PanelHead::SixSigned => 32 + 192,
            PanelHead::Bytes => 32 + 256,
            PanelHead::Nibbles => 64 + 256,
            PanelHead::BlockBytes => 32 + 128,
        }
    }

    /// Blocks that one head serves.
    pub const fn blocks(self) -> usize {
        match self {
            PanelHead::Scales | PanelHead::ScalesMins => 1,
            PanelHead::Six | PanelHead::SixSigned | PanelHead::Bytes | PanelHead::Nibbles | PanelHead::BlockBytes => 8,
        }
    }

    /// Heads of a section: as many as fill whole lines.
    const fn together(self) -> usize {
        if self.bytes().is_multiple_of(LINE) { 1 } else { 2 }
    }
}

/// What a panel consists of, see the head of this file.
#[derive(Clone, Copy)]
struct Section {
    /// Bytes of its heads, whole lines.
    heads: usize,
    /// Blocks that they serve.
    blocks: usize,
    /// Bytes of a block's values.
    values: usize,
    head: PanelHead,
}

impl Section {
    #[inline(always)]
    const fn new(low: usize, high: usize, head: PanelHead) -> Section {
        let together = head.together();
        Section { heads: together * head.bytes(), blocks: together * head.blocks(), values: LINE * (low + high), head }
    }

    #[inline(always)]
    const fn place(self, block: usize) -> BlockPlace {
        let start = block / self.blocks * (self.heads + self.blocks * self.values);
        let within = block % self.blocks;
        BlockPlace {
            values: start + self.heads + within * self.values,
            head: start + within / self.head.blocks() * self.head.bytes(),
        }
    }
}

/// Where a block of a panel and the head that serves it lie, in bytes from the panel's start.
#[derive(Debug, Clone, Copy)]
pub struct BlockPlace {
    pub values: usize,
    pub head: usize,
}

/// A panel format that the compiler knows: kernels are compiled for each, see [`known!`].
pub trait StaticFormat {
    /// How the panels are stored.
    const FORMAT: PanelFormat;

    /// Bytes of a block with its share of the heads.
    const BLOCK_BYTES: usize = {
        let section = Self::FORMAT.section();
        section.values + section.heads / section.blocks
    };

    /// [`PanelFormat::place`].
    #[inline(always)]
    fn place(block: usize) -> BlockPlace {
        const { Self::FORMAT.section() }.place(block)
    }

    /// How far a kernel at block `block` of a panel at `panel` has read, heads and values evenly: from there on [`StaticFormat::BLOCK_BYTES`] are the block's.
    /// After a panel its successor begins; after the last there may be nothing, so the address is for fetching ahead only.
    #[inline(always)]
    fn position(panel: *const u8, block: usize) -> *const u8 {
        panel.wrapping_add(block * Self::BLOCK_BYTES)
    }
}

/// Evaluates `$body`, in which `$known` is the [`StaticFormat`] type of the format `$format`.
macro_rules! known {
    ($format:expr, $known:ident => $body:expr) => {
        $crate::cpu::panel::known!(
            $format, $known => $body, Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS
        )
    };
    ($format:expr, $known:ident => $body:expr, $($dtype:ident)*) => {{
        use $crate::quant::Dtype;
        match $format.dtype {
            $(Dtype::$dtype => {
                struct $known;
                impl $crate::cpu::panel::StaticFormat for $known {
                    const FORMAT: $crate::cpu::panel::PanelFormat =
                        $crate::cpu::panel::PanelFormat::of(Dtype::$dtype).expect("a type of blocks");
                }
                $body
            })*
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => unreachable!("panels of floats"),
        }
    }};
}
pub(super) use known;

impl PanelFormat {
    /// The panel format of a block format; `None` for floats.
    pub const fn of(dtype: Dtype) -> Option<PanelFormat> {
        use PanelHead::*;
        let (low, high, zero, group, mins, head) = match dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => return None,
            Dtype::Q4_0 => (4, 0, 8, 32, false, Scales),
            Dtype::Q4_1 => (4, 0, 0, 32, true, ScalesMins),
            Dtype::Q5_0 => (4, 1, 16, 32, false, Scales),
            Dtype::Q5_1 => (4, 1, 0, 32, true, ScalesMins),
            Dtype::Q8_0 => (8, 0, 128, 32, false, Scales),
            Dtype::Q2_K => (2, 0, 0, 16, true, Nibbles),
            Dtype::Q3_K => (2, 1, 4, 16, false, SixSigned),
            Dtype::Q4_K => (4, 0, 0, 32, true, Six),
            Dtype::Q5_K => (4, 1, 0, 32, true, Six),
            Dtype::Q6_K => (4, 2, 32, 16, false, Bytes),
            Dtype::IQ4_NL => (4, 0, 128, 32, false, Scales),
            Dtype::IQ4_XS => (4, 0, 128, 32, false, BlockBytes),
        };
        let codes = matches!(dtype, Dtype::IQ4_NL | Dtype::IQ4_XS);
        Some(PanelFormat { dtype, low, high, zero, group, mins, codes, head })
    }

    /// Parts of a block that have a scale of their own: 1 or 2.
    pub const fn halves(&self) -> usize {
        BLOCK / self.group
    }

    #[inline(always)]
    const fn section(&self) -> Section {
        Section::new(self.low, self.high, self.head)
    }

    /// Where block `block` lies in a panel.
    #[inline(always)]
    pub const fn place(&self, block: usize) -> BlockPlace {
        self.section().place(block)
    }

    /// Bytes of a panel of `cols` columns, whole lines.
    pub const fn panel_bytes(&self, cols: usize) -> usize {
        let (section, blocks) = (self.section(), cols / BLOCK);
        blocks * section.values + blocks.div_ceil(section.blocks) * section.heads
    }

    /// The values of block `block`, and the head that serves it.
    #[inline(always)]
    fn parts<'a>(&self, panel: &'a [u8], block: usize) -> (&'a [u8], &'a [u8]) {
        let place = self.place(block);
        (&panel[place.values..][..self.section().values], &panel[place.head..][..self.head.bytes()])
    }
}

/// A block of a panel taken apart.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct Expanded {
    /// The values, as lines of 64 bytes.
    pub values: [[u8; LINE]; LINES],
    /// Scale of each row, for columns 0 to 15 and 16 to 31.
    pub scales: [[f32; ROWS]; 2],
    /// What is added, likewise; 0 for formats without.
    pub mins: [[f32; ROWS]; 2],
}

impl Expanded {
    /// A block of zeroes.
    pub const ZERO: Expanded = Expanded { values: [[0; LINE]; LINES], scales: [[0.0; ROWS]; 2], mins: [[0.0; ROWS]; 2] };
}

/// Takes block `block` of a panel apart.
pub fn expand(format: &PanelFormat, panel: &[u8], block: usize, out: &mut Expanded) {
    let (values, head) = format.parts(panel, block);
    for row in 0..ROWS {
        for (line, quad) in out.values.iter_mut().zip(unfold(format, values, row)) {
            line[4 * row..4 * row + 4].copy_from_slice(&quad.to_le_bytes());
        }
    }
    for half in 0..2 {
        let group = (block % format.head.blocks()) * BLOCK / format.group + if format.group == 16 { half } else { 0 };
        for row in 0..ROWS {
            (out.scales[half][row], out.mins[half][row]) = scale_min(format, head, group, row);
        }
    }
}

/// Row `row` of a panel as floats, exactly.
pub fn row(format: &PanelFormat, panel: &[u8], row: usize, out: &mut [f32]) {
    for (block, out) in out.chunks_exact_mut(BLOCK).enumerate() {
        let (values, head) = format.parts(panel, block);
        let first = (block % format.head.blocks()) * BLOCK / format.group;
        let quads = unfold(format, values, row).map(u32::to_le_bytes);
        for ((k, out), quads) in out.chunks_exact_mut(format.group).enumerate().zip(quads.chunks_exact(format.group / 4)) {
            let (scale, min) = scale_min(format, head, first + k, row);
            for (out, u) in out.iter_mut().zip(quads.as_flattened()) {
                // The product is exact in f32 for every format, so this rounds once, as the definition does. The sum is left
                // out where there is no min: it would turn -0 into 0.
                let product = scale * (*u as i32 - format.zero) as f32;
                *out = if format.mins { product + min } else { product };
            }
        }
    }
}

/// A quad of equal bytes.
const fn bytes(byte: u8) -> u32 {
    u32::from_le_bytes([byte; 4])
}

/// The quad at `at` of some bytes.
#[inline(always)]
fn quad_at(from: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([from[at], from[at + 1], from[at + 2], from[at + 3]])
}

/// A row's values of a block, as quads of bytes: quad `i` holds columns `4i` to `4i + 3`.
#[inline(always)]
fn unfold(format: &PanelFormat, values: &[u8], row: usize) -> [u32; LINES] {
    let at = |line: usize| quad_at(values, line * LINE + 4 * row);
    let twos = |plane: usize, i: usize| at(plane + i / 4) >> (i % 4 * 2) & bytes(3);
    let mut quads = [0; LINES];
    for (i, quad) in quads.iter_mut().enumerate() {
        let low = match format.low {
            8 => at(i),
            4 => at(i % 4) >> (i / 4 * 4) & bytes(15),
            _ => twos(0, i),
        };
        *quad = match format.high {
            0 => low,
            1 => low | (at(format.low) >> i & bytes(1)) << format.low,
            _ => low | twos(format.low, i) << format.low,
        };
        if format.codes {
            *quad = u32::from_le_bytes(quad.to_le_bytes().map(|code| UNSIGNED_CODES[usize::from(code & 15)]));
        }
    }
    quads
}

/// Scale and min of group `group` (counted within the head) of row `row`.
fn scale_min(format: &PanelFormat, head: &[u8], group: usize, row: usize) -> (f32, f32) {
    let d = half_at(head, row);
    let at = group * ROWS + row;
    match format.head {
        PanelHead::Scales => (d, 0.0),
        PanelHead::ScalesMins => (d, half_at(head, ROWS + row)),
        PanelHead::Six => {
            let field = &head[64..];
            (d * six_bits(field, at) as f32, -half_at(head, ROWS + row) * six_bits(field, 128 + at) as f32)
        }
        PanelHead::SixSigned => (d * (six_bits(&head[32..], at) as i32 - 32) as f32, 0.0),
        PanelHead::Bytes | PanelHead::BlockBytes => (d * head[32 + at] as i8 as f32, 0.0),
        PanelHead::Nibbles => {
            let byte = head[64 + at];
            (d * (byte & 15) as f32, -half_at(head, ROWS + row) * (byte >> 4) as f32)
        }
    }
}

fn half_at(bytes: &[u8], index: usize) -> f32 {
    half::f16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]).to_f32()
}

/// Number `at` of a field of 256 six-bit numbers in 192 bytes: the low six bits of each byte are numbers 0 to 191, the top two
/// bits of bytes `j`, `64 + j` and `128 + j` are number `192 + j`.
fn six_bits(field: &[u8], at: usize) -> u8 {
    match at.checked_sub(192) {
        None => field[at] & 63,
        Some(j) => field[j] >> 6 | field[64 + j] >> 6 << 2 | field[128 + j] >> 6 << 4,
    }
}

fn set_six_bits(field: &mut [u8], at: usize, value: u8) {
    match at.checked_sub(192) {
        None => field[at] |= value & 63,
        Some(j) => (0..3).for_each(|part| field[64 * part + j] |= value >> (2 * part) << 6),
    }
}

/// Packs up to 16 rows of blocks, which lie one row after the other in `rows`, into `panel`, which must be zeroed.
pub fn pack(format: &PanelFormat, rows: &[u8], cols: usize, panel: &mut [u8]) {
    known!(format, K => pack_as::<K>(rows, cols, panel))
}

#[inline(always)]
fn pack_as<K: StaticFormat>(rows: &[u8], cols: usize, panel: &mut [u8]) {
    let (format, dtype) = (&K::FORMAT, K::FORMAT.dtype);
    let row_bytes = cols / dtype.block() * dtype.block_bytes();
    if row_bytes == 0 {
        return;
    }
    for (row, bytes) in rows.chunks_exact(row_bytes).enumerate() {
        for (index, stored) in bytes.chunks_exact(dtype.block_bytes()).enumerate() {
            let blocks = dtype.block() / BLOCK;
            for sub in 0..blocks {
                let quads = read_values(dtype, stored, sub);
                let at = format.place(index * blocks + sub).values;
                fold(format, &quads, row, &mut panel[at..][..format.section().values]);
            }
            let at = format.place(index * blocks).head;
            write_head(dtype, stored, row, &mut panel[at..][..format.head.bytes()]);
        }
    }
}

/// The unsigned values of columns `32 sub` to `32 sub + 31` of a stored block, as quads of bytes.
#[inline(always)]
fn read_values(dtype: Dtype, stored: &[u8], sub: usize) -> [u32; LINES] {
    // 16 bytes: columns 0 to 15 in the low nibbles, 16 to 31 in the high ones.
    let nibbles = |at: usize, i: usize| quad_at(stored, at + i % 4 * 4) >> (i / 4 * 4) & bytes(15);
    // 32 bits, one for each column. The product moves a bit of four to each byte.
    let fifth = |at: usize, i: usize| (((quad_at(stored, at) >> (4 * i) & 15) * 0x0020_4081) & bytes(1)) << 4;
    // 32 bytes, with some bits of each column.
    let bits = |at: usize, i: usize, shift: usize, mask: u8| quad_at(stored, at + 4 * i) >> shift & bytes(mask);
    // No `array::from_fn`: it is left as a call for each element.
    let mut quads = [0; LINES];
    for (i, quad) in quads.iter_mut().enumerate() {
        *quad = match dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => 0,
            Dtype::Q4_0 | Dtype::IQ4_NL => nibbles(2, i),
            Dtype::Q4_1 => nibbles(4, i),
            Dtype::Q5_0 => nibbles(6, i) | fifth(2, i),
            Dtype::Q5_1 => nibbles(8, i) | fifth(4, i),
            Dtype::Q8_0 => quad_at(stored, 2 + 4 * i) ^ bytes(0x80),
            Dtype::Q2_K => bits(16 + sub / 4 * 32, i, sub % 4 * 2, 3),
            Dtype::Q3_K => bits(32 + sub / 4 * 32, i, sub % 4 * 2, 3) | bits(0, i, sub, 1) << 2,
            Dtype::Q4_K => bits(16 + sub / 2 * 32, i, sub % 2 * 4, 15),
            Dtype::Q5_K => bits(48 + sub / 2 * 32, i, sub % 2 * 4, 15) | bits(16, i, sub, 1) << 4,
            Dtype::Q6_K => {
                let (half, quarter) = (sub / 4, sub % 4);
                let low = bits(64 * half + quarter % 2 * 32, i, quarter / 2 * 4, 15);
                low | bits(128 + 32 * half, i, 2 * quarter, 3) << 4
            }
            Dtype::IQ4_XS => nibbles(8 + 16 * sub, i),
        };
    }
    quads
}

/// Writes a row's values of one block into the planes: the inverse of [`unfold`].
#[inline(always)]
fn fold(format: &PanelFormat, quads: &[u32; LINES], row: usize, out: &mut [u8]) {
    let mut put = |line: usize, quad: u32| out[line * LINE + 4 * row..][..4].copy_from_slice(&quad.to_le_bytes());
    let twos = |j: usize, shift: usize| (0..4).fold(0, |sum, t| sum | (quads[4 * j + t] >> shift & bytes(3)) << (2 * t));
    match format.low {
        8 => (0..8).for_each(|i| put(i, quads[i])),
        4 => (0..4).for_each(|i| put(i, quads[i] & bytes(15) | (quads[i + 4] & bytes(15)) << 4)),
        _ => (0..2).for_each(|j| put(j, twos(j, 0))),
    }
    match format.high {
        0 => {}
        1 => put(format.low, (0..8).fold(0, |sum, i| sum | (quads[i] >> format.low & bytes(1)) << i)),
        _ => (0..2).for_each(|j| put(format.low + j, twos(j, format.low))),
    }
}

/// Writes a row's scales (and mins) into a zeroed head.
#[inline(always)]
fn write_head(dtype: Dtype, stored: &[u8], row: usize, head: &mut [u8]) {
    let mut half = |slot: usize, at: usize| head[2 * (slot * ROWS + row)..][..2].copy_from_slice(&stored[at..at + 2]);
    match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => {}
        Dtype::Q4_0 | Dtype::Q5_0 | Dtype::Q8_0 | Dtype::IQ4_NL => half(0, 0),
        Dtype::Q4_1 | Dtype::Q5_1 => {
            half(0, 0);
            half(1, 2);
        }
        Dtype::Q4_K | Dtype::Q5_K => {
            half(0, 0);
            half(1, 2);
            let packed = &stored[4..16];
            for j in 0..8 {
                let (scale, min) = if j < 4 {
                    (packed[j] & 63, packed[j + 4] & 63)
                } else {
                    let (low, high) = (packed[j + 4], &packed[j - 4..]);
                    (low & 15 | high[0] >> 6 << 4, low >> 4 | high[4] >> 6 << 4)
                };
                set_six_bits(&mut head[64..], j * ROWS + row, scale);
                set_six_bits(&mut head[64..], (8 + j) * ROWS + row, min);
            }
        }
        Dtype::Q6_K => {
            half(0, 208);
            (0..16).for_each(|j| head[32 + j * ROWS + row] = stored[192 + j]);
        }
        Dtype::IQ4_XS => {
            half(0, 0);
            let scales = iq4_xs_scales(&stored[2..8]);
            (0..8).for_each(|j| head[32 + j * ROWS + row] = scales[j] as u8);
        }
        Dtype::Q2_K => {
            half(0, 80);
            half(1, 82);
            (0..16).for_each(|j| head[64 + j * ROWS + row] = stored[j]);
        }
        Dtype::Q3_K => {
            half(0, 108);
            let packed = &stored[96..108];
            for j in 0..16 {
                let scale = packed[j % 8] >> (j / 8 * 4) & 15 | (packed[8 + j % 4] >> (j / 4 * 2) & 3) << 4;
                set_six_bits(&mut head[32..], j * ROWS + row, scale);
            }
        }
    }
}
