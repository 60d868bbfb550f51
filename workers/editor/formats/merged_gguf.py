"""A complete model as one GGUF file that llama.cpp runs, with the edits in its weights.

As for adapters, the proof reads it back with the library `gguf`, into a model of transformers;
`make test-llamacpp` runs it in llama.cpp itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from models_store.cards import Use
from models_store.schemas.records import Variant
from workers.editor.formats.protocol import Files, Loader
from workers.editor.formats.whole_models import broken_is_a_mismatch, load_beside, writing
from workers.runtime.llama_cpp.read import read_weights_, round_weights_
from workers.runtime.llama_cpp.write import write
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture

_TORCH_DTYPES = {"f32": "float32", "f16": "float16"}
_LOAD = """\
With llama.cpp, and what is built on it:

```sh
llama-cli -m {name}
llama-server -m {name}
```"""


@dataclass(frozen=True)
class MergedGguf:
    """The format with one dtype."""

    dtype: str

    @property
    def name(self) -> str:
        return f"model-{self.dtype}.gguf"

    def files(self, base: LoadedModel, mixture: Mixture, variant: Variant, scratch: Path) -> Files:
        path = scratch / self.name
        with writing(scratch):
            write(
                base,
                mixture,
                path,
                dtype=self.dtype,
                name=variant.name,
                base_model=variant.base_model,
            )
        return {self.name: path}

    def loader(self, files: Files) -> Loader:
        (path,) = files.values()
        assert isinstance(path, Path)
        rounded = None if self.dtype == "f32" else partial(_rounded, self.dtype)
        dtype = _TORCH_DTYPES.get(self.dtype, self.dtype)
        return Loader("gguf", version("gguf"), partial(_loaded, path), dtype, rounded)

    def use(self, files: Files, base: str) -> Use:
        load = _LOAD.format(name=self.name)
        return Use(library="gguf", relation="finetune", tags=("llama-cpp",), load=load)


@contextmanager
def _loaded(path: Path, base: LoadedModel) -> Iterator[LoadedModel]:
    with broken_is_a_mismatch("gguf"):
        model = load_beside(base, base.folder)
        read_weights_(model, path)
    yield model


@contextmanager
def _rounded(dtype: str, base: LoadedModel) -> Iterator[LoadedModel]:
    model = load_beside(base, base.folder)
    round_weights_(model, dtype)
    yield model


DTYPES: Mapping[str, MergedGguf] = MappingProxyType(
    {dtype: MergedGguf(dtype) for dtype in ("f32", "f16", "q8_0")}
)
