"""Random chat templates with what transformers renders for them, or that it raises: tests/templates/random.jsonl.

    python3 make_templates.py --seed 19 --count 500 > ../templates/random.jsonl
    python3 make_templates.py --lines ../templates/edges.txt > ../templates/edges.jsonl

With --lines the templates are those of a file, one a line, each for the first two chats.

Each line is {"template", "chat", "text"} or {"template", "chat", "raises"}; `chat` is a number of CHATS, which stand in the
first line. Renderings that differ from run to run (addresses of objects) or that need integers of more than 127 bits, which
tallow refuses, are left out. The clock of `strftime_now` stands still.

Needs transformers and jinja2. The seed and the counts go to stderr.
"""

import argparse
import datetime
import json
import random
import re
import signal
import sys

import jinja2
import transformers
import transformers.utils.chat_template_utils as chat_templates

NOW = datetime.datetime(2024, 7, 26, 13, 5, 9)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat_templates.datetime = Clock

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a place",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}}, "required": ["city"]},
    },
}
CHATS = [
    {
        "messages": [
            {"role": "system", "content": "Be nice.\nAlways."},
            {"role": "user", "content": "Hi <b>there</b> & \"you\""},
            {"role": "assistant", "content": "  Hello, it's me  "},
            {"role": "user", "content": "Größe 10\u00a0km, Straße\u2028x 🙂"},
        ],
        "tools": None,
        "documents": None,
        "add_generation_prompt": True,
        "bos_token": "<s>",
        "eos_token": "</s>",
    },
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image"}, {"type": "text", "text": "x"}]},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {
                            "name": "get_weather",
                            "arguments": {"city": "Zürich", "n": 3, "tol": 1e-07, "big": 1e22, "x": 2.5, "ok": True, "none": None, "l": [1, 2.0, "a'b"]},
                        },
                    }
                ],
            },
            {"role": "tool", "name": "get_weather", "content": "{\"t\": 21.5}", "tool_call_id": "call_1"},
        ],
        "tools": [TOOL],
        "documents": [{"title": "T", "text": "Body"}],
        "add_generation_prompt": False,
        "bos_token": "<|begin|>",
        "eos_token": "<|end|>",
    },
    {"messages": [], "tools": [], "documents": None, "add_generation_prompt": True, "bos_token": "", "eos_token": "</s>"},
    {
        "messages": [
            {"role": "user", "content": "a,b;c d\tE_f-G\n\n  h\r\ni", "n": 7, "f": -0.0, "deep": {"a": {"b": [1, [2, {"c": 3}]]}}},
            {"role": "assistant", "content": "42", "thinking": "hm", "reasoning_content": "hm"},
            {"role": "user", "content": ""},
        ],
        "tools": None,
        "documents": None,
        "add_generation_prompt": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
    },
]

