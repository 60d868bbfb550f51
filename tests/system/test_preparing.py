"""An idle editor prepares base models, and lets go of it at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.services import RedisServer, api_settings
from tests.system.faults.edits import edit_body
from tests.system.faults.harness import Cluster, is_alive, running_cluster, wait_for

pytestmark = [pytest.mark.system, pytest.mark.slow]
_SECONDS = 150.0
"""It has the lowest priority, and other tests run beside it."""


@pytest.fixture
def cluster(
    redis_server: RedisServer, make_pico: Callable[..., Path], tmp_path: Path
) -> Iterator[Cluster]:
    """An editor with a base model that takes a while to prepare."""
    settings = api_settings(tmp_path, redis_server, drain_seconds=5)
    with running_cluster(
        settings, redis_server, tmp_path, editor_env={"SCALPEL_PREPARE": "true"}
    ) as cluster:
        cluster.wait_for_editors()
        folder = make_pico(num_hidden_layers=12)
        assert cluster.register("pico", folder).status == "succeeded"
        yield cluster


def children(cluster: Cluster) -> list[int]:
    return [child.pid for child in psutil.Process(cluster.editors[0].pid).children()]


def preparing(cluster: Cluster) -> int:
    """The process that prepares, once it has kept something."""
    objects = cluster.store.objects
    wait_for(lambda: bool(objects.files("cache")), "something prepared", _SECONDS)
    (child,) = children(cluster)
    return child


def test_work_ends_the_preparation_which_goes_on_after_it(cluster: Cluster) -> None:
    child = preparing(cluster)
    (editor,) = cluster.living_editors()
    assert (editor.state, editor.work_id) == ("idle", None)
    edit = cluster.submit(**edit_body())
    claim = cluster.claimed("edit", edit)
    assert not is_alive(child)
    assert cluster.finished("edit", edit).status == "succeeded"
    wait_for(lambda: bool(set(children(cluster)) - {claim.pid}), "a process that goes on")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.long)]
)
def test_the_preparation_ends_with_its_editor(cluster: Cluster, number: signal.Signals) -> None:
    editor, child = cluster.editors[0].pid, preparing(cluster)
    os.kill(editor, number)
    wait_for(lambda: not is_alive(editor) and not is_alive(child), "the end of both", 5.0)
