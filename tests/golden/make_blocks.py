#!/usr/bin/env python3
"""Writes `blocks/blocks.safetensors`: blocks of every element type, and what `gguf.dequantize` makes of them.

    python make_blocks.py            # needs gguf and safetensors; seeded, a second run gives the same bytes

For each type T there are `T.bytes` (U8, the stored bytes) and `T.values` (F32). The first blocks are edge cases of the
scales (zero of both signs, negative, subnormal, largest) and of the quants (all bits clear, all bits set); the others are
random bytes with random finite scales.
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGML_QUANT_SIZES
from gguf.quants import dequantize
from safetensors.numpy import save_file

# Where the f16 scales lie in a block.
SCALES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
    T.IQ4_NL: [0], T.IQ4_XS: [0],
}

# Bits of f16: +0, -0, smallest and largest subnormal, smallest normal, 1, -0.3, largest, lowest.
EDGES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x3C00, 0xB4CD, 0x7BFF, 0xFBFF]


def finite_f16(rng, count):
    """Random f16 bit patterns without inf and NaN."""
    bits = rng.integers(0, 1 << 16, size=count, dtype=np.uint16)
    return np.where((bits & 0x7C00) == 0x7C00, bits & 0x83FF | 0x3000, bits).astype(np.uint16)


def float_bytes(rng, kind):
    if kind == T.F32:
        bits = rng.integers(0, 1 << 32, size=256, dtype=np.uint32)
        bits = np.where((bits & 0x7F800000) == 0x7F800000, bits & 0x807FFFFF, bits).astype(np.uint32)
        bits[:6] = [0, 0x80000000, 1, 0x7F7FFFFF, 0x7F800000, 0xFF800000]
        return bits.view(np.uint8)
    if kind == T.F16:
        bits = finite_f16(rng, 512)
        bits[: len(EDGES)] = EDGES
        bits[len(EDGES):len(EDGES) + 2] = [0x7C00, 0xFC00]
        return bits.view(np.uint8)
    bits = rng.integers(0, 1 << 16, size=512, dtype=np.uint16)
    bits = np.where((bits & 0x7F80) == 0x7F80, bits & 0x807F, bits).astype(np.uint16)
    bits[:6] = [0, 0x8000, 1, 0x7F7F, 0x7F80, 0xFF80]
    return bits.view(np.uint8)


def block_bytes(rng, kind):
    elements, size = GGML_QUANT_SIZES[kind]
    count = 12 if elements == 256 else 32
    blocks = rng.integers(0, 256, size=(count, size), dtype=np.uint8)
    blocks[5] = 0x00
    blocks[6] = 0xFF
    for place in SCALES[kind]:
        bits = finite_f16(rng, count)
        bits[: len(EDGES)] = np.roll(EDGES, place)
        blocks[:, place:place + 2] = bits.view(np.uint8).reshape(count, 2)
    return blocks.reshape(-1)


def main():
    tensors = {}
    for kind in [T.F32, T.F16, T.BF16, *SCALES]:
        rng = np.random.default_rng([20260101, int(kind)])
        data = block_bytes(rng, kind) if kind in SCALES else float_bytes(rng, kind)
        values = dequantize(data, kind)
        assert values.dtype == np.float32
        tensors[f"{kind.name}.bytes"] = data
        tensors[f"{kind.name}.values"] = values.reshape(-1)
    out = Path(__file__).parent / "blocks" / "blocks.safetensors"
    out.parent.mkdir(exist_ok=True)
    save_file(tensors, out)
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
