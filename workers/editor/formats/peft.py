"""A LoRA adapter as PEFT has it."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from models_store.cards import Use
from models_store.schemas.records import Variant
from models_store.weights.peft import CONFIG_NAME, WEIGHTS_NAME, to_peft
from workers.editor.formats.protocol import Files, Loader, content
from workers.runtime.edits.deltas import stored_terms
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture

_SMALLEST_RANK = 8
"""That vLLM may be told, but for 1; the others up to 512 are powers of two."""


def files(base: LoadedModel, mixture: Mixture, variant: Variant, scratch: Path) -> Files:
    """One LoRA adapter for all edits."""
    weighted = stored_terms(mixture, base.fingerprint)
    shapes = base.linear_shapes()
    config, weights = to_peft(weighted, shapes, base.architecture, base_model=variant.base_model)
    return {CONFIG_NAME: json.dumps(config, indent=2).encode(), WEIGHTS_NAME: weights}


def loader(files: Files) -> Loader:
    @contextmanager
    def loaded(base: LoadedModel) -> Iterator[LoadedModel]:
        # Imported here: it takes seconds, and only an export has a use for it.
        from peft import PeftModel

        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                (Path(folder) / name).write_bytes(content(data))
            with warnings.catch_warnings():
                # PEFT uses a deprecated name of transformers.
                warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
                adapted = PeftModel.from_pretrained(base.model, folder)
        # It puts its layers into the model itself, which goes on running with them.
        try:
            yield base
        finally:
            adapted.unload()

    return Loader("peft", version("peft"), loaded)


_LOAD = """\
`.` is this folder; the name of its repository does as well. With PEFT:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{base}")
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), ".")
```

With vLLM, as the model `edited` beside the base model:

```sh
vllm serve {base} --enable-lora --max-lora-rank {rank} --lora-modules edited=.
```"""


def use(files: Files, base: str) -> Use:
    rank = json.loads(content(files[CONFIG_NAME]))["r"]
    fits = max(_SMALLEST_RANK, 1 << (rank - 1).bit_length())
    load = _LOAD.format(base=base, rank=fits)
    return Use(library="peft", relation="adapter", tags=("lora",), load=load)
