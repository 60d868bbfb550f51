"""Files for llama.cpp, made as exports are."""

from __future__ import annotations

from pathlib import Path

from models_store.schemas.records import Variant
from workers.editor.formats import gguf
from workers.editor.formats.merged_gguf import DTYPES
from workers.editor.formats.protocol import content
from workers.runtime.llama_cpp.write import write
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture


def base_in_gguf(base: LoadedModel, folder: Path, dtype: str = "f32") -> Path:
    """The base model without edits."""
    path = folder / f"base-{dtype}.gguf"
    write(base, [], path, dtype=dtype, name="base", base_model="base")
    return path


def adapter_of(base: LoadedModel, mixture: Mixture, folder: Path) -> Path:
    path = folder / gguf.NAME
    path.write_bytes(content(gguf.files(base, mixture, _variant(base), folder)[gguf.NAME]))
    return path


def merged_of(base: LoadedModel, mixture: Mixture, folder: Path, dtype: str) -> Path:
    (path,) = DTYPES[dtype].files(base, mixture, _variant(base), folder).values()
    assert isinstance(path, Path)
    return path


def _variant(base: LoadedModel) -> Variant:
    return Variant(name="v", base_model="base", base_fingerprint=base.fingerprint)
