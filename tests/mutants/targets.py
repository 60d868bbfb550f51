"""What is changed, by which tests that must be noticed, and what cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """A module, and the tests that are about it, the quickest first."""

    path: str
    tests: tuple[str, ...]
    scopes_only: bool = False
    """Change nothing but the scopes that its routes need."""


def _surgery(name: str, *tests: str) -> Target:
    return Target(
        f"workers/surgery/{name}.py", tuple(f"tests/workers/surgery/{test}.py" for test in tests)
    )


def _method(name: str) -> Target:
    """The fit of a method; candidates are made of it."""
    tests = (
        f"tests/workers/surgery/methods/test_{name}.py",
        "tests/workers/making/test_candidates.py",
    )
    return Target(f"workers/surgery/methods/{name}/fit.py", tests)


AREAS: Mapping[str, tuple[Target, ...]] = {
    "maths": (
        _surgery("calibrate", "test_calibrate"),
        _surgery("curvature", "test_curvature", "methods/test_natural"),
        _surgery("moments", "test_moments", "methods/test_natural"),
        _surgery("probe", "test_probe"),
        _surgery("region", "test_region"),
        _surgery("regression", "methods/test_bias"),
        _surgery("rows", "test_rows", "methods/test_attribution"),
        _surgery("terms", "test_terms"),
        *map(
            _method,
            ("attribution", "bias", "conditional", "model_surgery", "natural", "natural_bias"),
        ),
    ),
    "splits": (
        Target(
            "workers/evaluation/data/splits.py",
            ("tests/workers/evaluation/data/test_splits.py",),
        ),
    ),
    "verdict": (
        Target("workers/evaluation/verdict.py", ("tests/workers/evaluation/test_verdict.py",)),
    ),
    "policy": (
        Target(
            "models_store/operator/policy.py",
            ("tests/models_store/operator/test_policy.py",),
        ),
    ),
    "scopes": (
        Target(
            "app/request/auth.py",
            (
                "tests/app/accounts/test_scopes.py",
                "tests/app/accounts/test_auth.py",
                "tests/security/test_sign_in.py",
            ),
        ),
        *(
            Target(str(path), ("tests/app/accounts/test_scopes.py",), scopes_only=True)
            for path in sorted(Path("app/routes").rglob("*.py"))
        ),
    ),
}

_ONE = "there is one column, or one dimension"
_REST = "what is left is fitted on"
_SIXTEEN = "a side has 16 texts at least, of which 2 are held out"

_CALIBRATE = {
    "if len(usable) > 1 and usable[1][(-1)] != x:": "one scale comes twice by rounding alone",
    "if len(usable) > 1 and usable[1][(1)] != x:": "one scale comes twice by rounding alone",
    "if (low <= high) and not low < aim < high:": "no scale is above and below the target",
    "high = min((math.log(s) for s, value in trace if (value >= target)), default=math.inf)": (
        "what meets the target ends the calibration"
    ),
    "low = max((math.log(s) for s, value in trace if (value <= target)), default=-math.inf)": (
        "what meets the target ends the calibration"
    ),
}

_SPLITS = {
    "SHARES = ((1.6), 0.25, 0.15)": _REST,
    "SHARES = ((0.3), 0.25, 0.15)": _REST,
    "totals = np.bincount(sides, minlength=(1))": "both sides have texts",
    "parts = [(1)] * len(groups)": "every text gets a part below",
    "parts = [(-1)] * len(groups)": "every text gets a part below",
    "missing = (wanted - got) / wanted.clip(min=(0))": _SIXTEEN,
    "missing = (wanted - got) / wanted.clip(min=(2))": _SIXTEEN,
    "if bool((got < np.maximum((0), wanted / 2)).any()):": _SIXTEEN,
    "return tuple(text for text, part in zip(texts, of, strict=(False)) if part == number)": (
        "both are as long"
    ),
    "return [message.content for message in item.messages[:-(2)] "
    'if message.role != "system"]': "the last question is in the full text",
    "seen[prompt.template] += (2)": "the order of the rounds is the same",
}

EQUIVALENT: Mapping[str, Mapping[str, str]] = {
    "workers/surgery/calibrate.py": _CALIBRATE,
    "workers/surgery/moments.py": {
        "return solved[:, (-1)]": _ONE,
        "_NEGLIGIBLE = (5e-07)": "what is rounding is far below either",
        "generator = torch.Generator().manual_seed((1))": "any test matrix does",
        "generator = torch.Generator().manual_seed((-1))": "any test matrix does",
    },
    "workers/surgery/region.py": {
        **{f"_CHUNK_ROWS = ({rows})": "memory alone" for rows in (4095, 4097)},
        "rows=tuple(mask.nonzero()[:, (-1)] for mask in masks),": _ONE,
    },
    "workers/surgery/rows.py": {
        "return {key: mask.nonzero()[:, (-1)] for key, mask in zip(scores, masks, strict=True)}": (
            _ONE
        ),
        "return {key: mask.nonzero()[:, 0] for key, mask in zip(scores, masks, strict=(False))}": (
            "both are as long"
        ),
    },
    "workers/surgery/terms.py": {
        "if rows.numel() and bool((coefficients == coefficients[(-1)]).all()):": "all are alike",
        "return torch.zeros(out_features).index_copy_((-1), term.rows, term.coefficients)": _ONE,
    },
    "workers/surgery/methods/natural/fit.py": {
        **{f"_BLOCK = ({block})": "the same in as many steps, about" for block in (7, 9)},
        **{f"_MAX_ITERATIONS = ({most})": "it ends before" for most in (299, 301)},
        "_CONVERGED = (5e-14)": "below what rounding leaves",
        "generator = torch.Generator().manual_seed((1))": "any start does",
        "generator = torch.Generator().manual_seed((-1))": "any start does",
        "gain = (1.0)": "the first step is not the last",
        "if abs((gain + previous)) <= _CONVERGED * gain:": "it only ends later",
    },
    "workers/evaluation/data/splits.py": _SPLITS,
    "models_store/operator/policy.py": {
        "model_config = ConfigDict(allow_inf_nan=(True))": "every number has bounds",
        "size = (-1)  # `read_document` raises": "any size below the limit does",
        "size = (1)  # `read_document` raises": "any size below the limit does",
    },
}
"""By path and changed line: why no test can notice."""
