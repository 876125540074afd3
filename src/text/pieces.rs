//! What a token adds to the text, one token at a time: the decoders of `tokenizers`, made incremental.
//!
//! A decoder there takes the whole list of pieces. Those that language models have can be followed piece by piece, and then
//! print exactly what the whole list would give:
//!
//! - **byte level**: every piece is bytes; the text is their UTF-8, with U+FFFD for what is none. Up to three bytes of an
//!   unfinished character wait.
//! - **SentencePiece**: replace `▁`, turn runs of `<0xNN>` into text, strip a space from the very beginning. A run counts as
//!   a whole: one bad byte makes every byte of it U+FFFD. So a run waits until it ends, or the text could not be taken back.
//! - anything else waits until the end and is decoded in one go.

use serde_json::Value;

/// How the pieces of a tokenizer become text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plan {
    /// GPT-2's byte alphabet.
    Bytes,
    /// Text with replacements.
    Text(Steps),
    /// Not known piece by piece.
    Whole,
}

/// The steps of a [`Plan::Text`], in the order in which they apply.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Steps {
    replace: Vec<(String, String)>,
    /// Left out of the first piece, and a space in all others.
    space: Option<(char, bool)>,
    byte_fallback: bool,
    /// Stripped from the beginning, up to so many.
    strip: Option<(char, usize)>,
}

impl Plan {
    /// The plan for a decoder as `tokenizer.json` spells it.
    pub(super) fn of(decoder: &Value) -> Plan {
        Self::parse(decoder).unwrap_or(Plan::Whole)
    }

    fn parse(decoder: &Value) -> Option<Plan> {
        let single = std::slice::from_ref(decoder);
        let list = match decoder["type"].as_str()? {
            "Sequence" => decoder["decoders"].as_array()?,
            _ => single,
        };
        if let [only] = list
            && only["type"] == "ByteLevel"
        {
            return Some(Plan::Bytes);
        }
        let mut steps = Steps::default();
        let mut fused = false;
        for step in list {
            match step["type"].as_str()? {
                "Replace" if !steps.byte_fallback && !fused => {
                    let from = step["pattern"]["String"].as_str().filter(|from| !from.is_empty())?;
                    steps.replace.push((from.to_owned(), step["content"].as_str()?.to_owned()));
                }
                "Metaspace" if list.len() == 1 => {
                    let mark = step["replacement"].as_str()?.chars().next()?;
                    steps.space = Some((mark, step["prepend_scheme"] != "never"));
                }
                "ByteFallback" if !steps.byte_fallback && !fused => steps.byte_fallback = true,
                "Fuse" => fused = true,
                "Strip" if fused && steps.strip.is_none() && step["stop"] == 0 => {
                    let content = step["content"].as_str()?.chars().next()?;
                    steps.strip = Some((content, usize::try_from(step["start"].as_u64()?).ok()?));
                }
                _ => return None,
            }
        }
        Some(Plan::Text(steps))
    }
}

/// Follows a [`Plan`] along a stream of pieces.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    /// Bytes that do not make text yet: of one character (byte level) or of one run (byte fallback).
    pending: Vec<u8>,
    /// How much may still be stripped from the beginning.
    strip: usize,
    first: bool,
}

impl Stream {
    /// At the beginning of a text, or in the middle of one, where nothing is stripped.
    pub(super) fn new(plan: &Plan, beginning: bool) -> Self {
        let strip = match plan {
            Plan::Text(Steps { strip: Some((_, n)), .. }) if beginning => *n,
            Plan::Bytes | Plan::Text(_) | Plan::Whole => 0,
        };
        Stream { pending: Vec::new(), strip, first: beginning }
    }

