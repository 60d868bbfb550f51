"""Ask a server the prompts of a canary, and put together what was found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from app.domain.bodies import View
from app.domain.canaries.answers import (
    FORMS,
    PATHS,
    Answer,
    Form,
    gives_logprobs,
    read_answer,
    readable,
    same_text,
)
from app.domain.canaries.curves import Curve, are_bare, effect, plain_tokens
from app.domain.canaries.deciding import Outcome, Verdict, decide_by_logprobs, decide_by_texts
from models_store.schemas.canary import Canary, CanaryPrompt, CanarySheet, Endpoint

Post = Callable[[str, dict[str, Any]], Awaitable[tuple[int, bytes]]]
"""Send a body to a path of the server: the status and body of its response.

Raises:
    OSError: no response came.
"""
PARALLEL = 4
SECONDS = 120.0
"""For all prompts together."""
_ANOTHER_FORM = frozenset({400, 422, 501})
"""The server may take the same request with fewer log-probabilities, or none."""
_ANOTHER_ENDPOINT = _ANOTHER_FORM | {404, 405}


class CanaryRow(View):
    """One prompt: what base model and export answer, and what the server did."""

    prompt: str
    """What was asked."""
    base: str
    """The likeliest next token, or the continuation, of the base model."""
    edited: str
    """That of the export."""
    served: str | None
    """That of the server; null without an answer."""
    from_base: float | None
    """Distance of the log-probabilities from the base model's, in nats; null by texts."""
    from_edited: float | None
    """Distance from those of the export, likewise."""


class CanaryCheck(View):
    """What a server serves, by its answers to the canary of an export."""

    object: Literal["canary"] = "canary"
    """What kind of thing this is: always the same word."""
    variant: str
    """The variant that was exported."""
    model: str
    """What was asked for."""
    base_model: str | None
    """What was asked for besides, to compare with; null: the recorded answers alone count."""
    outcome: Outcome
    """What is served."""
    certainty: float
    """Probability of the outcome, or of the likeliest one if it is undecided; at most 0.999."""
    strength: float | None
    """Multiple of the export's own strengths: 1 is the export, 0 the base model."""
    low: float | None
    """With `high`: where the strength lies with 95 %."""
    high: float | None
    """See `low`."""
    reason: str
    """Why, in a sentence."""
    endpoint: Endpoint | None
    """Null where the server gave no answer."""
    by: Literal["logprobs", "texts"] | None
    """What the server was told apart by; null without an answer."""
    prompts: list[CanaryRow]
    """Each prompt with its answers."""


@dataclass(frozen=True)
class _Answers:
    sheet: CanarySheet
    form: Form
    answers: Sequence[Answer | None]

    @property
    def by(self) -> Literal["logprobs", "texts"]:
        return "texts" if self.form.logprobs is None else "logprobs"


class _Failed(Exception):
    """The server answers nothing that can be used; its text says why."""


async def check(
    canary: Canary, model: str, post: Post, base_model: str | None = None
) -> CanaryCheck:
    """Ask a server what the canary knows the answers to.

    Args:
        model: the name by which the server knows what it is asked for.
        post: reaches the server.
        base_model: the name of the base model on the same server: what its weights have beside the
            recorded ones, such as 4 bits, then cancels out.
    """
    names = {"model": model, "base_model": base_model}
    try:
        async with asyncio.timeout(SECONDS):
            asked = await _ask(canary, model, post)
            beside = await _ask_the_same(canary, asked, base_model, post) if base_model else None
    except TimeoutError:
        return _unanswered(canary, names, f"it took more than {SECONDS:g} s")
    except _Failed as failed:
        return _unanswered(canary, names, str(failed))
    if asked.by == "logprobs":
        verdict = decide_by_logprobs(asked.sheet, canary.strengths, asked.answers, beside)
    else:
        verdict = decide_by_texts(asked.sheet, canary.text_strengths, asked.answers)
    bare = are_bare(asked.answers)
    rows = zip(asked.sheet.prompts, asked.answers, strict=True)
    return _result(
        canary,
        names,
        verdict,
        endpoint=asked.sheet.endpoint,
        by=asked.by,
        prompts=[_row(canary, asked.by, prompt, answer, bare=bare) for prompt, answer in rows],
    )


