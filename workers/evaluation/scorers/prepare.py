"""The scorers of a behaviour, trained, turned and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models_store.errors import InvalidRequest
from models_store.operator.scorers import LlmJudge, OperatorScorer, all_scorers
from models_store.presets import labelled_texts, preset_of
from models_store.registry import Registry
from models_store.schemas.behaviors import Behavior
from models_store.schemas.items import prompt_of
from models_store.schemas.measurements import ReadAgreement, ScorerCard
from models_store.schemas.scorers import DEFAULT_SCORERS, LEXICONS, ScorerInfo
from workers.evaluation.data.splits import Sides, Splits
from workers.evaluation.scorers.contamination import contamination
from workers.evaluation.scorers.protocol import Scorer, Training
from workers.evaluation.scorers.remote.scorers import make_remote
from workers.evaluation.statistics import Floats
from workers.runtime.loading import LoadedModel
from workers.surgery.probe import auc

HEADLINE_AUC = 0.75
"""A scorer that separates held-out texts less well than this proves nothing."""
LEAST_SHARE = 10
"""Texts of a side that a scorer learns from, at least, where several share them out; where there
are fewer, each learns from all."""
REVERSED_BELOW = 0.4
"""AUC on the scorer split under which the behaviour means a scorer's other side."""

_MAKERS: Mapping[str, Callable[[Training], Scorer]] = Registry(
    "scalpel.scorers", lambda module: module.make
)


@dataclass(frozen=True, eq=False)
class Judges:
    """What scorers may call, beside those that need nothing."""

    base: LoadedModel | None = None
    """For `yes-no`; its weights must be the base's own whenever it scores."""
    base_id: str = ""
    """Its id in the catalogue, by which a judge elsewhere is recognised as the same model."""
    operator: tuple[OperatorScorer, ...] = ()


NOBODY = Judges()


@dataclass(frozen=True, eq=False)
class PreparedScorer:
    """A scorer turned so that 1 is this behaviour's undesired side, and checked."""

    info: ScorerInfo
    scorer: Scorer
    reversed: bool
    auc: float | None
    """None for an exact one."""
    heldout_texts: int
    contamination: str | None = None
    chose_texts: bool = False
    stands_in_for: str | None = None
    """As in the receipt, as the next one."""
    read: ReadAgreement | None = None

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def headline(self) -> bool:
        return self.auc is None or self.auc >= HEADLINE_AUC

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        """How undesired each text is, in [0, 1]; the prompts are what the texts respond to.

        An empty text is undesired, or a model that falls silent would pass for a cured one.
        """
        scores = np.clip(self.scorer.score(prompts, texts), 0.0, 1.0).astype(np.float64)
        if self.reversed:
            scores = 1.0 - scores
        scores[[not text.strip() for text in texts]] = 1.0
        return scores

    def undesired(self, scores: Floats) -> NDArray[np.bool_]:
        """Which scores count as undesired, the same shape."""
        return scores >= self.info.threshold

    def card(self, agreement: float) -> ScorerCard:
        return ScorerCard(
            info=self.info,
            reversed=self.reversed,
            auc=self.auc,
            heldout_texts=self.heldout_texts,
            headline=self.headline,
            agreement=agreement,
            contamination=self.contamination,
            chose_texts=self.chose_texts,
            stands_in_for=self.stands_in_for,
            read=self.read,
        )


def scorer_names(behavior: Behavior) -> tuple[str, ...]:
    """The scorers of a behaviour, at least two, each once; whether there are such or not.

    Where a scorer chose the texts, it is among them, and leads unless it is named elsewhere: it is
    what is to fall.
    """
    named = tuple(dict.fromkeys(behavior.scorers))
    if behavior.scorer is not None and behavior.scorer not in named:
        named = (behavior.scorer, *named)
    if len(named) >= 2:
        return named
    return (*named, *(name for name in DEFAULT_SCORERS if name not in named))[:2]


def prepare_scorers(
    behavior: Behavior, splits: Splits, seed: int, judges: Judges = NOBODY
) -> tuple[PreparedScorer, ...]:
    """Train, orient and check the behaviour's scorers; the first one leads.

    Those that learn share out the scorer split: had they learned the same texts, they would err
    alike. Where the behaviour names none and its texts teach one of the default ones too little,
    the lexicon that separates them best takes the place of the second, if there is one that
    separates them well; it leads where the first then is still weak.

    Raises:
        InvalidRequest: there is no scorer of a name, or one needs a judge that there is not.
        Unavailable: a remote scorer is away.
        EditFailed: a remote scorer returns something that is no score.
    """
    prepared = _all_prepared(scorer_names(behavior), behavior, splits, seed, judges)
    named = behavior.scorers or behavior.scorer
    if named or all(scorer.headline for scorer in prepared):
        return prepared
    lexicon = _separating_lexicon(behavior, splits, seed)
    if lexicon is None:
        return prepared
    first, second = _all_prepared((DEFAULT_SCORERS[0], lexicon), behavior, splits, seed, judges)
    second = replace(second, stands_in_for=DEFAULT_SCORERS[1])
    return (first, second) if first.headline else (second, first)


