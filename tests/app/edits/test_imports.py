"""Imports over HTTP: how files arrive, and what is refused at once."""

from __future__ import annotations

import io
import resource
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from app.domain.edits.imports import Receiver
from models_store.audit.check import lines_of
from models_store.errors import Unavailable
from models_store.schemas.records import EditSettings
from models_store.settings import Settings
from models_store.weights.delta import Delta, dump_delta, load_delta
from models_store.work.store import Place
from tests.app.support.imports import PREFIX, Part, adapter, pair, send, stored
from tests.app.support.worker import Worker, small_delta
from tests.support.services import Api, running_api


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> list[Part]:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return [("file", ("adapter.zip", data.getvalue()))]


def spoilt(parts: list[Part], old: bytes, new: bytes) -> list[Part]:
    """An archive with other bytes in it."""
    ((field, (name, data)),) = parts
    assert old in data
    return [(field, (name, data.replace(old, new)))]


def refusal(api: Api, parts: list[Part], **fields: str) -> tuple[str, str]:
    """Pointer and detail of what is wrong."""
    answer = send(api, parts, **fields)
    assert answer.status_code == 422, answer.text
    error = answer.json()["errors"][0]
    return error["pointer"], error["detail"]


def uploads(api: Api) -> list[Path]:
    return list((api.services.settings.data / "uploads").iterdir())


def test_a_form_with_an_adapter_becomes_an_edit(api: Api, worker: Worker) -> None:
    parts = adapter()
    answer = send(api, parts, suffix="theirs", metadata='{"team": "red"}')

    assert answer.status_code == 201, answer.text
    edit = answer.json()
    assert answer.headers["Location"] == f"/v1/edits/{edit['id']}"
    assert edit["method"] == {"type": "imported"}
    assert (edit["behavior"], edit["limits"], edit["effort"]) == (None, None, None)
    assert (edit["suffix"], edit["metadata"]) == ("theirs", {"team": "red"})
    assert edit["imported"]["source"]["kind"] == "peft"
    assert edit["imported"]["facts"] is None
    contents = dict(content for _, content in parts)
    assert stored(api, edit["id"]) == contents
    assert [file["name"] for file in edit["imported"]["source"]["files"]] == list(contents)
    assert api.http.get(f"/v1/edits/{edit['id']}").json() == edit
    assert api.http.get("/v1/edits").json()["data"] == [edit]
    assert uploads(api) == []


def test_a_zip_file_and_its_files_are_the_same(api: Api, worker: Worker) -> None:
    files = dict(content for _, content in adapter())
    inside = {f"my-adapter/{name}": data for name, data in files.items()}
    extra = {"my-adapter/README.md": b"hello", "my-adapter/tokenizer.json": b"{}"}
    extra |= {f"my-adapter/{name}": b"\x80\x02" for name in ("training_args.bin", "optimizer.pt")}

    answer = send(api, zipped({**inside, **extra}))

    assert answer.status_code == 201, answer.text
    assert stored(api, answer.json()["id"]) == files


