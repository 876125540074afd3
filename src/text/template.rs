//! Chat templates: a list of messages to the prompt that the model was trained on.
//!
//! The result is what transformers' `apply_chat_template` gives, byte for byte, or an error where it raises one; `jinja` is the
//! evaluator. A template comes with a model and is not to be trusted: its length is limited, a rendering has a fixed amount of
//! work and of memory, and nothing is reachable from it.
//!
//! Differences that remain: docs/compatibility-templates.md.

use super::jinja::{Fault, Kind, Limits, Moment, Template};
use super::message::Message;
use super::special::SpecialTokens;
use super::tokenizer::Tokenizer;
use crate::{Error, Result};
use serde_json::Value;

/// The longest template, in bytes; the longest that are published have some 20 KB.
const LONGEST: usize = 1 << 17;
/// Steps of one rendering, and some more for each message, of which a long chat takes some hundred.
const STEPS: u64 = 5_000_000;
const STEPS_PER_MESSAGE: u64 = 20_000;
/// Bytes that one rendering may make, kept or not, and how many times the size of the messages comes to them: a template
/// that appends to its prompt copies it each time.
const BYTES: u64 = 128 << 20;
const COPIES: u64 = 256;
/// Bytes of stack, for as deep as templates and their calls may nest.
const STACK: usize = 64 << 20;

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
    template: Template,
    tokens: Vec<(String, Value)>,
    clock: Option<i64>,
}

impl ChatTemplate {
    /// Compiles `source`. The tokens are the variables `bos_token`, `eos_token` and so on; absent ones are undefined.
    pub fn new(source: &str, tokens: &SpecialTokens) -> Result<Self> {
        if source.len() > LONGEST {
            return Err(Error::Template(format!("it has {} bytes, expected at most {LONGEST}", source.len())));
        }
        let template = apart(|| Template::new(source).map_err(failed))?;
        let tokens = tokens.variables().map(|(name, text)| (name.to_owned(), text.into())).collect();
        Ok(ChatTemplate { template, tokens, clock: None })
    }

    /// Stops the clock that `strftime_now` reads at so many `seconds` after 1970-01-01 UTC, which it then shows in UTC;
    /// `None` for the system's clock in local time.
    pub fn with_clock(mut self, seconds: Option<i64>) -> Self {
        self.clock = seconds;
        self
    }

