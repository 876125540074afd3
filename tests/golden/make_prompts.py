"""Makes continued.json and plain-special.json: prompts as transformers and tokenizers make them.

    python make_prompts.py        # needs transformers (no torch) and tokenizers

continued.json: chats whose last message is continued (`continue_final_message`); `text` is null where transformers refuses.
plain-special.json: token ids of texts that spell special tokens, with `encode_special_tokens`.
"""

import copy
import json
import pathlib

import tokenizers
from transformers.utils.chat_template_utils import render_jinja_template

HERE = pathlib.Path(__file__).parent

TEMPLATES = {
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "trims": "{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}",
    "joins": "{{ messages | map(attribute='content') | join('|') }}</s>",
    "drops": "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}",
    "shouts": "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}",
}
ANSWERS = ["The river", "The river ", " The river runs\n", "", "The river\n\nruns", "user"]


def continued():
    cases = []
    for template in TEMPLATES.values():
        for answer in ANSWERS:
            messages = [{"role": "user", "content": "Where? The river"}, {"role": "assistant", "content": answer}]
            try:
                rendered, _ = render_jinja_template(
                    conversations=[copy.deepcopy(messages)], chat_template=template, continue_final_message=True
                )
                text = rendered[0]
            except ValueError:
                text = None
            cases.append({"template": template, "messages": messages, "text": text})
    return cases


def plain():
    cases = []
    for folder in ["llama-gqa-tied", "gpt2-hub", "gemma3-text", "bert-mean", "mistral-window8", "qwen3", "xlmr-mean", "phi3"]:
        tokenizer = tokenizers.Tokenizer.from_file(str(HERE / folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        special = [t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special]
        texts = ["The river runs north."]
        for token in special[:3]:
            texts += [token, f"a {token} b", f"{token}{token} x", f"the river{token}\n"]
        rows = [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids} for text in texts]
        cases.append({"folder": folder, "texts": rows})
    return cases


for name, cases in [("continued.json", continued()), ("plain-special.json", plain())]:
    (HERE / name).write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")