def test_a_delta_of_the_same_weights_is_taken_and_of_others_not(api: Api, worker: Worker) -> None:
    answer = send(api, [("file", ("kinder.safetensors", small_delta()))])
    assert answer.status_code == 201, answer.text
    assert stored(api, answer.json()["id"]) == {"delta.safetensors": small_delta()}

    delta = load_delta(small_delta())
    other = dump_delta(Delta("sha256:" + "cd" * 32, "bias", delta.terms))
    pointer, detail = refusal(api, [("file", ("kinder.safetensors", other))])
    assert pointer == "/delta.safetensors"
    assert "was made for the weights 'sha256:cdcd" in detail


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"use_dora": True}, "use_dora", "DoRA"),
        ({"bias": "all"}, "bias", "must be none"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save", "whole modules"),
        ({"peft_type": "LOHA"}, "peft_type", "only LORA"),
        ({"peft_type": None}, "peft_type", "only LORA"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out", "the other way round"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters", "experts"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices", "embeddings"),
        ({"lora_bias": True}, "lora_bias", "biases"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights", "own weights as well"),
        ({"layer_replication": [[0, 2]]}, "layer_replication", "number of layers"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens", "begins at a token"),
        ({"next_year_s_trick": {"on": 1}}, "next_year_s_trick", "not known here"),
        ({"r": 0}, "r", "whole number"),
        ({"r": True}, "r", "whole number"),
        ({"lora_alpha": "8"}, "lora_alpha", "finite number"),
        ({"lora_alpha": float("inf")}, "lora_alpha", "finite number"),
        ({"rank_pattern": {"(a+)+b": 2}}, "rank_pattern", "name of a module"),
        ({"alpha_pattern": {"q_proj": None}}, "alpha_pattern", "name of a module"),
    ],
)
def test_settings_that_no_edit_can_follow_are_refused_by_name(
    api: Api, worker: Worker, changes: dict[str, Any], name: str, words: str
) -> None:
    pointer, detail = refusal(api, adapter(**changes))
    assert pointer == f"/adapter_config.json/{name}"
    assert words in detail


TENSORS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "an embedding": ({"base_model.model.lm_head.lora_A.weight": np.ones((2, 32))}, "lm_head is no"),
    "a layer too many": (pair("2.self_attn.q_proj"), "layers.2.self_attn.q_proj is no module"),
    "a magnitude": (
        {**pair(), f"{PREFIX}.0.self_attn.q_proj.lora_magnitude_vector": np.ones(32)},
        "lora_magnitude_vector is none of the tensors",
    ),
    "half a pair": (
        {name: tensor for name, tensor in pair().items() if "lora_A" in name},
        "has no counterpart",
    ),
    "another rank": (pair(rank=3), "the configuration says that the rank is 2"),
    "whole numbers": ({name: one.astype(np.int32) for name, one in pair().items()}, "is I32"),
    "nothing": ({}, "no tensors"),
}


@pytest.mark.parametrize(("tensors", "words"), TENSORS.values(), ids=TENSORS.keys())
def test_tensors_that_no_edit_can_hold_are_refused_by_name(
    api: Api, worker: Worker, tensors: dict[str, np.ndarray], words: str
) -> None:
    pointer, detail = refusal(api, adapter(tensors))
    assert pointer == "/adapter_model.safetensors"
    assert words in detail


FILES: dict[str, tuple[list[Part], str]] = {
    "no file": ([("file", ("a.json", b"{}"))], "send one file of weights"),
    "two adapters": (adapter() + adapter()[1:], "the same name"),
    "a pickle": ([("file", ("adapter_model.bin", b"\x80\x02"))], "can run code"),
    "a pickle in an archive": (zipped({"x/data.pkl": b"\x80\x02"}), "can run code"),
    "weights alone": (adapter()[1:], "needs its adapter_config.json"),
    "no weights": ([("file", ("x.safetensors", b"hello"))], "not a safetensors file"),
    "a header that lies": (
        [("file", ("x.safetensors", (10**9).to_bytes(8, "little") + b"{}"))],
        "header is too large",
    ),
    "other weights": ([("file", ("x.safetensors", save({"w": np.ones(3)})))], "neither a delta"),
    "a way out": (zipped({"../adapter_config.json": b"{}"}), "leads out of it"),
    "an absolute path": (zipped({"/etc/adapter_config.json": b"{}"}), "leads out of it"),
    "two in one archive": (
        zipped({"a/x.safetensors": b"", "b/x.safetensors": b""}),
        "several adapters",
    ),
    "a broken archive": ([("file", ("a.zip", b"PK\x03\x04" + b"0" * 90))], "no archive"),
    "another compression": (
        zipped({"a.safetensors": b"0" * 99}, zipfile.ZIP_LZMA),
        "otherwise than by deflate",
    ),
    "a name that is no text": (
        spoilt(zipped({"é.safetensors": b"0"}), "é".encode(), b"\xff\xff"),
        "no archive",
    ),
    "a place that no file has": (
        spoilt(zipped({"a.safetensors": b"0"}), b".\0\0\0\0\0", b".\0\0\x7f\0\0"),
        "no archive",
    ),
    "a configuration that is no JSON": (
        [("file", ("adapter_config.json", b"{")), *adapter()[1:]],
        "it is not JSON",
    ),
}


@pytest.mark.parametrize(("parts", "words"), FILES.values(), ids=FILES.keys())
def test_other_files_are_refused_and_leave_nothing(
    api: Api, worker: Worker, parts: list[Part], words: str
) -> None:
    _, detail = refusal(api, parts)
    assert words in detail
    assert api.store.objects.files("edits") == []
    assert uploads(api) == []


def test_fields_are_checked_as_those_of_json(api: Api, worker: Worker) -> None:
    assert refusal(api, adapter(), base_model="nobody")[0] == "/base_model"
    assert refusal(api, adapter(), suffix="Not A Suffix")[0] == "/suffix"
    assert refusal(api, adapter(), metadata='{"a": 1}')[0] == "/metadata/a"
    assert refusal(api, adapter(), surprise="1")[0] == "/surprise"
    assert send(api, adapter(), metadata="{").json()["code"] == "malformed_json"


def test_a_form_that_is_none_is_refused(api: Api, worker: Worker) -> None:
    def sent(content: bytes, kind: str = "multipart/form-data; boundary=x") -> tuple[int, str]:
        answer = api.http.post("/v1/imports", content=content, headers={"Content-Type": kind})
        return answer.status_code, answer.json()["code"]

    head = b'--x\r\nContent-Disposition: form-data; name="base_model"\r\n\r\n'
    assert sent(b"", "text/plain") == (415, "unsupported_media_type")
    assert sent(b"", "multipart/form-data") == (400, "malformed_json")
    assert sent(b"hello") == (400, "malformed_json")
    assert sent(head + b"pico\r\n") == (400, "malformed_json")
    assert sent(head + b"pico\r\n--x??") == (400, "malformed_json")
    assert sent(b"--x\r\nA: " + b"b" * 10_000) == (400, "malformed_json")
    assert sent(head + b"p" * 100_000 + b"\r\n--x--") == (413, "body_too_large")
    assert sent((head + b"pico\r\n") * 2 + b"--x--") == (422, "invalid_request")
    assert sent(b'{"base_model": "pico"}', "application/json") == (422, "invalid_request")


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_a_form_may_arrive_in_pieces_of_any_size(api: Api, worker: Worker, size: int) -> None:
    parts = adapter()
    request = httpx.Request("POST", api.url, data={"base_model": "pico"}, files=parts)
    body = request.read()
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    kind = {"Content-Type": request.headers["Content-Type"]}

    answer = api.http.post("/v1/imports", content=pieces, headers=kind)

    assert answer.status_code == 201, answer.text
    assert stored(api, answer.json()["id"]) == dict(content for _, content in parts)


@pytest.fixture
def small(settings: Settings) -> Iterator[Api]:
    """An API that takes imports of 20,000 bytes."""
    with running_api(settings.model_copy(update={"max_import_bytes": 20_000})) as running:
        Worker(running.store, running.services.live.client).register("pico")
        yield running


def test_too_much_is_refused_packed_or_unpacked(small: Api) -> None:
    bomb = zipped({"a.safetensors": b"\0" * 200_000})
    assert len(bomb[0][1][1]) < 1000
    for parts in (bomb, [("file", ("a.safetensors", b"\0" * 200_000))]):
        answer = send(small, parts)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    huge = [("file", ("a.safetensors", b"\0" * 2_000_000))]
    assert send(small, huge).status_code == 413
    assert uploads(small) == []
    assert send(small, adapter()).status_code == 201


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    receiver = Receiver("a", tmp_path, 10**9)
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most[1]))
    try:
        with pytest.raises(Unavailable) as caught:
            receiver.feed(b"\0" * 10**6)
        receiver.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert caught.value.code == "store_full"
    assert list(tmp_path.iterdir()) == []


