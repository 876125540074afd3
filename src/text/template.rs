//! Chat templates: a list of messages to the prompt that the model was trained on. The only file that names minijinja.
//!
//! The result is what transformers' `apply_chat_template` gives, byte for byte: its Jinja settings (`trim_blocks`,
//! `lstrip_blocks`, no escaping), its globals (`raise_exception`, `strftime_now`), its `tojson`, and Python's string methods.
//! A template comes with a model and is not to be trusted: its length is limited, rendering is cut off after a fixed amount of
//! work, both have a stack of their own, and nothing is reachable from it.
//!
//! Differences that remain: the clock is UTC, not local time. What is not bounded is memory: minijinja has no limit for it, and a
//! template that doubles a string again and again comes to the end of it sooner than to that of its work.

use super::message::Message;
use super::python::{self, Json, Side};
use super::special::SpecialTokens;
use super::tokenizer::Tokenizer;
use crate::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind, from_args};
use minijinja::{Environment, ErrorKind, State};
use std::collections::BTreeMap;

/// The longest template, in bytes; the longest that are published have some 20 KB.
const LONGEST: usize = 1 << 17;
/// Instructions that one rendering may take, and some more for each message, of which a long chat takes some hundred.
const FUEL: u64 = 500_000;
const FUEL_PER_MESSAGE: u64 = 5_000;
/// Bytes of stack. minijinja calls itself for each level of an expression and of a value, to compile it, to print it and to drop it,
/// and knows no limit: the stack has room for the levels that so long a source, and so much work, can make.
const STACK: usize = 512 << 20;
/// How deep macros may call each other.
const DEPTH: usize = 200;
const NAME: &str = "chat template";

/// A compiled chat template.
///
/// ```
/// # use tallow::text::{ChatTemplate, Message, SpecialTokens};
/// let source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}\n{% endfor %}";
/// let template = ChatTemplate::new(source, &SpecialTokens::default())?;
/// assert_eq!(template.render(&[Message::user(" Hi ")], true)?, "<|user|>Hi\n");
/// # Ok::<(), tallow::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: BTreeMap<String, Value>,
}

impl ChatTemplate {
    /// Compiles `source`. The tokens are the variables `bos_token`, `eos_token` and so on; absent ones are undefined.
    pub fn new(source: &str, tokens: &SpecialTokens) -> Result<Self> {
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        environment.set_syntax(syntax.build().map_err(|e| failed(&e))?);
        environment.set_recursion_limit(DEPTH);
        environment.set_unknown_method_callback(method);
        environment.add_filter("tojson", to_json);
        for name in ["length", "count"] {
            environment.add_filter(name, length);
        }
        environment.add_filter("trim", |text: &Value, chars: Option<String>| {
            python::strip(&text_of(text), chars.as_deref(), Side::Both).to_owned()
        });
        environment
            .add_test("iterable", |value: &Value| value.is_undefined() || (!value.is_none() && value.try_iter().is_ok()));
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
        });
        if source.len() > LONGEST {
            return Err(Error::Template(format!("it has {} bytes, expected at most {LONGEST}", source.len())));
        }
        let environment = apart(move || {
            environment.add_template_owned(NAME, prepare(source)).map_err(|e| failed(&e))?;
            Ok(environment)
        })?;
        let tokens = tokens.variables().map(|(name, text)| (name.to_owned(), Value::from(text))).collect();
        Ok(ChatTemplate { environment, tokens }.with_clock(None))
    }

    /// Stops the clock that `strftime_now` reads at so many `seconds` after 1970-01-01 UTC; `None` for the system's clock.
    pub fn with_clock(mut self, seconds: Option<i64>) -> Self {
        self.environment.add_function("strftime_now", move |format: String| {
            let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs());
            python::strftime(&format, seconds.unwrap_or_else(|| i64::try_from(now()).unwrap_or(0)))
        });
        self
    }

    /// The prompt for `messages`. With `add_generation_prompt` it ends where the assistant begins to speak. Special tokens
    /// are in the text: encode it without adding them again.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let values = messages.iter().map(|m| Value::from_pairs([("role", m.role.as_str()), ("content", m.content.as_str())]));
        self.render_value(values.collect(), messages.len(), add_generation_prompt)
    }

    /// The same for messages as JSON, whose content may be a list of parts and which may carry further keys.
    pub fn render_json(&self, messages: &serde_json::Value, add_generation_prompt: bool) -> Result<String> {
        if !messages.as_array().is_some_and(|list| list.iter().all(serde_json::Value::is_object)) {
            return Err(Error::Input("messages must be a list of objects with `role` and `content`".into()));
        }
        let mut messages = messages.clone();
        let list = messages.as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
        for message in list.iter_mut() {
            // As transformers has it: a key without a value is none.
            message.as_object_mut().into_iter().for_each(|keys| keys.retain(|_, value| !value.is_null()));
            alias_reasoning(message);
        }
        let count = list.len();
        self.render_value(Value::from(Serde(messages)), count, add_generation_prompt)
    }

    fn render_value(&self, messages: Value, count: usize, add_generation_prompt: bool) -> Result<String> {
        let mut context = self.tokens.clone();
        context.insert("messages".to_owned(), messages);
        context.insert("tools".to_owned(), Value::from(()));
        context.insert("documents".to_owned(), Value::from(()));
        context.insert("add_generation_prompt".to_owned(), Value::from(add_generation_prompt));
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + FUEL_PER_MESSAGE * count as u64));
        apart(move || {
            let template = environment.get_template(NAME).map_err(|e| failed(&e))?;
            template.render(Value::from_pairs(context)).map_err(|e| failed(&e))
        })
    }

    /// The special token that the template writes after an assistant's message, and that a model trained on it ends its
    /// turns with. `None` where there is none, or the template does not take a plain exchange.
    pub fn turn_end(&self, tokenizer: &Tokenizer) -> Option<u32> {
        let answer = "an answer to look for";
        let text = self.render(&[Message::user("a question"), Message::assistant(answer)], false).ok()?;
        let (_, after) = text.rsplit_once(answer)?;
        let first = *tokenizer.encode(after.trim_start(), false).ok()?.first()?;
        Some(first).filter(|&id| tokenizer.is_special(id))
    }
}

