"""Goes on with a text by the graphs beside this file: python write.py "Once upon" 200. It needs onnxruntime alone."""

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime

folder = Path(__file__).parent
about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
start, step = (onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("start", "step"))
tokens = [token.encode("latin-1") for token in about["tokens"]]
window, state_names = about["window"], list(about["graphs"]["step"]["inputs"])[1:]


def encode(text: bytes) -> list[int]:
    """The longest token again and again: exact for --tokenizer char and byte; others have rules of their own."""
    ids, known = [], {token: id for id, token in enumerate(tokens)}
    while text:
        longest = max((token for token in known if token and text.startswith(token)), key=len)
        ids.append(known[longest])
        text = text[len(longest) :]
    return ids or [about["start"]]


def first_held(length: int) -> int:
    """Of a text of so many tokens, the first that its window holds: when that is full, its newer half stays."""
    fresh = window - window // 2 if window else 1
    return fresh * max(0, -(-(length - window) // fresh)) if window else 0


def write(ids: list[int], temperature: float = 0.0, seed: int = 0) -> Iterator[int]:
    """The ids that follow, without end; at temperature 0 the likeliest."""
    random, held = np.random.default_rng(seed), window
    while True:
        if held == window:  # at the beginning, too
            read = ids[first_held(len(ids)) :]
            logits, *state = start.run(None, {"tokens": np.array([read], np.int64)})
            logits, held = logits[:, -1], len(read)
        else:
            given = dict(zip(state_names, state, strict=True))
            logits, *state = step.run(None, {"token": np.array(ids[-1:], np.int64), **given})
            held += window is not None
        noise = temperature * random.gumbel(size=logits.shape)  # the largest sum is a draw from the softmax
        ids = [*ids, int((logits + noise).argmax())]
        yield ids[-1]


if __name__ == "__main__":
    prompt = sys.argv[1] if len(sys.argv) > 1 else ""
    length = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    following = islice(write(encode(prompt.encode()), temperature=0.8), length)
    sys.stdout.buffer.write(prompt.encode() + b"".join(tokens[id] for id in following) + b"\n")
