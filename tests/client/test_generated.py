"""The client is what `openapi.json` and its half with `async` say, and calls all of the API."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from codegen.__main__ import write
from scalpel_client import Scalpel, ScalpelError
from scalpel_client._sync.pager import Pager
from tests.support.services import Api

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "client" / "scalpel_client"
OF_OPENAI = ("/v1/chat", "/v1/completions", "/v1/files", "/v1/fine_tuning")


def sources(package: Path) -> dict[str, str]:
    return {
        str(path.relative_to(package)): path.read_text(encoding="utf-8")
        for path in package.rglob("*.py")
    }


def test_what_is_generated_is_up_to_date(tmp_path: Path) -> None:
    copy = tmp_path / "scalpel_client"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for generated in ("_sync", "_async/calls"):
        shutil.rmtree(copy / generated)

    write(ROOT / "openapi.json", copy)

    made, committed = sources(copy), sources(PACKAGE)
    assert set(made) == set(committed), "run `make client`"
    assert [name for name in made if made[name] != committed[name]] == [], "run `make client`"


def operations() -> dict[tuple[str, re.Pattern[str]], str]:
    """By method and path: the operations that are not OpenAI's."""
    document = json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))
    return {
        (method.upper(), re.compile(re.sub(r"\{\w+\}", "[^/]+", path))): described["operationId"]
        for path, methods in document["paths"].items()
        for method, described in methods.items()
        if not path.startswith(OF_OPENAI)
    }


def test_each_list_is_gone_through_page_by_page() -> None:
    """Lists are what takes `after`, by the description and by the client."""
    document = json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))
    lists = [
        path
        for path, methods in document["paths"].items()
        if not path.startswith(OF_OPENAI)
        and any(one["name"] == "after" for one in methods.get("get", {}).get("parameters", ()))
    ]
    with Scalpel("http://127.0.0.1:9") as client:
        results = [
            method("some") if needed(method) else method()
            for method in methods(client)
            if "after" in inspect.signature(method).parameters and method.__name__ != "events"
        ]

    assert {type(result) for result in results} == {Pager}
    assert len(results) == len(lists) > 0


def needed(method: Callable[..., Any]) -> bool:
    parameters = inspect.signature(method).parameters.values()
    return any(one.default is one.empty for one in parameters)


def methods(client: Scalpel) -> Iterator[Callable[..., Any]]:
    for resource_name, resource in vars(client).items():
        if type(resource).__module__.startswith("scalpel_client._sync"):
            for name, method in inspect.getmembers(resource, inspect.ismethod):
                # It makes the two calls that `create` and `retrieve` make.
                hidden = name.startswith("_") or resource_name.startswith("_")
                if not hidden and name != "create_and_wait":
                    yield method


def call(method: Callable[..., Any], file: Path) -> None:
    """Call it with something for every argument that it wants, and fetch what it gives."""
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.default is parameter.empty:
            arguments[name] = [file] if name == "files" else file if name == "file" else "some"
    result = method(**arguments)
    if hasattr(result, "read"):
        result.read()
    elif hasattr(result, "__next__"):
        next(result)
    elif hasattr(result, "page"):
        result.page()


def test_every_operation_is_called(api: Api, tmp_path: Path) -> None:
    sent: list[httpx.Request] = []
    file = tmp_path / "texts.jsonl"
    file.write_text("{}\n")
    hooks = {"request": [sent.append]}
    with (
        httpx.Client(trust_env=False, event_hooks=hooks) as http,
        Scalpel(api.url, http_client=http, max_retries=0) as client,
    ):
        for method in methods(client):
            with suppress(ScalpelError):
                call(method, file)

    expected = operations()
    called = {
        operation
        for (method, path), operation in expected.items()
        if any(one.method == method and path.fullmatch(one.url.path) for one in sent)
    }
    assert called == set(expected.values())
    unknown = [
        f"{one.method} {one.url.path}"
        for one in sent
        if not any(m == one.method and path.fullmatch(one.url.path) for m, path in expected)
    ]
    assert unknown == []


@pytest.mark.parametrize("half", ["_async", "_sync"])
def test_all_that_is_sent_is_typed(half: str) -> None:
    """No call takes anything at all: each argument has a type of its own."""
    for name, source in sources(PACKAGE / half / "calls").items():
        assert ": Any" not in source, name
