//! Paths, numbers and tokens as `huggingface_hub` reads them from the environment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Where variables come from.
pub(super) type Vars<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What `os.path.expandvars(os.path.expanduser(text))` of Python gives: `~`, `~user`, then `$NAME` and `${NAME}`. What is not
/// known stays as it is.
pub(super) fn expanded(text: OsString, vars: Vars<'_>, home: &std::path::Path) -> PathBuf {
    // What is no Unicode holds no name that could be looked up safely.
    match text.into_string() {
        Ok(text) => PathBuf::from(with_variables(with_home(&text, home), vars)),
        Err(text) => PathBuf::from(text),
    }
}

/// `~/x` and `~user/x` with the home folder in place of the first part.
fn with_home(text: &str, home: &std::path::Path) -> OsString {
    let Some(rest) = text.strip_prefix('~') else { return text.into() };
    let end = rest.find(['/', std::path::MAIN_SEPARATOR]).unwrap_or(rest.len());
    let (user, rest) = rest.split_at(end);
    let found = if user.is_empty() { Some(home.to_owned()) } else { home_of(user) };
    let Some(found) = found else { return text.into() };
    let mut path = found.into_os_string();
    if path.to_str().is_some_and(|path| path.ends_with('/')) {
        path = path.to_string_lossy().trim_end_matches('/').into();
    }
    path.push(rest);
    if path.is_empty() { "/".into() } else { path }
}

/// The home folder of another user. Users of network directories are not found.
fn home_of(user: &str) -> Option<PathBuf> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|line| line[0] == user)?;
    line.get(5).filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// The text with values in place of `$NAME` and `${NAME}`, on Windows of `%NAME%`, too. Values are not looked into again.
fn with_variables(text: OsString, vars: Vars<'_>) -> OsString {
    let text = match text.into_string() {
        Ok(text) => text,
        Err(text) => return text,
    };
    let (mut out, mut rest) = (OsString::new(), text.as_str());
    while let Some(at) = rest.find(['$', '%']) {
        let (before, from) = rest.split_at(at);
        out.push(before);
        let (name, length) = variable(from);
        match name.and_then(vars) {
            Some(value) => out.push(value),
            None => out.push(&from[..length]),
        }
        rest = &from[length..];
    }
    out.push(rest);
    out
}

/// The name in the reference that `text` begins with, and the bytes that it takes.
fn variable(text: &str) -> (Option<&str>, usize) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if let Some(rest) = text.strip_prefix('%') {
        return match rest.find('%').filter(|_| cfg!(windows)) {
            Some(end) if end > 0 => (Some(&rest[..end]), end + 2),
            _ => (None, 1),
        };
    }
    let rest = &text[1..];
    match rest.strip_prefix('{').map(|rest| (rest, rest.find('}'))) {
        Some((rest, Some(end))) => (Some(&rest[..end]), end + 3),
        Some((_, None)) => (None, 1),
        None => match rest.find(|c| !is_name(c)).unwrap_or(rest.len()) {
            0 => (None, 1),
            end => (Some(&rest[..end]), end + 1),
        },
    }
}

/// A token without the line breaks and spaces that copying and files bring; `None` if nothing is left.
pub(super) fn clean(token: &str) -> Option<String> {
    let token = token.replace(['\r', '\n'], "");
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// The longest wait: what is longer means for ever, and clocks can not be set beyond their end.
const LONGEST: u64 = 10_000_000;

/// A number of seconds; 0, as for `huggingface_hub`, is the default.
pub(super) fn seconds(name: &str, text: Option<String>, default: Duration) -> Duration {
    let Some(text) = text else { return default };
    let digits = text.trim().trim_start_matches('+').replace('_', "");
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number {
        log::warn!("{name}={text:?} is no number of seconds; {} are used", default.as_secs());
        return default;
    }
    // More digits than a number holds are more than the most.
    match digits.parse::<u64>().map_or(LONGEST, |seconds| seconds.min(LONGEST)) {
        0 => default,
        seconds => Duration::from_secs(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `os.path.expandvars(os.path.expanduser(text))` of CPython 3.11 gave these, with HOME=/home/u, A=value, B=$A and E empty.
    #[cfg(unix)]
    #[test]
    fn paths_are_expanded_as_pythons_expanduser_and_expandvars_do() {
        let vars = |name: &str| match name {
            "A" => Some("value".into()),
            "B" => Some("$A".into()),
            "E" => Some("".into()),
            "HOME" => Some("/home/u".into()),
            _ => None,
        };
        for (text, expected) in [
            ("$HOME/x", "/home/u/x"),
            ("${HOME}/x", "/home/u/x"),
            ("~/x", "/home/u/x"),
            ("~", "/home/u"),
            ("~root/x", "/root/x"),
            ("~no-such-user/x", "~no-such-user/x"),
            ("/x/~", "/x/~"),
            ("~$A", "~value"),
            ("$A$A", "valuevalue"),
            ("$B", "$A"),
            ("${B}/$A", "$A/value"),
            ("$A_/x", "$A_/x"),
            ("$A-x", "value-x"),
            ("$E/x", "/x"),
            ("$MISSING/x", "$MISSING/x"),
            ("${MISSING}", "${MISSING}"),
            ("${A", "${A"),
            ("${}", "${}"),
            ("$", "$"),
            ("$$A", "$value"),
            ("%A%", "%A%"),
            ("a$Aé", "avalueé"),
            ("plain", "plain"),
        ] {
            let found = expanded(text.into(), &vars, std::path::Path::new("/home/u"));
            assert_eq!(found, PathBuf::from(expected), "{text}");
        }
    }

    #[test]
    fn tokens_lose_line_breaks_wherever_they_are() {
        for (text, expected) in [
            ("hf_a", Some("hf_a")),
            (" hf_a \r\n", Some("hf_a")),
            ("hf_\r\na\n", Some("hf_a")),
            ("hf_a b", Some("hf_a b")),
            ("", None),
            ("\r\n \n", None),
        ] {
            assert_eq!(clean(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn seconds_are_a_number_and_never_too_many() {
        let default = Duration::from_secs(30);
        for (text, expected) in [
            ("7", 7),
            (" 7 ", 7),
            ("1_000", 1000),
            ("0", 30),
            ("", 30),
            ("-1", 30),
            ("7.5", 30),
            ("many", 30),
            ("18446744073709551615", LONGEST),
            ("99999999999999999999999999999999", LONGEST),
        ] {
            assert_eq!(seconds("NAME", Some(text.to_owned()), default), Duration::from_secs(expected), "{text}");
        }
        assert_eq!(seconds("NAME", None, default), default);
        // What the clocks of this machine can hold.
        assert!(std::time::Instant::now().checked_add(Duration::from_secs(LONGEST)).is_some());
    }
}
