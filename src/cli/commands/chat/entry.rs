//! What a user has entered, put together from lines: a message, a command, or a block between `"""`.
//!
//! A paste arrives as one line with line breaks in it and is one message. A line that begins with a slash is a command;
//! a text that begins with one can be sent between `"""`, after a space, or as several lines.

const FENCE: &str = "\"\"\"";

/// An entry, perhaps not complete yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    text: String,
    is_command: bool,
    /// Where the text of a block begins in `text`.
    block: Option<usize>,
    open: bool,
}

impl Entry {
    /// The entry that `line` begins.
    pub fn new(line: &str) -> Entry {
        let first = line.lines().next().unwrap_or_default();
        let fence = if line.trim_start().starts_with(FENCE) {
            line.find(FENCE)
        } else if line.starts_with('/') {
            first.find(FENCE)
        } else {
            None
        };
        let is_command = line.starts_with('/') && (fence.is_some() || line.trim_end().lines().count() == 1);
        let Some(fence) = fence else {
            return Entry { text: line.to_owned(), is_command, block: None, open: false };
        };
        let (before, block) = (if is_command { &line[..fence] } else { "" }, &line[fence + FENCE.len()..]);
        let mut entry = Entry { text: before.to_owned(), is_command, block: Some(before.len()), open: true };
        block.split('\n').for_each(|line| entry.push(line));
        entry
    }

    /// Whether the block goes on.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Adds a line to an open block. A line that ends with `"""` ends it.
    pub fn push(&mut self, line: &str) {
        match line.trim_end().strip_suffix(FENCE).filter(|_| self.open) {
            Some(last) => {
                self.text.push_str(last);
                self.open = false;
            }
            None => {
                self.text.push_str(line);
                self.text.push('\n');
            }
        }
    }

    /// What it comes to: nothing for blanks. The line breaks after the first and before the last `"""` are no part of it.
    pub fn finish(self) -> Option<Input> {
        let text = match self.block {
            Some(at) => {
                let (before, block) = self.text.split_at(at);
                let block = block.strip_prefix('\n').unwrap_or(block);
                format!("{before}{}", block.strip_suffix('\n').unwrap_or(block))
            }
            None => self.text.trim().to_owned(),
        };
        if text.trim().is_empty() {
            return None;
        }
        Some(if self.is_command { Input::Command(text) } else { Input::Message(text) })
    }
}

/// A complete entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A text for the model.
    Message(String),
    /// A text for tallow, with its slash.
    Command(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What lines come to, and how many of them were needed.
    fn entered(lines: &[&str]) -> (Option<Input>, usize) {
        let mut entry = Entry::new(lines[0]);
        let mut used = 1;
        while entry.is_open() {
            entry.push(lines[used]);
            used += 1;
        }
        (entry.finish(), used)
    }

    fn message(text: &str) -> Option<Input> {
        Some(Input::Message(text.to_owned()))
    }

    fn command(text: &str) -> Option<Input> {
        Some(Input::Command(text.to_owned()))
    }

    #[test]
    fn a_line_is_a_message_and_one_with_a_slash_a_command() {
        assert_eq!(entered(&["  Hello, world "]), (message("Hello, world"), 1));
        assert_eq!(entered(&["/set verbose "]), (command("/set verbose"), 1));
        assert_eq!(entered(&[" /etc/passwd is a file"]), (message("/etc/passwd is a file"), 1));
        assert_eq!(entered(&["  "]), (None, 1));
        assert_eq!(entered(&[""]), (None, 1));
    }

    #[test]
    fn a_paste_of_several_lines_is_one_message_whatever_it_begins_with() {
        assert_eq!(entered(&["one\n\n  two\n"]), (message("one\n\n  two"), 1));
        assert_eq!(entered(&["/* a comment\n */\nint x;"]), (message("/* a comment\n */\nint x;"), 1));
        assert_eq!(entered(&["/bye\n"]), (command("/bye"), 1));
    }

    #[test]
    fn a_block_goes_on_until_its_end_over_lines_and_pastes() {
        assert_eq!(entered(&["\"\"\"", "one", "", "  two", "\"\"\""]), (message("one\n\n  two"), 5));
        assert_eq!(entered(&["\"\"\"one", "two\"\"\" "]), (message("one\ntwo"), 2));
        assert_eq!(entered(&["\"\"\"/one\"\"\""]), (message("/one"), 1));
        assert_eq!(entered(&["\"\"\"\none\n\"\"\""]), (message("one"), 1));
        assert_eq!(entered(&["\"\"\"one\ntwo", "three\n\"\"\""]), (message("one\ntwo\nthree"), 2));
        assert_eq!(entered(&["\"\"\"\"\"\""]), (None, 1));
        assert_eq!(entered(&["say \"\"\"this\"\"\""]), (message("say \"\"\"this\"\"\""), 1));
    }

    #[test]
    fn a_command_may_take_a_block() {
        let lines = ["/set system \"\"\"You are", "a pirate.", "\"\"\""];
        assert_eq!(entered(&lines), (command("/set system You are\na pirate."), 3));
    }
}
