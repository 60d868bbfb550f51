"""From a catalogued source to a Hugging Face folder on this machine."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from models_store.errors import BaseModelUnavailable, InvalidRequest
from models_store.schemas.catalogue import (
    PACKAGES,
    BaseModelSource,
    FolderSource,
    HubSource,
    PackageName,
    PackageSource,
    PackageWeights,
)
from workers.runtime.base_models.checks import refuse_links_out
from workers.runtime.base_models.packages import gguf_file
from workers.runtime.base_models.staging import is_whole, make_once

_CONVERSION = 1
"""Counts up when a converted folder changes, so that old ones are not taken for new."""


def materialise(
    source: BaseModelSource,
    cache: Path,
    allowed: Sequence[Path] = (),
    *,
    packages: Mapping[PackageName, PackageWeights] = PACKAGES,
) -> Path:
    """The folder with config, tokenizer and safetensors of `source`, made if it is not there yet.

    A folder source is used in place. Packages are converted (10 to 60 s) and hub repositories
    downloaded into `cache / "base_models"`, once; afterwards this takes about a millisecond.
    Safe to call from many processes, and to kill.

    Args:
        allowed: folders that a folder source must lie in, links followed; none: anywhere.
        packages: where packages have their weights.

    Raises:
        BaseModelUnavailable: the package is not installed, the folder is not there, the hub cannot
            be reached, or the cache cannot be written; the message says what to do.
        InvalidRequest: a folder source is not in an allowed folder, or has links that lead out of
            it.
    """
    if isinstance(source, FolderSource):
        return _in_place(source, allowed)
    if isinstance(source, PackageSource):
        return _converted(source, packages[source.name], cache)
    return _downloaded(source, cache)


def is_here(source: BaseModelSource, cache: Path) -> bool:
    """Whether `materialise` has nothing to convert or to download."""
    if isinstance(source, FolderSource):
        return source.path.is_dir()
    if isinstance(source, PackageSource):
        return is_whole(_conversion(source, PACKAGES[source.name], cache))
    return is_whole(_copy(source, cache))


def _in_place(source: FolderSource, allowed: Sequence[Path]) -> Path:
    real = source.path.resolve()
    # First of all: what lies elsewhere is nobody's business, not even whether it is there.
    if allowed and not any(real.is_relative_to(folder.resolve()) for folder in allowed):
        raise InvalidRequest(
            f"{source.path} is in none of the folders that base models may lie in: move it there, "
            "or let the operator add its folder to SCALPEL_BASE_MODEL_FOLDERS"
        )
    if not source.path.is_dir():
        raise BaseModelUnavailable(
            f"{source.path} is not a folder on this machine: base models from a folder must lie "
            "at the same path wherever a worker runs"
        )
    refuse_links_out(source.path)
    return real


def _conversion(source: PackageSource, weights: PackageWeights, cache: Path) -> Path:
    # Named by what is converted, so the folder is good without the package too.
    return cache / "base_models" / f"{source.name}-{weights.sha256[:12]}-{_CONVERSION}"


def _converted(source: PackageSource, weights: PackageWeights, cache: Path) -> Path:
    def build(folder: Path) -> None:
        # Late: this brings in torch and transformers, which a warm start here can do without.
        from workers.runtime.base_models.convert import convert_gguf

        with gguf_file(weights, folder) as gguf:
            convert_gguf(gguf, folder, digits_apart=weights.digits_apart)

    origin = {
        "package": source.name,
        "gguf_sha256": weights.sha256,
        **{library: version(library) for library in ("transformers", "gguf", "torch")},
    }
    return make_once(_conversion(source, weights, cache), build, origin=origin)


def _copy(source: HubSource, cache: Path) -> Path:
    return cache / "base_models" / f"{source.repo.replace('/', '--')}-{source.revision}"


def _downloaded(source: HubSource, cache: Path) -> Path:
    def build(folder: Path) -> None:
        # Late: the downloader takes a second to import.
        from workers.runtime.base_models.hub import download

        download(source, folder)

    origin = {"hub": source.repo, "revision": source.revision}
    return make_once(_copy(source, cache), build, origin=origin, resume=True)


def fetch_data_file(
    source: HubSource, path: str, shelf: Path, *, endpoint: str | None = None
) -> Path:
    """One file of a data set on the hub, downloaded into the folder `shelf` once.

    Args:
        endpoint: another hub than the one that `HF_ENDPOINT` names.

    Raises:
        BaseModelUnavailable: it cannot be downloaded, or the folder cannot be written.
    """
    # Two files of one data set may have the same name in different folders.
    place = hashlib.sha256(path.encode()).hexdigest()[:8]
    target = shelf / f"{source.repo.replace('/', '--')}-{source.revision}-{place}"
    name = Path(path).name

    def build(folder: Path) -> None:
        from workers.runtime.base_models.hub import download_data_file

        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            download_data_file(source, path, Path(temporary), endpoint=endpoint)
            Path(temporary, path).rename(folder / name)

    origin = {"hub": source.repo, "revision": source.revision, "path": path}
    return make_once(target, build, origin=origin) / name
