//! Makes tokens that were seen lately less likely: repeat, presence and frequency penalties over one window.
//!
//! The formulas are llama.cpp's (`llama-sampler.cpp`, penalties): a positive logit is divided by the repeat penalty and a
//! negative one multiplied, so that both sink; then `count * frequency + presence` is taken off. The repeat penalty is
//! that of CTRL (Keskar and others 2019, section 4.1). The prompt counts as history too.

use super::SampleOptions;

/// The penalties that are on, and their scratch.
#[derive(Debug, Clone)]
pub(super) struct Penalties {
    repeat: f32,
    presence: f32,
    frequency: f32,
    window: i32,
    recent: Vec<u32>,
}

impl Penalties {
    /// The penalties of `options`, or `None` where they can not change anything.
    pub(super) fn new(options: &SampleOptions) -> Option<Self> {
        options.penalises().then(|| Penalties {
            repeat: options.repeat_penalty,
            presence: options.presence_penalty,
            frequency: options.frequency_penalty,
            window: options.repeat_last_n,
            recent: Vec::new(),
        })
    }

    /// Penalises `logits`. Tokens of `history` that have none are passed over.
    pub(super) fn apply(&mut self, logits: &mut [f32], history: &[u32]) {
        // A negative window is the whole history.
        let window = usize::try_from(self.window).unwrap_or(usize::MAX).min(history.len());
        self.recent.clear();
        self.recent.extend_from_slice(&history[history.len() - window..]);
        self.recent.sort_unstable();
        for run in self.recent.chunk_by(|a, b| a == b) {
            if let Some(logit) = logits.get_mut(run[0] as usize) {
                let moved = if *logit > 0.0 { *logit / self.repeat } else { *logit * self.repeat };
                let moved = moved - (run.len() as f32 * self.frequency + self.presence);
                // The largest penalties go beyond what a number holds; what was none before stays so.
                *logit = if logit.is_finite() { moved.clamp(f32::MIN, f32::MAX) } else { moved };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn penalised(options: SampleOptions, logits: &[f32], history: &[u32]) -> Vec<f32> {
        let mut logits = logits.to_vec();
        Penalties::new(&options).expect("these options penalise").apply(&mut logits, history);
        logits
    }

    #[test]
    fn a_repeat_penalty_lowers_positive_and_negative_logits_alike() {
        let options = SampleOptions { repeat_penalty: 2.0, ..SampleOptions::default() };
        assert_eq!(penalised(options, &[4.0, -4.0, 0.0, 4.0, -4.0], &[0, 1, 1, 2]), [2.0, -8.0, 0.0, 4.0, -4.0]);
    }

    #[test]
    fn presence_counts_a_token_once_and_frequency_each_time() {
        let options = SampleOptions { presence_penalty: 0.5, frequency_penalty: 0.25, ..SampleOptions::default() };
        assert_eq!(penalised(options, &[1.0, 1.0, 1.0], &[1, 2, 1, 1]), [1.0, -0.25, 0.25]);
    }

    #[test]
    fn all_three_follow_in_llama_cpps_order() {
        let options =
            SampleOptions { repeat_penalty: 2.0, presence_penalty: 1.0, frequency_penalty: 0.5, ..Default::default() };
        assert_eq!(penalised(options, &[6.0, -1.0], &[0, 0, 1]), [6.0 / 2.0 - 2.0 * 0.5 - 1.0, -2.0 - 0.5 - 1.0]);
    }

    #[test]
    fn only_the_last_tokens_of_the_history_are_in_the_window() {
        let narrow = SampleOptions { repeat_penalty: 2.0, repeat_last_n: 2, ..SampleOptions::default() };
        let whole = SampleOptions { repeat_last_n: -1, ..narrow.clone() };
        assert_eq!(penalised(narrow.clone(), &[2.0; 4], &[0, 1, 2]), [2.0, 1.0, 1.0, 2.0]);
        assert_eq!(penalised(narrow, &[2.0; 4], &[3]), [2.0, 2.0, 2.0, 1.0]);
        assert_eq!(penalised(whole, &[2.0; 4], &[0, 1, 2]), [1.0, 1.0, 1.0, 2.0]);
    }

    #[test]
    fn a_token_without_a_logit_is_passed_over() {
        let options = SampleOptions { repeat_penalty: 2.0, ..SampleOptions::default() };
        assert_eq!(penalised(options, &[2.0, 2.0], &[7, u32::MAX, 1]), [2.0, 1.0]);
    }

    #[test]
    fn a_banned_token_stays_banned() {
        let options = SampleOptions { repeat_penalty: 2.0, presence_penalty: -1.0, ..SampleOptions::default() };
        assert_eq!(penalised(options, &[f32::NEG_INFINITY], &[0]), [f32::NEG_INFINITY]);
    }

    #[test]
    fn extreme_penalties_leave_numbers() {
        let options = SampleOptions { repeat_penalty: 1e-45, ..SampleOptions::default() };
        assert_eq!(penalised(options, &[4.0, 0.0], &[0, 1]), [f32::MAX, 0.0]);
        let options = SampleOptions { frequency_penalty: f32::MIN, ..SampleOptions::default() };
        assert_eq!(penalised(options, &[4.0, 0.0], &[0, 0, 1]), [f32::MAX, f32::MAX]);
    }

    #[test]
    fn penalties_that_change_nothing_are_not_built() {
        assert!(Penalties::new(&SampleOptions::default()).is_none());
        assert!(Penalties::new(&SampleOptions { repeat_penalty: 1.5, repeat_last_n: 0, ..Default::default() }).is_none());
    }
}
