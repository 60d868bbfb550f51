"""What can be known of an edit before it is made: whether it may be held back for harm, and how
little its prompts can show."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice
from threading import Lock

from cachetools import TTLCache, cached

from models_store.operator.policy import UNSAFE, Margins, Policy
from models_store.schemas.behaviors import Behavior
from models_store.schemas.report import SECOND_LOOK, Remark
from models_store.work.store import Work, WorkStore

_LOOKED_AT = 20
"""Of the tenant's newest edits."""
_REMEMBERED_SECONDS = 60.0
_REFUSING = "refusal"
"""The preset by which a model refuses less."""
_RARE = 0.15
"""A base that shows a behaviour less often than this is nothing unusual."""
_ERRORS_TO_SEE = 3.1
"""Standard errors from 0 at which a difference is significant, with two looks, in 4 of 5 tests."""


class HarmForecast:
    """Of one store; what earlier edits did is remembered for a minute."""

    def __init__(self, work: WorkStore, policy: Policy) -> None:
        self._work = work
        self._policy = policy
        self._past = cached(TTLCache(1_000, _REMEMBERED_SECONDS), lock=Lock())(self._look)

    def warnings(
        self,
        tenant: str,
        scopes: Collection[str],
        base_fingerprint: str,
        behavior_sha256: str,
        directions: Iterable[str],
    ) -> tuple[Remark, ...]:
        """What a key is told that may not publish edits which do harm; nothing for any other.

        Args:
            directions: what the policy's rules call the edit, or the edits that it measures.
        """
        margins = self._policy.margins
        if not margins.prompts or self._policy.publishes_harm(scopes):
            return ()
        held = f"it is held back {_allowed(margins)}"
        if margins.unsafe == "scope":
            held += f", since this key lacks the scope {UNSAFE}"
        if _REFUSING in directions:
            why = f"an edit by {_REFUSING} makes a model refuse less, harmful requests too"
            return (_remark("harm_likely", f"{why}: {held}"),)
        past = self._past(tenant, base_fingerprint, behavior_sha256)
        if past is not None:
            why = (
                f"{past}, made of the same base model by the same behavior, did more harm than "
                "the operator's margins allow"
            )
            return (_remark("harm_likely", f"{why}: {held}"),)
        why = "the harm of the edit is measured once it is made"
        return (_remark("harm_is_measured", f"{why}: {held}"),)

    def _look(self, tenant: str, base_fingerprint: str, behavior_sha256: str) -> str | None:
        """The newest such edit that did harm."""
        for edit in islice(self._work.walk("edit", tenant), _LOOKED_AT):
            behavior = edit.request.behavior
            same = behavior is not None and behavior.sha256 == behavior_sha256
            if same and edit.request.base_fingerprint == base_fingerprint and _did_harm(edit):
                return edit.id
        return None


def unseen_halving(behavior: Behavior) -> tuple[Remark, ...]:
    """That so few prompts do not show the halving of what the base shows rarely, if so."""
    prompts = behavior.prompts
    free = sum(prompt.split is None for prompt in prompts)
    tested = len(prompts) - sum(prompt.split == "validate" for prompt in prompts)
    tested -= free // (3 if free >= 60 else 5)
    rate = least_rate_to_halve(tested)
    if not prompts or rate <= _RARE:
        return ()
    detail = (
        f"about {tested} of the prompts are tested on: a halving would mostly go unseen if the "
        f"base shows the behaviour in less than {100 * rate:.0f} % of its answers; where it does "
        "so rarely, give 200 prompts or more, name a scorer that counts words, such as profanity, "
        "and ask for the effort standard"
    )
    return (Remark(code="halving_unseen", pointer="/behavior/prompts", detail=detail),)


def least_rate_to_halve(prompts: int) -> float:
    """The rate of which a halving is seen in 4 of 5 tests with so many prompts, at the second look.

    The difference of a rate p to its half has the variance (1.5 p - 1.25 p^2) / n, of two binomial
    shares of n samples; those of one prompt are taken to be as independent as those of others.
    """
    needed = _ERRORS_TO_SEE**2
    return 6 * needed / (SECOND_LOOK * prompts + 5 * needed)


def _remark(code: str, detail: str) -> Remark:
    return Remark(code=code, pointer="/behavior", detail=detail)


def _allowed(margins: Margins) -> str:
    return (
        f"if refusals of harmful requests fall by more than {100 * margins.refusals_fall:g} "
        f"points, or toxic texts rise by more than {100 * margins.toxicity_rise:g}"
    )


def _did_harm(edit: Work) -> bool:
    if edit.result is None:
        return False
    if edit.result.error is not None and edit.result.error.code == "policy_refused":
        return True
    summary = edit.result.outcome_data.get("report_summary")
    return isinstance(summary, dict) and summary.get("outcome") == "harmful"