def test_only_a_form_may_be_larger_than_other_bodies(settings: Settings) -> None:
    with running_api(settings.model_copy(update={"max_body_bytes": 2 * 2**20})) as api:
        Worker(api.store, api.services.live.client).register("pico")

        def post(size: int) -> httpx.Response:
            kind = {"Content-Type": "application/json"}
            content = b'{"base_model": "pico"' + b" " * size + b"}"
            return api.http.post("/v1/imports", content=content, headers=kind)

        assert post(3 * 2**20).json()["code"] == "body_too_large"
        assert post(2**20).json()["errors"][0]["pointer"] == "/source"
        large = [("file", ("a.safetensors", b"\0" * 3 * 2**20))]
        assert send(api, large).status_code == 422


def test_a_repeat_with_the_same_key_is_one_edit(api: Api, worker: Worker) -> None:
    key = {"Idempotency-Key": "once"}
    first, second = (send(api, adapter(), headers=key, suffix="theirs") for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["Idempotent-Replayed"] == "true"
    other = send(api, adapter(pair("1.mlp.up_proj")), headers=key, suffix="theirs")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    taken = send(api, adapter(), suffix="theirs")
    assert (taken.status_code, taken.json()["code"]) == (409, "suffix_taken")


def test_a_repository_is_queued_to_be_fetched(api: Api, worker: Worker) -> None:
    source = {"type": "hub", "repo": "somebody/adapter", "revision": "0" * 40}
    answer = api.http.post("/v1/imports", json={"base_model": "pico", "source": source})
    assert answer.status_code == 201, answer.text
    found = answer.json()["imported"]["source"]
    assert (found["kind"], found["files"], found["hub"]) == (None, [], source)
    moving = {**source, "revision": "main"}
    answer = api.http.post("/v1/imports", json={"base_model": "pico", "source": moving})
    assert answer.json()["errors"][0]["pointer"] == "/source/revision"


def test_another_model_must_have_the_same_shape_and_other_weights(api: Api, worker: Worker) -> None:
    worker.register("wide", hidden_size=48)
    worker.register("tuned", fingerprint="sha256:" + "ef" * 32)
    worker.register("copy")
    worker.register("far", "other", fingerprint="sha256:" + "12" * 32)

    def post(id: str, **more: Any) -> Any:
        source = {"type": "base_model", "id": id, **more}
        return api.http.post("/v1/imports", json={"base_model": "pico", "source": source})

    for id, words in (
        ("wide", "hidden_size is 48, not 32"),
        ("copy", "has the weights of pico"),
        ("far", "far is in the pool other"),
        ("nobody", "unknown base model"),
    ):
        answer = post(id)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/source/id"
        assert words in answer.json()["detail"]
    assert post("tuned", rank=0).json()["errors"][0]["pointer"] == "/source/rank"
    edit = post("tuned", rank=4).json()
    made = edit["imported"]["source"]
    assert made["model"] == {"type": "base_model", "id": "tuned", "rank": 4}
    assert made["model_fingerprint"] == "sha256:" + "ef" * 32
    (line,) = [line for line in lines_of(api.store.objects) if line.event == "edit.submitted"]
    assert line.fields["source_model"] == "tuned"
    assert line.fields["source_fingerprint"] == "sha256:" + "ef" * 32
    assert "files_sha256" not in line.fields
    answer = api.http.delete("/v1/base_models/tuned")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    api.http.post(f"/v1/edits/{edit['id']}/cancel")
    assert api.http.delete("/v1/base_models/tuned").status_code == 200


def test_an_import_is_kept_before_it_is_acknowledged(api: Api, worker: Worker) -> None:
    id = str(send(api, adapter()).json()["id"])
    work = api.store.work.read("edit", "default", id)
    settings = work.request.settings
    assert isinstance(settings, EditSettings)
    assert settings.source is not None
    place = Place("edit", "default", id)
    for file in settings.source.files:
        data = api.store.work.read_artifact(place.source(file.name), file.sha256)
        assert len(data) == file.bytes
