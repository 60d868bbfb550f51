"""A real browser, and two services for it: all of Scalpel with a pico model, and the API alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from app.services import Store
from models_store.objects.store import open_store
from models_store.settings import Settings
from tests.system.conftest import ONE_THREAD
from tests.system.service import running_service

expect.set_options(timeout=60_000)
_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium as this machine has it."""
    path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        path = path or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip(f"no Chromium: none of {', '.join(_NAMES)} is installed, nor Playwright's")
        # Whoever runs the tests as root has no other sandbox.
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


OpenContext = Callable[..., BrowserContext]


@pytest.fixture
def open_context(browser: Browser) -> Iterator[OpenContext]:
    """Makes contexts whose pages may not complain on the console, where browsers report scripts
    that fail and what the policy forbids.

    What a response's status is, the console says too: `expected` are statuses that may be there.
    """
    contexts: list[BrowserContext] = []
    said: list[str] = []

    def opened(expected: tuple[int, ...] = (), **options: object) -> BrowserContext:
        context = browser.new_context(**options)  # type: ignore[arg-type]
        known = tuple(f"status of {status}" for status in expected)

        def hear(message: ConsoleMessage) -> None:
            bad = message.type in ("error", "warning")
            if bad and not any(one in message.text for one in known):
                said.append(message.text)

        def watch(page: Page) -> None:
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("console", hear)

        context.on("page", watch)
        contexts.append(context)
        return context

    yield opened
    for context in contexts:
        context.close()
    assert said == []


@dataclass(frozen=True)
class Scalpel:
    """`scalpel up` that needs keys, whose base model `pico` makes edits in seconds."""

    url: str
    key: str

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, trust_env=False)


@pytest.fixture(scope="session")
def scalpel(
    tmp_path_factory: pytest.TempPathFactory, make_pico: Callable[..., Path]
) -> Iterator[Scalpel]:
    folder = tmp_path_factory.mktemp("dashboard")
    source = make_pico(first_token=True, num_hidden_layers=3)
    models = folder / "base_models.toml"
    models.write_text(
        f'[[base_model]]\nid = "pico"\nsource = {{ type = "folder", path = "{source}" }}\n'
    )
    settings = Settings(data=folder / "data")
    secret, _ = Store.over(open_store(settings), settings).keys.create(name="dashboard")
    environment = {
        **ONE_THREAD,
        "SCALPEL_AUTH": "keys",
        "SCALPEL_BASE_MODELS": str(models),
        "SCALPEL_DEFAULT_BASE_MODEL": "false",
    }
    with running_service(folder / "data", **environment) as service:
        yield Scalpel(service.url, secret)


@pytest.fixture
def page(scalpel: Scalpel, open_context: OpenContext) -> Page:
    """A page of somebody who has signed in."""
    context = open_context(expected=(404, 422), viewport={"width": 1200, "height": 800})
    entered = context.request.post(f"{scalpel.url}/login", form={"key": scalpel.key, "next": "/"})
    assert entered.ok
    return context.new_page()
