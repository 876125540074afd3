//! The model card: README.md with a front matter in YAML, as the Hub has them. Only two lines of it are of use here, so no
//! parser of YAML is brought in: a key at the start of a line, and its value behind it.

use crate::files::NamedFiles;

/// Longer uses are cut: the card itself is the place to read them.
const LONGEST: usize = 600;

/// What a model card says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Card {
    /// The licence's name.
    pub license: Option<String>,
    /// What the model is meant for: the section that says so, else the first paragraph.
    pub intended_use: Option<String>,
}

/// The card in a folder; `None` if there is none. It is a note, so nothing about it is an error.
pub(super) fn read(folder: &NamedFiles) -> Option<Card> {
    parse(&String::from_utf8_lossy(&folder.read("README.md").ok()??))
}

/// A text without front matter is some README, not a card.
fn parse(text: &str) -> Option<Card> {
    let text = text.replace("\r\n", "\n");
    let rest = text.trim_start_matches('\u{feff}').strip_prefix("---\n")?;
    let (front, body) = rest.split_once("\n---")?;
    let value = |key: &str| {
        let line = front.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        let value = line.split(" #").next().unwrap_or(line).trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    };
    // The name of a licence that the Hub does not know stands behind `license: other`.
    let license = value("license").map(|name| if name == "other" { value("license_name").unwrap_or(name) } else { name });
    Some(Card { license, intended_use: section(body).or_else(|| paragraph(body)) })
}

/// The first paragraph below a heading about the uses.
fn section(body: &str) -> Option<String> {
    let is_it = |line: &str| {
        let title = line.trim_start_matches('#').trim().trim_matches(['*', ':']).to_lowercase();
        line.starts_with('#')
            && ["intended use", "intended uses", "uses", "use", "direct use", "usage and limitations"]
                .iter()
                .any(|wanted| title == *wanted || title.starts_with("intended use"))
    };
    let mut lines = body.lines();
    lines.by_ref().find(|line| is_it(line))?;
    paragraph(&lines.collect::<Vec<_>>().join("\n"))
}

/// The first paragraph of text: no heading, picture, table, list of links or code.
fn paragraph(body: &str) -> Option<String> {
    let mut in_code = false;
    let (mut text, mut lines) = (String::new(), body.lines().map(str::trim));
    for line in lines.by_ref() {
        in_code ^= line.starts_with("```");
        let is_text = !in_code && !line.starts_with(['#', '|', '<', '!', '[', '`', '=', '-']) && !line.is_empty();
        match (is_text, text.is_empty()) {
            (true, true) => text = line.to_owned(),
            (true, false) => text = format!("{text} {line}"),
            (false, false) => break,
            (false, true) => (),
        }
    }
    if let Some((at, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(at);
        text += "...";
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licence_and_the_uses_are_read_from_a_card() {
        let card = "---\nlibrary_name: x\nlicense: apache-2.0 # free\ntags:\n- license: no\n---\n\n# Model\n\n![](a.png)\nFirst.\n\n\
                    ## Intended uses & limitations\n\n```\ncode\n```\nFor chat,\nin English.\n\nMore.\n## Limits\nNone.\n";
        let card = parse(card).unwrap();
        assert_eq!(card.license.as_deref(), Some("apache-2.0"));
        assert_eq!(card.intended_use.as_deref(), Some("For chat, in English."));
    }

    #[test]
    fn the_first_paragraph_stands_in_for_the_uses_and_a_named_licence_for_other() {
        let card =
            parse("---\r\nlicense: other\r\nlicense_name: \"llama3.2\"\r\n---\r\n# M\r\n\r\nA small model.\r\n").unwrap();
        assert_eq!(card.license.as_deref(), Some("llama3.2"));
        assert_eq!(card.intended_use.as_deref(), Some("A small model."));
    }

    #[test]
    fn a_readme_without_front_matter_is_no_card_and_a_long_text_is_cut() {
        assert_eq!(parse("# Models\n\nSome text."), None);
        let long = parse(&format!("---\na: b\n---\n{}", "é".repeat(2 * LONGEST))).unwrap();
        assert_eq!(long.intended_use.unwrap().chars().count(), LONGEST + 3);
        assert_eq!(parse("---\na: b\n---\n"), Some(Card::default()));
    }
}
