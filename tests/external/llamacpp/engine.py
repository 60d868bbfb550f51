"""Greedy decoding in llama.cpp; run by the interpreter that has it, so it imports nothing of ours.

    python engine.py job.json out.npz

The job: `runs`, a list of `[model, adapter or null, scale]`, files in GGUF; `prompts`, a list of
token ids each; `tokens`, how many to add; `texts`, to be read by the first model's tokenizer. The
result has `ids_{run}_{prompt}` and `logits_{run}_{prompt}` `[tokens, vocabulary]`, those that each
token was chosen from, and `tokens_{text}`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import GGML_TYPE_F32, Llama


def main(job: dict[str, Any], out: str) -> None:
    found: dict[str, np.ndarray] = {}
    for i, (model, path, scale) in enumerate(job["runs"]):
        llama = Llama(
            model,
            n_ctx=max(map(len, job["prompts"])) + job["tokens"],
            # Two would wait for each other in a loop wherever there is other work.
            n_threads=1,
            n_threads_batch=1,
            logits_all=True,
            lora_path=path,
            lora_scale=scale,
            # fp16, the default, would be the largest difference of all.
            type_k=GGML_TYPE_F32,
            type_v=GGML_TYPE_F32,
            verbose=False,
        )
        for k, text in enumerate(job["texts"] if i == 0 else ()):
            ids = llama.tokenize(text.encode(), special=True)
            found[f"tokens_{k}"] = np.array(ids, dtype=np.int64)
        for j, prompt in enumerate(job["prompts"]):
            found[f"ids_{i}_{j}"], found[f"logits_{i}_{j}"] = greedy(llama, prompt, job["tokens"])
        llama.close()
    np.savez(out, **found)


def greedy(llama: Llama, prompt: list[int], tokens: int) -> tuple[np.ndarray, np.ndarray]:
    llama.reset()
    llama.eval(prompt)
    ids, logits = [], []
    for _ in range(tokens):
        last = llama.scores[llama.n_tokens - 1].copy()
        ids.append(int(last.argmax()))
        logits.append(last)
        llama.eval(ids[-1:])
    return np.array(ids), np.array(logits)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2])
