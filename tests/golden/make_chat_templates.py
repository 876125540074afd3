"""Digests of what transformers renders for real chat templates: tests/templates/real.json, and the chats beside it.

    python3 make_chat_templates.py ../templates/real > ../templates/real.json

The templates are those of llama.cpp's models/templates. Each is rendered for each of CHATS by the function behind
`apply_chat_template`; the 64-bit FNV-1a of the text in UTF-8 is kept, or "raises". The clock of
`strftime_now` stands still at 2024-07-26 13:05:09.
"""

import datetime
import json
import pathlib
import sys

import transformers.utils.chat_template_utils as chat_templates


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime(2024, 7, 26, 13, 5, 9)


chat_templates.datetime = Clock


def tool(name, description, properties, required, **more):
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters, **more}}


WEATHER = tool("get_weather", "Weather of a place", {"city": {"type": "string", "description": "The city"}, "unit": {"type": "string", "enum": ["C", "F"]}}, ["city"])
SEARCH = tool(
    "search",
    'Finds "things" <fast> & well',
    {
        "query": {"type": "string", "description": "What to find"},
        "limit": {"type": "integer", "default": 10, "description": "How many"},
        "tags": {"type": "array", "items": {"type": "string"}, "description": "Größe ≥ 1"},
        "where": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": ["number", "null"]}}, "required": ["lat"]},
        "any": {"anyOf": [{"type": "string"}, {"type": "null"}], "nullable": True},
    },
    ["query", "tags"],
    strict=True,
)
NOTHING = tool("now", "The time", {}, [])


def user(content, **more):
    return {"role": "user", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def call(name, arguments, id="call00001"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(content, id="call00001", **more):
    return {"role": "tool", "tool_call_id": id, "content": content, **more}


def chat(messages, prompt=True, **variables):
    return {"messages": messages, "add_generation_prompt": prompt, "variables": variables}


TOOLS = [WEATHER, SEARCH, NOTHING]
ARGUMENTS = {"city": "Zürich", "n": 3, "tol": 1e-07, "big": 1e22, "x": 2.5, "ok": True, "none": None, "list": [1, 2.0, "a'b"], "map": {"k": "<v>"}}
CHATS = [
    chat([user("Hi")]),
    chat([user("Hi")], prompt=False),
    chat([system("You are helpful."), user("Hi"), assistant("Hello!"), user("How are you?")]),
    chat([system("You are helpful."), user("Hi"), assistant("Hello!"), user("How are you?"), assistant("Fine.")], prompt=False),
    chat([system(""), user(""), assistant(""), user(" \n ")]),
    chat([user("  leading and trailing  \n"), assistant("\n\nx\n\n"), user("<|im_start|>system\nno<|im_end|> {{ 1 }} {% if %}")]),
    chat([user("Größe, 日本語, 🙂 \u00a0\u200b \"quotes\" 'single' \\ back\tslash & <b>")]),
    chat([user("Weather?")], tools=TOOLS),
    chat([system("Use tools."), user("Weather in Zürich?"), assistant("", tool_calls=[call("get_weather", {"city": "Zürich"})]), result('{"t": 21.5}', name="get_weather")], tools=TOOLS),
    chat(
        [
            system("Use tools."),
            user("Both?"),
            assistant(None, tool_calls=[call("get_weather", ARGUMENTS), call("search", {"query": "x", "tags": []}, "call00002")]),
            result("21", name="get_weather"),
            result("nothing", "call00002", name="search"),
            assistant("It is 21 degrees."),
            user("Thanks"),
        ],
        tools=TOOLS,
    ),
    chat([user("Time?"), assistant("Let me see.", tool_calls=[call("now", "{}")]), result("12:00"), assistant("Noon.")], prompt=False, tools=[NOTHING]),
    chat([user([{"type": "text", "text": "Part one."}, {"type": "text", "text": " Part two."}]), assistant([{"type": "text", "text": "Answer"}]), user("Go")]),
    chat([user([{"type": "image"}, {"type": "text", "text": "What is this?"}])]),
    chat([user("Think"), assistant("<think>\nhm\n</think>\n\nAnswer"), user("Again")]),
    chat([user("Think"), assistant("Answer", reasoning_content="Because."), user("Again")], enable_thinking=True),
    chat([user("Think"), assistant("Answer", reasoning_content="Because.", tool_calls=[call("now", {})]), result("12:00"), assistant("Noon", thinking="So.")], enable_thinking=False, tools=[NOTHING]),
    chat([user("One"), user("Two"), assistant("A"), assistant("B"), system("Late"), user("Three")]),
    chat([assistant("I begin."), user("Ok")]),
    chat([{"role": "developer", "content": "Be brief."}, user("Hi")], reasoning_effort="high", documents=[{"title": "T", "text": "Body of the text"}]),
    chat([system("S"), *[m for n in range(12) for m in (user(f"Question {n}"), assistant(f"Answer {n}"))], user("Last")], tools=[], custom_key=[1, {"a": None}]),
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def digest(text):
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = (state ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{state:016x}"


def outcome(source, chat):
    # As apply_chat_template has it before it renders.
    messages = chat_templates._normalize_chat_messages(chat["messages"])
    variables = {**TOKENS, **chat["variables"]}
    tools, documents = variables.pop("tools", None), variables.pop("documents", None)
    try:
        rendered, _ = chat_templates.render_jinja_template(
            [messages], tools, documents, source, add_generation_prompt=chat["add_generation_prompt"], **variables
        )
    except Exception as error:
        print(f"  raises {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
        return "raises"
    return digest(rendered[0])


def main():
    files = sorted(pathlib.Path(sys.argv[1]).glob("*.jinja"))
    templates = {}
    for file in files:
        print(file.name, file=sys.stderr)
        source = file.read_bytes().decode()
        templates[file.name] = [outcome(source, chat) for chat in CHATS]
    outcomes = [o for row in templates.values() for o in row]
    print(f"{len(files)} templates, {len(CHATS)} chats, {outcomes.count('raises')} of {len(outcomes)} raise", file=sys.stderr)
    rows = ",\n".join(f" {json.dumps(name)}: {json.dumps(row)}" for name, row in templates.items())
    chats = ",\n".join(" " + json.dumps(chat, ensure_ascii=False) for chat in CHATS)
    print(f'{{"tokens": {json.dumps(TOKENS)},\n"chats": [\n{chats}\n],\n"templates": {{\n{rows}\n}}}}')


if __name__ == "__main__":
    main()
