//! Writing NumPy's `.npy` files, version 1.0: a header of Python text, padded to 64 bytes, then the numbers.
//!
//! Source: numpy, `numpy/lib/format.py`.

use std::io::Write;

/// The length of a header with any two numbers.
const LENGTH: usize = 128;

/// Writes `values` as little-endian f32 of shape (rows, columns).
///
/// # Panics
/// If the shape does not have as many elements as there are values.
pub fn write<W: Write + ?Sized>(out: &mut W, values: &[f32], rows: usize, columns: usize) -> std::io::Result<()> {
    assert_eq!(values.len(), rows * columns);
    write_header(out, rows, columns)?;
    values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
}

/// Writes the header alone. It is as long for any number of rows, so that it can be written again when they are counted.
pub fn write_header<W: Write + ?Sized>(out: &mut W, rows: usize, columns: usize) -> std::io::Result<()> {
    out.write_all(&header(rows, columns))
}

/// Writes the first numbers behind room for the header, which is empty until [`write_header`] fills it.
pub fn write_unfinished<W: Write + ?Sized>(out: &mut W, values: &[f32]) -> std::io::Result<()> {
    out.write_all(&[0; LENGTH])?;
    values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
}

fn header(rows: usize, columns: usize) -> Vec<u8> {
    const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let before = MAGIC.len() + size_of::<u16>();
    let total = (before + text.len() + 1).next_multiple_of(64).max(LENGTH);
    text.extend(std::iter::repeat_n(' ', total - before - text.len() - 1));
    text.push('\n');
    let length = u16::try_from(text.len()).expect("two numbers of twenty digits make less than 64 KiB");
    [MAGIC, &length.to_le_bytes(), text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_numpys_and_the_numbers_start_at_a_multiple_of_64() {
        for (rows, columns) in [(1, 2), (7, 49_152), (123_456_789, 987_654_321)] {
            let header = header(rows, columns);
            assert_eq!(&header[..8], b"\x93NUMPY\x01\x00");
            assert_eq!(usize::from(u16::from_le_bytes([header[8], header[9]])), header.len() - 10);
            assert_eq!(header.len(), LENGTH);
            assert_eq!(header.last(), Some(&b'\n'));
            let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
            assert!(header[10..].starts_with(text.as_bytes()));
        }
    }

    #[test]
    fn the_numbers_follow_row_after_row() {
        let mut out = Vec::new();
        write(&mut out, &[1.0, -2.0, 0.5, f32::MIN_POSITIVE], 2, 2).unwrap();
        let numbers: Vec<f32> = out[out.len() - 16..].chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        assert_eq!(numbers, [1.0, -2.0, 0.5, f32::MIN_POSITIVE]);
    }
}
