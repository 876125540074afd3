//! SentencePiece's table of characters to normalise, checked before the tokenizers crate walks it without looking.
//!
//! A table is the length of an array in bytes (u32), that array, and the replacements, each ended by a zero. The array is a
//! double-array trie of u32 units (Aoe 1989; darts-clone): a unit holds the label that leads to it, an offset to its children,
//! and whether a value lies among them: where its replacement begins. The walk of `spm_precompiled` is repeated here for every
//! byte at every unit that can be reached.

/// Whether every text can be normalised with `table`.
pub(super) fn is_sound(table: &[u8]) -> bool {
    let Some((len, rest)) = table.split_first_chunk::<4>() else { return false };
    let bytes = u32::from_le_bytes(*len) as usize / 4 * 4;
    let Some((units, replacements)) = rest.split_at_checked(bytes) else { return false };
    let Ok(replacements) = std::str::from_utf8(replacements) else { return false };
    let units: Vec<u32> = units.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
    let Some(root) = units.first() else { return false };
    // Positions that children are counted from.
    let mut open = vec![offset(*root)];
    let mut seen = vec![false; units.len()];
    while let Some(children) = open.pop() {
        for label in 1..=255u32 {
            let at = children ^ label as usize;
            let Some(&unit) = units.get(at) else { return false };
            if unit & (1 << 31 | 0xFF) != label || std::mem::replace(&mut seen[at], true) {
                continue;
            }
            let children = at ^ offset(unit);
            if unit >> 8 & 1 == 1 {
                let value = units.get(children).map(|unit| (unit & !(1 << 31)) as usize);
                if !value.is_some_and(|value| replacements.is_char_boundary(value)) {
                    return false;
                }
            }
            open.push(children);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(units: &[u32], replacements: &str) -> Vec<u8> {
        let units: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        [(units.len() as u32).to_le_bytes().as_slice(), &units, replacements.as_bytes()].concat()
    }

    #[test]
    fn a_table_is_sound_if_no_walk_leaves_it() {
        // The root's children from 256 on; there is `a`, whose children are from 512 on, and its value 1.
        let mut units = vec![0u32; 768];
        units[0] = 256 << 10;
        units[256 ^ 97] = ((256 ^ 97 ^ 512) << 10) | 1 << 8 | 97;
        units[512] = 1 << 31 | 1;
        assert!(is_sound(&table(&units, "\0é\0")));
        assert!(!is_sound(&table(&units, "")), "a value behind the replacements");
        assert!(!is_sound(&table(&units[..700], "\0é\0")), "children behind the array");
        units[512] = 1 << 31 | 2;
        assert!(!is_sound(&table(&units, "\0é\0")), "a value within a character");
        assert!(!is_sound(&[]) && !is_sound(&[8, 0, 0, 0, 1]) && !is_sound(&[0, 0, 0, 0]));
    }
}
