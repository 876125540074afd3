//! What a caller may ask of the sampler: its numbers, their ranges, and how they read in a log line.
//!
//! Every option has a value that switches it off, and an option that is off costs nothing.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the next token is chosen. The defaults are tallow's: temperature 0.8, top_k 40, top_p 0.9, the rest off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SampleOptions {
    /// Added to the logits of these tokens before anything else; minus infinity forbids a token.
    /// JSON has no such number and writes `null`.
    #[serde(with = "bias")]
    pub logit_bias: Vec<(u32, f32)>,
    /// Divides the logits before the draw; 0 takes the best token and draws nothing.
    pub temperature: f32,
    /// Keeps this many of the best tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the tokens whose surprise is nearest to the expected one until their probabilities add up to this, the token
    /// that reaches it included; 1 keeps all. The likeliest token may go, so greedy sampling leaves this out.
    pub typical_p: f32,
    /// Keeps the best tokens until their probabilities add up to this, the token that reaches it included; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this times as probable as the best one; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in the window; 1 changes nothing.
    pub repeat_penalty: f32,
    /// The window of the three penalties, in tokens of history; 0 switches them off, -1 is the whole history.
    pub repeat_last_n: i32,
    /// Taken once from the logit of each token in the window; 0 changes nothing.
    pub presence_penalty: f32,
    /// Taken from the logit of a token in the window once for each time it occurs there; 0 changes nothing.
    pub frequency_penalty: f32,
}

/// Biases whose minus infinity is none.
mod bias {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(biases: &[(u32, f32)], serializer: S) -> Result<S::Ok, S::Error> {
        let known = |(token, bias): &(u32, f32)| (*token, (*bias != f32::NEG_INFINITY).then_some(*bias));
        biases.iter().map(known).collect::<Vec<_>>().serialize(serializer)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Vec<(u32, f32)>, D::Error> {
        let biases = Vec::<(u32, Option<f32>)>::deserialize(deserializer)?;
        Ok(biases.into_iter().map(|(token, bias)| (token, bias.unwrap_or(f32::NEG_INFINITY))).collect())
    }
}

impl Default for SampleOptions {
    fn default() -> Self {
        SampleOptions {
            logit_bias: Vec::new(),
            temperature: 0.8,
            top_k: 40,
            typical_p: 1.0,
            top_p: 0.9,
            min_p: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
        }
    }
}

impl SampleOptions {
    /// The best token every time: no randomness and no penalties.
    pub fn greedy() -> Self {
        SampleOptions { temperature: 0.0, ..SampleOptions::default() }
    }

    /// Refuses what no sampler could use, naming the option and its range. NaN is in no range.
    pub fn validate(&self) -> Result<()> {
        let finite = f32::MIN..=f32::MAX;
        for (token, bias) in &self.logit_bias {
            let name = format!("logit_bias of token {token}");
            check(&name, bias, *bias < f32::INFINITY, "a number, or -inf, which forbids the token")?;
        }
        check("temperature", self.temperature, (0.0..=f32::MAX).contains(&self.temperature), "0 (greedy) or more, and finite")?;
        check("typical_p", self.typical_p, (0.0..=1.0).contains(&self.typical_p), "from 0 to 1 (off)")?;
        check("top_p", self.top_p, (0.0..=1.0).contains(&self.top_p), "from 0 to 1 (off)")?;
        check("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 (off) to 1")?;
        let positive = self.repeat_penalty > 0.0 && finite.contains(&self.repeat_penalty);
        check("repeat_penalty", self.repeat_penalty, positive, "above 0 (1 is off), and finite")?;
        check("repeat_last_n", self.repeat_last_n, self.repeat_last_n >= -1, "-1 (the whole history), 0 (off) or more")?;
        check("presence_penalty", self.presence_penalty, finite.contains(&self.presence_penalty), "finite (0 is off)")?;
        check("frequency_penalty", self.frequency_penalty, finite.contains(&self.frequency_penalty), "finite (0 is off)")
    }

    /// The steps that will have an effect, in their order: `top_k 40 -> top_p 0.9 -> temperature 0.8`.
    pub fn describe(&self) -> String {
        let mut steps = Vec::new();
        if !self.logit_bias.is_empty() {
            let biases: Vec<_> = self.logit_bias.iter().map(|(token, bias)| format!("{token}{bias:+}")).collect();
            steps.push(format!("logit_bias ({})", biases.join(", ")));
        }
        if self.penalises() {
            steps.push(self.describe_penalties());
        }
        if self.temperature == 0.0 {
            steps.push("greedy".to_string());
            return steps.join(" -> ");
        }
        if self.top_k > 0 {
            steps.push(format!("top_k {}", self.top_k));
        }
        if self.typical_p < 1.0 {
            steps.push(format!("typical_p {}", self.typical_p));
        }
        if self.top_p < 1.0 {
            steps.push(format!("top_p {}", self.top_p));
        }
        if self.min_p > 0.0 {
            steps.push(format!("min_p {}", self.min_p));
        }
        steps.push(format!("temperature {}", self.temperature));
        steps.join(" -> ")
    }

    /// Whether any penalty can change a logit.
    pub(super) fn penalises(&self) -> bool {
        let any = self.repeat_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0;
        any && self.repeat_last_n != 0
    }