STRINGS = [
    "''", "'a'", "'Hello World'", "\"it's\"", "'a,b,c'", "' x '", "'\\n'", "'a\\tb'", "'äöü ß'", "'ABC'", "'abc abc'", "'12'", "'-3'",
    "'4.5'", "'0x1f'", "'1_000'", "'x=1;y=2'", "'\\u00e9\\U0001F642'", "'\\x41\\101'", "'a\\qb'", "'\\N{BULLET}'", "'<b>&</b>'",
    "'line one\\nline two\\n'", "'ǆ ŉ İ Σας'", "'one-two  three'", "'a' 'b'", "'٣'", "'{}-{}'", "'%s|%s'", "'true'", "'caller'", "'\u200b\u00a0'",
    "'don\\'t \"q\"'", "'user'", "'content'", "'a.b'", "' '", "'aXbXc'", "'tab\\there'", "'nan'", "'inf'", "'1e3'", "'z' * 3", "'é' * 2",
]
INTS = ["0", "1", "2", "3", "5", "-1", "-2", "7", "10", "42", "100", "1_000", "0x1F", "0b101", "0o17", "-0", "255", "12345"]
FLOATS = ["0.0", "1.0", "1.5", "-2.5", "0.1", "3.14159", "1e5", "1e-7", "2.675", "1e16", "1e22", "123456789.125", "0.5", "-0.0", "1.5E3", "1_0.2_5", "100.0", "9.99"]
STR_METHODS = [
    "upper()", "lower()", "title()", "capitalize()", "swapcase()", "casefold()", "strip()", "lstrip()", "rstrip()", "strip({s})", "lstrip({s})",
    "rstrip({s})", "replace({s}, {s})", "replace({s}, {s}, {i})", "center({n})", "center({n}, {c})", "ljust({n}, {c})", "rjust({n})", "zfill({n})",
    "expandtabs()", "expandtabs({n})", "removeprefix({s})", "removesuffix({s})", "format({a}, {a})", "format({a}, k={a})", "join({l})",
    "translate({{97: 'x', 98: none}})", "strip(none)", "format_map({d})", "center(width={n})", "replace(old={s}, new={s})",
]
STR_TO_LIST = [
    "split()", "split({s})", "split({s}, {i})", "split(sep={s}, maxsplit={i})", "rsplit()", "rsplit({s}, {i})", "rsplit(none, {i})", "splitlines()",
    "splitlines(true)", "splitlines(keepends={b})", "partition({s})", "rpartition({s})", "split(none, {i})", "split(maxsplit={i})",
]
STR_TO_INT = ["find({s})", "rfind({s})", "index({s})", "rindex({s})", "count({s})", "find({s}, {i})", "find({s}, {i}, {i})", "count({s}, {i})", "rfind({s}, {i}, {i})"]
STR_TO_BOOL = [
    "isalpha()", "isdigit()", "isalnum()", "isspace()", "isupper()", "islower()", "istitle()", "isdecimal()", "isnumeric()", "isascii()",
    "isidentifier()", "isprintable()", "startswith({s})", "endswith({s})", "startswith(({s}, {s}))", "startswith({s}, {i})", "endswith({s}, {i}, {i})",
]
STR_FILTERS = [
    "upper", "lower", "title", "capitalize", "trim", "trim({s})", "replace({s}, {s})", "replace({s}, {s}, {i})", "string", "center({n})", "center",
    "indent", "indent({n})", "indent({n}, true)", "indent({s}, first=true, blank={b})", "indent(width={n}, blank=true)", "truncate({n})",
    "truncate({n}, true)", "truncate({n}, {b}, {s})", "truncate({n}, {b}, {s}, {n})", "wordwrap({n})", "wordwrap({n}, {b})", "wordwrap({n}, wrapstring={s})",
    "wordwrap({n}, {b}, {s}, {b})", "e", "escape", "forceescape", "safe", "striptags", "urlencode", "urlize", "reverse", "default({s})", "d({s}, true)", "format({a})",
    "format({a}, {a})", "tojson", "default(default_value={s}, boolean={b})", "e|upper", "safe|string", "pprint",
]
LIST_FILTERS = [
    "list", "sort", "sort(reverse=true)", "sort({b}, {b})", "reverse|list", "unique|list", "unique(true)|list", "batch({p})|list", "batch({p}, {a})|list",
    "slice({p})|list", "slice({p}, {a})|list", "map('upper')|list", "map('string')|list", "map('length')|list", "select|list", "reject|list", "select('string')|list",
    "select('defined')|list", "reject('none')|list", "select('>', {i})|list", "select('in', {l})|list", "map('default', {a})|list", "map(attribute={s})|list",
    "map(attribute='role')|list", "map(attribute={i}, default={a})|list", "selectattr('role')|list", "selectattr('role', 'equalto', 'user')|list",
    "rejectattr('content', 'none')|list", "rejectattr('role', 'in', ['user'])|list", "groupby('role')", "groupby('role')|list", "groupby({s}, default={a})|list", "sort(attribute='role')",
    "sort(attribute='role,content')", "map('tojson')|list", "map('replace', {s}, {s})|list", "map('int')|list", "map('trim')|list", "map('nosuch')|list", "selectattr('tool_calls', 'undefined')|list",
]
ANY_FILTERS = [
    "length", "count", "first", "last", "min", "max", "sum", "join", "join({s})", "join({s}, attribute='role')", "string", "tojson", "tojson(indent={n})", "default({a})",
    "list|length", "tojson(ensure_ascii=true)", "tojson(separators=(',', ':'))", "tojson(sort_keys=true)", "tojson(indent={n}, sort_keys={b})", "items|list", "int", "int({i})", "int(7, {n})", "float", "float({f})", "abs", "round", "round({i})",
    "round({p}, 'floor')", "round({p}, 'ceil')", "filesizeformat", "filesizeformat(true)", "dictsort", "dictsort(by='value')", "dictsort(reverse=true)", "xmlattr", "attr({s})", "attr('role')", "wordcount",
    "pprint", "min(attribute='role')", "sum(start={i})", "max(case_sensitive=true)", "lower", "map('upper')|join", "reverse|join(',')", "urlencode", "tojson(indent='\\t')",
]
TESTS = [
    "defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping", "sequence", "iterable", "callable", "odd", "even", "divisibleby({p})",
    "divisibleby {p}", "lower", "upper", "escaped", "in {l}", "eq {a}", "ne {a}", "equalto({a})", "gt {i}", "lt({i})", "ge {i}", "le {i}", "sameas none", "sameas true", "filter", "test", "greaterthan {i}", "lessthan {i}", "in({l})",
]
STRFTIME = ["%d %b %Y", "%Y-%m-%d", "%A, %B %d", "%H:%M:%S %p", "%j %U %W %V %u", "%-d/%-m %e", "%c", "%x %X %D %F %T %R", "%y%% %Q", "%I %l %k", "%^a %#p %5d"]
NAMES = ["x", "y", "m", "ns", "loop", "messages", "tools", "documents", "bos_token", "eos_token", "missing", "add_generation_prompt", "i", "k", "v", "f", "content"]


