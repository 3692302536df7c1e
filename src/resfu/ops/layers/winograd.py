"""Winograd's minimal filtering F(4, 3): filters of 3 taps, 4 results at a time."""

from fractions import Fraction

import torch
from torch import Tensor

_POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2))  # and infinity


def _matrices() -> tuple[list[list[float]], list[list[float]], list[list[float]]]:
    """Toom-Cook matrices B^T [6, 6], G [6, 3] and A^T [4, 6]: A^T((G g) * (B^T d)) gives the 4 sums of 3 products.

    A polynomial is determined by its values at 5 points and its leading coefficient. Transposing this interpolation
    turns products of polynomials into filters. The rows of B^T are the coefficients of prod over q != p of (t - q) for
    each point p and, in the last row, of the product over all points.
    """
    n = len(_POINTS)

    def times(roots: list[Fraction]) -> list[Fraction]:
        coefficients = [Fraction(1)]
        for root in roots:
            raised = [Fraction(0), *coefficients]
            for i, c in enumerate(coefficients):
                raised[i] -= root * c
            coefficients = raised
        return coefficients + [Fraction(0)] * (n + 1 - len(coefficients))

    into, filters = [], []
    for p in _POINTS:
        others = [q for q in _POINTS if q != p]
        scale = Fraction(1)
        for q in others:
            scale *= p - q
        into.append(times(others))
        filters.append([p**i / scale for i in range(3)])
    into.append(times(list(_POINTS)))
    filters.append([Fraction(0), Fraction(0), Fraction(1)])
    out_of = [[p**i for p in _POINTS] + [Fraction(int(i == 3))] for i in range(4)]
    return tuple([[float(v) for v in row] for row in matrix] for matrix in (into, filters, out_of))  # pyright: ignore


INPUT, _FILTER, OUTPUT = _matrices()


def transformed(weight: Tensor) -> Tensor:
    """A filter [M, D, 3, 3] transformed to the 6 x 6 points, [36, M, D], in fp64."""
    matrix = torch.tensor(_FILTER, dtype=torch.float64, device="cpu")
    return torch.einsum("ik, jl, mdkl -> ijmd", matrix, matrix, weight.detach().double().cpu()).flatten(0, 1)
