"""Which of the contract's codes an error is."""

from __future__ import annotations

import torch
from rq.timeouts import JobTimeoutException

from models_store.errors import (
    BaseModelUnavailable,
    CorruptArtifact,
    EditFailed,
    InvalidRequest,
    NotFound,
    ScalpelError,
)
from models_store.schemas.records import ErrorInfo, Kind

_CODES: tuple[tuple[type[ScalpelError], str], ...] = (
    (BaseModelUnavailable, "base_model_unavailable"),
    (CorruptArtifact, "corrupt_artifact"),
    # Texts or a delta that the work needs are gone.
    (NotFound, "corrupt_artifact"),
)
_REFUSED: dict[Kind, str] = {
    # What a request got wrong and only the model could show.
    "edit": "invalid_behavior",
    "export": "edit_error",
    "base_model": "base_model_unavailable",
}


def error_info(error: BaseException, kind: Kind) -> ErrorInfo:
    """What is written down of an error that ended the work."""
    if isinstance(error, EditFailed):
        return ErrorInfo(code=error.code, message=error.message)
    if isinstance(error, InvalidRequest):
        return ErrorInfo(code=_REFUSED[kind], message=error.message)
    if isinstance(error, ScalpelError):
        code = next(
            (code for error_type, code in _CODES if isinstance(error, error_type)), "edit_error"
        )
        return ErrorInfo(code=code, message=error.message)
    if is_out_of_memory(error):
        return ErrorInfo(
            code="out_of_memory",
            message=f"the editor ran out of memory: use fewer or shorter texts ({_line(error)})",
        )
    if isinstance(error, JobTimeoutException):
        return ErrorInfo(code="deadline", message="the work was not done by its deadline")
    return ErrorInfo(code="edit_error", message=f"{type(error).__name__}: {_line(error)}")


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # On the CPU torch raises a plain RuntimeError.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else "no message"