    /// Adds to `out` what `piece` settles.
    pub(super) fn push(&mut self, plan: &Plan, piece: &str, out: &mut String) {
        match plan {
            Plan::Bytes => {
                let from = self.pending.len();
                for c in piece.chars() {
                    if let Some(byte) = byte(c) {
                        self.pending.push(byte);
                    } else {
                        // Not spelt in the alphabet: an added token, which stands for itself.
                        self.pending.truncate(from);
                        self.pending.extend_from_slice(piece.as_bytes());
                        break;
                    }
                }
                self.settle(out);
            }
            Plan::Text(steps) => {
                let mut piece = std::borrow::Cow::Borrowed(piece);
                for (from, to) in &steps.replace {
                    if piece.contains(from.as_str()) {
                        piece = piece.replace(from.as_str(), to).into();
                    }
                }
                if let Some((mark, drop)) = steps.space {
                    piece = if drop && self.first { piece.replace(mark, "") } else { piece.replace(mark, " ") }.into();
                }
                self.first = false;
                if steps.byte_fallback {
                    if let Some(byte) = byte_token(&piece) {
                        self.pending.push(byte);
                        return;
                    }
                    self.end_run(steps, out);
                }
                self.text(steps, &piece, out);
            }
            Plan::Whole => {}
        }
    }

    /// Adds to `out` what still waits.
    pub(super) fn finish(&mut self, plan: &Plan, out: &mut String) {
        match plan {
            Plan::Bytes => {
                out.push_str(&String::from_utf8_lossy(&self.pending));
                self.pending.clear();
            }
            Plan::Text(steps) => self.end_run(steps, out),
            Plan::Whole => {}
        }
    }

    /// Ends a run of bytes that is text as it stands.
    pub(super) fn settle_run(&mut self, plan: &Plan, out: &mut String) {
        if let Plan::Text(steps) = plan
            && std::str::from_utf8(&self.pending).is_ok()
        {
            self.end_run(steps, out);
        }
    }

    /// Moves whole characters, and U+FFFD for what can not become one, from the pending bytes to `out`.
    fn settle(&mut self, out: &mut String) {
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.push_str(text);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (text, bad) = rest.split_at(error.valid_up_to());
                    out.push_str(&String::from_utf8_lossy(text));
                    rest = bad;
                    let Some(len) = error.error_len() else { break };
                    out.push('\u{FFFD}');
                    rest = &rest[len..];
                }
            }
        }
        let done = self.pending.len() - rest.len();
        self.pending.drain(..done);
    }

    fn end_run(&mut self, steps: &Steps, out: &mut String) {
        if self.pending.is_empty() {
            return;
        }
        let run = std::mem::take(&mut self.pending);
        let text = String::from_utf8(run).unwrap_or_else(|e| "\u{FFFD}".repeat(e.as_bytes().len()));
        self.text(steps, &text, out);
    }

    fn text(&mut self, steps: &Steps, text: &str, out: &mut String) {
        let mut text = text;
        if let Some((content, _)) = steps.strip {
            while self.strip > 0 && !text.is_empty() {
                match text.strip_prefix(content) {
                    Some(rest) => {
                        text = rest;
                        self.strip -= 1;
                    }
                    None => self.strip = 0,
                }
            }
        }
        out.push_str(text);
    }
}

/// The byte of a `<0xNN>` piece.
fn byte_token(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// The byte that `c` spells in GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and up.
/// See `bytes_to_unicode` in <https://github.com/openai/gpt-2/blob/master/src/encoder.py>.
fn byte(c: char) -> Option<u8> {
    let code = c as u32;
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,
        0x121 => 0x7F,
        0x122..=0x142 => code - 0x122 + 0x80,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_byte_has_one_character() {
        let mut seen = [0; 256];
        for c in '\0'..='\u{200}' {
            if let Some(byte) = byte(c) {
                seen[usize::from(byte)] += 1;
            }
        }
        assert!(seen.iter().all(|&n| n == 1), "{seen:?}");
        assert_eq!((byte('Ġ'), byte('Ċ'), byte(' ')), (Some(b' '), Some(b'\n'), None));
    }

    #[test]
    fn decoders_that_look_back_wait_for_the_end() {
        assert_eq!(Plan::of(&json!({"type": "WordPiece", "prefix": "##", "cleanup": true})), Plan::Whole);
        let late = json!({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 0, "stop": 1}]});
        assert_eq!(Plan::of(&late), Plan::Whole);
        assert_eq!(Plan::of(&json!({"type": "Sequence", "decoders": [{"type": "ByteLevel"}]})), Plan::Bytes);
    }
}