class Maker:
    """Makes one template."""

    def __init__(self, rng):
        self.rng = rng
        self.macros = []
        self.blocks = 0

    def pick(self, items):
        return self.rng.choice(items)

    def chance(self, p):
        return self.rng.random() < p

    def fill(self, pattern, depth):
        make = {
            "s": lambda: self.string(depth - 1), "i": lambda: self.pick(INTS), "n": lambda: str(self.rng.randint(0, 30)), "p": lambda: str(self.rng.randint(1, 5)),
            "c": lambda: self.pick(["'.'", "'*'", "'é'", "' '", "'ab'"]), "a": lambda: self.any(depth - 1), "l": lambda: self.list(depth - 1),
            "d": lambda: self.dict(depth - 1), "b": lambda: self.pick(["true", "false", "True", "0", "none"]), "f": lambda: self.pick(FLOATS),
        }
        return re.sub(r"\{\{|\}\}|\{(\w)\}", lambda m: make[m.group(1)]() if m.group(1) else m.group(0)[0], pattern)

    def string(self, depth):
        if depth <= 0 or self.chance(0.3):
            return self.pick(STRINGS)
        kind = self.rng.randrange(16)
        s = lambda: self.string(depth - 1)
        if kind <= 3:
            return f"{self.paren(s())}.{self.fill(self.pick(STR_METHODS), depth)}"
        if kind <= 6:
            return f"({s()})|{self.fill(self.pick(STR_FILTERS), depth)}"
        if kind == 7:
            return f"{s()} ~ {self.any(depth - 1)}"
        if kind == 8:
            return f"{s()} + {s()}"
        if kind == 9:
            return f"({s()})[{self.slice()}]"
        if kind == 10:
            return f"({s()} if {self.bool(depth - 1)} else {s()})"
        if kind == 11:
            return self.percent(depth)
        if kind == 12:
            return self.formatted(depth)
        if kind == 13:
            return self.pick(["messages[0].content", "messages[-1]['content']", "messages[0]['role']", "messages[1].content", "bos_token", "eos_token", "x", "messages[0].name", "tools[0].function.name"])
        if kind == 14:
            return f"strftime_now('{self.pick(STRFTIME)}')"
        return f"({self.list(depth - 1)})|join({s()})"

    def percent(self, depth):
        spec = lambda: "%" + self.pick(["", "-", "+", "0", " ", "#", "-0"]) + self.pick(["", "", "5", "12", "*"]) + self.pick(["", "", ".2", ".0", ".10"]) + self.pick("sdrfgexXoic%aEGFu")
        specs = [spec() for _ in range(self.rng.randint(1, 3))]
        wanted = sum(s.count("*") + (s[-1] != "%") for s in specs)
        if self.chance(0.1):
            return f"'%({self.pick('ka')})s %({self.pick('kb')})d' % {{'k': {self.any(1)}, 'b': 2}}"
        values = [self.pick([self.string(1), self.pick(INTS), self.pick(FLOATS), self.any(1)]) for _ in range(wanted + (self.chance(0.05)))]
        values = ["3" if "*" in "".join(specs) and self.chance(0.5) else v for v in values]
        text = "|".join(specs)
        if len(values) == 1 and self.chance(0.5):
            return f"'{text}' % {self.paren(values[0])}"
        return f"'{text}' % ({', '.join(values)}{',' if len(values) == 1 else ''})"

    def formatted(self, depth):
        spec = lambda: self.pick(["", "", ":", ":>10", ":<8", ":^9", ":*^12", ":05", ":+d", ":,", ":_", ":.2f", ":.3", ":e", ":g", ":x", ":#x", ":b", ":#o", ":010,", ":.1%", ":s", ":c", "!r", "!s", "!a", "!r:>12", ":{}", ":=+8", ":,.2f", ":G", ":n", ":012.3e", ":X"])
        name = lambda: self.pick(["", "", "", "0", "1", "k", "0.role", "0[0]", "k[a]", "0[role]"])
        fields = [f"{{{name()}{spec()}}}" for _ in range(self.rng.randint(1, 3))]
        text = self.pick(["", "a ", "{{x}} "]) + self.pick([" ", "-", ""]).join(fields)
        args = [self.pick([self.string(1), self.pick(INTS), self.pick(FLOATS), self.any(1), "messages[0]"]) for _ in range(self.rng.randint(1, 4))]
        return f"'{text}'.format({', '.join(args)}{self.pick(['', ', k=1', ', k={chr(39)}a{chr(39)}: 2}'.format(chr=chr) if False else ', k=3.5'])})"

    def paren(self, text):
        return text if re.fullmatch(r"[\w.]+|'[^'\\]*'", text) and not text[0].isdigit() else f"({text})"

    def slice(self):
        part = lambda: self.pick(["", "", "0", "1", "2", "-1", "-2", "5", "100", "-100", "none"])
        return self.pick([f"{part()}:{part()}", f"{part()}:{part()}:{self.pick(['', '1', '2', '-1', '-2', '3'])}", f"{part()}:"])

    def int(self, depth):
        if depth <= 0 or self.chance(0.4):
            return self.pick(INTS)
        kind = self.rng.randrange(9)
        if kind <= 1:
            return f"({self.number(depth - 1)} {self.pick(['+', '-', '*', '//', '%', '+', '-'])} {self.number(depth - 1)})"
        if kind == 2:
            return f"({self.any(depth - 1)})|{self.pick(['length', 'count', 'int', 'int(3)', 'abs', 'wordcount'])}"
        if kind == 3:
            return f"{self.paren(self.string(depth - 1))}.{self.fill(self.pick(STR_TO_INT), depth)}"
        if kind == 4:
            return f"{self.pick(['-', '+'])}{self.paren(self.int(depth - 1))}"
        if kind == 5:
            return f"({self.number(1)} ** {self.pick(['2', '3', '-1', '0', '10'])})"
        if kind == 6:
            return self.pick(["loop.index", "loop.index0", "loop.length", "loop.revindex", "ns.n", "messages|length"])
        if kind == 7:
            return f"{self.paren(self.list(depth - 1))}.{self.pick(['count', 'index'])}({self.any(1)})"
        return f"({self.int(depth - 1)} if {self.bool(depth - 1)} else {self.int(depth - 1)})"

    def number(self, depth):
        if self.chance(0.25):
            return self.pick(FLOATS)
        return self.paren(self.int(depth))

    def bool(self, depth):
        if depth <= 0 or self.chance(0.15):
            return self.pick(["true", "false", "True", "False", "add_generation_prompt"])
        kind = self.rng.randrange(12)
        if kind <= 2:
            return f"{self.paren(self.any(depth - 1))} is {self.pick(['', 'not '])}{self.fill(self.pick(TESTS), depth)}"
        if kind <= 4:
            return f"{self.any(depth - 1)} {self.pick(['==', '!=', '==', '<', '>', '<=', '>='])} {self.any(depth - 1)}"
        if kind == 5:
            return f"{self.number(1)} {self.pick(['<', '<=', '>', '=='])} {self.number(1)} {self.pick(['<', '<=', '!='])} {self.number(1)}"
        if kind == 6:
            return f"{self.any(depth - 1)} {self.pick(['in', 'not in'])} {self.pick([self.list(depth - 1), self.string(depth - 1), self.dict(1)])}"
        if kind == 7:
            return f"not {self.any(depth - 1)}"
        if kind == 8:
            return f"({self.any(depth - 1)} {self.pick(['and', 'or'])} {self.any(depth - 1)})"
        if kind == 9:
            return f"{self.paren(self.string(depth - 1))}.{self.fill(self.pick(STR_TO_BOOL), depth)}"
        if kind == 10:
            return self.pick(["loop.first", "loop.last", "loop.changed(m.role)", "messages[0].role == 'system'", "tools is not none", "tools", "x is defined", "messages[-1].role != 'user'"])
        return f"{self.int(depth - 1)} is {self.pick(['odd', 'even', 'divisibleby 3'])}"

    def list(self, depth):
        if depth <= 0:
            return self.pick(["[]", "[1, 2, 3]", "['a', 'b']", "(1, 'x')", "messages", "[none, true]", "[3, 1, 2]", "['b', 'A', 'a']", "range(4)", "()", "[1.5, 2]", "[[1], [2]]", "(1,)"])
        kind = self.rng.randrange(12)
        if kind <= 1:
            return "[" + ", ".join(self.any(depth - 1) for _ in range(self.rng.randint(0, 4))) + "]"
        if kind == 2:
            return "(" + "".join(self.any(depth - 1) + ", " for _ in range(self.rng.randint(0, 3))) + ")"
        if kind <= 5:
            return f"({self.list(depth - 1)})|{self.fill(self.pick(LIST_FILTERS), depth)}"
        if kind == 6:
            return f"{self.paren(self.string(depth - 1))}.{self.fill(self.pick(STR_TO_LIST), depth)}"
        if kind == 7:
            return f"({self.list(depth - 1)})[{self.slice()}]"
        if kind == 8:
            return f"range({self.pick(INTS[:8])}{self.pick(['', ', 10', ', 10, 3', ', -5, -2'])})"
        if kind == 9:
            return f"{self.list(depth - 1)} {self.pick(['+ ' + self.list(depth - 1), '* 2'])}"
        if kind == 10:
            return f"{self.paren(self.dict(depth - 1))}.{self.pick(['items()', 'keys()', 'values()', 'items()|list', 'keys()|list'])}"
        return f"messages{self.pick(['', '[1:]', '[::-1]', '[:-1]', '[:0:-1]'])}"

    def dict(self, depth):
        if depth <= 0:
            return self.pick(["{}", "{'a': 1, 'b': 'x'}", "messages[0]", "{'k': [1], 'z': none}", "{1: 'one', 'b': 2.0}", "tools[0]", "{true: 1, 1: 2, 1.0: 3}"])
        kind = self.rng.randrange(6)
        if kind <= 2:
            return "{" + ", ".join(f"{self.pick([self.string(0), self.pick(INTS), 'none', self.any(0)])}: {self.any(depth - 1)}" for _ in range(self.rng.randint(0, 3))) + "}"
        if kind == 3:
            return f"dict({self.pick(['', self.dict(depth - 1), '[(1, 2)]', '{chr}ab{chr}, {chr}cd{chr}'.format(chr=chr(39)).join(['[', ']'])])})"
        if kind == 4:
            return f"dict({self.pick(['a=1', 'k=none, z=[2]', self.dict(0) + ', q=3', '[[1, 2], (3, 4)]'])})"
        return self.pick(["{'a': 1}.copy()", "dict.fromkeys(['a', 'b'], 0)", "{}.fromkeys('ab')", "messages[0]", "messages[1].tool_calls[0].function.arguments"])

    def any(self, depth):
        kind = self.rng.randrange(20)
        if kind <= 5:
            return self.string(depth)
        if kind <= 8:
            return self.int(depth)
        if kind == 9:
            return self.pick(FLOATS)
        if kind == 10:
            return self.bool(min(depth, 1))
        if kind <= 12:
            return self.list(min(depth, 2))
        if kind == 13:
            return self.dict(min(depth, 1))
        if kind == 14:
            return self.pick(["none", "None", "missing", "x", "y", "ns.a", "tools", "messages", "messages[0]", "messages[9]", "range(2)", "namespace(a=1)", "namespace(a=1).a", "true"])
        if kind == 15 and depth > 0:
            return f"({self.any(depth - 1)})|{self.fill(self.pick(ANY_FILTERS), depth)}"
        if kind == 16 and depth > 0:
            return f"{self.paren(self.any(depth - 1))}{self.pick(['[0]', '[-1]', '.a', '.role', '[' + chr(39) + 'content' + chr(39) + ']', '.0', '[' + self.any(0) + ']', '.items()', '.upper()', '.get(' + chr(39) + 'a' + chr(39) + ', 5)', '.append', '.__class__', '[1:]', '.missing'])}"
        if kind == 17 and depth > 0:
            return f"({self.any(depth - 1)} if {self.bool(depth - 1)}{self.pick(['', ' else ' + self.any(depth - 1)])})"
        if kind == 18 and self.macros:
            name = self.pick(self.macros)
            args = [self.any(0) for _ in range(self.rng.randint(0, 3))]
            named = self.pick(["", "", "b=2", "c='x'", "zz=1"])
            star = self.pick(["", "", "", "*[1, 2]", "**{'b': 5}"])
            return f"{name}({', '.join(filter(None, args + [named, star]))})"
        return self.pick([self.string(0), self.pick(INTS)])

    # Statements.

    def open(self):
        return "{%" + self.pick(["", "", "-", "+", "-"]) + self.pick([" ", " ", "", "\n "])

    def close(self):
        return self.pick([" ", " ", ""]) + self.pick(["", "", "-", "-", "+"]) + "%}" + self.pick(["", "", "\n", "  \n "])

    def tag(self, text):
        return self.open() + text + self.close()

    def text(self):
        return self.pick(["", "a", "\n", "  ", " \n  ", "<|im_start|>", "x\n", "\t", "é", "{ }", "% }", "a\r\nb", "\n\n"])

    def print(self, depth):
        inner = self.any(depth)
        if inner.startswith("{"):
            inner = " " + inner
        return "{{" + self.pick(["", "", "-", "+"]) + " " + inner + " " + self.pick(["", "", "-"]) + "}}"

    def body(self, depth, loop=False):
        return "".join(self.statement(depth, loop) for _ in range(self.rng.randint(1, 3)))

    def statement(self, depth, loop=False):
        kind = self.rng.randrange(30)
        if depth <= 0 or kind <= 8:
            return self.text() + self.print(self.rng.randint(1, 3)) + self.text()
        b = lambda inner=loop: self.body(depth - 1, inner)
        e = lambda: self.any(self.rng.randint(0, 2))
        if kind <= 11:
            other = self.pick(["", self.tag("else") + b(), self.tag(f"elif {self.bool(1)}") + b() + self.tag("else") + b()])
            return self.tag(f"if {self.bool(2)}") + b() + other + self.tag("endif")
        if kind <= 15:
            target = self.pick(["m", "m", "x", "k, v", "i", "(k, v)"])
            over = self.pick(["messages", "messages", self.list(2), self.list(1), self.string(1), "range(3)", "{'a': 1, 'b': 2}.items()", "{'a': 1}|items", "tools", "messages[0].items()", "missing", self.dict(1)])
            test = self.pick(["", "", "", f" if {self.bool(1)}", " if m.role == 'user'", " if loop.first", " if not ns.n"])
            inner = b(True)
            inner += self.pick(["", "", "{{ loop.index }}", "{{ loop.cycle('a', 'b') }}", "{% if loop.last %}!{% endif %}", "{{ loop.previtem }}|{{ loop.nextitem }}", "{{ loop.changed(x) }}", "{{ loop.length }}/{{ loop.revindex0 }}", "{{ loop }}", "{% set ns.n = (ns.n or 0) + 1 %}"])
            inner += self.pick(["", "", "", "{% if loop.index0 == 1 %}{% break %}{% endif %}", "{% if x %}{% continue %}{% endif %}", "{% continue %}"])
            other = self.pick(["", "", self.tag("else") + b()])
            return self.tag(f"for {target} in {over}{test}") + inner + other + self.tag("endfor")
        if kind == 16:
            return "{% for x in [[1, [2, 3]], [4]] recursive %}{{ loop.depth }}:{% if x is iterable %}{{ loop(x) }}{% else %}{{ x }}" + self.print(1) + "{% endif %}{% endfor %}"
        if kind <= 19:
            target = self.pick(["x", "y", "x, y", "k", "ns.a", "ns.n", "content", "messages", "ns.a, x"])
            value = self.pick([e(), e(), "(1, 2)", "'ab'", "namespace(n=0)", "namespace()"])
            return self.tag(f"set {target} = {value}")
        if kind == 20:
            return self.tag("set ns = namespace(" + self.pick(["", "a=1", "n=0, a='x'", "{'n': 1}", "dict(n=2)"]) + ")")
        if kind == 21:
            return self.tag("set x" + self.pick(["", " | upper", " | trim | title", " | default('q')"])) + b() + self.tag("endset")
        if kind == 22:
            name = self.pick(["f", "g", "h"])
            self.macros.append(name)
            args = self.pick(["", "a", "a, b=1", "a, b=a, c=[]", "x='q'"])
            inner = self.pick(["{{ a }}", "{{ varargs }}", "{{ kwargs }}", "{{ caller() }}", "{{ a }}-{{ b }}-{{ c }}", "{{ x }}", "{{ caller is defined }}", "{{ " + name + ".name }}{{ " + name + ".arguments }}"]) + b(False)
            return self.tag(f"macro {name}({args})") + inner + self.tag("endmacro")
        if kind == 23 and self.macros:
            return self.tag(self.pick(["call ", "call(z) "]) + f"{self.pick(self.macros)}({self.pick(['', '1', '1, b=2'])})") + b(False) + self.tag("endcall")
        if kind == 24:
            return self.tag("filter " + self.fill(self.pick(STR_FILTERS), 1)) + b() + self.tag("endfilter")
        if kind == 25:
            return self.tag(self.pick(["with", f"with x = {e()}", f"with x = {e()}, y = x"])) + b() + self.tag("endwith")
        if kind == 26:
            return self.tag("generation") + b(False) + self.tag("endgeneration")
        if kind == 27:
            return self.pick(["{# note #}", "{#- x -#}\n", "{% raw %}{{ no }}{% endraw %}", "{%- raw -%} {% if %} {%- endraw -%}", "{% raw %}\n a\n{% endraw %}\n", "{# {{ x }} #}\n", "{#+ y +#}\n"])
        if kind == 28:
            return self.pick(["{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}", "{% set j = joiner(', ') %}{{ j() }}a{{ j() }}b", "{{ raise_exception('no') }}", "{% include 'x' %}", "{% print 1, 'a' %}", "{% if false %}{{ x|nosuch }}{% endif %}", "{{ [1, 2] | batch(0) | list }}"])
        self.blocks += 1
        return self.tag(f"block b{self.blocks}{self.pick(['', ' scoped'])}") + self.body(depth - 1, False) + self.tag("endblock")


