"""Undesired texts for a behaviour that has desired ones only: what the base model itself responds
to the same prompts, so that an edit leads from its own way of responding to the given one.

One response to each prompt is drawn as the edit will be measured, and is as long as the desired
texts are, at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from statistics import median

from models_store.errors import EditFailed
from models_store.presets import neutral_words
from models_store.schemas.behaviors import MIN_TEXTS, Behavior, distinct
from models_store.schemas.items import ChatItem, CompletionItem, Item, Message, text_of
from models_store.schemas.report import MadeTexts
from workers.evaluation.data.splits import drawn
from workers.evaluation.effect.generations import DecodingSettings
from workers.evaluation.seeds import derive
from workers.making.cache import Cache
from workers.making.scored_texts import ScoredTexts
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import encode_prompt

MOST = 1_000
"""Desired texts whose prompts are responded to."""
LEAST_TOKENS, MOST_TOKENS = 16, 128
"""Of a response, at most."""


def with_base_responses(behavior: Behavior, seed: int, cache: Cache) -> ScoredTexts:
    """The behaviour with its undesired texts, by the model that is to be edited.

    Raises:
        InvalidRequest: a conversation meets a model without a chat template.
        EditFailed: `behavior_not_shown`, the model responds as the desired texts do already.
    """
    base, asked = cache.model.loaded, drawn(behavior.desired, MOST)
    prompts = [encode_prompt(base, _prompt(item), chat=behavior.chat) for item in asked]
    decoding = DecodingSettings(
        max_new_tokens=response_tokens(base, asked), seed=derive(seed, "responses"), samples=1
    )
    arm = cache.generated(prompts, decoding)
    made = [
        _responded(item, text)
        for item, (text,) in zip(asked, arm.texts, strict=True)
        if text.strip()
    ]
    wanted = distinct(behavior.desired)
    undesired = tuple(item for key, item in distinct(made).items() if key not in wanted)
    if len(undesired) < MIN_TEXTS:
        raise EditFailed(
            f"of {len(asked)} responses of the base model to the prompts of the desired texts only "
            f"{len(undesired)} differ from these and from each other; {MIN_TEXTS} are needed. Give "
            "examples that it does not follow already, or undesired texts of your own",
            code="behavior_not_shown",
        )
    return ScoredTexts(
        behavior.model_copy(update={"undesired": undesired}),
        MadeTexts(
            scorer=None,
            prompts=len(asked),
            samples=1,
            continuations=len(made),
            flagged=0,
            prompts_used=len(undesired),
            texts=len(undesired),
        ),
    )


def unanswered(behavior: Behavior) -> Behavior:
    """The behaviour with neutral undesired texts, as many and as long as they will be at most: for
    what the edit takes, not for what it does."""
    words = neutral_words()
    asked = drawn(behavior.desired, MOST)
    made = (_responded(item, " ".join(islice(words, _words(item)))) for item in asked)
    return behavior.model_copy(update={"undesired": tuple(made)})


def generated_tokens(base: LoadedModel, behavior: Behavior) -> int:
    """Tokens that are generated to make the undesired texts, at most."""
    asked = drawn(behavior.desired, MOST)
    return len(asked) * response_tokens(base, asked)


def response_tokens(base: LoadedModel, desired: Sequence[Item]) -> int:
    """How long a response may be: the median of the desired ones, within bounds."""
    lengths = [len(base.tokenizer(text_of(item), verbose=False)["input_ids"]) for item in desired]
    return min(MOST_TOKENS, max(LEAST_TOKENS, int(median(lengths))))


def _words(item: Item) -> int:
    return max(1, len(text_of(item).split()))


def _prompt(item: Item) -> str | list[tuple[str, str]]:
    if isinstance(item, ChatItem):
        return [(message.role, message.content) for message in item.messages[:-1]]
    assert isinstance(item, CompletionItem)
    return item.prompt


def _responded(item: Item, text: str) -> Item:
    """The same prompt, with the model's response."""
    if isinstance(item, ChatItem):
        response = Message(role="assistant", content=text)
        return item.model_copy(update={"messages": (*item.messages[:-1], response)})
    return item.model_copy(update={"completion": text})
