//! Completion of model names, and `tallow completions`: the script that makes a shell ask for them.
//!
//! The shell calls the program itself for every completion, so that it knows what has been pulled since. bash divides words
//! at colons, which names of models hold; its script is our own and puts them together again.
//!
//! The trap: names of files come from strangers' repositories, and bash and PowerShell insert a candidate as it is. One that
//! is called `m$(command)` would be run with the line, so both get candidates in quotes. zsh, fish and elvish quote what
//! they insert.

use crate::cli::ui::output;
use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::{Bash, Elvish, EnvCompleter, Fish, Powershell, Shells, Zsh};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use tallow::store::hub::HubOptions;
use tallow::store::{catalog, local};

/// The environment variable by which a shell asks for completions.
pub const VARIABLE: &str = "TALLOW_COMPLETE";

const BASH: &str = r#"_tallow_complete() {
    local line=${COMP_LINE:0:COMP_POINT} current= words=() candidates=() i
    # Without -r: what was completed before has backslashes, names have none.
    read -a words <<< "$line"
    if [[ $line == *[[:space:]] || ${#words[@]} -eq 0 ]]; then
        words+=("")
    fi
    current=${words[-1]}
    mapfile -t candidates < <(_CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) VARIABLE=bash COMPLETER -- "${words[@]}")
    # bash replaces only what follows the last colon.
    local kept=
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        kept=${current%:*}:
    fi
    COMPREPLY=()
    for i in "${candidates[@]}"; do
        i=${i#"$kept"}
        # bash inserts a candidate as it is: `$(..)` in a file's name would be run.
        if [[ $i == '~/'* ]]; then
            printf -v i '~/%q' "${i:2}"
        elif [[ -n $i ]]; then
            printf -v i %q "$i"
        fi
        COMPREPLY+=("$i")
    done
}
complete -o bashdefault -o default -F _tallow_complete tallow
"#;

/// The shells that are completed for.
pub const SHELLS: Shells<'static> = Shells(&[&Bash, &Elvish, &Fish, &QuotedPowershell, &Zsh]);

/// PowerShell with candidates in quotes where it would take them for code.
struct QuotedPowershell;

impl EnvCompleter for QuotedPowershell {
    fn name(&self) -> &'static str {
        Powershell.name()
    }

    fn is(&self, name: &str) -> bool {
        Powershell.is(name)
    }

    fn write_registration(
        &self,
        var: &str,
        name: &str,
        bin: &str,
        completer: &str,
        out: &mut dyn std::io::Write,
    ) -> std::io::Result<()> {
        Powershell.write_registration(var, name, bin, completer, out)
    }

    fn write_complete(
        &self,
        command: &mut clap::Command,
        args: Vec<OsString>,
        folder: Option<&Path>,
        out: &mut dyn std::io::Write,
    ) -> std::io::Result<()> {
        let mut lines = Vec::new();
        Powershell.write_complete(command, args, folder, &mut lines)?;
        String::from_utf8_lossy(&lines).lines().try_for_each(|line| {
            let (value, help) = line.split_at(line.find('\t').unwrap_or(line.len()));
            writeln!(out, "{}{help}", powershell_quoted(value))
        })
    }
}

/// `value` as PowerShell reads it back: in single quotes, unless every character stands for itself.
fn powershell_quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:\\+=%~".contains(c);
    if value.chars().all(is_plain) {
        return value.to_owned();
    }
    // PowerShell takes typographic quotes for quotes as well.
    let double = |c: char| if matches!(c, '\'' | '\u{2018}'..='\u{201b}') { vec![c, c] } else { vec![c] };
    format!("'{}'", value.chars().flat_map(double).collect::<String>())
}

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
To complete in every new shell:
  bash         echo 'source <(tallow completions bash)' >> ~/.bashrc
  zsh          echo 'source <(tallow completions zsh)' >> ~/.zshrc
  fish         echo 'tallow completions fish | source' >> ~/.config/fish/config.fish
  elvish       echo 'eval (tallow completions elvish | slurp)' >> ~/.config/elvish/rc.elv
  powershell   tallow completions powershell >> $PROFILE")]
pub struct Args {
    /// The shell
    #[arg(value_parser = ["bash", "zsh", "fish", "powershell", "elvish"])]
    shell: String,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    // A bare name is looked up in the path again; where the program lies may change.
    let program = std::env::args_os().next().unwrap_or_else(|| "tallow".into());
    let path = std::path::Path::new(&program);
    let program = match path.components().count() {
        0 | 1 => "tallow".to_owned(),
        _ => std::path::absolute(path)?.display().to_string(),
    };
    if args.shell == "bash" {
        let quoted = format!("'{}'", program.replace('\'', r"'\''"));
        return output::text(&BASH.replace("VARIABLE", VARIABLE).replace("COMPLETER", &quoted));
    }
    let shell = SHELLS.completer(&args.shell).ok_or_else(|| crate::cli::ui::failure::usage("unknown shell"))?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "tallow", "tallow", &program, &mut script)?;
    output::text(&String::from_utf8_lossy(&script))
}

/// Every model: those on this machine, those of the catalogue, and paths.
pub fn models(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut found = candidates(current, names_here(|_| true).into_iter().chain(catalog::names()));
    if current.to_string_lossy().contains(['/', '.', '~']) {
        found.extend(PathCompleter::any().complete(current));
    }
    found
}

/// The models on this machine.
pub fn here(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(current, names_here(|_| true))
}

/// The models that were pulled.
pub fn cached(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(current, names_here(|source| source == local::Source::Hub))
}

/// The models of the catalogue.
#[cfg(feature = "hub")]
pub fn catalogue(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(current, catalog::names())
}

fn names_here(wanted: fn(local::Source) -> bool) -> Vec<String> {
    let models = local::list(&HubOptions::from_env()).unwrap_or_default();
    models.into_iter().filter(|model| wanted(model.source)).map(|model| model.name).collect()
}

/// The names that begin as `current` does.
fn candidates(current: &OsStr, names: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str().map(str::to_lowercase) else { return Vec::new() };
    let names: BTreeSet<String> = names.into_iter().filter(|name| name.to_lowercase().starts_with(&current)).collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}