def unstable(text):
    return re.search(r"0x[0-9a-f]{8,}|object at|<function|<class|<bound method|built-in method", text) is not None


def too_big(text):
    return any(abs(int(n)) >= 2**127 for n in re.findall(r"\d{38,}", text))


def rendered(template, chat):
    """("text", ...) or ("raises", ...), or nothing where it takes too long."""

    def late(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 3)
    try:
        # Not the cached function: a thousand templates are not kept.
        compiled = chat_templates._cached_compile_jinja_template(template)
        text = compiled.render(**json.loads(json.dumps(chat)))
        text.encode("utf-8")
        return "text", text
    except KeyboardInterrupt:
        return None
    except RecursionError:
        return None
    except UnicodeEncodeError:
        return None
    except BaseException as error:
        return "raises", f"{type(error).__name__}: {error}"[:160]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=19)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--lines")
    args = parser.parse_args()
    print(f"seed {args.seed}, transformers {transformers.__version__}, jinja2 {jinja2.__version__}", file=sys.stderr)
    dump = lambda value: json.dumps(value, ensure_ascii=False)
    print(dump(CHATS))
    if args.lines:
        for template in open(args.lines, encoding="utf-8"):
            template = template.removesuffix("\n")
            for chat in (0, 1):
                kind, result = rendered(template, CHATS[chat])
                assert not unstable(result), template
                print(dump({"template": template, "chat": chat, kind: result}))
        return
    counts = {"text": 0, "raises": 0, "left out": 0}
    number = 0
    while counts["text"] + counts["raises"] < args.count:
        rng = random.Random(f"{args.seed}-{number}")
        number += 1
        template = Maker(rng).body(rng.randint(1, 3))
        chat = rng.randrange(len(CHATS))
        if rng.random() < 0.02 and len(template) > 4:
            at = rng.randrange(len(template))
            template = template[:at] + template[at + 1 :]
        result = rendered(template, CHATS[chat])
        if result is None or unstable(result[1]) or too_big(result[1]) or len(result[1]) > 4000 or len(template) > 1500:
            counts["left out"] += 1
            continue
        # Half of the errors are enough.
        if result[0] == "raises" and rng.random() < 0.5:
            continue
        counts[result[0]] += 1
        print(dump({"template": template, "chat": chat, result[0]: result[1]}))
    print(f"{counts}, {number} made", file=sys.stderr)


if __name__ == "__main__":
    main()
