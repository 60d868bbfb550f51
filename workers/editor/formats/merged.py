"""A complete model in the layout of Hugging Face, with the edits in its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from models_store.cards import Use
from models_store.schemas.records import Variant
from workers.editor.formats.protocol import Files, Loader
from workers.editor.formats.whole_models import broken_is_a_mismatch, load_beside, writing
from workers.runtime.loading import LoadedModel
from workers.runtime.merging import coarsest_dtype, merge
from workers.surgery.terms import Mixture

_NAME = "transformers"


def files(base: LoadedModel, mixture: Mixture, variant: Variant, scratch: Path) -> Files:
    """The base model's files, those of its weights with the edits added."""
    folder = scratch / "merged"
    with writing(scratch):
        merge(base.folder, base.architecture, mixture, folder)
    return {path.name: path for path in sorted(folder.iterdir())}


def loader(files: Files) -> Loader:
    (folder,) = {path.parent for path in files.values() if isinstance(path, Path)}

    @contextmanager
    def loaded(base: LoadedModel) -> Iterator[LoadedModel]:
        with broken_is_a_mismatch(_NAME):
            model = load_beside(base, folder)
        yield model

    with broken_is_a_mismatch(_NAME):
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