/// Runs `work` on a thread that has the stack for it.
fn apart<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("tallow-template".into()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, work).map_err(|e| Error::Template(format!("no thread can be started: {e}")))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A message's reasoning goes by three names; transformers gives templates the two that they read.
fn alias_reasoning(message: &mut serde_json::Value) {
    let reasoning = ["reasoning_content", "thinking", "reasoning"].map(|key| message[key].clone());
    if let Some(reasoning) = reasoning.into_iter().find(|value| !value.is_null())
        && let Some(message) = message.as_object_mut()
    {
        message.entry("thinking").or_insert_with(|| reasoning.clone());
        message.insert("reasoning_content".into(), reasoning);
    }
}

/// What `raise_exception` was called with.
#[derive(Debug)]
struct Raised(String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// A template's own exception as it stands; everything else with its line.
fn failed(error: &minijinja::Error) -> Error {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return Error::Template(message.clone());
        }
        if cause.downcast_ref::<minijinja::Error>().is_some_and(|e| e.kind() == ErrorKind::OutOfFuel) {
            return Error::Template("it does not end: stopped after too many instructions".into());
        }
        next = cause.source();
    }
    let line = error.line().map_or_else(String::new, |line| format!("line {line}: "));
    let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
    Error::Template(format!("{line}{}{detail}", error.kind()))
}

/// Makes the source what minijinja reads: line ends as `\n`, which is Jinja's first step as well, and transformers'
/// `{% generation %}` as `{% with %}`, which opens a scope in the same way and prints what is inside.
fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    let mut raw = false;
    while let Some(at) = next_tag(rest) {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let len = match tag.as_bytes()[1] {
            b'#' if !raw => tag.find("#}").map_or(tag.len(), |end| end + 2),
            b'{' if !raw => tag_len(tag, "}}"),
            b'%' if !raw || ends_raw(tag) => tag_len(tag, "%}"),
            _ => 2,
        };
        let (tag, after) = tag.split_at(len);
        rest = after;
        let inner = tag.strip_prefix("{%").and_then(|tag| tag.strip_suffix("%}"));
        let word = inner.map(|inner| inner.trim_matches(['-', '+']).trim());
        match word {
            Some("endraw") => raw = false,
            Some("raw") => {
                raw = true;
                // Jinja keeps the line break that raw text begins with; minijinja takes it for the tag's.
                if rest.starts_with('\n') && !tag.ends_with("-%}") {
                    out.push_str(tag);
                    out.push('\n');
                    continue;
                }
            }
            Some("generation") => {
                out.push_str(&tag.replacen("generation", "with", 1));
                continue;
            }
            Some("endgeneration") => {
                out.push_str(&tag.replacen("endgeneration", "endwith", 1));
                continue;
            }
            Some(_) | None => {}
        }
        out.push_str(tag);
    }
    out.push_str(rest);
    out
}

