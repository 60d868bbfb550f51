"""What of a text counts, how it is cut, and how texts are batched."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models_store.errors import InvalidRequest
from models_store.schemas.items import ChatItem, CompletionItem, Message, TextItem
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import MAX_PROMPT_TOKENS, Encoded, batches, encode, encode_prompt


def counted(base: LoadedModel, encoded: Encoded) -> str:
    ids = [i for i, scored in zip(encoded.ids, encoded.scored, strict=True) if scored]
    return str(base.tokenizer.decode(ids))


def text(base: LoadedModel, encoded: Encoded) -> str:
    return str(base.tokenizer.decode(list(encoded.ids)))


def test_all_of_a_plain_text_counts_and_it_is_cut(pico: LoadedModel) -> None:
    whole, cut = encode(pico, ["the film", TextItem(text="bad " * 50)], max_tokens=7, chat=True)
    assert all(whole.scored)
    assert text(pico, whole) == "the film"
    assert len(cut) == 7
    assert whole.prompt_length == 0


def test_of_a_pair_only_the_completion_counts(pico: LoadedModel) -> None:
    pair = CompletionItem(prompt="the film was", completion=" bad and awful")
    (encoded,) = encode(pico, [pair], max_tokens=100, chat=False)
    assert counted(pico, encoded) == " bad and awful"
    assert text(pico, encoded) == "the film was bad and awful"


def test_a_token_across_the_border_counts(pico: LoadedModel) -> None:
    # "go" + "od": the token "good" exists only because of the completion.
    (encoded,) = encode(
        pico, [CompletionItem(prompt="go", completion="od food")], max_tokens=100, chat=False
    )
    assert counted(pico, encoded) == "good food"
    assert encoded.prompt_length == 0


def test_a_pair_passes_through_the_template_where_there_is_one(
    pico: LoadedModel, load_pico: Callable[..., LoadedModel]
) -> None:
    pair = CompletionItem(prompt="how", completion="this is good")
    (chat,) = encode(pico, [pair], max_tokens=100, chat=True)
    assert text(pico, chat) == (
        "<|im_start|>user\nhow<|im_end|>\n<|im_start|>assistant\nthis is good"
    )
    assert counted(pico, chat) == "this is good"
    (plain,) = encode(load_pico(chat=False), [pair], max_tokens=100, chat=True)
    assert text(pico, plain) == "howthis is good"


def test_the_end_of_a_turn_counts_when_asked_for(pico: LoadedModel) -> None:
    pair = CompletionItem(prompt="how", completion="good")
    (ended,) = encode(pico, [pair], max_tokens=100, chat=True, end_of_turn=True)
    assert counted(pico, ended) == "good<|im_end|>"
    (cut,) = encode(pico, [pair], max_tokens=1, chat=True, end_of_turn=True)
    assert counted(pico, cut) == "good"


def test_of_a_conversation_the_last_message_counts(pico: LoadedModel) -> None:
    item = ChatItem(
        messages=(
            Message(role="system", content="be kind"),
            Message(role="user", content="food"),
            Message(role="assistant", content="good food"),
        )
    )
    (encoded,) = encode(pico, [item], max_tokens=100, chat=False)
    assert counted(pico, encoded) == "good food"
    assert text(pico, encoded).startswith("<|im_start|>system\nbe kind<|im_end|>")


def test_a_message_alone_is_a_plain_text(pico: LoadedModel) -> None:
    item = ChatItem(messages=(Message(role="assistant", content="good food"),))
    (encoded,) = encode(pico, [item], max_tokens=100, chat=True)
    assert text(pico, encoded) == counted(pico, encoded) == "good food"


def test_a_long_prompt_keeps_its_end(pico: LoadedModel) -> None:
    pair = CompletionItem(prompt="bad " * 2000 + "end", completion=" good")
    (encoded,) = encode(pico, [pair], max_tokens=5, chat=False)
    assert encoded.prompt_length == MAX_PROMPT_TOKENS
    assert text(pico, encoded).endswith("end good")


def test_a_long_prompt_keeps_its_first_token(pico: LoadedModel) -> None:
    pair = CompletionItem(prompt="good" + " bad" * 2000, completion=" end")
    (encoded,) = encode(pico, [pair], max_tokens=5, chat=False)
    assert encoded.prompt_length == MAX_PROMPT_TOKENS
    assert encoded.ids[0] == pico.tokenizer("good")["input_ids"][0]
    assert encoded.ids[1] == pico.tokenizer(" bad")["input_ids"][0]


def test_a_conversation_needs_a_template(load_pico: Callable[..., LoadedModel]) -> None:
    base = load_pico(chat=False)
    with pytest.raises(InvalidRequest, match="no chat template"):
        encode_prompt(base, [("user", "how")], chat=True)


def test_a_template_that_refuses_is_reported(load_pico: Callable[..., LoadedModel]) -> None:
    base = load_pico()
    base.tokenizer.chat_template = "{{ raise_exception('no system messages') }}"
    with pytest.raises(InvalidRequest, match="no system messages"):
        encode_prompt(base, [("system", "x")], chat=True)


@pytest.mark.parametrize(
    ("template", "takes"),
    [
        ("[INST] <<SYS>>{{ messages[0].content }}<</SYS>> {{ messages[1].content }} [/INST]", True),
        ("<user>{{ messages[0].content }}\n\n{{ messages[1].content }}</user>", False),
        ("<user>{{ messages[1].content }}</user>", False),
        ("{{ raise_exception('no system messages') }}", False),
    ],
    ids=["marks it", "puts it into the user's turn", "leaves it out", "refuses it"],
)
def test_a_system_role_is_one_that_the_template_marks(
    load_pico: Callable[..., LoadedModel], template: str, takes: bool
) -> None:
    base = load_pico()
    base.tokenizer.chat_template = template
    assert base.has_system_role is takes
    assert load_pico().has_system_role
    assert not load_pico(chat=False).has_system_role


def test_prompts_are_chat_only_when_asked_and_possible(
    pico: LoadedModel, load_pico: Callable[..., LoadedModel]
) -> None:
    decode = pico.tokenizer.decode
    assert decode(encode_prompt(pico, "how", chat=False)) == "how"
    assert decode(encode_prompt(load_pico(chat=False), "how", chat=True)) == "how"
    assert decode(encode_prompt(pico, "how", chat=True)) == (
        "<|im_start|>user\nhow<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("chat", [True, False])
def test_a_text_without_tokens_is_refused(pico: LoadedModel, chat: bool) -> None:
    with pytest.raises(InvalidRequest, match="no tokens"):
        encode(pico, [""], max_tokens=5, chat=chat)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    tokens=st.integers(1, 100),
)
def test_batches_hold_every_text_once_and_stay_small(lengths: list[int], tokens: int) -> None:
    texts = [
        Encoded(tuple(range(1, n + 1)), tuple(i % 2 == 0 for i in range(n)), 0) for n in lengths
    ]
    seen: list[int] = []
    longest = max(lengths)
    for batch in batches(texts, tokens=tokens, pad_id=99):
        rows, length = batch.ids.shape
        assert rows == 1 or rows * length <= tokens
        assert length <= longest
        longest = length
        for place, index in enumerate(batch.index):
            own = texts[index]
            assert batch.ids[place, : len(own)].tolist() == list(own.ids)
            assert batch.real[place].tolist() == [True] * len(own) + [False] * (length - len(own))
            assert batch.scored[place, : len(own)].tolist() == list(own.scored)
            assert not bool(batch.scored[place, len(own) :].any())
            assert bool((batch.ids[place, len(own) :] == 99).all())
        seen += batch.index
    assert sorted(seen) == list(range(len(texts)))
    assert torch.tensor(lengths)[seen].diff().le(0).all()


def test_an_answer_can_be_cut_after_its_first_tokens_and_a_plain_text_cannot() -> None:
    answer = Encoded((1, 2, 3, 4, 5), (False, False, True, True, True), 2)
    assert answer.start(2) == Encoded((1, 2, 3, 4), (False, False, True, True), 2)
    assert answer.start(None) == answer
    plain = Encoded((1, 2, 3), (True, True, True), 0)
    assert plain.start(1) == plain
