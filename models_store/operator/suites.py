"""The standard suites by name, and where this installation's data for them lie.

None of the data comes with Scalpel: the operator names it in a TOML file, a table a suite. A
relative path counts from the file's own folder; a file of a data set on the Hugging Face hub is
named at one commit, so that it cannot change under a receipt:

    [toxicity]
    data = "real-toxicity-prompts/prompts.jsonl"
    scorer = "profanity"

    [refusal]
    data = { harmful = "harmbench.jsonl", safe = "xstest.jsonl", harmless = "alpaca.jsonl" }

    [capability.data]
    text = "wikitext-2/wiki.test.raw"
    gsm8k = "hub:owner/name@0123456789abcdef0123456789abcdef01234567/test.jsonl"

A suite is a table's class, registered as an entry point of `scalpel.suites`; what it does is in the
function that `opens` names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    BeforeValidator,
    ValidationError,
    ValidationInfo,
)

from models_store.errors import FieldError, InvalidRequest
from models_store.operator.scorers import LlmJudge, OperatorScorer, all_scorers, read_scorers
from models_store.operator.toml import field_errors, read_document, refuse
from models_store.registry import Registry
from models_store.schemas.base import DocumentedModel
from models_store.schemas.catalogue import HubSource
from models_store.schemas.scorers import ScorerInfo
from models_store.settings import Settings

_HUB = "hub:"
_HUB_FORM = "hub:OWNER/NAME@COMMIT/PATH, the commit in full"


class Table(DocumentedModel):
    """Of the operator's file."""


class DataFile(Table):
    """A file on the editor's machine, or one on the hub, which the editor fetches once."""

    path: Path
    """Absolute; of a file on the hub the path inside the repository."""
    source: HubSource | None = None


def _data_file(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be a path, or {_HUB_FORM}")
    if not value.startswith(_HUB):
        folder: Path = (info.context or {}).get("folder", Path())
        return DataFile(path=(folder / Path(value).expanduser()).absolute())
    repo, at, rest = value.removeprefix(_HUB).partition("@")
    revision, slash, path = rest.partition("/")
    if not (at and slash and path) or ".." in path.split("/"):
        raise ValueError(f"must be {_HUB_FORM}, not {value!r}")
    return DataFile(path=Path(path), source=HubSource(repo=repo, revision=revision))


Data = Annotated[DataFile, BeforeValidator(_data_file)]


class SuiteTable(Table):
    """What the operator says of a suite."""

    opens: ClassVar[str]
    """`package.module:function` that takes the table and `Suites`, reads the data and returns a
    `workers.evaluation.suites.protocol.Suite`; imported by workers only."""

    @property
    def scorers(self) -> Mapping[str, str]:
        """Scorers that it names, by field; each must rate a text by itself."""
        return {}


SUITES: Mapping[str, type[SuiteTable]] = Registry("scalpel.suites")


@dataclass(frozen=True)
class Suites:
    """The suites that this installation can run."""

    tables: Mapping[str, SuiteTable]
    """By name."""
    cache: Path
    """The cache folder, where files from the hub are kept."""
    scorers: tuple[OperatorScorer, ...] = ()
    """The operator's own, which suites may name."""


def configured_suites(settings: Settings) -> Suites:
    """What the operator's file says; without one there is no suite.

    Raises:
        InvalidRequest: see `read_suites`, or the file of scorers is wrong.
    """
    if settings.suites is None:
        return Suites({}, settings.cache)
    scorers = read_scorers(settings.scorers)
    return Suites(read_suites(settings.suites, scorers), settings.cache, scorers)


def read_suites(path: Path, scorers: Sequence[OperatorScorer] = ()) -> dict[str, SuiteTable]:
    """The tables of an operator's TOML file. The data themselves are not looked at.

    Args:
        scorers: the operator's own, which a table may name.

    Raises:
        InvalidRequest: the file cannot be read or is not TOML, or a field is wrong; every wrong
            field is named with its table.
    """
    tables: dict[str, SuiteTable] = {}
    problems: list[FieldError] = []
    for name, fields in read_document(path, setting="SCALPEL_SUITES").items():
        if name not in SUITES:
            detail = f"is no suite; there are {', '.join(SUITES)}"
            problems.append(FieldError(f"/{name}", "unknown_suite", detail))
            continue
        try:
            table = SUITES[name].model_validate(fields, context={"folder": path.parent})
        except ValidationError as error:
            problems += field_errors(error, f"/{name}")
            continue
        usable = usable_scorers(scorers)
        for field, scorer in table.scorers.items():
            if scorer not in usable:
                detail = f"{scorer!r} is none of {', '.join(usable)}"
                problems.append(FieldError(f"/{name}/{field}", "unknown_scorer", detail))
        tables[name] = table
    refuse(path, problems)
    return tables


def usable_scorers(operator: Sequence[OperatorScorer]) -> dict[str, ScorerInfo]:
    """Those that rate a text by itself, with no behaviour to learn from or to ask about."""
    judges = {scorer.name for scorer in operator if isinstance(scorer, LlmJudge)}
    return {
        name: info
        for name, info in all_scorers(operator).items()
        if info.turnable and not info.learns and name not in judges
    }


def check_suites(names: tuple[str, ...], configured: Collection[str]) -> None:
    """Check the suites that a request names.

    Raises:
        InvalidRequest: one is unknown, has no data here, or is named twice; each is named.
    """
    problems = [
        FieldError(f"/suites/{index}", code, f"suites.{index}: {detail}")
        for index, name in enumerate(names)
        for code, detail in _problems(name, names[:index], configured)
    ]
    if problems:
        raise InvalidRequest.of(problems)


def _problems(
    name: str, earlier: tuple[str, ...], configured: Collection[str]
) -> list[tuple[str, str]]:
    here = f"configured here: {', '.join(sorted(configured)) or 'none'}"
    if name not in SUITES:
        detail = f"{name[:100]!r} is no suite; there are {', '.join(SUITES)} ({here})"
        return [("unknown_suite", detail)]
    if name not in configured:
        detail = f"{name!r} has no data on this server: its operator names them ({here})"
        return [("suite_not_configured", detail)]
    return [("duplicate", f"{name!r} is there twice")] if name in earlier else []