/// Where the next tag begins.
fn next_tag(text: &str) -> Option<usize> {
    text.as_bytes().windows(2).position(|pair| matches!(pair, b"{%" | b"{{" | b"{#"))
}

/// Whether a `{%` is the end of raw text, in which nothing else is a tag.
fn ends_raw(tag: &str) -> bool {
    let word = tag[2..].trim_start_matches(['-', '+']).trim_start();
    word.strip_prefix("endraw").is_some_and(|rest| rest.trim_start().trim_start_matches(['-', '+']).starts_with("%}"))
}

/// The length of a tag that ends with `close`, which does not count inside of string literals.
fn tag_len(tag: &str, close: &str) -> usize {
    let bytes = tag.as_bytes();
    let mut quote = None;
    let mut at = 2;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, c @ (b'\'' | b'"')) => quote = Some(c),
            (None, _) if bytes[at..].starts_with(close.as_bytes()) => return at + close.len(),
            (None, _) => {}
        }
        at += 1;
    }
    tag.len()
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Of what is undefined, too, which has none.
fn length(value: &Value) -> Result<usize, minijinja::Error> {
    let none = if value.is_undefined() { Some(0) } else { None };
    none.or_else(|| value.len()).ok_or_else(|| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("cannot calculate length of value of type {}", value.kind()))
    })
}

/// transformers' `tojson`: `json.dumps` without HTML escapes, and with its options.
fn to_json(
    value: &Value,
    ascii: Option<Value>,
    indent: Option<Value>,
    separators: Option<Value>,
    named: Kwargs,
) -> Result<String, minijinja::Error> {
    let option = |positional: Option<Value>, name: &str| -> Result<Option<Value>, minijinja::Error> {
        let value = match positional {
            Some(value) => Some(value),
            None => named.get::<Option<Value>>(name)?,
        };
        Ok(value.filter(|value| !value.is_none() && !value.is_undefined()))
    };
    let indent = option(indent, "indent")?.map(|indent| match indent.as_usize() {
        Some(n) => " ".repeat(n.min(64)),
        None => text_of(&indent),
    });
    let separators = match option(separators, "separators")? {
        Some(pair) => Some((text_of(&pair.get_item_by_index(0)?), text_of(&pair.get_item_by_index(1)?))),
        None => None,
    };
    let json = Json {
        ascii: option(ascii, "ensure_ascii")?.is_some_and(|v| v.is_true()),
        indent,
        separators,
        sort_keys: option(None, "sort_keys")?.is_some_and(|v| v.is_true()),
    };
    named.assert_all_used()?;
    let invalid = |why: String| minijinja::Error::new(ErrorKind::InvalidOperation, why);
    if value.is_undefined() {
        return Err(invalid("an undefined value has no JSON".into()));
    }
    let value = serde_json::to_value(value).map_err(|e| invalid(e.to_string()))?;
    Ok(json.dumps(&value))
}

