#!/usr/bin/env python3
"""Makes tokenizer_overrides.json: random overrides of the small tokenizers here, and what transformers' AutoTokenizer makes of texts.

    python make_tokenizer_overrides.py random SEED COUNT rows.json      rows without expectations
    python make_tokenizer_overrides.py expect rows.json out.json        fills them in with the transformers at hand
    python make_tokenizer_overrides.py join FOUR.json FIVE.json out.json [MOST]   keeps what two versions agree on

The committed file is of seed 19, of transformers 4.57.1 and 5.24.0 (tokenizers 0.22 and 0.23). What the versions do differently is
not in it: docs/compatibility-tokenizers.md says what tallow does there.
"""
import json, os, random, shutil, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BASES = {
    "llama3-rope-scaling": ["PreTrainedTokenizerFast", "LlamaTokenizerFast"],
    "llama-f16": ["LlamaTokenizer", "PreTrainedTokenizerFast"],
    "mistral-no-window": ["LlamaTokenizerFast", "PreTrainedTokenizerFast"],
    "gemma2": ["GemmaTokenizer", "PreTrainedTokenizerFast"],
    "qwen2": ["Qwen2Tokenizer", "PreTrainedTokenizerFast"],
    "gpt2-hub": ["GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast"],
    "bert-mean": ["BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "PreTrainedTokenizerFast"],
    "roberta-mean": ["RobertaTokenizer", "PreTrainedTokenizerFast"],
    "xlmr-mean": ["XLMRobertaTokenizer", "PreTrainedTokenizerFast"],
}
FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json"]
ROLES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"]
NEW = ["<|tool|>", "<|end|>", "[TURN]", "<image>", "word", "New", "<extra_0>", "café", "日本", "<|pad|>", "x y", "▁go"]
WORDS = ["Hello", "world", "the", "River", "HELLO", "café", "naïve", "日本", "日本語cat", "don't", "a", "x", "123", "word", "swords", "New",
         "new", "renewed", "e\u0301", ".", " ,", "!", "?", "\n", "  ", "\t", "can not", "it 's", "...", "É", "ß", "🙂", "go"]


def read(base, name):
    path = os.path.join(HERE, base, name)
    return json.load(open(path, encoding="utf-8")) if os.path.exists(path) else None


def token(r, text, typed=True):
    """A token as its text, or as an object."""
    if r.random() < 0.5:
        return text
    made = {"content": text, "lstrip": r.random() < 0.3, "rstrip": r.random() < 0.3, "single_word": r.random() < 0.2,
            "normalized": r.random() < 0.4}
    if typed:
        made = {"__type": "AddedToken", **made}
    if r.random() < 0.5:
        made["special"] = r.random() < 0.7
    return made


def row(r):
    base = r.choice(list(BASES))
    config = read(base, "tokenizer_config.json")
    own = [t["content"] for t in read(base, "tokenizer.json")["added_tokens"]]
    sets, drops, files = {}, ["chat_template"], {}
    if r.random() < 0.5:
        drops.append("added_tokens_decoder")
    choice = r.random()
    if choice < 0.7:
        sets["tokenizer_class"] = r.choice(BASES[base])
    elif choice < 0.8:
        drops.append("tokenizer_class")
    some = lambda: r.choice(NEW if r.random() < 0.6 else own)
    for role in ROLES:
        if r.random() < 0.12:
            sets[role] = token(r, some())
        elif r.random() < 0.05:
            drops.append(role)
    if r.random() < 0.25:
        sets["additional_special_tokens"] = [token(r, t) for t in r.sample(NEW, r.randint(1, 3))]
    if r.random() < 0.15:
        sets["extra_special_tokens"] = {"image_token": some()} if r.random() < 0.5 else [r.choice(NEW)]
    if r.random() < 0.1:
        sets["boi_token"] = some()
    if r.random() < 0.35:
        decoder = dict(config.get("added_tokens_decoder") or {t["content"]: None for t in []})
        known = {t["id"]: t for t in read(base, "tokenizer.json")["added_tokens"]}
        for id, old in known.items():
            if r.random() < 0.5 or str(id) in decoder:
                new = {k: v for k, v in old.items() if k != "id"}
                for flag in ["lstrip", "rstrip", "single_word", "normalized", "special"]:
                    if r.random() < 0.1:
                        new[flag] = not new[flag]
                decoder[str(id)] = new
        size = max(max(known, default=0), 900) + 1
        for n in range(r.randint(0, 3)):
            made = token(r, r.choice(NEW), typed=False)
            if isinstance(made, str):
                made = {"content": made, "special": True}
            decoder[str(size + 2 * n)] = made
        sets["added_tokens_decoder"] = decoder
        drops = [d for d in drops if d != "added_tokens_decoder"]
    for key, values, chance in [
        ("split_special_tokens", [True, False], 0.12), ("do_lower_case", [True, False], 0.25),
        ("strip_accents", [True, False, None], 0.2), ("tokenize_chinese_chars", [True, False], 0.2),
        ("add_prefix_space", [True, False, None], 0.2), ("add_bos_token", [True, False], 0.1),
        ("add_eos_token", [True, False], 0.1), ("clean_up_tokenization_spaces", [True, False], 0.3),
        ("legacy", [True, False], 0.1), ("padding_side", ["left"], 0.05), ("model_max_length", [64, 1e30], 0.1),
    ]:
        if r.random() < chance:
            sets[key] = r.choice(values)
    if r.random() < 0.3:
        files["special_tokens_map.json"] = {role: token(r, some(), typed=False) for role in ROLES if r.random() < 0.3}
    elif r.random() < 0.5:
        files["special_tokens_map.json"] = None
    if r.random() < 0.15:
        size = 950
        files["added_tokens.json"] = {t: size + i for i, t in enumerate(r.sample(NEW, 2))}
    texts = []
    for _ in range(6):
        parts = []
        for _ in range(r.randint(1, 7)):
            parts.append(r.choice(WORDS) if r.random() < 0.6 else some())
            if r.random() < 0.5:
                parts.append(" ")
        texts.append("".join(parts))
    return {"base": base, "set": sets, "drop": sorted(set(drops)), "files": files, "texts": texts}


def folder(row, path):
    for name in FILES:
        source = os.path.join(HERE, row["base"], name)
        if os.path.exists(source):
            shutil.copy(source, path)
    config = read(row["base"], "tokenizer_config.json") or {}
    for key in row["drop"]:
        config.pop(key, None)
    config.update(row["set"])
    contents = {"tokenizer_config.json": config, **row["files"]}
    for name, value in contents.items():
        target = os.path.join(path, name)
        if value is None:
            if os.path.exists(target):
                os.remove(target)
        else:
            json.dump(value, open(target, "w", encoding="utf-8"), ensure_ascii=False)


def expect(row):
    from transformers import AutoTokenizer
    with tempfile.TemporaryDirectory() as path:
        folder(row, path)
        try:
            tokenizer = AutoTokenizer.from_pretrained(path)
            rows = []
            for text in row["texts"]:
                ids = tokenizer(text)["input_ids"]
                rows.append([text, ids, tokenizer.decode(ids)])
            return {"rows": rows, "class": type(tokenizer).__name__}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {str(error)[:200]}"}


def main():
    command, args = sys.argv[1], sys.argv[2:]
    if command == "random":
        seed, count, out = int(args[0]), int(args[1]), args[2]
        print("seed", seed)
        r = random.Random(seed)
        json.dump([row(r) for _ in range(count)], open(out, "w"), ensure_ascii=False)
    elif command == "expect":
        import transformers
        transformers.logging.set_verbosity_error()
        rows = json.load(open(args[0], encoding="utf-8"))
        for row_ in rows:
            row_["expected"] = expect(row_)
        json.dump(rows, open(args[1], "w", encoding="utf-8"), ensure_ascii=False)
        print(transformers.__version__, len(rows), "rows,", sum("error" in row_["expected"] for row_ in rows), "errors")
    elif command == "join":
        four, five = (json.load(open(path, encoding="utf-8")) for path in args[:2])
        agreed, differ = [], 0
        for a, b in zip(four, five):
            a_rows, b_rows = a["expected"].get("rows"), b["expected"].get("rows")
            if a_rows is None or b_rows is None:
                continue
            same = [x for x, y in zip(a_rows, b_rows) if x[:2] == y[:2]]
            differ += len(a_rows) - len(same)
            # A text that one version reads otherwise says that the row is about what they do differently.
            if len(same) == len(a_rows):
                decoded = [x if x == y else x[:2] for x, y in zip(a_rows, b_rows)]
                agreed.append({key: a[key] for key in ["base", "set", "drop", "files"]} | {"rows": decoded})
        most = int(args[3]) if len(args) > 3 else len(agreed)
        print(len(four), "rows,", len(agreed), "on which both agree;", differ, "texts on which they differ")
        with open(args[2], "w", encoding="utf-8") as out:
            out.write("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in agreed[:most]) + "\n]\n")


if __name__ == "__main__":
    main()
