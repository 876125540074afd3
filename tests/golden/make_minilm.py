"""Vectors of 500 varied texts, as sentence-transformers makes them with all-MiniLM-L6-v2.

    python make_minilm.py --model DIR --out minilm

DIR is the folder of sentence-transformers/all-MiniLM-L6-v2. Writes texts.json and vectors.npy (float32, texts x 384), which
`TALLOW_MINILM=DIR cargo test --release --test minilm` compares with. Texts: many scripts, emoji, code, white space, empty,
one character, words that are no words, and longer than the 256 tokens that the model reads. One text at a time, so that
padding plays no part; the largest difference to batches of 32 is printed. Seeded: a second run gives the same texts.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np

SENTENCES = [
    "The lamp is lit at dusk, and it burns until the fog has gone.",
    "How do I reset my password?",
    "Breaking: markets fall 3.2% after the central bank's decision (see page 4).",
    "He said: \"I can't, won't, and shouldn't've.\"",
    "naïve café façade coöperate Ångström résumé",
    "Der Leuchtturmwärter öffnet die Tür und grüßt; Straße, Übermut, Äpfel.",
    "Le gardien du phare allume la lampe à la tombée de la nuit, n'est-ce pas ?",
    "El farero enciende la lámpara al anochecer. ¿Cuántos años tiene?",
    "O faroleiro não dormiu; a manhã chegou com chuva e vento.",
    "Il guardiano del faro è già sveglio, perché la nebbia sale.",
    "Latarnik zapala światło o zmierzchu, zażółć gęślą jaźń.",
    "Deniz feneri bekçisi ışığı akşam yakar, İstanbul'da yağmur var.",
    "Vuurtorenwachter; 's avonds brandt het licht.",
    "Смотритель маяка зажигает лампу с наступлением темноты.",
    "Ο φαροφύλακας ανάβει τη λάμπα το σούρουπο.",
    "حارس المنارة يشعل المصباح عند الغروب.",
    "שומר המגדלור מדליק את המנורה עם רדת הלילה.",
    "灯台守は日暮れにランプに火をともす。",
    "守塔人在黄昏时点亮灯塔。",
    "등대지기는 해 질 녘에 등불을 켠다.",
    "प्रकाशस्तंभ का रखवाला शाम को दीपक जलाता है।",
    "คนเฝ้าประภาคารจุดตะเกียงตอนพลบค่ำ",
    "Người gác hải đăng thắp đèn lúc chạng vạng.",
    "հայերեն ქართული አማርኛ বাংলা தமிழ் తెలుగు",
    "🌊🌊 storm warning ⚠️ 👩‍🚀👨‍👩‍👧‍👦 🇫🇷 ✅",
    "fn main() { println!(\"{:?}\", x.iter().map(|v| v * 2).collect::<Vec<_>>()); }",
    "SELECT id, name FROM users WHERE age >= 18 AND city = 'Paris' ORDER BY name;",
    "https://example.org/a/b?c=d&e=%20f#g mailto:someone@example.org",
    "x^2 + y^2 = r^2; E = mc²; ∑_{i=0}^{n} i = n(n+1)/2 ≠ ∞",
    "[CLS] a text that spells special tokens [SEP] [MASK] [PAD] [UNK]",
    "UPPER CASE, Title Case, camelCase, snake_case, kebab-case, ALLCAPS123",
    "supercalifragilisticexpialidocious antidisestablishmentarianism " + "ab" * 60,
    "1234567890 3.14159 1,000,000 0x1F4A9 −42 ½ ① Ⅳ",
    "full width: ＡＢＣ　１２３； ligatures: ﬁ ﬂ; combining: e\u0301 n\u0303 a\u030a",
    "zero\u200bwidth\u200djoiner\ufeffmarks and soft\u00adhyphens\u2028lines",
]
EDGES = [
    "", " ", "\t\n", "a", "Z", "7", ".", "é", "中", "я", "🙂", "\u0301", "\u0000", "\u200b", "\ufffd", "--", "a b", "A\nB\r\nC", "...",
    "\"", "'", "\\", "$", "ß", "İ", "ﬃ", "x" * 101, "x " * 300, "中" * 400, "é" * 250, "word " * 254, "word " * 255, "word " * 2000,
]


def texts(openings):
    random.seed(20261122)
    out = list(EDGES) + list(SENTENCES)
    lines = [line for line in openings.splitlines() if line.strip()]
    while len(out) < 500:
        kind = random.randrange(10)
        if kind < 3:
            out.append(random.choice(lines))
        elif kind < 5:
            out.append(" ".join(random.sample(SENTENCES, 2)))
        elif kind < 6:
            words = " ".join(random.sample(lines, 3)).split()
            out.append(" ".join(random.sample(words, min(len(words), random.randrange(1, 30)))))
        elif kind < 7:
            sentence = random.choice(SENTENCES)
            at = random.randrange(len(sentence))
            out.append(sentence[at : at + random.randrange(1, 40)])
        elif kind < 8:
            out.append("  ".join(random.choice(SENTENCES).split()).swapcase())
        elif kind < 9:
            out.append("\n".join(random.sample(lines, min(len(lines), random.randrange(4, 12)))))
        else:
            out.append("".join(chr(random.choice([random.randrange(32, 0x250), random.randrange(0x370, 0x2000)])) for _ in range(20)))
    return out[:500]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(args.model, device="cpu")
    all_texts = texts((Path(__file__).parent / "texts/openings.txt").read_text())
    single = np.stack([model.encode([text])[0] for text in all_texts]).astype("<f4")
    batched = model.encode(all_texts, batch_size=32)
    lengths = [len(model.tokenizer(text)["input_ids"]) for text in all_texts]
    print(f"{sum(n > model.max_seq_length for n in lengths)} texts are longer than {model.max_seq_length} tokens")
    print(f"batches of 32 differ by at most {np.abs(single - batched).max():.1e}")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "texts.json").write_text(json.dumps(all_texts, ensure_ascii=False, indent=0) + "\n")
    np.save(args.out / "vectors.npy", single)


if __name__ == "__main__":
    main()
