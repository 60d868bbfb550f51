"""Which error becomes which code."""

from __future__ import annotations

import pytest
import torch
from rq.timeouts import JobTimeoutException

from models_store.errors import (
    BaseModelUnavailable,
    CorruptArtifact,
    EditFailed,
    InvalidRequest,
    NotFound,
)
from models_store.schemas.records import Kind
from workers.editor.process.failures import error_info, is_out_of_memory


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EditFailed("no"), "edit_error"),
        (EditFailed("no", code="export_mismatch"), "export_mismatch"),
        (BaseModelUnavailable("no"), "base_model_unavailable"),
        (CorruptArtifact("no"), "corrupt_artifact"),
        (NotFound("no"), "corrupt_artifact"),
        (InvalidRequest("no"), "invalid_behavior"),
        (MemoryError(), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (JobTimeoutException("late"), "deadline"),
        (ZeroDivisionError("division by zero"), "edit_error"),
    ],
)
def test_every_error_has_one_of_the_contracts_codes(error: BaseException, code: str) -> None:
    assert error_info(error, "edit").code == code


@pytest.mark.parametrize(
    ("kind", "code"), [("export", "edit_error"), ("base_model", "base_model_unavailable")]
)
def test_a_refusal_means_what_was_refused(kind: Kind, code: str) -> None:
    assert error_info(InvalidRequest("no"), kind).code == code


def test_a_real_failure_to_allocate_on_the_cpu_is_recognised() -> None:
    with pytest.raises(RuntimeError) as got:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(got.value)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_the_message_of_an_unforeseen_error_is_one_line() -> None:
    info = error_info(KeyError("a\nb"), "edit")
    assert info.message.startswith("KeyError: ")
    assert "\n" not in info.message
