"""What the models of responses have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """An object of the API; fields that a newer server has in addition are kept."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    def _repr_html_(self) -> str:
        """As notebooks show it: its simple fields."""
        return table((name, value) for name, value in self if not isinstance(value, _NESTED))


class Unknown(Model):
    """An object of a kind that is newer than this client, with all its fields."""


class ReceiptModel(Model):
    """A receipt, which notebooks show by its verdict, effects and damage."""

    def _repr_html_(self) -> str:
        receipt = self.model_dump()
        effects = (
            (f"texts that show it, by {one['scorer']}", _change(one["rate"]))
            for one in receipt["effects"]
        )
        damage = receipt["damage"]
        return table(
            [
                ("verdict", receipt["verdict"]["sentence"]),
                *effects,
                ("KL on neutral text", f"{damage['kl']:.3g} nats a token"),
                ("perplexity of neutral text", f"{damage['perplexity_ratio']['value']:.3g} times"),
            ]
        )


_NESTED = (dict, list, BaseModel, type(None))


def _change(rate: Mapping[str, Any]) -> str:
    difference = rate["difference"]
    low, high = (f"{100 * difference[end]:+.0f}" for end in ("low", "high"))
    return f"{rate['base']:.0%} → {rate['edited']:.0%} ({low} to {high} points)"


def table(rows: Iterable[tuple[str, Any]]) -> str:
    """A table of names and values in HTML."""
    lines = "".join(
        f"<tr><th style='text-align:left'>{escape(str(name))}</th>"
        f"<td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in rows
    )
    return f"<table>{lines}</table>"
