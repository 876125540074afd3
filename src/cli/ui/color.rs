//! `--color`: whether clap's help and messages, and the chat's prompt, are coloured.
//!
//! The flag counts before NO_COLOR, and both before whether a terminal is there; clap and the line editor see to the latter two.
//! The trap: clap speaks of arguments that it could not parse, and has to know its choice before. So the flag is looked for
//! among the arguments as they are.

use clap::{ColorChoice, ValueEnum};
use std::ffi::OsString;

/// The choice among arguments that have not been parsed. What is wrong with it is for clap to say.
pub fn asked(args: &[OsString]) -> ColorChoice {
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).take_while(|word| word != "--").collect();
    let value = words.iter().enumerate().find_map(|(i, word)| match word.strip_prefix("--color")? {
        "" => words.get(i + 1).map(|next| next.as_ref()),
        rest => rest.strip_prefix('='),
    });
    value.and_then(|value| ColorChoice::from_str(value, false).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_found_in_both_spellings_and_only_among_flags() {
        for (line, expected) in [
            ("tallow run m p", ColorChoice::Auto),
            ("tallow --color never run", ColorChoice::Never),
            ("tallow run --color=always --nonsense", ColorChoice::Always),
            ("tallow run --color=sometimes", ColorChoice::Auto),
            ("tallow run --color", ColorChoice::Auto),
            ("tallow run --colors=never", ColorChoice::Auto),
            ("tallow run m -- --color never", ColorChoice::Auto),
        ] {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(asked(&args), expected, "{line}");
        }
    }
}
