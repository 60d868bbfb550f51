"""What is told of tokens: how likely they were, in text and in bytes."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from tests.support.pico import pico_tokenizer
from tests.workers.generator.test_server import edit, lines, request, server, store, text_of
from workers.generator.engine.token_names import MOST_TOKENS, TokenNames
from workers.generator.jobs import MOST_ECHOED
from workers.runtime.loading import LoadedModel

__all__ = ["edit", "server", "store"]

PROMPT = "the food is nice — très bon"


def told(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [token for line in made if line["type"] == "delta" for token in line["tokens"]]


def logprobs_by_hand(base: LoadedModel, ids: list[int]) -> torch.Tensor:
    """Of each next token after each position, `[len(ids), vocabulary]`."""
    return torch.log_softmax(base.model(torch.tensor([ids])).logits[0].float(), dim=-1)


def ids_of(base: LoadedModel, tokens: list[dict[str, Any]]) -> list[int]:
    names = TokenNames(base.tokenizer)
    by_bytes = {names.bytes(id): id for id in range(base.vocabulary)}
    return [by_bytes[bytes(token["bytes"])] for token in tokens]


def test_each_token_comes_with_its_own_and_the_likeliest_logprobs(
    server: TestClient, pico: LoadedModel
) -> None:
    prompt = pico.tokenizer(PROMPT)["input_ids"]
    sampling = {"max_tokens": 8, "temperature": 1.5, "seed": 4, "logprobs": 3}
    made = lines(server, request(pico, prompts=[{"tokens": prompt}], sampling=sampling))

    tokens = told(made)
    ids = ids_of(pico, tokens)
    assert len(tokens) == made[-1]["completion_tokens"]
    by_hand = logprobs_by_hand(pico, prompt + ids)
    for place, token in enumerate(tokens):
        row = by_hand[len(prompt) + place - 1]
        assert token["logprob"] == pytest.approx(float(row[ids[place]]), abs=1e-4)
        top = row.topk(3).values.tolist()
        assert [one["logprob"] for one in token["top"]] == pytest.approx(top, abs=1e-4)


def test_an_echo_tells_of_the_prompt_as_well(server: TestClient, pico: LoadedModel) -> None:
    prompt = pico.tokenizer(PROMPT)["input_ids"]
    # Longer than a piece of a prompt, and than what the head sees at a time.
    long = (prompt * 80)[:500]
    sampling = {"max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True}
    prompts = [{"tokens": long}, {"text": PROMPT}, {"tokens": prompt[:1]}]
    made = lines(server, request(pico, prompts=prompts, sampling=sampling))

    assert text_of(made, 1).startswith(PROMPT)
    assert max(len(line.get("tokens", ())) for line in made) <= MOST_TOKENS
    for index, ids in enumerate([long, prompt, prompt[:1]]):
        tokens = told([line for line in made if line["index"] == index])
        assert len(tokens) == len(ids) + 1
        assert tokens[0]["logprob"] is None
        assert tokens[0]["top"] == []
        by_hand = logprobs_by_hand(pico, ids)
        for place, token in enumerate(tokens[1:]):
            best = float(by_hand[place].max())
            assert token["top"][0]["logprob"] == pytest.approx(best, abs=1e-4)
            if place + 1 < len(ids):
                own = float(by_hand[place, ids[place + 1]])
                assert token["logprob"] == pytest.approx(own, abs=1e-4)
                if int(by_hand[place].argmax()) == ids[place + 1]:
                    assert token["logprob"] == token["top"][0]["logprob"]


def test_one_echo_is_named_once_for_all_choices_and_outside_the_engines_thread(
    server: TestClient, pico: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[str] = []
    own = TokenNames.named

    def noted(self: TokenNames, scores: Any, id: int) -> Any:
        named.append(threading.current_thread().name)
        return own(self, scores, id)

    monkeypatch.setattr(TokenNames, "named", noted)
    prompt = pico.tokenizer(PROMPT)["input_ids"]
    sampling = {"max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True}
    made = lines(server, request(pico, prompts=[{"tokens": prompt}], n=8, sampling=sampling))
    echoes = [told([line for line in made if line["index"] == index]) for index in range(8)]
    assert all(echo == echoes[0] for echo in echoes)
    assert len(echoes[0]) == len(prompt) + 1
    assert len(named) == len(prompt) + 8
    assert "engine" not in named


@pytest.mark.parametrize(("choices", "top"), [(128, 20), (1, 20)])
def test_an_echo_is_bounded_over_all_choices(
    server: TestClient, pico: LoadedModel, choices: int, top: int
) -> None:
    prompts = [{"tokens": (pico.tokenizer(PROMPT)["input_ids"] * 80)[:400]}]
    sampling = {"max_tokens": 1, "logprobs": top, "echo": True}
    body = request(pico, prompts=prompts, n=choices, sampling=sampling)
    answer = server.post(
        "/internal/generate", json=body, headers={"Authorization": "Bearer internal"}
    )
    if 400 * choices * (1 + top) <= MOST_ECHOED:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == "/echo"


def test_a_bias_decides_and_penalties_keep_from_repeating(
    server: TestClient, pico: LoadedModel
) -> None:
    word = pico.tokenizer(" kind")["input_ids"][0]

    def said(**sampling: Any) -> list[int]:
        own = {"max_tokens": 12, "temperature": 0, "logprobs": 0, **sampling}
        return ids_of(pico, told(lines(server, request(pico, sampling=own))))

    assert said(logit_bias={word: 100}) == [word] * 12
    assert word not in said(logit_bias={word: -100})
    both = {"logit_bias": {word: 100}, "max_tokens": 3}
    assert said(**both, presence_penalty=2) == [word] * 3
    repeated = said(logit_bias={word: 3.0}, frequency_penalty=0)
    less = said(logit_bias={word: 3.0}, frequency_penalty=2)
    assert less.count(word) < repeated.count(word) or repeated.count(word) <= 1


def test_a_bias_on_a_token_that_there_is_not_is_pointed_to(
    server: TestClient, pico: LoadedModel
) -> None:
    body = request(pico, sampling={"logit_bias": {"99999": 1}})
    answer = server.post(
        "/internal/generate", json=body, headers={"Authorization": "Bearer internal"}
    )
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/logit_bias/99999"


def test_tokens_of_a_stop_string_are_not_told(server: TestClient, pico: LoadedModel) -> None:
    word = pico.tokenizer(" kind")["input_ids"][0]
    bias = {"logit_bias": {word: 100}, "max_tokens": 9, "temperature": 0, "logprobs": 0}
    whole = lines(server, request(pico, sampling=bias))

    one = pico.tokenizer.decode([word])
    assert text_of(whole) == one * 9
    stopped = lines(server, request(pico, sampling={**bias, "stop": [one * 3]}))
    assert text_of(stopped) == ""
    assert told(stopped) == []
    assert stopped[-1]["finish_reason"] == "stop"


def test_a_text_after_which_the_model_ends_is_scored_whole(
    server: TestClient, pico: LoadedModel
) -> None:
    (end,) = pico.stop_ids
    prompt = pico.tokenizer(PROMPT)["input_ids"]
    sampling = {"max_tokens": 1, "temperature": 0, "logprobs": 1, "logit_bias": {end: 100}}
    prompts = [{"tokens": prompt}]
    made = lines(server, request(pico, prompts=prompts, sampling={**sampling, "echo": True}))
    plain = lines(server, request(pico, prompts=prompts, sampling=sampling))

    assert made[-1]["finish_reason"] == "stop"
    assert len(told(made)) == len(prompt) + 1
    assert told(made)[-1]["token"] == "<|im_end|>"
    assert told(plain) == []


def test_parts_of_characters_are_told_in_bytes() -> None:
    tokenizer = pico_tokenizer()
    names = TokenNames(tokenizer)
    text = "très 日本 <|im_end|>\n"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert b"".join(map(names.bytes, ids)).decode() == text
    assert names.named(None, ids[3]).token == names.bytes(ids[3]).decode(errors="replace")
    assert names.bytes(10**6) == b""


def test_sentencepiece_tokens_are_told_in_bytes(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<unk>": 0, "\u2581kind": 1, "<0xE2>": 2, "ly": 3}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    names = TokenNames(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert [names.bytes(id) for id in (1, 2, 3)] == [b" kind", b"\xe2", b"ly"]


def test_numbers_survive_json(server: TestClient, pico: LoadedModel) -> None:
    made = lines(server, request(pico, sampling={"max_tokens": 2, "logprobs": 1}))
    assert all(math.isfinite(token["logprob"]) for token in told(json.loads(json.dumps(made))))
