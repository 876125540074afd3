#!/usr/bin/env python3
"""Writes llama-cpp/: what llama.cpp computes for the default model and for every quantisation type.

    python make_llama_cpp.py --llama DIR [--only default perplexity quants]
    python make_llama_cpp.py --llama DIR --only gemma3 --gemma3 gemma-3-270m-q4_k_m.gguf

DIR is llama.cpp's source folder with a shared-library build in DIR/build (cmake -B build && cmake --build build).
llama_cpp_greedy.cpp is compiled against it. Needs g++, torch, transformers, gguf and make_fixtures.py beside this file.
See llama-cpp/README.md for the meaning of every field. The quantised files depend on the version of llama.cpp; greedy
tokens near a tie depend also on the processor, which is why every step's margin is stored.
"""

import argparse
import json
import math
import re
import subprocess
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers

import make_fixtures as fixtures

HERE = Path(__file__).parent
OUT = HERE / "llama-cpp"
MODEL = HERE.parent.parent / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = HERE / "texts" / "openings.txt"
STEPS, QUANT_STEPS = 48, 24

# Raw prompts: no chat template is applied, the ChatML ones spell it out.
PROMPTS = {
    "sentence": "The capital of France is",
    "story": "Once upon a time, in a small village by the sea, there lived an old fisherman who",
    "list": "Here are five things to pack for a week in the mountains:\n1. Warm clothes\n2. A good map\n3.",
    "python": "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n    if n < 2:\n        return n\n",
    "rust": "fn main() {\n    let numbers = vec![3, 1, 4, 1, 5];\n    let mut sum = 0;\n    for n in &numbers {\n",
    "numbers": "2, 4, 6, 8, 10, 12,",
    "json": "{\"name\": \"Ada Lovelace\", \"born\": 1815, \"field\":",
    "question": "Q: Why is the sky blue?\nA:",
    "french": "Le petit chat noir dort sur le canapé pendant que",
    "unicode": "東京は日本の首都です。Zürich, naïve café 🙂 —",
    "spaces": "  Column A    Column B\n\n\t1\t\t2\n\t3\t\t",
    "one_token": "The",
    "chatml": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nWhat is the largest planet in "
              "the solar system?<|im_end|>\n<|im_start|>assistant\n",
    "chatml_turns": "<|im_start|>user\nMy name is Ada.<|im_end|>\n<|im_start|>assistant\nHello Ada!<|im_end|>\n"
                    "<|im_start|>user\nWhat is my name?<|im_end|>\n<|im_start|>assistant\n",
}

# llama-quantize's names. K-quants need rows of 256; the others get rows of 192 and 224, which are multiples of 32 only.
# The seed is the first one tried; those from 1 up to it were found wanting.
QUANTS = {"F16": 253, "BF16": 315, "Q8_0": 49, "Q5_1": 220, "Q5_0": 46, "Q4_1": 39, "Q4_0": 124, "Q6_K": 108, "Q5_K_S": 25,
          "Q4_K_S": 57, "Q3_K_S": 473, "Q2_K": 58, "IQ4_NL": 109, "IQ4_XS": 355}
QUANT_PROMPTS = ("short", "long", "unicode")
# Least distance of the two best logits at every step of the short prompt, in standard deviations of a row of logits.
# Rounding activations to 8 bits moves a logit by 0.02 of them.
QUANT_MARGIN = 0.08


class LlamaCpp:
    def __init__(self, source, tmp):
        self.bin = source / "build" / "bin"
        self.tool = tmp / "llama_cpp_greedy"
        subprocess.run(["g++", "-O1", "-std=c++17", f"-I{source}/include", f"-I{source}/ggml/include",
                        str(HERE / "llama_cpp_greedy.cpp"), "-o", str(self.tool), f"-L{self.bin}", "-lllama", "-lggml",
                        "-lggml-base", f"-Wl,-rpath,{self.bin}"], check=True)

    def version(self):
        out = subprocess.run([self.bin / "llama-completion", "--version"], capture_output=True, text=True, check=True)
        return re.search(r"version: (.*)", out.stdout + out.stderr).group(1)

    def greedy(self, model, texts, steps, cache):
        out = subprocess.run([self.tool, model, str(steps), cache], input=b"".join(t.encode() + b"\0" for t in texts),
                             capture_output=True, check=True)
        records = [json.loads(line) for line in out.stdout.splitlines()]
        assert len(records) == len(texts)
        for record in records:
            record["text"] = bytes.fromhex(record.pop("bytes")).decode("utf-8", "replace")
        return records

    def quantise(self, source, target, kind):
        subprocess.run([self.bin / "llama-quantize", "--pure", source, target, kind, "1"], capture_output=True, check=True)

    def perplexity(self, model, text, *options):
        out = subprocess.run([self.bin / "llama-perplexity", "-m", model, "-f", text, "-c", "512", *options],
                             capture_output=True, text=True, check=True)
        both = out.stdout + out.stderr
        final = re.search(r"Final estimate: PPL = ([0-9.]+) \+/- ([0-9.]+)", both)
        return {"ppl": float(final[1]), "plus_minus": float(final[2]),
                "running": [float(x) for x in re.findall(r"\[\d+\]([0-9.]+)", both)]}