async def _ask(canary: Canary, model: str, post: Post) -> _Answers:
    """The answers to the sheet that shows most, of those that the server takes.

    Raises:
        _Failed: it takes none.
    """
    order = sorted(canary.sheets, key=lambda sheet: -effect(sheet, canary.strengths))
    why = ""
    for sheet in order:
        ask = _Questions(canary, sheet, model, post)
        for form in FORMS:
            status, answer = await ask.one(sheet.prompts[0], form)
            if answer is not None:
                if form.logprobs is not None and not answer.top:
                    continue
                others = await ask.all(sheet.prompts[1:], form)
                answers = [answer, *others]
                given = [each for each in answers if each is not None]
                if 2 * len(given) < len(answers):
                    raise _Failed(f"it answered {len(given)} of {len(answers)} prompts")
                if form.logprobs is None or gives_logprobs(given):
                    return _Answers(sheet, form, answers)
                continue
            why = ask.why
            if status not in _ANOTHER_FORM and status != 200:
                break
        if status not in _ANOTHER_ENDPOINT:
            break
    raise _Failed(why)


async def _ask_the_same(
    canary: Canary, asked: _Answers, model: str, post: Post
) -> Sequence[Answer | None]:
    """The answers of another model to the same questions.

    Raises:
        _Failed: there is none to more than half of them.
    """
    ask = _Questions(canary, asked.sheet, model, post)
    answers = await ask.all(asked.sheet.prompts, asked.form)
    if 2 * sum(each is not None for each in answers) < len(answers):
        raise _Failed(f"the base model: {ask.why}")
    return answers


class _Questions:
    """Those of one sheet."""

    def __init__(self, canary: Canary, sheet: CanarySheet, model: str, post: Post) -> None:
        self._canary = canary
        self._endpoint = sheet.endpoint
        self._model = model
        self._post = post
        self._turns = asyncio.Semaphore(PARALLEL)
        self.why = ""
        """There was no answer."""

    async def one(self, prompt: CanaryPrompt, form: Form) -> tuple[int, Answer | None]:
        """The status, 0 without any, and the answer where there is one."""
        path = PATHS[self._endpoint]
        body = form.body(self._endpoint, self._model, prompt.prompt, self._canary.text_tokens)
        try:
            async with self._turns:
                status, data = await self._post(path, body)
        except OSError as error:
            self.why = f"it cannot be asked: {readable(str(error))}"
            return 0, None
        answer = read_answer(data) if status == 200 else None
        if answer is None:
            self.why = f"POST {path} answers {status}{_message(data)}"
        return status, answer

    async def all(self, prompts: Sequence[CanaryPrompt], form: Form) -> list[Answer | None]:
        """An answer to each, several at a time."""
        got = await asyncio.gather(*(self.one(prompt, form) for prompt in prompts))
        return [answer for _, answer in got]


def _message(data: bytes) -> str:
    """What an error's body says, in OpenAI's shape or as a problem; else nothing."""
    try:
        content = json.loads(data)
        said = content.get("error", content)
        text = said if isinstance(said, str) else said.get("message") or said.get("detail")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return f": {readable(text[:200])}" if isinstance(text, str) else ""


def _unanswered(canary: Canary, names: Mapping[str, Any], why: str) -> CanaryCheck:
    verdict = Verdict("undecided", 0.0, None, None, None, why)
    return _result(canary, names, verdict, endpoint=None, by=None, prompts=[])


def _result(
    canary: Canary, names: Mapping[str, Any], verdict: Verdict, **found: Any
) -> CanaryCheck:
    decided = {**asdict(verdict), "certainty": round(verdict.certainty, 4)}
    return CanaryCheck(variant=canary.variant, **names, **decided, **found)


def _row(
    canary: Canary, by: str, prompt: CanaryPrompt, answer: Answer | None, *, bare: bool
) -> CanaryRow:
    if by == "texts":
        base, edited = (prompt.texts[canary.text_strengths.index(each)] for each in (0.0, 1.0))
        served = None if answer is None else answer.text
        return CanaryRow(
            prompt=prompt.prompt,
            base=same_text(base),
            edited=same_text(edited),
            served=None if served is None else same_text(served),
            from_base=None,
            from_edited=None,
        )
    curve = Curve(prompt, canary.strengths, bare=bare)
    top: Mapping[str, float] = plain_tokens((answer and answer.top) or {})
    distances = [round(curve.distance(top, each), 3) if top else None for each in (0.0, 1.0)]
    return CanaryRow(
        prompt=prompt.prompt,
        base=curve.likeliest(0.0),
        edited=curve.likeliest(1.0),
        served=max(top, key=lambda token: top[token]) if top else None,
        from_base=distances[0],
        from_edited=distances[1],
    )
