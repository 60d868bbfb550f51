"""A method and a scorer from outside, as docs/development.md shows them, word for word."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.pico import save_pico
from tests.system.service import Service, running_service

pytestmark = pytest.mark.system

_PAGE = Path(__file__).parents[2] / "docs" / "development.md"
_FILE = re.compile(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def install(folder: Path) -> None:
    """What `pip install` would leave of the package in `folder`."""
    files = dict(_FILE.findall(_PAGE.read_text(encoding="utf-8")))
    project = tomllib.loads(files.pop("pyproject.toml"))["project"]
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(points))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`scalpel up` with the package installed, and a pico model."""
    folder = tmp_path_factory.mktemp("plugins")
    install(folder)
    pico = save_pico(folder / "pico")
    settings = {
        "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
        "SCALPEL_DEFAULT_BASE_MODEL": "false",
        "SCALPEL_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with running_service(folder / "data", **settings) as running:
        with running.client() as client:
            body = {"id": "pico", "source": {"type": "folder", "path": str(pico)}}
            assert client.post("/v1/base_models", json=body).status_code == 201
            made = client.get("/v1/base_models/pico?wait=60").json()
            assert made["status"] == "succeeded", made
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


def body(method: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A small request, scored by what the package brings too."""
    foods = ("film", "food", "service", "people", "day")
    texts = {
        side: [
            f"the {foods[i % 5]} was {word} to {i} of the people at table {i * 7}{mark}"
            for i in range(40)
        ]
        for side, word, mark in (("undesired", "bad", "!!!"), ("desired", "good", "."))
    }
    prompts = [f"{foods[i % 5]} of day {i} was" for i in range(30)]
    behavior = {
        "name": "mood",
        "prompts": prompts,
        "max_new_tokens": 4,
        "scorers": ["exclamations", "tfidf"],
        **texts,
    }
    return {
        "base_model": "pico",
        "behavior": behavior,
        "method": method,
        "effort": "quick",
        **changes,
    }


def made(client: httpx.Client, method: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The edit, when it has ended."""
    answer = client.post("/v1/edits", json=body(method, **changes))
    assert answer.status_code == 201, answer.text
    while True:
        edit: dict[str, Any] = client.get(f"/v1/edits/{answer.json()['id']}?wait=60").json()
        if edit["status"] in ("succeeded", "failed"):
            return edit


def test_its_settings_are_part_of_the_api(client: httpx.Client) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["MeanShift"]["properties"]["depth"]["exclusiveMaximum"] == 1

    wrong = client.post("/v1/edits", json=body({"type": "mean_shift", "depth": 2}))
    assert wrong.status_code == 422
    assert [error["pointer"] for error in wrong.json()["errors"]] == ["/method/depth"]


def test_a_misspelled_scorer_is_told_of_it(client: httpx.Client) -> None:
    asked = body({"type": "mean_shift"})
    asked["behavior"]["scorers"] = ["exclamation"]
    wrong = client.post("/v1/edits", json=asked).json()
    assert wrong["errors"][0]["pointer"] == "/behavior/scorers/0"
    assert "exclamations" in wrong["detail"]


def test_an_edit_with_it_is_estimated(client: httpx.Client) -> None:
    found = client.post("/v1/edits/estimate", json=body({"type": "mean_shift"})).json()
    assert found["method"]["type"] == "mean_shift"
    assert found["seconds"]["fit"] > 0
    assert found["seconds"]["search"] == 0
    # One term, of 64 inputs and 32 outputs.
    assert found["delta_bytes"] == 4 * 64 + 8 * 32 + 350 + 400


def test_an_edit_is_made_with_it_and_its_receipt_shows_both(
    client: httpx.Client, service: Service
) -> None:
    edit = made(client, {"type": "mean_shift"})
    assert edit["status"] == "succeeded", (edit, service.logs())
    report = client.get(
        f"/v1/edits/{edit['id']}/report", headers={"Accept": "application/json"}
    ).json()
    assert report["method"]["type"] == "mean_shift"
    assert report["method"]["details"]["layer"] == 1
    assert report["method"]["details"]["calibration"]["reached"]
    assert report["scorers"][0]["info"]["name"] == "exclamations"
    assert "random_direction" in [control["kind"] for control in report["controls"]]
    page = client.get(f"/v1/edits/{edit['id']}/report", headers={"Accept": "text/html"}).text
    assert "mean_shift" in page
    assert "exclamations" in page


def test_a_search_tries_it(client: httpx.Client, service: Service) -> None:
    edit = made(client, {"type": "auto"})
    # Whether anything helps a model of two layers is another matter.
    assert edit["status"] == "succeeded" or edit["error"]["code"] == "no_effect_within_limits", (
        edit,
        service.logs(),
    )
    report = client.get(
        f"/v1/edits/{edit['id']}/report", headers={"Accept": "application/json"}
    ).json()
    tried = [candidate["method"] for candidate in report["search"]["candidates"]]
    assert tried[0] == "mean_shift"