/// Python's methods: those that differ from pycompat's or are not among them, then pycompat's.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, minijinja::Error> {
    if value.kind() == ValueKind::String
        && let Some(text) = value.as_str()
        && let Some(result) = string_method(text, name, args)
    {
        return result;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

fn string_method(text: &str, name: &str, args: &[Value]) -> Option<Result<Value, minijinja::Error>> {
    let strip = |side| from_args::<(Option<&str>,)>(args).map(|(chars,)| Value::from(python::strip(text, chars, side)));
    let affix = |cut: fn(&'_ str, &str) -> Option<usize>, keep_end: bool| {
        from_args::<(&str,)>(args).map(|(affix,)| match (cut(text, affix), keep_end) {
            (Some(at), true) => Value::from(&text[at..]),
            (Some(at), false) => Value::from(&text[..at]),
            (None, _) => Value::from(text),
        })
    };
    Some(match name {
        "strip" => strip(Side::Both),
        "lstrip" => strip(Side::Left),
        "rstrip" => strip(Side::Right),
        "title" => from_args::<()>(args).map(|()| Value::from(python::title(text))),
        "split" | "rsplit" => split(text, args, name == "rsplit"),
        "removeprefix" => affix(|text, affix| text.strip_prefix(affix).map(|rest| text.len() - rest.len()), true),
        "removesuffix" => affix(|text, affix| text.strip_suffix(affix).map(str::len), false),
        "partition" | "rpartition" => from_args::<(&str,)>(args).map(|(separator,)| {
            let right = name == "rpartition";
            let cut = if right { text.rsplit_once(separator) } else { text.split_once(separator) };
            let parts = match cut {
                Some((before, after)) => [before, separator, after],
                None if right => ["", "", text],
                None => [text, "", ""],
            };
            parts.into_iter().map(Value::from).collect()
        }),
        _ => return None,
    })
}

fn split(text: &str, args: &[Value], right: bool) -> Result<Value, minijinja::Error> {
    let (separator, max, named): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
    let named_separator = named.get::<Option<String>>("sep")?;
    let max = max.or(named.get("maxsplit")?);
    named.assert_all_used()?;
    let separator = separator.or(named_separator.as_deref());
    let max = max.and_then(|max| usize::try_from(max).ok());
    let parts = match separator {
        Some(separator) if right => python::rsplit(text, separator, max),
        Some(_) | None => python::split(text, separator, max),
    };
    let parts = parts.ok_or_else(|| minijinja::Error::new(ErrorKind::InvalidOperation, "empty separator"))?;
    Ok(parts.into_iter().map(Value::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(source: &str) -> Result<String> {
        let tokens = SpecialTokens { bos: Some("<s>".into()), ..SpecialTokens::default() };
        ChatTemplate::new(source, &tokens)?.render(&[Message::user("Hi"), Message::assistant("é <b>")], true)
    }

    #[track_caller]
    fn gives(source: &str, expected: &str) {
        assert_eq!(render(source).unwrap(), expected, "{source}");
    }

    #[track_caller]
    fn fails(source: &str) -> String {
        render(source).unwrap_err().to_string()
    }

    // What is expected in these tests is what Jinja 3.1.6 with transformers' settings gives.

    #[test]
    fn what_is_undefined_has_no_length_and_raw_text_keeps_its_first_line_break() {
        gives("{{ messages[0].tool_calls|length }}{{ nothing|count }}", "00");
        gives("x{% raw %}\n{{ b }}\n{% endraw %}y", "x\n{{ b }}\ny");
        gives("{{ \"they're a1b x-y ÉCOLE\".title() }}", "They'Re A1B X-Y École");
    }

    #[test]
    fn a_key_without_a_value_is_none() {
        let template = "{% for m in messages %}[{{ m.content }}|{{ 'content' in m }}]{% endfor %}";
        let template = ChatTemplate::new(template, &SpecialTokens::default()).unwrap();
        let messages = json!([{"role": "assistant", "content": null, "tool_calls": [1]}, {"role": "user", "content": "x"}]);
        assert_eq!(template.render_json(&messages, true).unwrap(), "[|False][x|True]");
    }

    #[test]
    fn white_space_is_trimmed_as_jinja_trims_it() {
        gives("a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc");
        gives("a\r\n{% if true %}\r\nb\r{% endif %}\r\n{{ 'x\r\ny' }}\r\n", "a\nb\nx\ny");
        gives("a {%- if true -%} b {%- endif %} c\n\n", "ab c\n");
        gives("{# note #}\n{{ 1 }}{#- x -#} 2", "12");
    }

    #[test]
    fn values_print_as_python_prints_them() {
        gives(
            "{{ true }} {{ none }} {{ missing }} {{ 1.0 }} {{ [1, 'a', none] }} {{ {'k': true} }}",
            "True None  1.0 [1, 'a', None] {'k': True}",
        );
        gives("{{ 'a' ~ true ~ none ~ 1 }} {{ bos_token }}|{{ eos_token }}|", "aTrueNone1 <s>||");
        gives("{{ messages[::-1][0].content }} {{ 'abc'[::-1] }} {{ messages[-1]['role'] }}", "é <b> cba assistant");
    }

    #[test]
    fn strings_have_the_methods_of_python() {
        gives(
            "{{ ' a\\x1f'.strip() }}|{{ 'xxa'.lstrip('x') }}|{{ 'a\\n\\n'.rstrip('\\n') }}|{{ '\\x1f a ' | trim }}|",
            "a|a|a|a|",
        );
        gives(
            "{{ 'a,b,c'.split(',', 1) }} {{ 'a b  c'.split() }} {{ 'a,b,c'.rsplit(',', maxsplit=1) }}",
            "['a', 'b,c'] ['a', 'b', 'c'] ['a,b', 'c']",
        );
        gives(
            "{{ 'a-b'.partition('-') | list }} {{ 'x.py'.removesuffix('.py') }} {{ 'x.py'.removeprefix('y') }}",
            "['a', '-', 'b'] x x.py",
        );
        gives(
            "{{ 'abc'.startswith('ab') }} {{ 'a'.upper() }} {{ 'a-b'.replace('-', '+') }} {{ 'ab'.find('b') }}",
            "True A a+b 1",
        );
        assert!(fails("{{ 'a'.split('') }}").contains("empty separator"));
    }

    #[test]
    fn json_takes_the_options_of_transformers() {
        gives("{{ messages[1] | tojson }}", r#"{"role": "assistant", "content": "é <b>"}"#);
        gives("{{ [1, 'é'] | tojson(ensure_ascii=true, separators=(',', ':')) }}", r#"[1,"\u00e9"]"#);
        gives("{{ {'b': 1, 'a': []} | tojson(indent=2, sort_keys=true) }}", "{\n  \"a\": [],\n  \"b\": 1\n}");
        gives("{{ 'x' | tojson(false, 4) }}", "\"x\"");
        assert!(fails("{{ missing | tojson }}").contains("undefined"));
        assert!(fails("{{ 1 | tojson(colour=1) }}").contains("colour"));
    }

    #[test]
    fn generation_tags_open_a_scope_and_print_what_they_hold() {
        gives("{% for m in messages %}{%- generation -%} {{ m.content }}\n{%- endgeneration %}\n{% endfor %}", "Hié <b>");
        gives("{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}", "21");
        gives(
            "{{ '{% generation %}' }}{# {% generation %} #}{% raw %}{% generation %}{{ '%}{% endraw %}.",
            "{% generation %}{% generation %}{{ '%}.",
        );
    }

    #[test]
    fn loops_can_be_left_and_names_kept() {
        gives("{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}", "user");
        gives("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "2");
        gives(
            "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | first }} {{ 'a' is string }}",
            "Hi True",
        );
        gives("{{ none is iterable }} {{ [] is iterable }} {{ 'a' is iterable }} {{ 1 is iterable }}", "False True True False");
    }

    #[test]
    fn the_clock_can_be_stopped() {
        let source = "{{ strftime_now('%d %b %Y') }}";
        let template = ChatTemplate::new(source, &SpecialTokens::default()).unwrap();
        assert_eq!(template.clone().with_clock(Some(1_721_952_000)).render(&[], true).unwrap(), "26 Jul 2024");
        assert!(template.render(&[], true).unwrap().len() == "26 Jul 2024".len());
    }

    #[test]
    fn an_exception_of_the_template_is_the_error() {
        assert_eq!(
            fails("\n{% macro m() %}{{ raise_exception('No system role!') }}{% endmacro %}{{ m() }}"),
            "chat template: No system role!"
        );
    }

    #[test]
    fn a_template_that_does_not_parse_names_the_line() {
        let message = fails("a\n{% if %}\n");
        assert!(message.starts_with("chat template: line 2: syntax error"), "{message}");
        let message = fails("a\n\n{{ missing.name }}");
        assert!(message.starts_with("chat template: line 3: "), "{message}");
    }

    #[test]
    fn a_template_that_does_not_end_is_stopped() {
        let nested = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
        assert!(fails(nested).contains("does not end"));
        assert!(fails("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").contains("recursion"));
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000));
        assert!(render(&deep).is_err());
    }

    #[test]
    fn messages_as_json_may_hold_more() {
        let template = ChatTemplate::new(
            "{% for m in messages %}{{ m.reasoning_content }}{{ m.thinking }}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}",
            &SpecialTokens::default(),
        );
        let template = template.unwrap();
        let messages = json!([{"role": "user", "reasoning": "r", "content": [{"type": "text", "text": "a"}, {"text": "b"}]}]);
        assert_eq!(template.render_json(&messages, false).unwrap(), "rrab");
        assert!(matches!(template.render_json(&json!({"role": "user"}), false), Err(Error::Input(_))));
        assert!(matches!(template.render_json(&json!(["user"]), false), Err(Error::Input(_))));
    }
}
