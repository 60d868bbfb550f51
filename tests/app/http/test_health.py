"""What `/readyz` says while parts are missing, and what still works then."""

from __future__ import annotations

import json
import time
from importlib import metadata
from pathlib import Path

from models_store.live import keys as redis_keys
from models_store.live.heartbeats import signed
from models_store.settings import Settings
from tests.app.support.generator import FakeGenerator
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api, running_api, running_redis


def beat_editor(api: Api) -> None:
    heartbeat = {"name": "e", "pool": "cpu", "host": "h", "pid": 1, "state": "idle"}
    value = json.dumps({**heartbeat, "work_id": None, "at": time.time()})
    key, token = f"{redis_keys.EDITORS}e", api.services.settings.internal_token
    api.services.live.client.set(key, signed(token, key, value.encode()))


def status_of(api: Api, require: str = "") -> tuple[int, dict[str, str]]:
    answer = api.http.get(f"/readyz{require}")
    return answer.status_code, {
        name: part["status"] for name, part in answer.json()["parts"].items()
    }


def test_alive_is_alive(api: Api) -> None:
    answer = api.http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_it_is_ready_once_every_part_is_there(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    code, parts = status_of(api)
    assert code == 200
    assert parts == {
        "store": "ok",
        "redis": "ok",
        "keeper": "missing",
        "editors": "missing",
        "generators": "ok",
    }
    answer = api.http.get("/readyz?require=all")
    assert (answer.status_code, answer.json()["status"]) == (503, "degraded")
    beat_editor(api)
    api.services.live.client.set(redis_keys.KEEPER, "token")
    answer = api.http.get("/readyz?require=all")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    assert answer.json()["parts"]["editors"]["count"] == 1
    assert answer.json()["base_models"] == {"ready": 1, "preparing": 0, "failed": 0}


def test_it_is_not_ready_for_all_while_a_base_model_is_prepared(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    beat_editor(api)
    api.services.live.client.set(redis_keys.KEEPER, "token")
    body = {"id": "new", "source": {"type": "folder", "path": "/w"}}
    api.http.post("/v1/base_models", json=body)
    answer = api.http.get("/readyz?require=all")
    assert (answer.status_code, answer.json()["base_models"]["preparing"]) == (503, 1)
    assert api.http.get("/readyz").status_code == 200


def test_it_is_not_ready_for_all_before_the_base_models_of_the_settings_are_registered(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    beat_editor(api)
    api.services.live.client.set(redis_keys.KEEPER, "token")
    api.services.fill_catalogue()
    assert api.http.get("/readyz?require=all").status_code == 200
    api.services.catalogue_filled = False  # as while the store is away at the start
    assert api.http.get("/readyz?require=all").status_code == 503


def test_without_redis_edits_are_taken_and_read(settings: Settings) -> None:
    with running_redis() as server:
        own = settings.model_copy(update={"redis_url": server.url})
        with running_api(own) as api:
            worker = Worker(api.store, api.services.live.client)
            worker.register("pico")
            server.stop()
            begun = time.monotonic()
            answer = api.http.post("/v1/edits", json=edit_body())
            assert time.monotonic() - begun < 5
            assert answer.status_code == 201
            edit = answer.json()
            assert (edit["status"], edit["stage"], edit["queue_position"]) == ("queued", None, None)
            assert api.http.get(f"/v1/edits/{edit['id']}?wait=0.3").json()["status"] == "queued"
            code, parts = status_of(api)
            assert (code, parts["store"], parts["redis"]) == (200, "ok", "missing")
            assert api.http.post(f"/v1/edits/{edit['id']}/cancel").status_code == 200
            server.start()
            for _ in range(100):
                if status_of(api)[1]["redis"] == "ok":
                    break
                time.sleep(0.05)
            else:
                raise AssertionError("Redis is not found again")


def test_without_any_redis_set_up_the_api_starts(settings: Settings, tmp_path: Path) -> None:
    bare = settings.model_copy(update={"redis_url": ""})
    with running_api(bare, with_keeper=True) as api:
        assert status_of(api)[1]["redis"] == "missing"


def test_without_redis_the_generators_seen_last_are_asked(
    settings: Settings, generator: FakeGenerator
) -> None:
    with running_redis() as server:
        own = settings.model_copy(update={"redis_url": server.url})
        with running_api(own) as api:
            client = api.services.live.client
            Worker(api.store, client).register("pico")
            generator.beat(client)
            body = {"model": "pico", "prompt": "a"}
            assert api.http.post("/v1/completions", json=body).status_code == 200
            server.stop()
            assert api.http.post("/v1/completions", json=body).status_code == 200


def test_a_keeper_comes_with_the_api(settings: Settings) -> None:
    with running_api(settings, with_keeper=True) as api:
        for _ in range(100):
            if status_of(api)[1]["keeper"] == "ok":
                return
            time.sleep(0.05)
    raise AssertionError("there is no keeper")


def test_readiness_is_looked_at_once_a_second(api: Api) -> None:
    cache = api.server.config.app.state.readiness  # type: ignore[union-attr]
    cache.seconds = 60.0
    before = status_of(api)
    beat_editor(api)
    assert status_of(api) == before
    cache.seconds = 0.0
    assert status_of(api)[1]["editors"] == "ok"


def test_the_version_is_that_of_the_package(api: Api) -> None:
    assert api.http.get("/version").json() == {"version": metadata.version("scalpel-edit")}


def test_head_is_answered_wherever_get_is(api: Api, worker: Worker) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    for path in (f"/v1/edits/{id}", "/v1/edits", "/healthz", "/docs", "/v1/models"):
        got, head = api.http.get(path), api.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == str(len(got.content))
        assert head.headers["Content-Type"] == got.headers["Content-Type"]
    assert api.http.head("/v1/edits/nobody").status_code == 404
    assert api.http.head("/v1/edits/estimate").status_code == 405
