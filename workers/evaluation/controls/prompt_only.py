"""The control by prompt: the base is asked to do what the edit does, and nothing is edited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models_store.presets import calibration_texts
from models_store.schemas.items import ChatItem, CompletionItem
from models_store.schemas.measurements import WordingRole
from workers import progress
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import fewer
from workers.evaluation.controls.alternatives import prompt_wordings
from workers.evaluation.damage.neutral import encode_neutral, mean_kl
from workers.evaluation.effect.effect import score_grid
from workers.evaluation.scorers.prepare import PreparedScorer
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.likelihood import compare
from workers.runtime.tokens import Conversation, Encoded, encode_prompt


@dataclass(frozen=True)
class Wording:
    """An instruction, and where it stands."""

    text: str
    role: WordingRole

    def with_prompt(self, prompt: str) -> str | Conversation:
        if self.role == "system":
            return [("system", self.text), ("user", prompt)]
        return f"{self.text}\n\n{prompt}"

    def with_item(self, item: CompletionItem | ChatItem) -> ChatItem:
        """A neutral answer, in a conversation that the wording begins."""
        if isinstance(item, ChatItem):
            first, *later = ((message.role, message.content) for message in item.messages)
        else:
            first, later = ("user", item.prompt), [("assistant", item.completion)]
        begun = self.with_prompt(first[1])
        turns = [("user", begun)] if isinstance(begun, str) else begun
        return ChatItem.model_validate(
            {"messages": [{"role": role, "content": text} for role, text in (*turns, *later)]}
        )


def role_of_wordings(context: EvaluationContext) -> WordingRole:
    """The system's, where prompts pass through a chat template that has a place for it."""
    chat = context.behavior.chat and context.model.loaded.has_system_role
    return "system" if chat else "before_prompt"


def best_wording(context: EvaluationContext, scorer: PreparedScorer) -> Wording:
    """The wording that does most on validation prompts; the test prompts are not looked at.

    Without validation prompts it is the first one.

    Args:
        scorer: the leading one.
    """
    role = role_of_wordings(context)
    texts = prompt_wordings(context.behavior, context.splits.fit)
    wordings = [Wording(text, role) for text in texts]
    few = fewer(context.plan.wording_prompts, context.behavior.max_new_tokens)
    prompt_texts = [prompt.text for prompt in context.splits.validate[:few]]
    if not prompt_texts:
        return wordings[0]
    tried = []
    for index, wording in enumerate(progress.track(wordings)):
        arm = context.generate_unedited(
            [wording.with_prompt(prompt) for prompt in prompt_texts],
            samples=1,
            seed=context.seeds["wording"],
        )
        scores = score_grid(scorer, prompt_texts, arm.texts)
        # Where the rates are equal, the mean score decides, then the order.
        tried.append((float(scorer.undesired(scores).mean()), float(scores.mean()), index))
    return wordings[min(tried)[-1]]


def kl_of_wording(model: EditedModel, wording: Wording, *, each: int) -> float:
    """How far a model with the wording before its text is from the model without, in KL.

    It is measured as a delta's is: on the same neutral texts, at the same positions, the larger of
    the means on plain text and on answers. No system message stands before plain text, so its KL is
    that on answers.

    Args:
        each: neutral texts of each kind.
    """
    base = model.loaded
    plain, answers = encode_neutral(base, "calibration", each=each).parts
    _, chat = calibration_texts()
    worded = encode_neutral(base, ((), list(map(wording.with_item, chat))), each=each).texts
    kl = _kl(model, answers, worded) if answers else 0.0
    if wording.role == "system" or not plain:
        return kl
    before = encode_prompt(base, f"{wording.text}\n\n", chat=False)
    special = len(base.start_ids)
    return max(kl, _kl(model, plain, [_behind(before, text, special) for text in plain]))


def _kl(model: EditedModel, texts: Sequence[Encoded], worded: Sequence[Encoded]) -> float:
    divergence = compare(model.loaded, model.reading(texts), model.reading(worded))
    return mean_kl(divergence, slice(None))


def _behind(before: Sequence[int], text: Encoded, special: int) -> Encoded:
    """A text behind other tokens; what counts stays the same.

    Args:
        special: tokens that the tokenizer begins every text with.
    """
    # A text's first token never counts by itself: nothing predicts it.
    first = max(special, 1)
    unscored = len(before) + first - special
    return Encoded(
        (*before, *text.ids[special:]),
        (False,) * unscored + text.scored[first:],
        unscored,
    )
