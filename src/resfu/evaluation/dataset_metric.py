"""Metrics of a whole data set; their values by class keep their shape even with a single class."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class DatasetMetric(Metric):
    """A torchmetrics metric whose results have the documented shapes: means are floats, values by class are [K].

    torchmetrics turns every result with one element into a scalar: [K] would be [] at K = 1.
    """

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        squeezing = super()._wrap_compute(compute)

        @wraps(compute)
        def keeping_vectors(*args: Any, **options: Any) -> Any:
            return _with_vectors(squeezing(*args, **options))

        return keeping_vectors


def _with_vectors(results: Any) -> Any:
    if isinstance(results, Mapping):
        return {key: _with_vectors(value) for key, value in results.items()}
    return torch.atleast_1d(results) if isinstance(results, Tensor) else results
