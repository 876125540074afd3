//! The commands of a chat: their names, their words, their help.

use std::path::PathBuf;

/// Every command as it is typed, with what it does: for `/?` and for completion.
pub const HELP: [(&str, &str); 15] = [
    ("/set parameter NAME VALUE", "set a parameter, by its name in Ollama"),
    ("/set system TEXT", "set the system message; \"\" takes it away"),
    ("/set verbose", "print timings after each answer"),
    ("/set quiet", "print no timings"),
    ("/show info", "describe the model"),
    ("/show parameters", "the parameters in force"),
    ("/show system", "the system message"),
    ("/show template", "the chat template"),
    ("/show license", "the model's licence"),
    ("/stats", "how full the context is, and how fast the last answer was"),
    ("/regen", "answer the last message again"),
    ("/read FILE [TEXT]", "send a file's text, before TEXT or before the next message"),
    ("/clear", "forget the talk, keep the system message"),
    ("/bye, /exit", "leave; also Ctrl-D"),
    ("/?, /help", "this list"),
];

/// What else a user should know.
pub const KEYS: &str = "\
Begin and end a message of several lines with \"\"\". Pasted lines are one message.
Ctrl-C stops an answer, and clears a line. Up and down: earlier messages. Ctrl-R: search them. Tab: complete a command.
";

/// A command, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// List the commands.
    Help,
    /// Leave.
    Bye,
    /// Forget the talk.
    Clear,
    /// Answer again.
    Regen,
    /// Print counts.
    Stats,
    /// Set a parameter.
    Parameter(String, Vec<String>),
    /// Set the system message, or take it away.
    System(String),
    /// Print timings or not.
    Verbose(bool),
    /// Describe something.
    Show(Show),
    /// Put a file's text before a message.
    Read(PathBuf, Option<String>),
}

/// What `/show` can describe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// The model.
    Info,
    /// The parameters in force.
    Parameters,
    /// The system message.
    System,
    /// The chat template.
    Template,
    /// The model's licence.
    License,
}

/// Understands `text`, which begins with a slash; or says what is wrong with it.
pub fn parse(text: &str) -> Result<Command, String> {
    let (name, rest) = split(text);
    let alone = |command: Command| match rest {
        "" => Ok(command),
        _ => Err(format!("{name} takes nothing after it")),
    };
    match name {
        "/?" | "/help" => Ok(Command::Help),
        "/bye" | "/exit" => alone(Command::Bye),
        "/clear" => alone(Command::Clear),
        "/regen" => alone(Command::Regen),
        "/stats" => alone(Command::Stats),
        "/set" => set(rest),
        "/show" => show(rest),
        "/read" => read(rest),
        _ => Err(unknown(name)),
    }
}

fn set(rest: &str) -> Result<Command, String> {
    let (what, rest) = split(rest);
    match (what, rest) {
        ("parameter", _) => {
            let mut words = words(rest)?;
            if words.len() < 2 {
                return Err("expected /set parameter NAME VALUE, for example /set parameter temperature 0.2".to_owned());
            }
            Ok(Command::Parameter(words.remove(0), words))
        }
        ("system", "") => Err("expected /set system TEXT; /set system \"\" takes it away".to_owned()),
        ("system", text) => Ok(Command::System(unquoted(text)?)),
        ("verbose", "") => Ok(Command::Verbose(true)),
        ("quiet", "") => Ok(Command::Verbose(false)),
        _ => Err("expected /set parameter, /set system, /set verbose or /set quiet".to_owned()),
    }
}

fn show(rest: &str) -> Result<Command, String> {
    Ok(Command::Show(match rest {
        "" | "info" => Show::Info,
        "parameters" => Show::Parameters,
        "system" => Show::System,
        "template" => Show::Template,
        "license" | "licence" => Show::License,
        _ => return Err("expected /show info, parameters, system, template or license".to_owned()),
    }))
}

fn read(rest: &str) -> Result<Command, String> {
    let (file, text) = match rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        Some((file, text)) => (file, text.trim()),
        None => split(rest),
    };
    if file.is_empty() {
        return Err("expected /read FILE".to_owned());
    }
    let path = match (file.strip_prefix("~/"), std::env::home_dir()) {
        (Some(below), Some(home)) => home.join(below),
        _ => file.into(),
    };
    Ok(Command::Read(path, (!text.is_empty()).then(|| text.to_owned())))
}

