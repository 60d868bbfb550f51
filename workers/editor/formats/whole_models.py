"""What the formats of whole models have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from models_store.errors import EditFailed
from workers.editor.process.failures import is_out_of_memory
from workers.runtime.loading import LoadedModel, load_base


@contextmanager
def writing(scratch: Path) -> Iterator[None]:
    """Say what to do where the folder has no room."""
    try:
        yield
    except OSError as error:
        raise EditFailed(
            f"the merged model cannot be written to {scratch.parent.parent}: {error.strerror}; "
            "free some space, or set SCALPEL_CACHE to another folder"
        ) from error


def load_beside(base: LoadedModel, folder: Path) -> LoadedModel:
    """The model in a folder, as the base model was loaded."""
    dtype = str(base.dtype).removeprefix("torch.")
    spread = len(set(getattr(base.model, "hf_device_map", {}).values())) > 1
    model = load_base(folder, device="auto" if spread else str(base.device), dtype=dtype)
    return replace(model, ranks=base.ranks)


@contextmanager
def broken_is_a_mismatch(library: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a broken tokenizer raises nothing more specific
        if is_out_of_memory(error.__cause__ or error):
            raise (error.__cause__ or error) from None
        raise EditFailed(
            f"{library} {version(library)} cannot load the export: {error}", code="export_mismatch"
        ) from error
