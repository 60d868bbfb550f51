"""The files of `scalpel import`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.cli.client import ApiError

_NAMES = ("adapter_config.json", "adapter_model.safetensors")


def import_files(path: Path) -> Sequence[Path]:
    """The files to send: those of an adapter's folder, or the one that is named.

    Raises:
        ApiError: they are not there.
    """
    files = [path / name for name in _NAMES] if path.is_dir() else [path]
    for file in files:
        if not file.is_file():
            raise ApiError(f"{file} is not there: name a file, or a folder with {_NAMES[0]}")
    return files
