"""Download a base model from the Hugging Face hub at one commit: weights and tokenizer, no code."""

from __future__ import annotations

import shutil
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from models_store.catalogue import HubSource
from models_store.errors import BaseModelUnavailable

_WANTED = ("*.safetensors", "*.json", "tokenizer.model", "spiece.model", "*.txt", "*.jinja")
# Second copies of the weights in other layouts: in folders of their own, or under another name.
_UNWANTED = ("*/*", "consolidated*")


def download(source: HubSource, folder: Path, *, endpoint: str | None = None) -> None:
    """Fill `folder` with the files of `source`; what an earlier, cut download left is used.

    Args:
        source: repository and commit.
        folder: an existing folder.
        endpoint: another hub than `HF_ENDPOINT` names (a mirror).

    Raises:
        BaseModelUnavailable: no connection, no such repository or commit, or no access.
    """
    try:
        snapshot_download(
            source.repo,
            revision=source.revision,
            local_dir=folder,
            allow_patterns=list(_WANTED),
            ignore_patterns=list(_UNWANTED),
            endpoint=endpoint,
        )
    except GatedRepoError as error:
        raise BaseModelUnavailable(
            f"{source.repo} on the Hugging Face hub is gated: accept its terms there and set "
            "HF_TOKEN to a token that may read it"
        ) from error
    except RevisionNotFoundError as error:
        raise BaseModelUnavailable(
            f"{source.repo} on the Hugging Face hub has no commit {source.revision}"
        ) from error
    except RepositoryNotFoundError as error:
        raise BaseModelUnavailable(
            f"the Hugging Face hub has no repository {source.repo}, or it is private and HF_TOKEN "
            "does not open it"
        ) from error
    except (OSError, EntryNotFoundError) as error:
        # Every error of the connection is an OSError here, and so is "offline and not cached".
        raise BaseModelUnavailable(
            f"{source.repo} at {source.revision} could not be downloaded from the Hugging Face hub "
            f"({_first_line(error)}): connect this machine and try again, or on one with a "
            f"connection run `hf download {source.repo} --revision {source.revision} --local-dir "
            'FOLDER`, copy FOLDER here and register it as {"type": "folder"}'
        ) from error
    # The downloader's own notes on what it has fetched.
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