fn unknown(name: &str) -> String {
    let known = HELP.iter().flat_map(|row| row.0.split(", ")).map(|command| split(command).0);
    let nearest = known.map(|known| (strsim::jaro_winkler(known, name), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match nearest {
        Some((likeness, known)) if likeness > 0.85 && name.len() > 2 => format!("did you mean {known}? "),
        _ => String::new(),
    };
    format!("unknown command {name}; {hint}/? lists the commands. A message may begin with a slash after a space")
}

/// The first word, and what follows it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(char::is_whitespace).map_or((text, ""), |(first, rest)| (first, rest.trim_start()))
}

/// Words, of which those with spaces are in double quotes.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let word = if let Some(inner) = rest.strip_prefix('"') {
            let (word, after) = quoted(inner)?;
            rest = after.trim_start();
            word
        } else {
            let (word, after) = split(rest);
            rest = after;
            word.to_owned()
        };
        words.push(word);
    }
    Ok(words)
}

/// A text that may be in double quotes as a whole.
fn unquoted(text: &str) -> Result<String, String> {
    match text.strip_prefix('"').map(quoted) {
        Some(Ok((inner, after))) if after.trim().is_empty() => Ok(inner),
        Some(Err(why)) => Err(why),
        Some(Ok(_)) | None => Ok(text.to_owned()),
    }
}

/// What stands before the closing quote, and what behind it. `\n`, `\t`, `\"` and `\\` are what they are elsewhere.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut word = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((word, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => word.push('\n'),
                Some((_, 't')) => word.push('\t'),
                Some((_, c @ ('"' | '\\'))) => word.push(c),
                Some((_, c)) => word.extend(['\\', c]),
                None => word.push('\\'),
            },
            c => word.push(c),
        }
    }
    Err("a closing \" is missing".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, values: &[&str]) -> Result<Command, String> {
        Ok(Command::Parameter(name.to_owned(), values.iter().map(|value| (*value).to_owned()).collect()))
    }

    #[test]
    fn every_command_of_the_list_is_understood() {
        for (text, _) in HELP {
            for command in text.split(", ") {
                let text = command.replace("NAME VALUE", "top_k 5").replace(" [TEXT]", "");
                assert!(parse(&text).is_ok(), "{text}: {:?}", parse(&text));
            }
        }
        assert_eq!(parse("/show"), Ok(Command::Show(Show::Info)));
        assert_eq!(parse("/help set"), Ok(Command::Help));
    }

    #[test]
    fn parameters_take_words_and_quoted_texts() {
        assert_eq!(parse("/set parameter temperature 0.2"), parameter("temperature", &["0.2"]));
        assert_eq!(parse("/set   parameter seed  -1 "), parameter("seed", &["-1"]));
        assert_eq!(parse(r#"/set parameter stop "a b" \n "\n\"x\\" "" "#), parameter("stop", &["a b", r"\n", "\n\"x\\", ""]));
        assert!(parse("/set parameter").is_err() && parse("/set parameter top_k").is_err());
        assert!(parse(r#"/set parameter stop "a"#).unwrap_err().contains("closing"));
    }

    #[test]
    fn a_system_message_is_the_rest_of_the_line_without_its_quotes() {
        let system = |text: &str| Ok(Command::System(text.to_owned()));
        assert_eq!(parse("/set system Be brief,  please."), system("Be brief,  please."));
        assert_eq!(parse("/set system \"Be brief.\""), system("Be brief."));
        assert_eq!(parse("/set system \"Be\" brief."), system("\"Be\" brief."));
        assert_eq!(parse("/set system \"\""), system(""));
        assert_eq!(parse("/set system Be\nbrief."), system("Be\nbrief."));
        assert!(parse("/set system").is_err());
    }

    #[test]
    fn a_file_may_have_spaces_and_a_text_behind_it() {
        let read = |file: &str, text: Option<&str>| Ok(Command::Read(file.into(), text.map(str::to_owned)));
        assert_eq!(parse("/read notes.txt"), read("notes.txt", None));
        assert_eq!(parse("/read notes.txt What is this?"), read("notes.txt", Some("What is this?")));
        assert_eq!(parse("/read \"my notes.txt\" What?"), read("my notes.txt", Some("What?")));
        assert!(parse("/read").is_err());
    }

    #[test]
    fn what_is_unknown_says_so_and_points_to_the_list() {
        for text in ["/foo", "/", "/home/me/file what is this", "/set x", "/set", "/show x", "/bye now", "/set verbose x"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("/foo").unwrap_err().contains("unknown command /foo; /? lists"));
        assert!(parse("/claer").unwrap_err().contains("did you mean /clear?"));
    }
}
