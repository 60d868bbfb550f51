"""The documentation held against the code: what it names exists, and its commands work."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel, SecretStr

from app.cli.main import app as command_line
from app.cli.openapi import openapi_document
from app.domain.accounts.api_keys import SCOPES
from app.http.error_catalogue import ERRORS
from models_store.operator.suites import SUITES
from models_store.presets import preset_names
from models_store.schemas.measurements import ControlKind
from models_store.schemas.methods import METHODS, Auto, Effort, Limits
from models_store.schemas.scorers import SCORERS
from models_store.settings import Settings
from workers.evaluation.context.budget import BUDGETS
from workers.evaluation.context.plan import plan_for
from workers.making.search.recipes import recipes

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    return _FENCE.sub("", read(page))


def code(page: Path) -> str:
    """All blocks and spans of code, one after the other."""
    blocks = [body for _, body in _FENCE.findall(read(page))]
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", prose(page))])


def anchors(page: Path) -> set[str]:
    """What a heading is linked by: in small letters, without marks, with hyphens for spaces."""
    kept = (re.sub(r"[^\w\- ]", "", title.lower()) for title in _HEADING.findall(prose(page)))
    return {title.strip().replace(" ", "-") for title in kept}


def table(page: str, first: str, after: str = "") -> list[list[str]]:
    """The rows below the heading row that begins with `first`, without the marks of code."""
    text = read(DOCS / page)
    lines = iter(text[text.index(after) :].splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            break
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return rows


def column(page: str, first: str, after: str = "") -> list[str]:
    """The first column of a table."""
    return [row[0] for row in table(page, first, after)]


def shown(value: Any) -> str:
    """A default as the tables have it."""
    if value is None or value == "":
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


@BY_PAGE
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_in_the_index() -> None:
    linked = {(DOCS / link).resolve() for link in _LINK.findall(read(DOCS / "README.md"))}

    assert linked == {page.resolve() for page in DOCS.rglob("*.md")} - {DOCS / "README.md"}


@BY_PAGE
def test_every_command_exists(page: Path) -> None:
    commands = typer.main.get_command(command_line).commands  # type: ignore[attr-defined]
    for name, sub in re.findall(r"(?<![\w./-])scalpel ([a-z][a-z-]*)(?: ([a-z-]+))?", code(page)):
        assert name in commands
        if hasattr(commands[name], "commands") and sub:
            assert sub in commands[name].commands


@BY_PAGE
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):.*## ", read(ROOT / "Makefile"), re.MULTILINE))

    # At the beginning of a line or a span: elsewhere it may be a word of a text.
    assert set(re.findall(r"^(?:\$ )?make ([a-z0-9-]+)", code(page), re.MULTILINE)) <= targets


def test_the_table_of_make_targets_is_complete() -> None:
    targets = re.findall(r"^([a-z0-9-]+):.*## ", read(ROOT / "Makefile"), re.MULTILINE)

    named = [row for row in column("development.md", "command") if row.startswith("make ")]
    assert sorted(named) == sorted(f"make {target}" for target in targets)


@BY_PAGE
def test_every_test_that_is_named_is_there(page: Path) -> None:
    for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", read(page)):
        assert (ROOT / file).is_file(), file
        assert f"def {name}" in read(ROOT / file), f"{file}::{name}"


@BY_PAGE
def test_every_variable_of_ours_is_a_setting(page: Path) -> None:
    known = {f"SCALPEL_{name.upper()}" for name in Settings.model_fields}

    named = set(re.findall(r"SCALPEL_[A-Z0-9_]*[A-Z0-9]", read(page)))
    of_others = {
        "SCALPEL_URL",
        "SCALPEL_API_KEY",
        "SCALPEL_BENCH_DATA",
        "SCALPEL_REDIS_PASSWORD",
        "SCALPEL_PROFILE",
    }
    assert named - known <= of_others


def test_the_table_of_settings_is_complete_and_has_their_defaults() -> None:
    fields = Settings.model_fields
    rows = table("operations.md", "setting")

    assert [row[0] for row in rows] == [f"SCALPEL_{name.upper()}" for name in fields]
    for row, field in zip(rows, fields.values(), strict=True):
        if field.default_factory is None:
            assert row[1] == shown(field.default), row[0]


EVERY_METHOD = [*METHODS.values(), Auto]


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_the_tables_of_methods_have_every_setting_and_its_default(method: type[BaseModel]) -> None:
    kind = method.model_fields["type"].default
    fields = {name: field for name, field in method.model_fields.items() if name != "type"}
    rows = table("method.md", "setting", after=f"\n`{kind}`:")

    assert [row[0] for row in rows] == list(fields)
    for name, default, _ in rows:
        if fields[name].default is not None:
            assert default == shown(fields[name].default), name


def flat(plan: Any) -> dict[str, Any]:
    """The numbers of a plan, with the names of its parts before those of their fields."""
    found: dict[str, Any] = {}
    for name, value in dataclasses.asdict(plan).items():
        if isinstance(value, dict):
            found |= {f"{name}.{part}": number for part, number in value.items()}
        elif not isinstance(value, tuple):  # the kinds of controls have a section of their own
            found[name] = value
    return found


def test_the_plans_of_an_evaluation_are_the_ones_in_force() -> None:
    plans = [flat(plan_for(effort)) for effort in get_args(Effort)]
    names = list(flat(plan_for("thorough")))

    rows = table("measuring.md", "plan | quick | standard | thorough")
    assert [row[:4] for row in rows] == [
        [name, *(shown(plan.get(name)) for plan in plans)] for name in names
    ]


def test_the_budgets_of_a_search_are_the_ones_in_force() -> None:
    budgets = [BUDGETS[effort] for effort in get_args(Effort)]
    rows = table("method.md", "search | quick | standard | thorough")

    for name, *numbers, _ in rows:
        own = [getattr(budget, name) for budget in budgets]
        assert numbers == ["all" if number is None else str(number) for number in own], name


def test_what_a_search_tries_is_what_the_table_says() -> None:
    labels = [recipe.label for recipe in recipes(30, 100, responses=True, preserved=True)]

    assert column("method.md", "tried") == labels


def test_the_table_of_limits_has_their_defaults() -> None:
    rows = table("measuring.md", "limit")

    assert [row[:2] for row in rows] == [
        [name, shown(field.default)] for name, field in Limits.model_fields.items()
    ]


def test_methods_controls_and_suites_are_listed() -> None:
    docs = {method.model_fields["type"].default: method.docs for method in EVERY_METHOD}

    assert {name: tuple(row) for name, *row in table("method.md", "method")} == {
        name: tuple(cell.replace("`", "") for cell in dataclasses.astuple(row))
        for name, row in docs.items()
    }
    assert set(column("measuring.md", "control")) == set(get_args(ControlKind))
    assert column("measuring.md", "suite") == list(SUITES)
    assert column("api.md", "effort") == list(get_args(Effort))


def test_the_table_of_scorers_says_what_the_scorers_say() -> None:
    expected = [
        [info.name, info.measures, info.trained_on, f"{info.threshold:g}"]
        for info in SCORERS.values()
    ]

    assert table("measuring.md", "scorer", after="\n## Scorers") == expected


def test_the_tables_of_errors_are_complete() -> None:
    requests = table("api.md", "code", after="\nErrors of requests:")
    failures = table("api.md", "code", after="\nWhy ")

    texts = {kind: [kind.title, kind.advice.replace("`", "")] for kind in ERRORS.values()}
    assert requests == [
        [kind.code, str(kind.status), *texts[kind]] for kind in texts if kind.status is not None
    ]
    assert failures == [[kind.code, *texts[kind]] for kind in texts if kind.status is None]


def test_scopes_and_presets_are_named() -> None:
    assert column("api.md", "scope") == list(SCOPES)
    assert all(f"`{name}`" in read(DOCS / "guide.md") for name in preset_names())


def test_the_api_page_has_every_call_and_no_other(openapi: dict[str, Any]) -> None:
    page = read(DOCS / "api.md")
    calls = {
        f"{method.upper()} {path}"
        for path, methods in openapi["paths"].items()
        for method in methods
    }

    assert {call for call in calls if f"`{call}`" not in page} == set()
    headed = set(re.findall(r"^### `([A-Z]+ /v1/\S+)`$", page, re.MULTILINE))
    assert headed <= calls


def test_every_path_on_the_api_page_exists(openapi: dict[str, Any]) -> None:
    known = [re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) for path in openapi["paths"]]
    for path in re.findall(r"/v1/[\w/{}$~:@.…-]+", read(DOCS / "api.md")):
        assert any(re.fullmatch(pattern, path.rstrip(".:")) for pattern in known), path


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(openapi_document())
    return document
