"""Exports on the Hugging Face hub: pushed with their card and checksums, pulled and checked."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi

from app.cli.client import LATER, ApiError, Client, NotAllowed, Unreachable
from app.cli.work.files import file_name, file_path
from models_store.cards.sums import SUMS_NAME, check_sums, file_sum, read_sums, write_sums
from models_store.errors import InvalidRequest

_MOST_WORDS = 400
"""Characters of what the hub says of an error."""


def push(
    client: Client, export_id: str, repo: str, *, token: str, endpoint: str, private: bool
) -> str:
    """Upload the files of an export, in one commit.

    Args:
        token, endpoint: empty: as `huggingface_hub` has them.

    Returns:
        The address of the repository.

    Raises:
        ApiError: the export has no files, or is damaged; the hub cannot be reached, or refuses;
            `private` was wanted and the repository is public already.
    """
    export = client.get(f"/v1/exports/{export_id}")
    if export["status"] != "succeeded":
        raise ApiError(f"{export_id} is {export['status']}: only one that has succeeded has files")
    with tempfile.TemporaryDirectory(prefix="scalpel-push-") as name:
        folder = Path(name)
        _download(client, export, folder)
        with _readable(token):
            hub = HfApi(endpoint=endpoint or None, token=token or None)
            url = hub.create_repo(repo, private=private or None, exist_ok=True)
            if private and not hub.repo_info(url.repo_id).private:
                raise ApiError(f"{url} is there already, and public: choose another name")
            hub.upload_folder(
                repo_id=url.repo_id,
                folder_path=folder,
                commit_message=f"Add {export['variant']} as {export['format']} ({export_id})",
            )
    return str(url)


def _download(client: Client, export: dict[str, Any], folder: Path) -> None:
    files = export["files"]
    for file in files:
        path = folder / file_name(file)
        client.save(file_path(export, file), path)
        if file_sum(path) != file["sha256"]:
            raise ApiError(f"{file['name']} did not arrive as it was sent: push it again")
    sums = folder / SUMS_NAME
    if not sums.exists():  # an export of an earlier version
        sums.write_bytes(write_sums((file["name"], file["sha256"]) for file in files))


def pull(
    repo: str, folder: Path, *, revision: str | None, token: str, endpoint: str
) -> tuple[list[str], list[tuple[str, str]]]:
    """Download the files that the `SHA256SUMS` of a repository names, and check them.

    Args:
        revision: a branch, a tag or a commit; None: the default branch.

    Returns:
        Names of the files; those of them that are not as they should be, each with what is wrong.

    Raises:
        ApiError: the hub cannot be reached, or refuses; it has no such repository, or one without
            checksums that can be read.
    """
    with _readable(token):
        hub = HfApi(endpoint=endpoint or None, token=token or None)
        info = hub.repo_info(repo, revision=revision)
        there = {file.rfilename for file in info.siblings or ()}
        if SUMS_NAME not in there:
            raise ApiError(f"{repo} has no {SUMS_NAME} to check its files against")

        def fetch(name: str) -> Path:
            return Path(hub.hf_hub_download(repo, name, revision=info.sha, local_dir=folder))

        sums = read_sums(fetch(SUMS_NAME).read_text(encoding="utf-8"))
        for name in sums:
            if name in there:
                fetch(name)
    problems = [(name, "missing") for name in sums if name not in there]
    problems += check_sums(folder, {name: sum for name, sum in sums.items() if name in there})
    if not problems:
        shutil.rmtree(folder / ".cache" / "huggingface", ignore_errors=True)
        with contextlib.suppress(OSError):
            (folder / ".cache").rmdir()
    return list(sums), problems


@contextlib.contextmanager
def _readable(token: str) -> Iterator[None]:
    """Errors of the library as one message, in which the token never is."""
    try:
        yield
    except ApiError:
        raise
    except InvalidRequest as error:
        raise ApiError(error.message) from error
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as error:
        causes = (error, error.__cause__)
        away = any(isinstance(cause, (httpx2.TransportError, ConnectionError)) for cause in causes)
        status = getattr(getattr(error, "response", None), "status_code", None)
        kind = Unreachable if away else _kind(status)
        said = " ".join(str(error).split())[:_MOST_WORDS] or type(error).__name__
        cause = f" ({type(error.__cause__).__name__})" if error.__cause__ is not None else ""
        message = f"the hub: {said}{cause}"
        raise kind(message.replace(token, "…") if token else message) from None


def _kind(status: int | None) -> type[ApiError]:
    if status in (401, 403):
        return NotAllowed
    return Unreachable if status in LATER else ApiError
