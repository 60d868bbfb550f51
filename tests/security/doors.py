"""Every door of the API, and how to knock: which requests to send to each route.

A new route needs its parameters in `PARAMETERS`, its body in `BODIES` where it takes one, and a
line in `OPEN` where it needs no key; else the tests here fail and say so.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route

from app.dashboard.assets import assets
from tests.app.support.worker import edit_body, texts

OPEN = {
    "/",
    "/dashboard/static/{version}/{name}",
    "/docs",
    "/docs/errors",
    "/healthz",
    "/version",
    "/login",
    "/logout",
    "/openapi.json",
    "/readyz",
}
"""Paths that need no key: what they show is the same for everybody without one."""

UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
_REPOSITORY = {"type": "hub", "repo": "somebody/adapter", "revision": "0" * 40}


@dataclass(frozen=True)
class Names:
    """What a tenant's things are called."""

    edit: str
    queued: str
    behavior: str
    export: str
    key: str
    webhook: str
    delivery: str
    alias: str
    suffix: str
    idempotency_key: str
    file: str
    job: str
    base_model: str = "pico"

    def all(self) -> list[str]:
        """Those that are nobody else's."""
        return [
            self.edit,
            self.queued,
            self.behavior,
            self.export,
            self.key,
            self.webhook,
            self.delivery,
            self.alias,
            self.suffix,
            self.idempotency_key,
            self.file,
            self.job,
        ]

    def unknown(self) -> Names:
        """Names of the same form and in the same places of every list, of things that never were.

        Their last characters differ.
        """
        return Names(*(f"{name[:-2]}{_other(name[-2:])}" for name in self.all()))

    def variants(self) -> list[str]:
        """Every way in which a model can be asked for."""
        base = self.base_model
        return [
            f"{base}:{self.edit}",
            f"{base}:{self.queued}",
            f"{base}:{self.edit}~0@0.5",
            f"{base}:{self.suffix}",
            f"{base}:{self.suffix}@-1",
            self.alias,
        ]


def _other(end: str) -> str:
    """Two characters that no id ends in which was made at the same time."""
    return "00" if end != "00" else "11"


Values = Callable[[Names], Sequence[str]]

PARAMETERS: dict[str, Values] = {
    "/dashboard/static/*": lambda names: [assets().version],
    "/dashboard/static/*/*": lambda names: ["api.js"],
    "/dashboard/edits/*": lambda names: [names.edit, names.queued],
    "/v1/edits/*": lambda names: [names.edit, names.queued],
    "/v1/exports/*": lambda names: [names.export],
    "/v1/exports/*/files/*": lambda names: ["delta.safetensors"],
    "/v1/behaviors/*": lambda names: [names.behavior],
    "/v1/base_models/*": lambda names: [names.base_model],
    "/v1/aliases/*": lambda names: [names.alias],
    "/v1/models/*": lambda names: names.variants(),
    "/v1/files/*": lambda names: [names.file],
    "/v1/fine_tuning/jobs/*": lambda names: [names.job],
    "/v1/api_keys/*": lambda names: [names.key],
    "/v1/webhooks/*": lambda names: [names.webhook],
    "/v1/webhooks/*/deliveries/*": lambda names: [names.delivery],
}
"""What stands in a path's place for a parameter, by the path up to it; `*` is a parameter."""

_BEHAVIOR = {"name": "x", "undesired": texts("bad"), "desired": texts("good")}
_OWN_KEY = {"name": "x", "scopes": ["admin"]}
Bodies = Callable[[Names], Sequence[Any]]


def _nothing(names: Names) -> Sequence[Any]:
    return [None]


def _of_variants(**body: Any) -> Bodies:
    """A body for every variant, as `model`."""
    return lambda names: [{"model": name, **body} for name in names.variants()]


BODIES: dict[str, Bodies] = {
    "POST /v1/edits": lambda names: [
        edit_body(behavior=names.behavior),
        edit_body(suffix=names.suffix),
        *(edit_body(on_top_of=name) for name in names.variants()),
    ],
    "POST /v1/edits/estimate": lambda names: [
        edit_body(behavior=names.behavior),
        *(edit_body(on_top_of=name) for name in names.variants()),
    ],
    "POST /v1/edits/*/cancel": _nothing,
    "POST /v1/edits/*/reproduce": _nothing,
    "POST /v1/receipts": lambda names: [
        *({"variant": name} for name in names.variants()),
        {"variant": "pico", "behavior": names.behavior},
    ],
    "POST /v1/edits/*/compare": lambda names: [{"prompts": ["a"]}],
    "POST /v1/imports": lambda names: [
        {"base_model": names.base_model, "source": _REPOSITORY},
        {"base_model": names.base_model, "source": _REPOSITORY, "suffix": names.suffix},
    ],
    "POST /v1/exports": lambda names: [
        {"variant": name, "format": "peft"} for name in names.variants()
    ],
    "POST /v1/exports/*/cancel": _nothing,
    "POST /v1/exports/*/canary": lambda names: [{"url": "https://models.invalid/", "model": "m"}],
    "POST /v1/behaviors": lambda names: [_BEHAVIOR],
    "POST /v1/behaviors/draft": lambda names: [
        {"base_model": names.base_model, "sentence": "Answer more kindly to everybody."}
    ],
    "POST /v1/base_models": lambda names: [
        {"id": "other", "source": {"type": "folder", "path": "/nowhere"}}
    ],
    "POST /v1/compare": lambda names: [
        *_of_variants(prompt="a")(names),
        *({"variants": ["pico", name], "prompt": "a"} for name in names.variants()),
    ],
    "POST /v1/completions": _of_variants(prompt="a"),
    "POST /v1/files": _nothing,
    "POST /v1/fine_tuning/jobs": lambda names: [
        {"model": model, "training_file": names.file, "method": {"type": "dpo"}}
        for model in ("pico", *names.variants())
    ],
    "POST /v1/fine_tuning/jobs/*/cancel": _nothing,
    "POST /v1/chat/completions": _of_variants(messages=[{"role": "user", "content": "a"}]),
    "PUT /v1/aliases/*": lambda names: [
        {"variant": "pico"},
        *({"variant": name} for name in names.variants()),
        {"variant": "pico", "shares": [{"variant": f"pico:{names.edit}", "weight": 0.5}]},
    ],
    "POST /v1/aliases/*/rollback": lambda names: [{}],
    "POST /v1/webhooks": lambda names: [{"url": "https://hooks.invalid/"}],
    "POST /v1/webhooks/*/rotate": lambda names: [{}],
    "POST /v1/webhooks/*/test": _nothing,
    "POST /v1/webhooks/*/deliveries/*/retry": _nothing,
    "PATCH /v1/webhooks/*": lambda names: [{"enabled": False}],
    "POST /login": _nothing,
    "POST /logout": _nothing,
    "POST /v1/api_keys": lambda names: [_OWN_KEY],
    "POST /v1/api_keys/*/rotate": lambda names: [{}],
}

