"""Scorers that the operator brings: a server that scores texts, or a language model that judges.

They are named in a TOML file (`SCALPEL_SCORERS`); how they are called is in
`workers.evaluation.scorers.remote.scorers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from models_store.errors import FieldError
from models_store.operator.toml import read_tables, refuse
from models_store.schemas.base import DocumentedModel
from models_store.schemas.scorers import SCORERS, ScorerInfo

_Words = Annotated[str, Field(min_length=1, max_length=300)]
_Url = Annotated[str, Field(pattern=r"^https?://[^\s/@]+(/[^\s@]*)?$", max_length=500)]
"""Without a user and a password: a secret belongs into the variable that `key_env` names."""


class _Remote(DocumentedModel):
    model_config = ConfigDict(allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
    """What behaviours call it; none of the built-in names."""
    measures: _Words | None = None
    """In a few words; the score is near 1 where there is much of it."""
    threshold: Annotated[float, Field(gt=0, lt=1)]
    """A text whose score reaches it counts as undesired."""
    licence: _Words
    trained_on: _Words
    key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable of the editor that holds the key, sent as a bearer token."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0
    """For a whole answer."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """Further tries when it is away."""


class HttpScorer(_Remote):
    """`POST url {"prompts": […], "texts": […]}` answers `{"scores": […]}`, each in [0, 1]."""

    type: Literal["http"]
    url: _Url
    batch: Annotated[int, Field(ge=1, le=1_000)] = 32
    """Texts of one request, at most."""

    @property
    def info(self) -> ScorerInfo:
        return ScorerInfo(
            name=self.name,
            measures=self.measures or "what a scorer of the operator's finds",
            licence=self.licence,
            trained_on=self.trained_on,
            threshold=self.threshold,
        )


class LlmJudge(_Remote):
    """A model behind OpenAI's chat completions says yes or no to a question on each text."""

    type: Literal["llm-judge"]
    base_url: _Url
    """Such as `https://api.openai.com/v1`; `/chat/completions` is put behind it."""
    model: _Words
    threshold: Annotated[float, Field(gt=0.5, lt=1)]
    """Above 0.5, which an answer gets that is neither yes nor no."""
    question: _Words | None = None
    """Yes means that there is much of what it measures; by default the behaviour's question."""
    logprobs: bool = True
    """Ask for probabilities; false for a server that refuses to give them."""
    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    """Requests at a time."""

    @property
    def info(self) -> ScorerInfo:
        about = f"yes to “{self.question}”" if self.question else "yes to the behaviour's question"
        return ScorerInfo(
            name=self.name,
            measures=self.measures or f"{about}, says {self.model}",
            licence=self.licence,
            trained_on=self.trained_on,
            threshold=self.threshold,
            turnable=self.question is not None,
        )


OperatorScorer = HttpScorer | LlmJudge
_ROWS: TypeAdapter[OperatorScorer] = TypeAdapter(
    Annotated[OperatorScorer, Field(discriminator="type")]
)


def read_scorers(path: Path | None) -> tuple[OperatorScorer, ...]:
    """The scorers of an operator's TOML file, in the file's order; none without a file.

    The file is a list of tables:

        [[scorer]]
        name = "judge"
        type = "llm-judge"
        base_url = "http://10.0.0.7:8000/v1"
        model = "qwen3-32b"
        threshold = 0.6
        licence = "Apache-2.0"
        trained_on = "a mix of public and synthetic text; its makers say no more"

    Raises:
        InvalidRequest: the file cannot be read or is not TOML, or a field is wrong; every wrong
            field is named.
    """
    if path is None:
        return ()
    scorers = read_tables(path, "scorer", _ROWS, setting="SCALPEL_SCORERS")
    problems = []
    for index, scorer in enumerate(scorers):
        pointer = f"/scorer/{index}/name"
        if scorer.name in SCORERS:
            detail = f"{scorer.name!r} is built in: choose another name"
            problems.append(FieldError(pointer, "duplicate", detail))
        elif any(scorer.name == other.name for other in scorers[:index]):
            problems.append(FieldError(pointer, "duplicate", f"{scorer.name!r} is there twice"))
    refuse(path, problems)
    return tuple(scorers)


def all_scorers(operator: Sequence[OperatorScorer]) -> Mapping[str, ScorerInfo]:
    """Every scorer that a behaviour may name here: the built-in ones, then the operator's."""
    return {**SCORERS, **{scorer.name: scorer.info for scorer in operator}}
