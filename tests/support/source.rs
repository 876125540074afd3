//! The sources as text: which module a file is, which paths it names, and what those paths lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module's path below the crate: `["store", "hub"]`.
pub type Module = Vec<String>;

/// A source file without its tests and comments.
pub struct Source {
    /// Its path below src.
    pub name: String,
    pub module: Module,
    pub code: String,
}

impl Source {
    /// The first part of its module's path: `store`.
    pub fn layer(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every source of the crate but main.rs.
pub fn all() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for file in files(&src) {
        let name = file.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        if name == "main.rs" || name.contains("tests") {
            continue;
        }
        let mut module: Module = name.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
            module.pop();
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        found.push(Source { name, module, code: code.join("\n") });
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The paths of a use tree, `a::{b, c::D as E}`, each with the name it brings; and what follows it.
fn tree<'a>(text: &'a str, before: &[String], found: &mut Vec<(Vec<String>, String)>) -> &'a str {
    let mut text = text.trim_start();
    let mut path = before.to_vec();
    loop {
        if let Some(mut rest) = text.strip_prefix('{') {
            while !rest.trim_start().starts_with('}') {
                let after = tree(rest, &path, found).trim_start();
                rest = after.strip_prefix(',').unwrap_or(after);
                if after == rest && !after.starts_with('}') {
                    return after; // Braces that are no use tree.
                }
            }
            return &rest.trim_start()[1..];
        }
        let word: String = text.chars().take_while(|c| is_word(*c)).collect();
        text = &text[word.len()..];
        if word != "self" || path.is_empty() {
            path.push(word);
        }
        match text.strip_prefix("::") {
            Some(rest) => text = rest.trim_start(),
            None => break,
        }
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if let Some(alias) = text.trim_start().strip_prefix("as ") {
        name = alias.trim_start().chars().take_while(|c| is_word(*c)).collect();
        text = &alias.trim_start()[name.len()..];
    }
    found.push((path, name));
    text
}

/// The paths that begin with `crate`, `super` or `self`, as absolute ones.
pub fn paths(source: &Source) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for word in ["crate::", "super::", "self::"] {
        for (at, _) in source.code.match_indices(word) {
            let before = source.code[..at].chars().next_back();
            if !before.is_some_and(|c| is_word(c) || c == ':') {
                tree(&source.code[at..], &[], &mut found);
            }
        }
    }
    found.into_iter().map(|(path, _)| absolute(&source.module, &path)).collect()
}

fn absolute(module: &Module, path: &[String]) -> Vec<String> {
    let mut base = module.clone();
    let mut rest = path;
    match path.first().map(String::as_str) {
        Some("crate") => (base, rest) = (Vec::new(), &path[1..]),
        Some("self") => rest = &path[1..],
        _ => {
            while rest.first().is_some_and(|word| word == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
    }
    base.extend_from_slice(rest);
    base
}

/// All modules, and what each of them has by another's name.
pub struct Names {
    modules: BTreeSet<Module>,
    /// By module and name: the absolute path it stands for, and whether it is public.
    uses: BTreeMap<(Module, String), (Vec<String>, bool)>,
}

impl Names {
    pub fn of(sources: &[Source]) -> Names {
        let modules: BTreeSet<Module> = sources.iter().map(|source| source.module.clone()).collect();
        let mut uses = BTreeMap::new();
        for Source { module, code, .. } in sources {
            for (at, _) in code.match_indices("use ") {
                let line = code[..at].rsplit('\n').next().unwrap_or_default().trim();
                if !matches!(line, "" | "pub" | "pub(crate)" | "pub(super)") {
                    continue;
                }
                let mut found = Vec::new();
                tree(&code[at + 4..], &[], &mut found);
                for (path, name) in found {
                    let mut whole = absolute(module, &path);
                    let is_child =
                        |first: &String| modules.contains(&[module.as_slice(), std::slice::from_ref(first)].concat());
                    let relative = matches!(path.first().map(String::as_str), Some("crate" | "super" | "self"));
                    if !relative && !path.first().is_some_and(is_child) {
                        whole = vec!["(another crate)".to_owned()];
                    }
                    uses.insert((module.clone(), name), (whole, line == "pub"));
                }
            }
        }
        Names { modules, uses }
    }

    /// The module in which what `path` names is defined.
    pub fn home(&self, path: &[String]) -> Module {
        let mut path = path.to_vec();
        for _ in 0..10 {
            let known = (0..=path.len()).rev().find(|len| self.modules.contains(&path[..*len])).unwrap_or(0);
            let (module, rest) = path.split_at(known);
            let Some(name) = rest.first() else { return module.to_vec() };
            match self.uses.get(&(module.to_vec(), name.clone())) {
                Some((target, _)) if *target != path[..=known] => path = [target.as_slice(), &rest[1..]].concat(),
                _ => return module.to_vec(),
            }
        }
        panic!("{path:?} leads in a circle");
    }

    /// The public names of a module that stand for something elsewhere.
    pub fn reexports(&self, module: &Module) -> Vec<(&str, &[String])> {
        let of_module = self.uses.iter().filter(|((of, _), (_, public))| of == module && *public);
        of_module.map(|((_, name), (path, _))| (name.as_str(), path.as_slice())).collect()
    }
}
