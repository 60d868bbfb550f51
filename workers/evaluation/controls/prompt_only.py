"""The control by prompt: the base is asked to do what the edit does, and nothing is edited."""

from __future__ import annotations

from collections.abc import Sequence

from workers import progress
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import fewer
from workers.evaluation.controls.alternatives import prompt_wordings
from workers.evaluation.damage.neutral import calibration_texts, encode_neutral, mean_kl
from workers.evaluation.effect.effect import score_grid
from workers.evaluation.scorers.prepare import PreparedScorer
from workers.runtime.edited_model import EditedModel
from workers.runtime.likelihood import compare
from workers.runtime.tokens import Encoded, encode_prompt


def worded(wording: str, prompt: str) -> str:
    """A prompt that begins with the wording."""
    return f"{wording}\n\n{prompt}"


def best_wording(context: EvaluationContext, scorer: PreparedScorer) -> str:
    """The wording that does most on validation prompts; the test prompts are not looked at.

    Without validation prompts it is the first one.

    Args:
        scorer: the leading one.
    """
    wordings = prompt_wordings(context.behavior, context.splits.fit)
    few = fewer(context.plan.wording_prompts, context.behavior.max_new_tokens)
    prompt_texts = [prompt.text for prompt in context.splits.validate[:few]]
    if not prompt_texts:
        return wordings[0]
    tried = []
    for index, wording in enumerate(progress.track(wordings)):
        arm = context.generate_unedited(
            [worded(wording, prompt) for prompt in prompt_texts],
            samples=1,
            seed=context.seeds["wording"],
        )
        scores = score_grid(scorer, prompt_texts, arm.texts)
        # Where the rates are equal, the mean score decides, then the order.
        tried.append((float(scorer.undesired(scores).mean()), float(scores.mean()), index))
    return wordings[min(tried)[-1]]


def kl_of_wording(model: EditedModel, wording: str, *, each: int) -> float:
    """How far a model with the wording before its text is from the model without, in KL.

    It is measured as a delta's is: on the same neutral texts, at the same positions, the larger of
    the means on plain text and on answers.

    Args:
        each: neutral texts of each kind.
    """
    base = model.loaded
    _, chat = calibration_texts()
    worded_chat = [
        item.model_copy(update={"prompt": worded(wording, item.prompt)}) for item in chat
    ]
    neutral = encode_neutral(base, "calibration", each=each)
    chat_texts = encode_neutral(base, ((), worded_chat), each=each)
    before = encode_prompt(base, worded(wording, ""), chat=False)
    special = len(base.start_ids)
    after = [_behind(before, text, special) for text in neutral.texts[: neutral.plain]]
    pairs = list(zip(neutral.texts, [*after, *chat_texts.texts], strict=True))
    divergence = compare(
        base,
        model.reading([text for text, _ in pairs]),
        model.reading([text for _, text in pairs]),
    )
    parts = [slice(0, neutral.plain), slice(neutral.plain, len(pairs))]
    return max(mean_kl(divergence, part) for part in parts if divergence.positions[part].any())


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
