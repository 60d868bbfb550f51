"""The body of `POST /v1/edits`, put together from options and files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client import WrongUse
from models_store.schemas.methods import METHODS, Effort

_ANY = "Any field"


def _methods(incomplete: str) -> list[str]:
    return [name for name in ("auto", *METHODS) if name.startswith(incomplete)]


def complete_behaviors(incomplete: str) -> list[str]:
    """Presets."""
    from models_store.presets import preset_names

    return [name for name in preset_names() if name.startswith(incomplete)]


BehaviorArgument = Annotated[
    str | None,
    typer.Argument(
        help="A preset, a beh_… id, or @FILE with a behaviour as JSON.",
        autocompletion=complete_behaviors,
    ),
]
Suffix = Annotated[
    str | None, typer.Option(help="A name for the edit: BASE:SUFFIX.", show_default=False)
]
Pairs = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="KEY=VALUE", help="Your own strings, to filter by."),
]


@dataclass(frozen=True)
class Request:
    """The options of a request; what is not given is left to the service."""

    scorer: Annotated[
        str | None, typer.Option(help="In place of a behaviour: lessen what this scorer flags.")
    ] = None
    prompts: Annotated[
        Path | None, typer.Option(help="With --scorer: a file of prompts, one a line.")
    ] = None
    method: Annotated[
        str | None,
        typer.Option(
            help="A method's name, or its settings as JSON.",
            show_default="auto, a search",
            autocompletion=_methods,
        ),
    ] = None
    effort: Annotated[
        Effort | None,
        typer.Option(help="How much is tried and measured.", show_default="standard"),
    ] = None
    max_kl: Annotated[
        float | None,
        typer.Option(help="Limit of the KL divergence, in nats a token.", show_default="0.1"),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the random numbers of fit and test.", show_default="0"),
    ] = None
    suffix: Suffix = None
    metadata: Pairs = None
    preserve: Annotated[
        Path | None,
        typer.Option(help="A file of what must not change: a text or a JSON item a line."),
    ] = None
    suite: Annotated[
        list[str] | None,
        typer.Option(help="A standard suite to run before and after; several times."),
    ] = None
    on_top_of: Annotated[
        str | None, typer.Option(help="A variant to fit it on, in place of the base model.")
    ] = None
    request: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="The whole request as JSON; - reads it.", rich_help_panel=_ANY
        ),
    ] = None
    set: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=VALUE",
            help="Any field, such as limits.max_loops=0.02; several times. VALUE is JSON, else "
            "text, and @FILE what a JSON file holds.",
            rich_help_panel=_ANY,
        ),
    ] = None

    def body(self, base_model: str | None, behavior: Any = None) -> dict[str, Any]:
        """What is sent: the file of --request, then options, then --set.

        Raises:
            WrongUse: an option or a file cannot be read, or no base model is named.
        """
        body = {} if self.request is None else dict(read_object(self.request))
        given = {
            "base_model": base_model,
            "behavior": self._behavior(behavior),
            "method": None if self.method is None else method_of(self.method),
            "effort": self.effort,
            "seed": self.seed,
            "suffix": self.suffix,
            "metadata": pairs(self.metadata, "--metadata"),
            "preserve": None if self.preserve is None else items_of(self.preserve),
            "suites": self.suite,
            "on_top_of": self.on_top_of,
        }
        body |= {name: value for name, value in given.items() if value is not None}
        if self.max_kl is not None:
            body["limits"] = {**(body.get("limits") or {}), "max_kl": self.max_kl}
        for setting in self.set or ():
            put(body, setting)
        if "base_model" not in body:
            raise WrongUse("name a base model: `scalpel models base` lists them")
        if "behavior" not in body:
            raise WrongUse("give a behaviour, or --scorer and --prompts")
        return body

    def _behavior(self, behavior: Any) -> Any:
        """A name, or a behaviour in place."""
        if self.scorer is None and self.prompts is None:
            return behavior_of(behavior) if isinstance(behavior, str) else behavior
        if behavior is not None or self.scorer is None or self.prompts is None:
            raise WrongUse("give a behaviour, or --scorer and --prompts")
        lines = [*filter(str.strip, read_text(self.prompts).splitlines())]
        return {"name": f"less {self.scorer}", "scorer": self.scorer, "prompts": lines}


def behavior_of(given: str) -> Any:
    """A name, or what the file after an @ holds."""
    return read_json(Path(given[1:])) if given.startswith("@") else given


def method_of(given: str) -> Any:
    """A request's `method`: given as JSON, or as its type alone."""
    if not given.lstrip().startswith("{"):
        return {"type": given}
    try:
        return json.loads(given)
    except ValueError as error:
        raise WrongUse(
            f"--method cannot be read as JSON ({error}): give a method's name, such as bias, or "
            'its settings, such as \'{"type": "bias", "layers": [14]}\''
        ) from error


def put(body: dict[str, Any], setting: str) -> None:
    """Set the field that `limits.max_kl=0.1` names, within objects that are made if need be."""
    path, equals, text = setting.partition("=")
    names = path.split(".")
    if not equals or not all(names):
        raise WrongUse(f"--set {setting!r}: write PATH=VALUE, such as limits.max_kl=0.1")
    place: Any = body
    for name in names[:-1]:
        if place.get(name) is None:
            place[name] = {}
        place = place[name]
        if not isinstance(place, dict):
            raise WrongUse(f"--set {path}: {name} has no fields, it is {json.dumps(place)}")
    place[names[-1]] = _value(text)


def _value(text: str) -> Any:
    if text.startswith("@"):
        return read_json(Path(text[1:]))
    try:
        return json.loads(text)
    except ValueError:
        return text


def pairs(given: Sequence[str] | None, option: str) -> dict[str, str] | None:
    """`team=docs` as a field; None where none was given."""
    if not given:
        return None
    for each in given:
        if "=" not in each:
            raise WrongUse(f"{option} {each!r}: write KEY=VALUE")
    return dict(each.split("=", 1) for each in given)


def items_of(file: Path) -> list[Any]:
    """A text, or an item as JSON, a line."""
    return [*_items(filter(str.strip, read_text(file).splitlines()), file)]


def _items(lines: Iterable[str], file: Path) -> Iterable[Any]:
    for number, line in enumerate(lines, start=1):
        if not line.lstrip().startswith("{"):
            yield line.strip()
            continue
        try:
            yield json.loads(line)
        except ValueError as error:
            raise WrongUse(f"{file}: item {number} cannot be read as JSON: {error}") from error


def read_json(file: Path) -> Any:
    """Raises:
    WrongUse: the file cannot be read, or is no JSON.
    """
    try:
        return json.loads(read_text(file))
    except ValueError as error:
        raise WrongUse(f"{file} cannot be read as JSON: {error}") from error


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object; `-` is the standard input."""
    found = read_json(file)
    if not isinstance(found, dict):
        raise WrongUse(f"{file} must hold a JSON object")
    return found


def read_text(file: Path) -> str:
    """Raises:
    WrongUse: the file cannot be read.
    """
    try:
        if str(file) == "-":
            return typer.get_text_stream("stdin").read()
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise WrongUse(f"{file} cannot be read: {error}") from error
