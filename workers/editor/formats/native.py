"""Scalpel's own format: one delta."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models_store.cards import Use
from models_store.schemas.records import Variant
from models_store.weights.delta import FORMAT, dump_delta, load_delta
from workers.editor.formats.protocol import Files, Loader, content
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.deltas import from_delta, to_delta
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture, folded

_NAME = "delta.safetensors"


def files(base: LoadedModel, mixture: Mixture, variant: Variant, scratch: Path) -> Files:
    """All edits in one delta, with their strengths in the coefficients."""
    return {_NAME: dump_delta(to_delta(folded(mixture), base.fingerprint, "mixture"))}


def loader(files: Files) -> Loader:
    terms = from_delta(load_delta(content(files[_NAME])))

    @contextmanager
    def loaded(base: LoadedModel) -> Iterator[LoadedModel]:
        with WeightEditor(base).applied([(terms, 1.0)]):
            yield base

    name, number = FORMAT.split("/")
    return Loader(name, number, loaded)


_LOAD = """\
In Python, where Scalpel is installed, with a folder of the base model:

```python
from pathlib import Path

from models_store.weights.delta import load_delta
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.deltas import from_delta
from workers.runtime.loading import load_base

base = load_base(Path("path/to/the/base/model"), device="cpu", dtype="auto")
terms = from_delta(load_delta(Path("delta.safetensors").read_bytes()))
with WeightEditor(base).applied([(terms, 1.0)]):
    ...  # base.model has the edit in its weights
```"""


def use(files: Files, base: str) -> Use:
    return Use(library="scalpel", relation="adapter", tags=(), load=_LOAD)
