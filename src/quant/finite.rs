//! The search for NaN and infinity: in a quantised tensor only the scales can hold them.

use super::Dtype;

/// Index of the first element that is NaN or infinite, or of the first element of the block whose scales are.
///
/// A trailing part of a block is not looked at.
pub fn first_non_finite(dtype: Dtype, bytes: &[u8]) -> Option<usize> {
    let block = match dtype {
        Dtype::F32 => find(bytes, |b| u32::from_le_bytes(*b) & 0x7F80_0000 == 0x7F80_0000),
        Dtype::F16 => find(bytes, |b| u16::from_le_bytes(*b) & 0x7C00 == 0x7C00),
        Dtype::BF16 => find(bytes, |b| u16::from_le_bytes(*b) & 0x7F80 == 0x7F80),
        Dtype::Q4_0 => find(bytes, |b: &[u8; 18]| scales(b, [0])),
        Dtype::Q4_1 => find(bytes, |b: &[u8; 20]| scales(b, [0, 2])),
        Dtype::Q5_0 => find(bytes, |b: &[u8; 22]| scales(b, [0])),
        Dtype::Q5_1 => find(bytes, |b: &[u8; 24]| scales(b, [0, 2])),
        Dtype::Q8_0 => find(bytes, |b: &[u8; 34]| scales(b, [0])),
        Dtype::Q2_K => find(bytes, |b: &[u8; 84]| scales(b, [80, 82])),
        Dtype::Q3_K => find(bytes, |b: &[u8; 110]| scales(b, [108])),
        Dtype::Q4_K => find(bytes, |b: &[u8; 144]| scales(b, [0, 2])),
        Dtype::Q5_K => find(bytes, |b: &[u8; 176]| scales(b, [0, 2])),
        Dtype::Q6_K => find(bytes, |b: &[u8; 210]| scales(b, [208])),
        Dtype::IQ4_NL => find(bytes, |b: &[u8; 18]| scales(b, [0])),
        Dtype::IQ4_XS => find(bytes, |b: &[u8; 136]| scales(b, [0])),
    };
    block.map(|block| block * dtype.block())
}

/// Whether one of a block's f16 scales is NaN or infinite.
fn scales<const B: usize, const N: usize>(block: &[u8; B], at: [usize; N]) -> bool {
    at.iter().any(|&at| block[at + 1] & 0x7C == 0x7C)
}

/// Index of the first item that is bad. Runs have no early exit, so that the compiler can use vector instructions.
fn find<const B: usize>(bytes: &[u8], bad: impl Fn(&[u8; B]) -> bool) -> Option<usize> {
    const RUN: usize = 1024;
    bytes.as_chunks().0.chunks(RUN).enumerate().find_map(|(run, items)| {
        let any = items.iter().fold(false, |any, item| any | bad(item));
        any.then(|| run * RUN + items.iter().position(&bad).unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::dequantise;

    /// Sets each pair of bytes of a block to an infinite f16 in turn, and compares with the values that come out.
    #[test]
    fn a_block_counts_as_bad_exactly_when_a_value_is_not_finite() {
        for dtype in Dtype::all().filter(|dtype| dtype.is_quantised()) {
            let size = dtype.block_bytes();
            let mut hits = 0;
            for at in (0..size).step_by(2) {
                let mut bytes = vec![1u8; 3 * size];
                bytes[size + at..][..2].copy_from_slice(&[0x00, 0x7C]);
                let mut values = vec![0.0; 3 * dtype.block()];
                dequantise(dtype, &bytes, &mut values);
                let expected = values.iter().position(|v| !v.is_finite());
                assert_eq!(first_non_finite(dtype, &bytes), expected, "{dtype} byte {at}");
                hits += usize::from(expected.is_some());
            }
            assert!((1..=2).contains(&hits), "{dtype}: {hits} scales");
        }
    }

    #[test]
    fn single_bad_floats_are_found_wherever_they_are() {
        for at in [0, 1, 1023, 1024, 2999] {
            for (dtype, bad) in [(Dtype::F32, &[0, 0, 0xC0, 0x7F][..]), (Dtype::F16, &[0, 0xFC]), (Dtype::BF16, &[0x80, 0x7F])]
            {
                let mut bytes = vec![0x3C; 3000 * dtype.block_bytes()];
                assert_eq!(first_non_finite(dtype, &bytes), None);
                bytes[at * bad.len()..][..bad.len()].copy_from_slice(bad);
                assert_eq!(first_non_finite(dtype, &bytes), Some(at));
            }
        }
    }
}
