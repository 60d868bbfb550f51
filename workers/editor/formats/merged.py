"""A complete model in the layout of Hugging Face, with the edits in its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from models_store.cards import Use
from models_store.errors import EditFailed
from models_store.schemas.records import Variant
from workers.editor.formats.protocol import Files, Loader
from workers.editor.process.failures import is_out_of_memory
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.merging import coarsest_dtype, merge
from workers.surgery.terms import Mixture

_NAME = "transformers"


def files(base: LoadedModel, mixture: Mixture, variant: Variant, scratch: Path) -> Files:
    """The base model's files, those of its weights with the edits added."""
    folder = scratch / "merged"
    try:
        merge(base.folder, base.architecture, mixture, folder)
    except OSError as error:
        raise EditFailed(
            f"the merged model cannot be written to {scratch.parent.parent}: {error.strerror}; "
            "free some space, or set SCALPEL_CACHE to another folder"
        ) from error
    return {path.name: path for path in sorted(folder.iterdir())}


def loader(files: Files) -> Loader:
    (folder,) = {path.parent for path in files.values() if isinstance(path, Path)}

    @contextmanager
    def loaded(base: LoadedModel) -> Iterator[LoadedModel]:
        dtype = str(base.dtype).removeprefix("torch.")
        with _broken_is_a_mismatch():
            model = load_base(folder, device=_device(base), dtype=dtype)
        yield replace(model, ranks=base.ranks)

    with _broken_is_a_mismatch():
        dtype = coarsest_dtype(folder)
    return Loader(_NAME, version(_NAME), loaded, dtype)


_LOAD = """\
`.` is this folder; the name of its repository does as well. With transformers:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
```

With vLLM:

```sh
vllm serve .
```"""


def use(files: Files, base: str) -> Use:
    return Use(library="transformers", relation="finetune", tags=(), load=_LOAD)


@contextmanager
def _broken_is_a_mismatch() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a broken tokenizer raises nothing more specific
        if is_out_of_memory(error.__cause__ or error):
            raise (error.__cause__ or error) from None
        raise EditFailed(
            f"{_NAME} {version(_NAME)} cannot load the export: {error}", code="export_mismatch"
        ) from error


def _device(base: LoadedModel) -> str:
    """What to load another such model with."""
    spread = len(set(getattr(base.model, "hf_device_map", {}).values())) > 1
    return "auto" if spread else str(base.device)