def write_rows(path, head, rows_name, rows):
    """JSON with one line for each field and each row."""
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    lines = [f"{json.dumps(k)}: {dump(v)}" for k, v in head.items()]
    lines.append(f"{json.dumps(rows_name)}: [\n" + ",\n".join(dump(row) for row in rows) + "\n]")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def load_float(path):
    """The file's weights, dequantised, in a float32 transformers model."""
    return fixtures.load_gguf(path.parent, path.name)


def float_greedy(model, ids, steps, least_margin=None):
    """(logits after the prompt, greedy ids, margins); None as soon as a margin is below `least_margin` deviations."""
    new, margins, cache, first = [], [], None, None
    feed = torch.tensor([ids])
    for _ in range(steps):
        out = model(input_ids=feed, past_key_values=cache, use_cache=True)
        cache, logits = out.past_key_values, out.logits[0, -1]
        first = logits if first is None else first
        top = logits.topk(2)
        margins.append(float(top.values[0] - top.values[1]))
        if least_margin is not None and margins[-1] < least_margin * float(logits.std()):
            return None
        new.append(int(top.indices[0]))
        feed = top.indices[:1].view(1, 1)
    return first, new, margins


def best_eight(logits):
    order = np.lexsort((np.arange(len(logits)), -logits.numpy()))[:8]
    return [[int(i), float(f"{float(logits[i]):.9g}")] for i in order]


def rounded(margins):
    return [float(f"{m:.4g}") for m in margins]


def default_model(llama):
    texts = list(PROMPTS.values())
    by_cache = {cache: llama.greedy(MODEL, texts, STEPS, cache) for cache in ("f32", "f16")}
    model = load_float(MODEL)
    rows = []
    for i, (name, text) in enumerate(PROMPTS.items()):
        f32, f16 = by_cache["f32"][i], by_cache["f16"][i]
        prompt_ids = f32.pop("prompt_ids")
        assert prompt_ids == f16.pop("prompt_ids")
        logits, ids, margins = float_greedy(model, prompt_ids, STEPS)
        rows.append({"name": name, "prompt": text, "prompt_ids": prompt_ids, "cache_f32": f32, "cache_f16": f16,
                     "float": {"best": best_eight(logits), "ids": ids, "margins": rounded(margins)}})
    write_rows(OUT / "default_model.json", {"model": MODEL.name, "llama_cpp": llama.version(), "steps": STEPS}, "prompts", rows)


