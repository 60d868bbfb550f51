"""Greedy decoding in llama.cpp; run by the interpreter that has it, so it imports nothing of ours.

    python engine.py job.json out.npz

The job: `model`, a GGUF file; `adapters`, a list of `[file, scale]` or null for none; `prompts`, a
list of token ids each; `tokens`, how many to add. The result has `ids_{adapter}_{prompt}` and
`logits_{adapter}_{prompt}` `[tokens, vocabulary]`, those that each token was chosen from.
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
    for i, adapter in enumerate(job["adapters"]):
        path, scale = adapter or (None, 1.0)
        llama = Llama(
            job["model"],
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
