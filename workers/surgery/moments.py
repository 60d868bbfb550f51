"""Second moments E[x xᵀ] of vectors that come in batches, and what is done with them.

Small ones are kept whole. A large one is kept as its diagonal and its leading eigenpairs,

    E[x xᵀ] ≈ diag(d) + U diag(λ) Uᵀ,

which a sketch finds in one pass, without the whole matrix ever being there: with a fixed Gaussian
Ω `[size, width]` only Y = E[x xᵀ] Ω and the diagonal are summed up, and U diag(λ) Uᵀ is the
truncated Nyström approximation Y (Ωᵀ Y)⁻¹ Yᵀ (Tropp et al., arXiv 1706.05736). It is never larger
than E[x xᵀ], so the rest d of the diagonal is not negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from models_store.errors import EditFailed

EXACT_SIZE = 4096
"""Up to this size a moment is kept whole."""
RANK = 256
"""Leading eigenpairs that are kept of a larger one."""
_SKETCH = 2 * RANK
"""Columns of its sketch: the more there are, the better the last eigenpairs."""
_NEGLIGIBLE = 1e-6
"""Directions of a sketch whose share is below this are rounding: its sums are in fp32."""


class Factor(Protocol):
    """Some B with B Bᵀ = the damped moment; which one makes no difference to the methods."""

    def whiten(self, columns: Tensor) -> Tensor:
        """B⁻¹ X for X `[size, n]`, fp64."""

    def unwhiten(self, vector: Tensor) -> Tensor:
        """B⁻ᵀ y for y `[size]`, fp64."""


class Moment(Protocol):
    """E[x xᵀ] in one of its forms; tensors are fp32 on the CPU, results fp64."""

    @property
    def diagonal(self) -> Tensor:
        """fp64 `[size]`."""

    def quadratic(self, vector: Tensor) -> float:
        """yᵀ E[x xᵀ] y for y `[size]`."""

    def damped(self, share: float) -> Factor:
        """A factor of E[x xᵀ] + share · mean of its diagonal · I.

        Raises:
            EditFailed: the moment is not finite or all zero.
        """

    def to_tensors(self) -> dict[str, Tensor]:
        """What `moment_from_tensors` takes."""


@dataclass(frozen=True, eq=False)
class DenseMoment:
    """A moment that is kept whole."""

    matrix: Tensor
    """fp32 `[size, size]`."""

    @property
    def diagonal(self) -> Tensor:
        return self.matrix.diagonal().double()

    def quadratic(self, vector: Tensor) -> float:
        wide = vector.double()
        return float(wide @ (self.matrix.double() @ wide))

    def damped(self, share: float) -> Factor:
        matrix = self.matrix.double()
        matrix.diagonal().add_(_damping(self.diagonal, share))
        lower, failed = torch.linalg.cholesky_ex(matrix)
        if failed:
            raise EditFailed(
                "the second moments of a gate cannot be inverted: they are not finite or not a "
                "moment at all; raise the damping"
            )
        return _Cholesky(lower)

    def to_tensors(self) -> dict[str, Tensor]:
        return {"matrix": self.matrix}


@dataclass(frozen=True, eq=False)
class LowRankMoment:
    """A moment as diag(rest) + vectors diag(values) vectorsᵀ."""

    rest: Tensor
    """fp32 `[size]`, not negative."""
    vectors: Tensor
    """fp32 `[size, rank]`, orthonormal columns."""
    values: Tensor
    """fp32 `[rank]`, positive, descending."""

    @property
    def diagonal(self) -> Tensor:
        return self.rest.double() + self.vectors.double().square() @ self.values.double()

    def quadratic(self, vector: Tensor) -> float:
        wide = vector.double()
        along = self.vectors.double().T @ wide
        return float(self.rest.double() @ wide.square() + self.values.double() @ along.square())

    def damped(self, share: float) -> Factor:
        # diag(D) + U Λ Uᵀ = √D (I + W diag(μ) Wᵀ) √D with orthonormal W.
        root = (self.rest.double() + _damping(self.diagonal, share)).sqrt()
        columns = self.vectors.double() * self.values.double().sqrt() / root[:, None]
        axes, singular, _ = torch.linalg.svd(columns, full_matrices=False)
        return _RootPlusLowRank(root, axes, (1 + singular.square()).rsqrt() - 1)

    def to_tensors(self) -> dict[str, Tensor]:
        return {"rest": self.rest, "vectors": self.vectors, "values": self.values}


def moment_from_tensors(tensors: Mapping[str, Tensor]) -> Moment:
    """What `to_tensors` gave."""
    if "matrix" in tensors:
        return DenseMoment(tensors["matrix"])
    return LowRankMoment(tensors["rest"], tensors["vectors"], tensors["values"])


class DenseSum:
    """Running E[x xᵀ], kept whole; sums in fp32 on the device."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._count = torch.zeros((), dtype=torch.int64)
        self._sum = torch.zeros(size, size, device=device)

    def add_(self, vectors: Tensor) -> None:
        """Count in `[n, size]`, any float dtype."""
        wide = vectors.float()
        self._count += len(wide)
        self._sum.addmm_(wide.T, wide)

    def moment(self) -> Moment:
        return DenseMoment((self._sum / max(int(self._count), 1)).cpu())

    def tensors(self) -> list[Tensor]:
        """Those of some vectors and those of others add up to those of all."""
        return [self._count, self._sum]