QUERIES: dict[str, Callable[[Names], Sequence[dict[str, str]]]] = {
    "GET /v1/edits": lambda names: [
        {"after": names.edit},
        {"after": names.edit, "order": "asc"},
        {"metadata[team]": "crimson"},
    ],
    "GET /v1/edits/*/delta": lambda names: [{"point": "0"}],
    "GET /v1/edits/*/events": lambda names: [{"after": "16"}],
    "GET /v1/exports": lambda names: [{"after": names.export}, {"base_model": "pico"}],
    "GET /v1/behaviors": lambda names: [{"after": names.behavior}],
    "GET /v1/aliases": lambda names: [{"after": names.alias, "order": "asc"}],
    "GET /v1/webhooks": lambda names: [{"after": names.webhook}],
    "GET /v1/webhooks/*/deliveries": lambda names: [
        {"after": names.delivery},
        {"status": "delivered"},
    ],
    "GET /v1/api_keys": lambda names: [{"after": names.key}],
    "GET /v1/files": lambda names: [{"after": names.file}, {"order": "asc"}],
    "GET /v1/fine_tuning/jobs": lambda names: [{"after": names.job}, {"metadata[team]": "crimson"}],
}
"""Queries beside the empty one."""

ACCEPTS = ("*/*", "text/html", "text/event-stream", "text/markdown")


@dataclass(frozen=True)
class Door:
    """One method of one path."""

    method: str
    path: str

    @property
    def pattern(self) -> str:
        return re.sub(r"\{[^}]*\}", "*", self.path)

    def __str__(self) -> str:
        return f"{self.method} {self.pattern}"

    def paths(self, names: Names) -> Iterator[str]:
        """The path with every value of its parameters."""
        parts = re.split(r"\{[^}]*\}", self.path)
        before = list(itertools.accumulate(parts, lambda a, b: f"{a}*{b}"))
        prefixes = [f"{prefix}*" for prefix in before[:-1]]
        missing = [prefix for prefix in prefixes if prefix not in PARAMETERS]
        assert not missing, f"{self}: say in PARAMETERS what stands for the parameter of {missing}"
        for values in itertools.product(*(PARAMETERS[prefix](names) for prefix in prefixes)):
            filled = itertools.zip_longest(parts, values, fillvalue="")
            yield "".join(part + value for part, value in filled)

    def knocks(self, names: Names) -> Iterator[Knock]:
        """Requests that name those things wherever they can be named."""
        bodies: Sequence[Any] = [None]
        if self.method in UNSAFE - {"DELETE"}:
            assert str(self) in BODIES, f"{self}: say in BODIES what to send there"
            bodies = BODIES[str(self)](names)
        queries = [{}, *QUERIES.get(str(self), lambda _: [])(names)]
        headers: Sequence[dict[str, str]] = [{}]
        if self.method in ("GET", "HEAD"):
            headers = [{"Accept": kind} for kind in ACCEPTS] + [{"Range": "bytes=0-9"}]
        elif self.method == "POST":
            headers = [{}, {"Idempotency-Key": names.idempotency_key}]
        for path in self.paths(names):
            for body, query, more in itertools.product(bodies, queries, headers):
                yield Knock(self.method, path, body, query, more)


@dataclass(frozen=True)
class Knock:
    """A request."""

    method: str
    path: str
    json: Any = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def doors(app: FastAPI) -> list[Door]:
    """Every method of every path of the application, those that `openapi.json` hides as well."""
    found = {
        Door(method, route.path) for route in _routes(app.routes) for method in route.methods or ()
    }
    described = {
        Door(method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }
    known = {str(door) for door in found}
    assert {str(door) for door in described} <= known
    return sorted(found, key=str)


def _routes(routes: Sequence[BaseRoute]) -> Iterator[Route | APIRoute]:
    for route in routes:
        if isinstance(route, Route):
            yield route
        else:
            yield from _routes(route.original_router.routes)  # type: ignore[attr-defined]
