"""Talking to a variant, whose strength may change while one talks."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from app.cli.client import ApiError, Client, WrongUse
from app.cli.console import notes, safe
from app.cli.options import Service, spread
from app.cli.work.names import variant_of

_HELP = """\
/strength 0.8  the edit at that strength from now on (several: times theirs)
/both          the base model responds too, before the edit; again: no more
/seed 7        the same random numbers each time; without a number: others
/reset         forget what was said
/help          this
/quit          leave, as Ctrl-D does"""


@spread
def chat(
    variant: Annotated[
        str,
        typer.Argument(help="Such as smollm2-135m-instruct:kinder@0.6, an alias or an edit_… id."),
    ],
    message: Annotated[str | None, typer.Argument(help="Say one thing and leave.")] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told beforehand.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest response, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(help="0: the likeliest words.")] = 0.7,
    seed: Annotated[int | None, typer.Option(help="Seed of the random numbers.")] = None,
    both: Annotated[bool, typer.Option("--both", help="Let the base model respond too.")] = False,
    service: Service = Service(),
) -> None:
    """Talk to a model, at a strength that you may change."""
    options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
    options |= {} if seed is None else {"seed": seed}
    with service.connect() as client:
        talk = Conversation(client, variant_of(client, variant), options, both=both)
        talk.system(system)
        if message is not None:
            talk.say(message)
            return
        if sys.stdin.isatty():
            notes.print("/help lists what you can do; /quit leaves", style="dim")
        for line in _lines():
            if line == "/quit":
                return
            try:
                talk.take(line)
            except KeyboardInterrupt:
                typer.echo()
            except ApiError as error:
                typer.echo(f"scalpel: {safe(error.message)}", err=True)


@dataclass
class Conversation:
    """What was said, and how the next response is made."""

    client: Client
    variant: str
    options: dict[str, Any]
    both: bool = False
    messages: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._named = self.variant
        """As it was first, whose strengths are multiplied."""

    def system(self, text: str | None) -> None:
        self.messages = [] if text is None else [{"role": "system", "content": text}]

    def take(self, line: str) -> None:
        """A message, or a command that begins with a slash.

        Raises:
            WrongUse: there is no such command.
            ApiError: the service refuses, or is away.
        """
        name, _, value = line.partition(" ")
        match name:
            case "/strength":
                self._set_strength(value)
            case "/both":
                self.both = not self.both
                notes.print("base model and edit" if self.both else self.variant, style="dim")
            case "/seed":
                self._set_seed(value)
            case "/reset":
                self.messages = [one for one in self.messages if one["role"] == "system"]
                notes.print("forgotten", style="dim")
            case "/help":
                notes.print(_HELP, style="dim", markup=False)
            case _ if name.startswith("/"):
                raise WrongUse(f"there is no {name}: /help lists what there is")
            case _ if line:
                self.say(line)

    def say(self, text: str) -> None:
        """Send a message, and print the response as it comes."""
        self.messages.append({"role": "user", "content": text})
        try:
            if self.both:
                self._respond(self._made_of().partition(":")[0], "base")
            reply = self._respond(self.variant, "edit" if self.both else "")
        except BaseException:
            self.messages.pop()
            raise
        self.messages.append({"role": "assistant", "content": reply})

    def _respond(self, model: str, label: str) -> str:
        reply = ""
        for piece in self.client.stream_chat(
            {"model": model, "messages": self.messages, **self.options}
        ):
            lead = f"{label}: " if label and piece and not reply else ""
            reply += piece
            typer.echo(lead + safe(piece), nl=False)
        typer.echo()
        return reply

    def _set_strength(self, value: str) -> None:
        self.variant = at_strength(self._made_of(), _number(value, "/strength 0.8"))
        notes.print(self.variant, style="dim", markup=False)

    def _set_seed(self, value: str) -> None:
        self.options.pop("seed", None)
        if value:
            self.options["seed"] = int(_number(value, "/seed 7"))
        notes.print(f"seed {value}" if value else "no seed", style="dim", markup=False)

    def _made_of(self) -> str:
        """The variant that an alias stands for; others as they are."""
        if ":" not in self._named:
            found = self.client.get(f"/v1/models/{self._named}")
            self._named = (found["provenance"] or {}).get("variant") or self._named
        return self._named


def at_strength(variant: str, strength: float) -> str:
    """The variant with its one edit at that strength, or with those of several multiplied by it.

    Raises:
        WrongUse: it has no edits.
    """
    base, _, terms = variant.partition(":")
    if not terms:
        raise WrongUse(f"{base} has no edit, so it has no strength")
    named = [term.partition("@") for term in terms.split("+")]
    factors = [float(given or 1) if len(named) > 1 else 1.0 for _, _, given in named]
    edits = (
        f"{name}@{factor * strength:g}" for (name, _, _), factor in zip(named, factors, strict=True)
    )
    return f"{base}:{'+'.join(edits)}"


def _number(text: str, example: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise WrongUse(f"{text!r} is no number: write {example}") from None


def _lines() -> Iterator[str]:
    """What is typed, until the end of it."""
    prompt = "> " if sys.stdin.isatty() else ""
    if prompt:
        with contextlib.suppress(ImportError):  # gives input() its arrow keys
            import readline  # noqa: F401
    while True:
        try:
            yield input(prompt).strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            typer.echo()
            return