class SketchSum:
    """Running diagonal and sketch of E[x xᵀ]; sums in fp32 on the device."""

    def __init__(
        self, size: int, device: torch.device, *, rank: int = RANK, width: int = _SKETCH
    ) -> None:
        self._rank = rank
        self._count = torch.zeros((), dtype=torch.int64)
        self._test = _test_matrix(size, width, device)
        self._diagonal = torch.zeros(size, device=device)
        self._sketch = torch.zeros(size, width, device=device)

    def add_(self, vectors: Tensor) -> None:
        """Count in `[n, size]`, any float dtype."""
        wide = vectors.float()
        self._count += len(wide)
        self._diagonal += wide.square().sum(dim=0)
        self._sketch.addmm_(wide.T, wide @ self._test)

    def moment(self) -> Moment:
        count = max(int(self._count), 1)
        sketch = self._sketch.double().cpu() / count
        core = self._test.double().cpu().T @ sketch
        values, axes = torch.linalg.eigh((core + core.T) / 2)
        kept = values > _NEGLIGIBLE * values[-1]
        # Columns F with F Fᵀ the Nyström approximation.
        columns = sketch @ (axes[:, kept] / values[kept].sqrt())
        vectors, singular, _ = torch.linalg.svd(columns, full_matrices=False)
        vectors, leading = vectors[:, : self._rank], singular[: self._rank].square()
        rest = self._diagonal.double().cpu() / count - vectors.square() @ leading
        return LowRankMoment(
            rest.clamp_min(0).float(), vectors.float().contiguous(), leading.float()
        )

    def tensors(self) -> list[Tensor]:
        """See `DenseSum.tensors`."""
        return [self._count, self._diagonal, self._sketch]


MomentSum = DenseSum | SketchSum


def moment_sum(size: int, device: torch.device) -> MomentSum:
    """A running moment in the form for vectors of this size."""
    return (DenseSum if size <= EXACT_SIZE else SketchSum)(size, device)


@dataclass(frozen=True, eq=False)
class _Cholesky:
    lower: Tensor

    def whiten(self, columns: Tensor) -> Tensor:
        solved: Tensor = torch.linalg.solve_triangular(self.lower, columns, upper=False)
        return solved

    def unwhiten(self, vector: Tensor) -> Tensor:
        solved: Tensor = torch.linalg.solve_triangular(self.lower.T, vector[:, None], upper=True)
        return solved[:, 0]


@dataclass(frozen=True, eq=False)
class _RootPlusLowRank:
    """B = √D (I + W diag(μ) Wᵀ)^½; the inverse of the root is I + W diag(change) Wᵀ."""

    root: Tensor
    axes: Tensor
    change: Tensor

    def whiten(self, columns: Tensor) -> Tensor:
        return self._turn(columns / self.root[:, None])

    def unwhiten(self, vector: Tensor) -> Tensor:
        return self._turn(vector[:, None])[:, 0] / self.root

    def _turn(self, columns: Tensor) -> Tensor:
        return columns + self.axes @ (self.change[:, None] * (self.axes.T @ columns))


def _damping(diagonal: Tensor, share: float) -> float:
    mean = float(diagonal.mean())
    if not 0 < mean < float("inf"):
        raise EditFailed("the activations or gradients at a gate are not finite or all zero")
    return share * mean


@lru_cache(maxsize=2)
def _test_matrix(size: int, width: int, device: torch.device) -> Tensor:
    """Ω, the same for all moments of a size: two of them are at most as much memory as one sum."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, width, generator=generator).to(device)
