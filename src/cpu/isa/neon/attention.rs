//! The inner steps of attention: tiles of up to 4 lines times sixteen positions, or sixteen numbers of the values.

use super::float::Four;
use crate::cpu::attention::{Scores, Weigh};
use crate::cpu::isa::tiles;

/// Lines in a tile. None fetches ahead.
const LINES: usize = 4;
const FEW: usize = 0;

/// # Safety
/// The CPU has NEON.
#[target_feature(enable = "neon")]
pub unsafe fn scores(task: &mut Scores) {
    // SAFETY: the instructions of `Four` are NEON.
    unsafe { tiles::scores::<Four, LINES, 1, FEW>(task) }
}

/// # Safety
/// The CPU has NEON.
#[target_feature(enable = "neon")]
pub unsafe fn weigh(task: &mut Weigh) {
    // SAFETY: the instructions of `Four` are NEON.
    unsafe { tiles::weigh::<Four, LINES, 1, FEW>(task) }
}
