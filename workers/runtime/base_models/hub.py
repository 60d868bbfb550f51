"""Download from the Hugging Face hub at one commit: weights and tokenizer of a base model, never
code; or one file of a data set.

The hub itself is where the operator says (`HF_ENDPOINT`), which may be in the house; but what it
redirects to is held to the rule of `models_store.net.addresses`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from models_store.errors import BaseModelUnavailable, InvalidRequest
from models_store.schemas.catalogue import HubSource
from workers.runtime.base_models.hub_client import Bounds, use_checked_client

_WANTED = ("*.safetensors", "*.json", "tokenizer.model", "merges.txt", "*.jinja")
_EDIT = ("adapter_config.json", "*.safetensors", "*.gguf")
# A second copy of the weights in another layout.
_UNWANTED = ("consolidated*",)
# It fetches from wherever the hub says, through a client of its own, which nothing checks.
constants.HF_HUB_DISABLE_XET = True


def download(source: HubSource, folder: Path, *, endpoint: str | None = None) -> None:
    """Fill `folder` with the files of `source`; what an earlier, cut download left is used.

    Args:
        source: repository and commit. Only files at its top are taken.
        folder: an existing folder.
        endpoint: another hub than the one that `HF_ENDPOINT` names.

    Raises:
        BaseModelUnavailable: no connection, no such repository or commit, or no access.
    """
    api = HfApi(endpoint=endpoint)
    bounds = use_checked_client(api.endpoint)
    way_around = (
        f"run `hf download {source.repo} --revision {source.revision} --local-dir FOLDER`, copy "
        'FOLDER here and register it as {"type": "folder"}'
    )
    with _explained(source, way_around):
        # The list first and the comparison after: when it cannot reach the hub, snapshot_download
        # is content with whatever the folder holds.
        files = _files(api, source)
        _bound(bounds, files)
        _fetch(api, source, files, folder)


def download_edit(
    source: HubSource, folder: Path, most: int, *, endpoint: str | None = None
) -> None:
    """Put the files at the top of a repository that an edit can be made of into `folder`.

    Without the operator's token, which may open repositories that are not the tenant's to read.

    Args:
        most: bytes that they may have together.

    Raises:
        InvalidRequest: they have more, or they cannot be downloaded.
    """
    api = HfApi(endpoint=endpoint, token=False)
    bounds = use_checked_client(api.endpoint)
    try:
        with _explained(source, "download its files and send them as a form", with_token=False):
            files = _files(api, source, _EDIT)
            size = sum(file.size for file in files)
            if size > most:
                raise InvalidRequest(f"the files of {source.repo} have {size} bytes, over {most}")
            _bound(bounds, files)
            _fetch(api, source, files, folder)
    except BaseModelUnavailable as error:
        raise InvalidRequest(error.message) from error


def download_data_file(
    source: HubSource, path: str, folder: Path, *, endpoint: str | None = None
) -> None:
    """Put one file of a data set into `folder`, under its path in the repository.

    Raises:
        BaseModelUnavailable: no connection, no such repository, commit or file, or no access.
    """
    api = HfApi(endpoint=endpoint)
    bounds = use_checked_client(api.endpoint)
    way_around = (
        f"run `hf download {source.repo} {path} --repo-type dataset --revision {source.revision} "
        "--local-dir FOLDER`, copy FOLDER here and name the file in it"
    )
    with _explained(source, way_around):
        entries = api.get_paths_info(
            source.repo, [path], revision=source.revision, repo_type="dataset"
        )
        files = [entry for entry in entries if isinstance(entry, RepoFile)]
        if not files:
            raise BaseModelUnavailable(
                f"{source.repo} on the Hugging Face hub has no file {path} at {source.revision}"
            )
        _bound(bounds, files)
        api.hf_hub_download(
            source.repo, path, revision=source.revision, repo_type="dataset", local_dir=folder
        )
        _compare(files, folder)
    shutil.rmtree(folder / ".cache", ignore_errors=True)


@contextmanager
def _explained(source: HubSource, way_around: str, *, with_token: bool = True) -> Iterator[None]:
    """Turn what the hub's client raises into errors that say what to do.

    Args:
        way_around: what to do on another machine, where this one has no connection.
        with_token: whether the operator's token is used.
    """
    closed = f"it is not public, and no token is used here: {way_around}"
    try:
        yield
    except GatedRepoError as error:
        advice = "accept its terms there and set HF_TOKEN to a token that may read it"
        raise BaseModelUnavailable(
            f"{source.repo} on the Hugging Face hub is gated: {advice if with_token else closed}"
        ) from error
    except RevisionNotFoundError as error:
        raise BaseModelUnavailable(
            f"{source.repo} on the Hugging Face hub has no commit {source.revision}"
        ) from error
    except RepositoryNotFoundError as error:
        private = "it is private and HF_TOKEN does not open it"
        raise BaseModelUnavailable(
            f"the Hugging Face hub has no repository {source.repo}, or "
            f"{private if with_token else closed}"
        ) from error
    except (OSError, HTTPError, EntryNotFoundError) as error:
        # HTTPError: of the connection, whichever client the hub's library uses; "offline and not
        # cached" is an OSError.
        raise BaseModelUnavailable(
            f"{source.repo} at {source.revision} could not be downloaded from the Hugging Face hub "
            f"({_first_line(error)}): connect this machine and try again, or on one with a "
            f"connection {way_around}"
        ) from error


def _fetch(api: HfApi, source: HubSource, files: list[RepoFile], folder: Path) -> None:
    api.snapshot_download(
        source.repo,
        revision=source.revision,
        local_dir=folder,
        allow_patterns=[file.path for file in files],
    )
    _compare(files, folder)
    # The downloader's own notes on what it has fetched.
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _files(api: HfApi, source: HubSource, wanted: tuple[str, ...] = _WANTED) -> list[RepoFile]:
    listed = api.list_repo_tree(source.repo, revision=source.revision)
    return [
        entry
        for entry in listed
        if isinstance(entry, RepoFile)
        and any(fnmatch(entry.path, pattern) for pattern in wanted)
        and not any(fnmatch(entry.path, pattern) for pattern in _UNWANTED)
    ]


def _bound(bounds: Bounds, files: list[RepoFile]) -> None:
    """Let no response be longer than the largest of the files."""
    bounds.max_bytes = max([bounds.max_bytes, *(file.size for file in files)])


def _compare(files: list[RepoFile], folder: Path) -> None:
    """Raise OSError unless every file is there, as long as the hub says and with its sha256."""
    for file in files:
        path = folder / file.path
        if not path.is_file() or path.stat().st_size != file.size:
            raise OSError(f"{file.path} did not come whole")
        # Known for large files only; for the small ones the length has to do.
        if file.lfs is not None:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if digest != file.lfs.sha256:
                path.unlink()
                raise OSError(f"{file.path} came with other bytes than the hub names")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