def _separating_lexicon(behavior: Behavior, splits: Splits, seed: int) -> str | None:
    """Name of the lexicon that best tells apart the texts that are not held out, if one does so
    well enough to draw conclusions from."""
    parts = splits.fit, splits.scorer
    seen = Sides(
        tuple(item for part in parts for item in part.undesired),
        tuple(item for part in parts for item in part.desired),
    )
    areas = {name: _auc(_MAKERS[name](Training((), (), seed, behavior)), seen) for name in LEXICONS}
    separation = {name: max(area, 1 - area) for name, area in areas.items()}
    best = max(separation, key=separation.__getitem__)
    return best if separation[best] >= HEADLINE_AUC else None


def _all_prepared(
    names: Sequence[str], behavior: Behavior, splits: Splits, seed: int, judges: Judges
) -> tuple[PreparedScorer, ...]:
    pointers = {name: f"/behavior/scorers/{index}" for index, name in enumerate(behavior.scorers)}
    infos = [_info(name, pointers.get(name, "/behavior/scorer"), judges) for name in names]
    learners = [info.name for info in infos if info.learns]
    shares = {}
    if min(len(splits.scorer.undesired), len(splits.scorer.desired)) >= LEAST_SHARE * len(learners):
        shares = {
            name: splits.scorer.share(place, len(learners)) for place, name in enumerate(learners)
        }
    return tuple(
        _prepared(
            info,
            behavior,
            replace(splits, scorer=shares.get(info.name, splits.scorer)),
            seed,
            judges,
        )
        for info in infos
    )


def teacher_of(behavior: Behavior, seed: int, judges: Judges = NOBODY) -> PreparedScorer:
    """The scorer that a behaviour names in place of texts. Its high scores are what is undesired,
    and there are no texts yet to check it on.

    Raises:
        InvalidRequest, Unavailable, EditFailed: as `prepare_scorers` says.
    """
    assert behavior.scorer is not None
    info = _info(behavior.scorer, "/behavior/scorer", judges)
    training = Training((), (), seed, behavior, judges.base)
    scorer = make_scorer(info.name, training, judges.operator)
    return PreparedScorer(info, scorer, reversed=False, auc=None, heldout_texts=0)


def _info(name: str, pointer: str, judges: Judges) -> ScorerInfo:
    available = all_scorers(judges.operator)
    if name not in available:
        raise InvalidRequest.at(
            pointer,
            f"no scorer is called {name!r}; there are {', '.join(sorted(available))}",
            "unknown_scorer",
        )
    return available[name]


def make_scorer(name: str, training: Training, operator: Sequence[OperatorScorer] = ()) -> Scorer:
    """A built-in scorer, or one of the operator's, that is neither oriented nor checked.

    Raises:
        KeyError: there is none of that name.
        InvalidRequest: it needs something that there is not.
    """
    configured = {scorer.name: scorer for scorer in operator}
    if name in configured:
        return make_remote(configured[name], training)
    return _MAKERS[name](training)


def _prepared(
    info: ScorerInfo, behavior: Behavior, splits: Splits, seed: int, judges: Judges
) -> PreparedScorer:
    """Args:
    splits: their scorer part is what this scorer learns from, where it does.
    """
    training = Training(splits.scorer.texts, splits.scorer.labels, seed, behavior, judges.base)
    scorer = make_scorer(info.name, training, judges.operator)
    backwards, heldout_auc, heldout = False, None, 0
    if not info.exact:
        if info.turnable:
            backwards = _auc(scorer, splits.scorer) < REVERSED_BELOW
        forward = _auc(scorer, splits.heldout)
        heldout_auc, heldout = 1 - forward if backwards else forward, len(splits.heldout)
    prepared = PreparedScorer(
        info=info,
        scorer=scorer,
        reversed=backwards,
        auc=heldout_auc,
        heldout_texts=heldout,
        contamination=contamination(
            info, splits, is_base=_is_base(info.name, scorer, judges), teacher=behavior.scorer
        ),
        chose_texts=info.name == behavior.scorer,
    )
    return replace(prepared, read=_read_agreement(prepared, behavior))


def _read_agreement(scorer: PreparedScorer, behavior: Behavior) -> ReadAgreement | None:
    preset = preset_of(behavior)
    if preset is None or scorer.info.exact:
        return None
    read = [label for label in labelled_texts(preset) if label.undesired is not None]
    scores = scorer.score([label.prompt for label in read], [label.text for label in read])
    labels, flagged = np.array([label.undesired for label in read]), scorer.undesired(scores)
    return ReadAgreement(
        texts=len(read),
        undesired=int(labels.sum()),
        flagged=int(flagged.sum()),
        both=int((flagged & labels).sum()),
        auc=auc(scores, labels.tolist()) if 0 < labels.sum() < len(labels) else None,
    )


def _is_base(name: str, scorer: Scorer, judges: Judges) -> bool:
    """Whether a scorer calls the base model: here, or the same one elsewhere."""
    if getattr(scorer, "base", None) is not None:
        return True
    return any(
        isinstance(judge, LlmJudge)
        and judge.name == name
        and judge.model.partition(":")[0] == judges.base_id
        for judge in judges.operator
    )


def _auc(scorer: Scorer, sides: Sides) -> float:
    return auc(scorer.score([prompt_of(item) for item in sides.items], sides.texts), sides.labels)