    fn describe_penalties(&self) -> String {
        let mut parts = Vec::new();
        if self.repeat_penalty != 1.0 {
            parts.push(format!("repeat {}", self.repeat_penalty));
        }
        if self.presence_penalty != 0.0 {
            parts.push(format!("presence {}", self.presence_penalty));
        }
        if self.frequency_penalty != 0.0 {
            parts.push(format!("frequency {}", self.frequency_penalty));
        }
        match self.repeat_last_n {
            -1 => parts.push("whole history".to_string()),
            n => parts.push(format!("last {n}")),
        }
        format!("penalties ({})", parts.join(", "))
    }
}

fn check(name: &str, value: impl std::fmt::Display, sound: bool, range: &str) -> Result<()> {
    if sound { Ok(()) } else { Err(Error::Input(format!("{name} is {value}, expected {range}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_json_and_what_is_left_out_is_the_default() {
        let options = SampleOptions { logit_bias: vec![(3, f32::NEG_INFINITY), (4, 0.5)], ..SampleOptions::greedy() };
        let json = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<SampleOptions>(&json).unwrap(), options);
        assert_eq!(serde_json::from_str::<SampleOptions>("{\"temperature\": 0}").unwrap(), SampleOptions::greedy());
    }

    fn refusal(change: impl FnOnce(&mut SampleOptions)) -> String {
        let mut options = SampleOptions::default();
        change(&mut options);
        match options.validate() {
            Err(Error::Input(message)) => message,
            other => panic!("expected an input error, got {other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_valid_and_so_are_the_values_that_switch_everything_off() {
        SampleOptions::default().validate().unwrap();
        SampleOptions::greedy().validate().unwrap();
        let off = SampleOptions { top_k: 0, top_p: 1.0, repeat_last_n: -1, ..SampleOptions::default() };
        off.validate().unwrap();
        SampleOptions { top_p: 0.0, min_p: 1.0, repeat_last_n: 0, ..off }.validate().unwrap();
    }

    #[test]
    fn each_option_out_of_its_range_is_refused_by_name() {
        for (name, message) in [
            ("temperature", refusal(|o| o.temperature = -0.1)),
            ("temperature", refusal(|o| o.temperature = f32::INFINITY)),
            ("logit_bias of token 7", refusal(|o| o.logit_bias = vec![(7, f32::INFINITY)])),
            ("logit_bias of token 7", refusal(|o| o.logit_bias = vec![(3, 1.0), (7, f32::NAN)])),
            ("typical_p", refusal(|o| o.typical_p = 1.01)),
            ("typical_p", refusal(|o| o.typical_p = -0.01)),
            ("top_p", refusal(|o| o.top_p = 1.01)),
            ("top_p", refusal(|o| o.top_p = -0.01)),
            ("min_p", refusal(|o| o.min_p = 2.0)),
            ("repeat_penalty", refusal(|o| o.repeat_penalty = 0.0)),
            ("repeat_penalty", refusal(|o| o.repeat_penalty = f32::INFINITY)),
            ("repeat_last_n", refusal(|o| o.repeat_last_n = -2)),
            ("presence_penalty", refusal(|o| o.presence_penalty = f32::NEG_INFINITY)),
            ("frequency_penalty", refusal(|o| o.frequency_penalty = f32::INFINITY)),
        ] {
            assert!(message.starts_with(&format!("{name} is ")), "{message}");
            assert!(message.contains("expected"), "{message}");
        }
    }

    #[test]
    fn nan_is_refused_everywhere() {
        let fields: [fn(&mut SampleOptions) -> &mut f32; 7] = [
            |o| &mut o.temperature,
            |o| &mut o.typical_p,
            |o| &mut o.top_p,
            |o| &mut o.min_p,
            |o| &mut o.repeat_penalty,
            |o| &mut o.presence_penalty,
            |o| &mut o.frequency_penalty,
        ];
        for field in fields {
            assert!(refusal(|o| *field(o) = f32::NAN).contains("NaN"));
        }
    }

    #[test]
    fn the_description_lists_only_what_has_an_effect_in_its_order() {
        let all = SampleOptions {
            logit_bias: vec![(5, f32::NEG_INFINITY), (7, 1.5)],
            typical_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.1,
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            ..SampleOptions::default()
        };
        assert_eq!(
            all.describe(),
            "logit_bias (5-inf, 7+1.5) -> penalties (repeat 1.1, presence 0.5, frequency 0.25, last 64) -> top_k 40 \
             -> typical_p 0.95 -> top_p 0.9 -> min_p 0.05 -> temperature 0.8"
        );
        assert_eq!(SampleOptions::default().describe(), "top_k 40 -> top_p 0.9 -> temperature 0.8");
        assert_eq!(SampleOptions::greedy().describe(), "greedy");
        let whole = SampleOptions { repeat_penalty: 1.1, repeat_last_n: -1, ..SampleOptions::greedy() };
        assert_eq!(whole.describe(), "penalties (repeat 1.1, whole history) -> greedy");
        assert_eq!(SampleOptions { repeat_last_n: 0, ..whole }.describe(), "greedy");
        let bare = SampleOptions { top_k: 0, top_p: 1.0, temperature: 1.0, ..SampleOptions::default() };
        assert_eq!(bare.describe(), "temperature 1");
    }
}
