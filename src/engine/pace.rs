//! How many rows of a prompt a forward reads.
//!
//! Nobody waits for a prompt that is read alone, so its chunks are large. If the caller may cancel, a chunk takes about
//! [`PATIENCE`]. If other texts are being written at the same time, the prompt's rows may take as long as the others' usual
//! step, so that these wait about twice as long as without it. Times are measured as they go; results do not depend on them.

use super::step::Turn;
use std::time::Duration;

/// Rows of a prompt in one forward at most.
pub(crate) const CHUNK: usize = 512;

/// How long reading may go on after it was cancelled, about.
const PATIENCE: f64 = 0.3;

/// The first chunk of a prompt that may be cancelled, and the shortest: below, reading gets slow.
const FIRST_CHUNK: usize = 64;

/// The first chunk beside texts that are being written, and the shortest.
const FIRST_BESIDE: usize = 16;
const LEAST_BESIDE: usize = 4;

/// Inputs that a text reads at once when its next token is waited for: a token and what is proposed to follow it.
pub(super) const MOST_DUE: usize = 33;

/// What the steps so far took.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Seconds of a row of a prompt.
    row: Option<f64>,
    /// So many texts were written in a step without prompts, which took so many seconds.
    usual: Option<(usize, f64)>,
    /// Rows of prompts in the last step that read some.
    last: usize,
    /// Whether the last step read no prompt, to find out what a step takes without.
    held_back: bool,
}

impl Pace {
    /// Gives each text its rows of the next step. Prompts are read one after the other.
    pub fn share(&mut self, turns: &mut [Turn<'_>]) {
        for turn in turns.iter_mut() {
            turn.is_due &= turn.text.unread() <= MOST_DUE;
        }
        let due = turns.iter().filter(|turn| turn.is_due).count();
        let waiting: usize = turns.iter().filter(|turn| !turn.is_due).map(|turn| turn.text.unread()).sum();
        let mut rows = match (waiting, due) {
            (0, _) => 0,
            (_, 0) if turns.iter().any(|turn| turn.may_cancel) => {
                self.row.map_or(FIRST_CHUNK, |row| ((PATIENCE / row) as usize).clamp(FIRST_CHUNK, CHUNK))
            }
            (_, 0) => CHUNK,
            (..=FIRST_BESIDE, _) => FIRST_BESIDE,
            (_, due) => self.beside(due),
        };
        for turn in turns {
            turn.rows = turn.text.unread();
            if !turn.is_due {
                turn.rows = turn.rows.min(rows);
                rows -= turn.rows;
            }
        }
    }

    /// Rows beside `due` texts that are being written.
    fn beside(&mut self, due: usize) -> usize {
        let usual = self.usual.filter(|usual| usual.0 == due || self.held_back);
        // Unknown: the next step shows it. Never twice in a row, for the prompts' sake.
        self.held_back = usual.is_none() && !self.held_back;
        match (usual, self.row) {
            _ if self.held_back => 0,
            (Some((_, usual)), Some(row)) => {
                ((usual / row) as usize).clamp(LEAST_BESIDE, (2 * self.last).clamp(FIRST_BESIDE, CHUNK))
            }
            _ => FIRST_BESIDE,
        }
    }

    /// Notes what a step took.
    pub fn note(&mut self, turns: &[Turn<'_>], time: Duration) {
        let due = turns.iter().filter(|turn| turn.is_due).count();
        let rows = turns.iter().filter(|turn| !turn.is_due).map(|turn| turn.rows).sum();
        self.after(due, rows, time.as_secs_f64().max(1e-6));
    }

    /// The same: `due` texts were written and `rows` rows of prompts read in `time` seconds.
    fn after(&mut self, due: usize, rows: usize, time: f64) {
        let usual = self.usual.filter(|usual| usual.0 == due);
        if rows == 0 {
            // A machine that is busy for a moment makes steps longer, never shorter.
            let seconds = usual.map_or(time, |(_, before)| if time < before { time } else { before + (time - before) / 8.0 });
            self.usual = Some((due, seconds));
        } else if rows >= LEAST_BESIDE {
            let others = usual.map_or(0.0, |usual| usual.1);
            self.row = Some((time - others).max(time / 20.0) / rows as f64);
            self.last = rows;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the next steps beside texts whose step takes `usual`, where a row takes `row` seconds.
    fn rows(pace: &mut Pace, due: usize, usual: f64, row: f64, steps: usize) -> Vec<usize> {
        let step = |_| {
            let rows = pace.beside(due);
            pace.after(due, rows, usual + row * rows as f64);
            rows
        };
        (0..steps).map(step).collect()
    }

    #[test]
    fn prompts_take_about_as_long_as_the_others_usual_step() {
        let mut pace = Pace::default();
        let given = rows(&mut pace, 7, 0.020, 0.000_5, 6);
        assert_eq!(given[..2], [0, FIRST_BESIDE]);
        assert!(given[3..].iter().all(|rows| (38..=40).contains(rows)), "{given:?}");
        // Rows that cost nothing get more by and by, and those that cost much few.
        let given = rows(&mut pace, 7, 0.020, 0.0, 9);
        assert!(given.is_sorted() && given[8] == CHUNK, "{given:?}");
        assert_eq!(rows(&mut pace, 7, 0.020, 0.1, 3)[1..], [LEAST_BESIDE; 2]);
    }

    #[test]
    fn a_step_without_prompts_is_measured_when_the_number_of_texts_changes_and_never_twice_in_a_row() {
        let mut pace = Pace::default();
        for due in 1..20 {
            let given = rows(&mut pace, due, 0.020, 0.001, 2);
            assert_eq!((given[0], given[1] > 0), (0, true), "{given:?}");
        }
        let mut zeros = 0;
        for due in 1..20 {
            let given = rows(&mut pace, due, 0.020, 0.001, 1)[0];
            zeros = if given == 0 { zeros + 1 } else { 0 };
            assert!(zeros < 2);
        }
    }
}