    /// The prompt for `messages`. With `add_generation_prompt` it ends where the assistant begins to speak. Special tokens
    /// are in the text: encode it without adding them again.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let object = |m: &Message| serde_json::json!({"role": m.role, "content": m.content});
        self.render_values(messages.iter().map(object).collect(), &[], add_generation_prompt)
    }

    /// The same for messages as JSON, whose content may be a list of parts and which may carry further keys.
    pub fn render_json(&self, messages: &Value, add_generation_prompt: bool) -> Result<String> {
        self.render_json_with(messages, &[], add_generation_prompt)
    }

    /// The same with more variables: `tools` and `documents`, which are none otherwise, and what else the template knows.
    pub fn render_json_with(
        &self,
        messages: &Value,
        variables: &[(&str, Value)],
        add_generation_prompt: bool,
    ) -> Result<String> {
        if !messages.as_array().is_some_and(|list| list.iter().all(Value::is_object)) {
            return Err(Error::Input("messages must be a list of objects with `role` and `content`".into()));
        }
        let mut messages = messages.clone();
        let list = messages.as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
        for message in list.iter_mut() {
            // As transformers has it: a key without a value is none.
            message.as_object_mut().into_iter().for_each(|keys| keys.retain(|_, value| !value.is_null()));
            alias_reasoning(message);
        }
        self.render_values(messages, variables, add_generation_prompt)
    }

    fn render_values(&self, messages: Value, variables: &[(&str, Value)], add_generation_prompt: bool) -> Result<String> {
        let count = messages.as_array().map_or(0, Vec::len) as u64;
        let size = size(&messages) + variables.iter().map(|(_, value)| size(value)).sum::<u64>();
        let limits = Limits {
            steps: STEPS + STEPS_PER_MESSAGE * count + COPIES / 32 * size,
            bytes: BYTES.saturating_add(COPIES.saturating_mul(size)),
        };
        let now = self.clock.map_or_else(Moment::now, Moment::utc);
        apart(|| {
            let add_generation_prompt = Value::Bool(add_generation_prompt);
            let mut given: Vec<_> = self.tokens.iter().map(|(name, text)| (name.as_str(), text)).collect();
            given.extend([("tools", &Value::Null), ("documents", &Value::Null)]);
            given.extend(variables.iter().map(|(name, value)| (*name, value)));
            given.extend([("messages", &messages), ("add_generation_prompt", &add_generation_prompt)]);
            self.template.render(&given, limits, now).map_err(failed)
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

/// About how many bytes a value has.
fn size(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64 + 8,
        Value::Array(items) => 8 + items.iter().map(size).sum::<u64>(),
        Value::Object(map) => 8 + map.iter().map(|(key, value)| key.len() as u64 + size(value)).sum::<u64>(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

/// A message's reasoning goes by three names; transformers gives templates the two that they read.
fn alias_reasoning(message: &mut Value) {
    let reasoning = ["reasoning_content", "thinking", "reasoning"].map(|key| message[key].clone());
    if let Some(reasoning) = reasoning.into_iter().find(|value| !value.is_null())
        && let Some(message) = message.as_object_mut()
    {
        message.entry("thinking").or_insert_with(|| reasoning.clone());
        message.insert("reasoning_content".into(), reasoning);
    }
}

/// A template's own exception as it stands; everything else with its line.
fn failed(fault: Fault) -> Error {
    let line = if fault.line > 0 { format!("line {}: ", fault.line) } else { String::new() };
    Error::Template(match fault.kind {
        Kind::Raised => fault.message,
        Kind::Syntax => format!("{line}syntax error: {}", fault.message),
        _ => format!("{line}{}", fault.message),
    })
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
        assert_eq!(fails("\n{{ 'a'.split('') }}"), "chat template: line 2: empty separator");
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
    fn one_instruction_can_not_take_all_memory_or_time() {
        // A string, a list, a width, a precision and an indent of gigabytes, and what doubles or nests without an end.
        let sources = [
            "{{ 'a' * 10000000000 }}",
            "{{ [1] * 10000000000 }}",
            "{{ 'a'|center(99999999999) }}{{ 'a'.zfill(99999999999) }}",
            "{{ '%2000000000d' % 1 }}",
            "{{ '{:.2000000000f}'.format(1.5) }}",
            "{{ [1]|tojson(indent=99999999999) }}",
            "{{ 'a\nb'|indent(99999999999) }}",
            "{{ [1]|batch(99999999999, 0)|list }}",
            "{{ [1]|slice(99999999999)|list }}",
            "{{ range(99999999999) }}",
            "{{ 9 ** 9 ** 9 }}",
            "{{ strftime_now('%99999999999d') }}",
            "{% set x = 'a' * 1000000 %}{{ x|replace('a', x) }}",
            "{% set x = 'a' * 1000000 %}{{ x.join(x) }}",
            "{% set x = '\t' * 1000000 %}{{ x.expandtabs(1000000) }}",
            "{% set ns = namespace(s='aa') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            "{% set ns = namespace(s=[1]) %}{% for i in range(999) %}{% set ns.s = [ns.s] %}{% endfor %}",
            "{% set ns = namespace(s=(1,)) %}{% for i in range(99) %}{% set ns.s = (ns.s, ns.s) %}{% endfor %}{{ {ns.s: 1} }}",
            "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
            "{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}",
        ];
        for source in sources {
            let message = fails(source);
            let known = ["too much text", "does not end", "deeper", "recursion", "127 bits", "100000 items", "10000 parts"];
            assert!(known.iter().any(|part| message.contains(part)), "{source}: {message}");
        }
        for deep in ["(".repeat(60_000), "-".repeat(60_000), "not ".repeat(30_000), "1 + ".repeat(30_000)] {
            // That it is refused is what counts: by the parser, or as too deep.
            assert!(!fails(&format!("{{{{ {deep}1 }}}}")).is_empty());
        }
    }

    #[test]
    fn a_namespace_that_holds_itself_goes_with_the_rendering() {
        gives("{% set ns = namespace() %}{% set ns.ns = ns %}{{ ns.ns.ns is sameas ns }}", "True");
        let chain = "{% set top = namespace(last=1) %}{% for i in range(20000) %}{% set next = namespace(last=top.last) %}\
                     {% set top.last = next %}{% endfor %}{{ top.last.last is defined }}";
        gives(chain, "True");
    }

    #[test]
    fn numbers_of_messages_keep_all_digits() {
        let template =
            ChatTemplate::new("{{ messages[0].x }}|{{ messages[0].x | tojson }}", &SpecialTokens::default()).unwrap();
        let messages: serde_json::Value =
            serde_json::from_str(r#"[{"role": "user", "x": [148.35939396343053, 1e-07, 1e22, 18446744073709551615, -0.0]}]"#)
                .unwrap();
        let list = "[148.35939396343053, 1e-07, 1e+22, 18446744073709551615, -0.0]";
        assert_eq!(template.render_json(&messages, false).unwrap(), format!("{list}|{list}"));
    }

    #[test]
    fn templates_see_tools_and_what_else_they_are_given() {
        let source = "{{ tools[0].name if tools else tools }}{{ enable_thinking is defined }}";
        let template = ChatTemplate::new(source, &SpecialTokens::default()).unwrap();
        let variables = [("tools", json!([{"name": "f"}])), ("enable_thinking", json!(false))];
        assert_eq!(template.render_json_with(&json!([]), &variables, true).unwrap(), "fTrue");
        assert_eq!(template.render_json(&json!([]), true).unwrap(), "NoneFalse");
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
