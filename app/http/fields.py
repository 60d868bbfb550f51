"""The fields that a body may have, for the question which of them was meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import TypeAdapter

_Schema = dict[str, Any]


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The one of the known names that a name with a slip of the pen stands for, if any is near."""
    close = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return close[0] if close else None


def fields_at(adapter: TypeAdapter[Any], location: Sequence[Any]) -> list[str]:
    """Names of the fields that an object may have.

    Args:
        location: of the object, as pydantic names it in its errors: with names of alternatives
            between the steps of the body.
    """
    schema = _schema(adapter)
    forms = list(_forms(schema, schema))
    for step in location:
        below = [form[1].get("items") for form in forms if isinstance(step, int)]
        below += [form[1].get("properties", {}).get(step) for form in forms]
        inner = [form for one in below if one is not None for form in _forms(schema, one)]
        forms = inner or [form for form in forms if step in form[0]] or forms
    return list(dict.fromkeys(name for form in forms for name in form[1].get("properties", ())))


@cache
def _schema(adapter: TypeAdapter[Any]) -> _Schema:
    return adapter.json_schema()


def _forms(root: _Schema, schema: _Schema, name: str = "") -> Iterator[tuple[set[str], _Schema]]:
    """Every alternative of a schema, with the names that pydantic may call it by."""
    if "$ref" in schema:
        reference = schema["$ref"].rpartition("/")[2]
        yield from _forms(root, root["$defs"][reference], name or reference)
        return
    alternatives = [*schema.get("oneOf", ()), *schema.get("anyOf", ()), *schema.get("allOf", ())]
    tags = {ref: tag for tag, ref in schema.get("discriminator", {}).get("mapping", {}).items()}
    for one in alternatives:
        for names, form in _forms(root, one):
            tag = tags.get(one.get("$ref", ""))
            yield ({*names, tag} if tag is not None else names), form
    if not alternatives:
        yield ({name} if name else set()), schema
