"""A server with OpenAI's API around models of transformers, answering in the ways of several."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import torch
from torch import Tensor

Style = Literal["vllm", "llama.cpp", "five", "texts", "chat", "chat-texts"]
"""`vllm`: both kinds of completions, with up to 20 log-probabilities. `llama.cpp`: those of text in
the form of chat. `five`: at most 5. `texts`: none. `chat`, `chat-texts`: chat completions only."""


@dataclass
class Served:
    """A model under a name."""

    model: Any
    """Of transformers, or one of PEFT."""
    tokenizer: Any
    style: Style = "vllm"


@dataclass
class ModelServer:
    """The server; `models` may be changed while it runs."""

    url: str
    models: dict[str, Served]
    requests: list[tuple[str, dict[str, Any], str | None]] = field(default_factory=list)
    """Path, body and key of each."""


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def running_server(models: Mapping[str, Served] | None = None) -> Iterator[ModelServer]:
    state = ModelServer("", dict(models or {}))
    turn = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.requests.append((self.path, body, self.headers.get("Authorization")))
            try:
                with turn:
                    status, content = 200, _respond(state.models, self.path, body)
            except _Refused as refused:
                status, content = refused.status, {"error": {"message": str(refused)}}
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def _respond(models: Mapping[str, Served], path: str, body: dict[str, Any]) -> dict[str, Any]:
    if body["model"] not in models:
        raise _Refused(404, f"there is no model {body['model']}")
    served = models[body["model"]]
    chat = path == "/v1/chat/completions"
    if not chat and (path != "/v1/completions" or served.style.startswith("chat")):
        raise _Refused(404, f"there is no {path}")
    most = {"vllm": 20, "llama.cpp": 20, "five": 5, "chat": 20}.get(served.style, 0)
    count = body.get("top_logprobs" if chat else "logprobs", 0)
    if most and count > most:
        raise _Refused(400, f"at most {most} logprobs")
    ids, scores = _generate(served, _prompt_ids(served, body, chat), body["max_tokens"])
    text = served.tokenizer.decode(ids, skip_special_tokens=True)
    choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "logprobs": None}
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    if min(count, most):
        choice["logprobs"] = _logprobs(served, ids, scores, count, chat=chat)
    return {"object": "chat.completion" if chat else "text_completion", "choices": [choice]}


def _prompt_ids(served: Served, body: dict[str, Any], chat: bool) -> list[int]:
    tokenizer = served.tokenizer
    text = body.get("prompt")
    if chat:
        text = tokenizer.apply_chat_template(
            body["messages"], tokenize=False, add_generation_prompt=True
        )
    ids: list[int] = tokenizer(text, add_special_tokens=not chat)["input_ids"]
    return ids


@torch.inference_mode()
def _generate(served: Served, ids: list[int], count: int) -> tuple[list[int], list[Tensor]]:
    """Greedy tokens, and the log-probabilities that they were chosen from."""
    made: list[int] = []
    scores: list[Tensor] = []
    while len(made) < count:
        logits = served.model(input_ids=torch.tensor([ids + made])).logits[0, -1]
        scores.append(torch.log_softmax(logits.float(), dim=-1))
        made.append(int(scores[-1].argmax()))
        if made[-1] == served.tokenizer.eos_token_id:
            break
    return made, scores


def _logprobs(
    served: Served, ids: list[int], scores: list[Tensor], count: int, *, chat: bool
) -> dict[str, Any]:
    def named(id: int, row: Tensor) -> tuple[str, float]:
        return served.tokenizer.decode([id]), round(float(row[id]), 6)

    tops = [[named(int(id), row) for id in row.topk(count).indices] for row in scores]
    chosen = [named(id, row) for id, row in zip(ids, scores, strict=True)]
    if chat or served.style == "llama.cpp":
        return {
            "content": [
                {
                    "token": token,
                    "logprob": logprob,
                    "top_logprobs": [{"token": other, "logprob": own} for other, own in top],
                }
                for (token, logprob), top in zip(chosen, tops, strict=True)
            ]
        }
    return {
        "tokens": [token for token, _ in chosen],
        "token_logprobs": [logprob for _, logprob in chosen],
        "top_logprobs": [dict(top) for top in tops],
    }
