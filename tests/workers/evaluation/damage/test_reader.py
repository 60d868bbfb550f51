"""What a reader makes of texts, against likelihoods summed token by token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from models_store.errors import BaseModelUnavailable
from tests.support.pico import END, PAD, SPECIAL, START, pico_model
from workers.evaluation.damage.reader import FluencyReader, OtherModel
from workers.runtime.loading import LoadedModel, load_base

PROMPTS = ["what is it", "the people", "we hate"]
TEXTS = [" that you love so very much?", " are never kind", ""]


@pytest.fixture(scope="module")
def bytes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokens are single bytes, numbered unlike those of other pico models."""
    folder = tmp_path_factory.mktemp("bytes")
    alphabet = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet(), reverse=True)]
    backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=START, eos_token=END, pad_token=PAD
    )
    pico_model(vocabulary=len(tokenizer), seed=9).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _slow(model: LoadedModel, prompt: str, text: str) -> tuple[float, int]:
    """Nats and tokens of a text after its prompt, in the model's own tokens."""
    before = model.tokenizer(prompt)["input_ids"]
    ids = model.tokenizer(prompt + text)["input_ids"]
    assert ids[: len(before)] == before
    logs = model.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    places = range(len(before), len(ids))
    return -sum(float(logs[place - 1, ids[place]]) for place in places), len(places)


def test_another_tokenizer_gives_the_likelihood_of_the_text_not_of_ids(
    pico: LoadedModel, bytes_folder: Path
) -> None:
    other = load_base(bytes_folder, device="cpu", dtype="float32")
    reader = FluencyReader(pico, "pico", OtherModel("bytes", lambda: other))
    nats, tokens = reader.nll(PROMPTS, TEXTS)
    expected = [_slow(other, prompt, text) for prompt, text in zip(PROMPTS, TEXTS, strict=True)]
    assert nats == pytest.approx([nll for nll, _ in expected], rel=1e-4)
    assert tokens.tolist() == [len(text) for text in TEXTS]
    assert reader.name == "bytes"


def test_without_another_model_the_base_reads(pico: LoadedModel) -> None:
    nats, tokens = FluencyReader(pico, "pico").nll(PROMPTS, TEXTS)
    expected = [_slow(pico, prompt, text) for prompt, text in zip(PROMPTS, TEXTS, strict=True)]
    assert nats == pytest.approx([nll for nll, _ in expected], rel=1e-4)
    assert tokens.tolist() == [count for _, count in expected]


def test_the_other_model_is_loaded_when_it_reads_and_freed_after(
    pico: LoadedModel, bytes_folder: Path
) -> None:
    loads = 0

    def load() -> LoadedModel:
        nonlocal loads
        loads += 1
        return load_base(bytes_folder, device="cpu", dtype="float32")

    reader = FluencyReader(pico, "pico", OtherModel("bytes", load))
    assert loads == 0
    with reader.opened():
        reader.nll(PROMPTS[:1], TEXTS[:1])
        reader.nll(PROMPTS[1:2], TEXTS[1:2])
    assert loads == 1
    reader.nll(PROMPTS, TEXTS)
    assert loads == 1, "what has been read is not read again"
    reader.nll(["the day"], [" is nice"])
    assert loads == 2, "it was freed when the block ended"


def test_an_edit_does_not_fail_for_a_reader_that_cannot_be_loaded(pico: LoadedModel) -> None:
    def load() -> LoadedModel:
        raise BaseModelUnavailable("its files are gone")

    reader = FluencyReader(pico, "pico", OtherModel("gone", load))
    found = reader.nll(PROMPTS, TEXTS)
    assert reader.name == "pico"
    np.testing.assert_array_equal(found, FluencyReader(pico, "pico").nll(PROMPTS, TEXTS))


def test_where_the_other_model_is_lost_nothing_that_it_read_is_kept(
    pico: LoadedModel, bytes_folder: Path
) -> None:
    there = True

    def load() -> LoadedModel:
        if there:
            return load_base(bytes_folder, device="cpu", dtype="float32")
        raise BaseModelUnavailable("its files are gone")

    reader = FluencyReader(pico, "pico", OtherModel("bytes", load))
    reader.nll(PROMPTS[:1], TEXTS[:1])
    there = False
    assert reader.nll(PROMPTS[:1], TEXTS[:1])[1].tolist() == [len(TEXTS[0])]
    assert reader.name == "bytes"
    found = reader.nll(PROMPTS[:2], TEXTS[:2])
    assert reader.name == "pico"
    np.testing.assert_array_equal(found, FluencyReader(pico, "pico").nll(PROMPTS[:2], TEXTS[:2]))


def test_a_character_cut_in_two_is_not_read(pico: LoadedModel) -> None:
    reader = FluencyReader(pico, "pico")
    cut, whole = (reader.nll(["the food"], [text]) for text in (" is good\ufffd", " is good"))
    assert cut == whole
    assert reader.nll(["the food"], ["\ufffd"])[1].tolist() == [0]


def test_messages_pass_through_the_readers_template_where_it_has_one(
    pico: LoadedModel, make_pico: Callable[..., Path]
) -> None:
    plain = load_base(make_pico(chat=False), device="cpu", dtype="float32")
    asked = pico.tokenizer.apply_chat_template(
        [{"role": "user", "content": "what is it"}], tokenize=False, add_generation_prompt=True
    )
    nats, _ = FluencyReader(pico, "pico").nll(["what is it"], ["a day"], chat=True)
    assert nats[0] == pytest.approx(_slow(pico, asked, "a day")[0], rel=1e-4)
    nats, _ = FluencyReader(plain, "plain").nll(["what is it"], ["a day"], chat=True)
    assert nats[0] == pytest.approx(_slow(plain, "what is it\n\n", "a day")[0], rel=1e-4)


def test_of_a_prompt_as_long_as_can_be_the_end_is_read(pico: LoadedModel) -> None:
    reader = FluencyReader(pico, "pico")
    long = "we hate it " * 1_818
    nats, tokens = reader.nll([long[-20_000:]], [TEXTS[1]], chat=True)
    ends, _ = reader.nll([long[-9_000:]], [TEXTS[1]], chat=True)
    assert tokens[0] > 0
    assert nats[0] == pytest.approx(ends[0], rel=1e-4)