def perplexity(llama):
    """llama-perplexity's value, and the same over float32 activations, chunk by chunk as llama-perplexity does it."""
    default = llama.perplexity(MODEL, TEXT)
    exact = llama.perplexity(MODEL, TEXT, "-ctk", "f32", "-ctv", "f32", "-fa", "off")
    text = TEXT.read_text("utf-8").removesuffix("\n")  # as llama.cpp's -f does
    ids = llama.greedy(MODEL, [text], 0, "f32")[0]["prompt_ids"]
    model, n = load_float(MODEL), 512
    losses = []
    for start in range(0, len(ids) // n * n, n):
        chunk = torch.tensor([ids[start:start + n]])
        logits = model(input_ids=chunk, use_cache=False).logits[0].double()
        half = n // 2  # the second half of a chunk is judged, except its last token, which has no next one
        scores = torch.log_softmax(logits[half:n - 1], -1)
        losses += (-scores.gather(1, chunk[0, half + 1:, None])).flatten().tolist()
    ppl = math.exp(sum(losses) / len(losses))
    head = {"model": MODEL.name, "llama_cpp": llama.version(), "text": f"texts/{TEXT.name}", "context": n,
            "tokens": len(ids), "chunks": len(ids) // n, "cache_f16": default, "cache_f32": exact,
            "float": {"ppl": float(f"{ppl:.6g}")}}
    (OUT / "perplexity.json").write_text(json.dumps(head, indent=1) + "\n", "utf-8")


def tiny_case(kind):
    """A one-layer tied Llama, and the tokenizer's files; the name ends up in the metadata."""
    wide = kind.endswith(("_K", "_S", "_XS"))
    dim, hidden = (256, 256) if wide else (192, 224)
    config = {**fixtures.LLAMA, "head_dim": 32, "hidden_size": dim, "intermediate_size": hidden, "num_hidden_layers": 1,
              "num_attention_heads": dim // 32, "num_key_value_heads": 2, "tie_word_embeddings": True,
              "bos_token_id": 490, "eos_token_id": 497, "rope_theta": 500000.0}
    return fixtures.GgufCase(f"quant-{kind.lower()}", "", config, "gpt2", "F32", 0, tokenizer=fixtures.llama3_tokenizer)


def quant(llama, kind, first_seed, tmp):
    """Looks for a seed whose continuation of the short prompt keeps clear of ties, in float32 and in llama.cpp."""
    case = tiny_case(kind)
    tok, tok_config, _ = case.tokenizer()
    source, target = tmp / "f32.gguf", OUT / f"{case.name}.gguf"
    texts = [fixtures.PROMPTS[name] for name in QUANT_PROMPTS]
    prompt_ids = [tok.encode(text).ids for text in texts]
    for seed in range(first_seed, 2000):
        model = transformers.AutoModelForCausalLM.from_config(
            fixtures.load_config(case.config), dtype=torch.float32, attn_implementation="eager").eval()
        fixtures.fill_weights(model, seed)
        # The model before quantisation is near enough to reject most seeds by a few steps.
        if float_greedy(model, prompt_ids[0], QUANT_STEPS // 3, QUANT_MARGIN / 2) is None:
            continue
        case.write_file(source, model, tok, tok_config)
        llama.quantise(source, target, kind)
        model = load_float(target)
        short = float_greedy(model, prompt_ids[0], QUANT_STEPS, QUANT_MARGIN)
        if short is None or len(set(short[1])) < 7:
            continue
        floats = [short] + [float_greedy(model, ids, QUANT_STEPS) for ids in prompt_ids[1:]]
        records = llama.greedy(target, texts, QUANT_STEPS, "f32")
        if records[0]["ids"] == short[1] and min(len(set(r["ids"])) for r in records) >= 7:
            break
    else:
        raise RuntimeError(f"{kind}: no seed keeps clear of ties")
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(target).tensors}
    prompts, worst = [], 0.0
    for name, text, own_ids, record, (logits, ids, margins) in zip(QUANT_PROMPTS, texts, prompt_ids, records, floats):
        assert record["prompt_ids"] == own_ids
        worst = max([worst] + [abs(value - float(logits[i])) for i, value in record["best"]])
        prompts.append({"name": name, "prompt": text, "prompt_ids": record.pop("prompt_ids"), "llama_cpp": record,
                        "float": {"logits": fixtures.numbers(logits), "ids": ids, "margins": rounded(margins)}})
    print(f"{kind}: seed {seed}, {target.stat().st_size / 1024:.0f} KiB, llama.cpp's logits off by {worst:.2g}, "
          f"deviation {float(short[0].std()):.2g}", flush=True)
    return {"type": kind, "file": target.name, "seed": seed, "tensor_types": types,
            "logit_std": float(f"{float(short[0].std()):.4g}"), "llama_cpp_max_abs": float(f"{worst:.3g}"),
            "prompts": prompts}


def quants(llama):
    with tempfile.TemporaryDirectory() as tmp:
        rows = [quant(llama, kind, seed, Path(tmp)) for kind, seed in QUANTS.items()]
    write_rows(OUT / "quants.json", {"llama_cpp": llama.version(), "steps": QUANT_STEPS}, "files", rows)


GEMMA_PROMPTS = [name for name in PROMPTS if not name.startswith("chatml")]
GEMMA_SNIPPETS = [
    " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\t", "\t\t", "\r\n", "\u00a0", "\u200b", "\u2581", "\u2581\u2581", "0", "7", "2024", "3.14159",
    "1,000,000", "x", "_", "__init__", "def f(x):", "    return x", "</div>", "<table>", "<br>", "{}", "[]", "()", "!=", "==", "->", "...",
    "\u2026", "'", "\"", "\\", "/", "https://example.com/a?b=c", "caf\u00e9", "cafe\u0301", "na\u00efve", "Stra\u00dfe", "\u0130stanbul",
    "\u6771\u4eac", "\u65e5\u672c\u8a9e\u3067\u3059", "\u4f60\u597d", "\uc548\ub155", "\u0645\u0631\u062d\u0628\u0627", "\u05e9\u05dc\u05d5\u05dd",
    "\u041f\u0440\u0438\u0432\u0435\u0442", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\U0001f642",
    "\U0001f469\u200d\U0001f4bb", "\U0001f1e9\U0001f1ea", "\u2603", "\u221e", "\u2260", "\ufb01", "\ufffd", "\u0007", "\u007f", "\U00010348",
    "\u0301", "\u202e", "aaaaaaaaaaaaaaaa", "ABCdef", "camelCaseName", "SHOUTING", "don't", "we'll", "\u2019s", "--", "\u2014", "$5", "50%", "#1",
    "@you", "a@b.c", "<bos", "<star", "_of_turn>", "<0x41>", "<0x0A>", "<unused99", "&amp;", "```", "**", "|", "\u00bd", "\u00b2", "\u2460",
]


class Random:
    """The generator that tests/gemma3.rs repeats: an LCG's high bits."""
    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
        return (self.state >> 33) % n


def gemma_strings(count):
    """Strings of one to six parts, each a stretch of the text or a snippet."""
    text, random = TEXT.read_text("utf-8"), Random(2024)
    for _ in range(count):
        parts = []
        for _ in range(1 + random.below(6)):
            if random.below(2) == 0:
                start = random.below(len(text) - 60)
                parts.append(text[start:start + 1 + random.below(60)])
            else:
                parts.append(GEMMA_SNIPPETS[random.below(len(GEMMA_SNIPPETS))])
        yield "".join(parts)


def sentencepiece_of(path):
    """Google's SentencePiece with the vocabulary of a GGUF file."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb2
    fields = gguf.GGUFReader(path).fields
    lists = [fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "scores", "token_type")]
    model = pb2.ModelProto()
    for piece, score, kind in zip(*lists):
        if kind == 4:  # the converter writes spaces in user-defined pieces as they stand in text
            piece = piece.replace(" ", "\u2581")
        model.pieces.add(piece=piece, score=score, type=kind)
    model.trainer_spec.model_type = pb2.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.unk_id, model.trainer_spec.bos_id = 3, 2
    model.trainer_spec.eos_id, model.trainer_spec.pad_id = 1, 0
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = False
    model.normalizer_spec.remove_extra_whitespaces = False
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def gemma3(llama, path):
    """Greedy tokens, perplexity, and the ids of 10,000 strings by SentencePiece itself, as hashes of 100 strings each."""
    texts = [PROMPTS[name] for name in GEMMA_PROMPTS]
    records = llama.greedy(path, texts, STEPS, "f32")
    rows = [{"name": name, "prompt": text, "prompt_ids": record.pop("prompt_ids"), "llama_cpp": record}
            for name, text, record in zip(GEMMA_PROMPTS, texts, records)]
    spm, hashes, state = sentencepiece_of(path), [], None
    for i, string in enumerate(gemma_strings(10000)):
        if i % 100 == 0:
            state = 0xcbf29ce484222325
        for value in spm.encode(string) + [2 ** 32 - 1]:  # FNV-1a over the ids, and a mark behind each string
            state = (state ^ value) * 0x100000001b3 % 2 ** 64
        if i % 100 == 99:
            hashes.append(f"{state:016x}")
    head = {"model": path.name, "llama_cpp": llama.version(), "steps": STEPS,
            "perplexity": llama.perplexity(path, TEXT, "-ctk", "f32", "-ctv", "f32", "-fa", "off"),
            "snippets": GEMMA_SNIPPETS, "hashes": hashes}
    write_rows(OUT / "gemma3.json", head, "prompts", rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", type=Path, required=True)
    jobs = {"default": default_model, "perplexity": perplexity, "quants": quants}
    parser.add_argument("--gemma3", type=Path)
    parser.add_argument("--only", nargs="*", choices=[*jobs, "gemma3"], default=list(jobs))
    args = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as tmp:
        llama = LlamaCpp(args.llama, Path(tmp))
        jobs["gemma3"] = lambda llama: gemma3(llama, args.gemma3)
        for name in args.only:
            jobs[name](llama)
            print(f"{name}: done", flush=True)


if __name__ == "__main__":
    main()
