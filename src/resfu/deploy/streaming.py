"""Compute an upsampler's output in bands of rows, under a memory budget."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from resfu.deploy.budget import parse_budget
from resfu.deploy.decisions import largest_class
from resfu.deploy.forms import Guide
from resfu.deploy.plan import Plan, make_plan
from resfu.upsamplers.base import Upsampler

_KEPT = 0.9  # share of the remaining budget for intermediate results that would have to be computed again


def stream(
    up: Upsampler,
    features: Tensor,
    guidance: Tensor | None = None,
    size: tuple[int, int] | None = None,
    *,
    budget: str | int | None = "256MB",
    to: Any = None,
) -> Any:
    """Compute the output of an upsampler in bands of rows, which together are `up(features, guidance, size)`.

    The height of the bands depends only on the sizes, so the results are bitwise the same under every budget. They
    equal those of a whole call up to rounding. The budget decides how many intermediate results are kept. Statistics of
    the whole image, such as those of GroupNorm, are computed by passes over all bands before the first band. No graph
    for gradients is recorded; for training see `checkpointed`.

    Args:
        up: one of `UPSAMPLERS`; in evaluation mode if it has batch normalisation or dropout.
        features: [B, C, h, w].
        guidance: [B, c, H, W], as for `up`. If it has another size, all of it is resampled first.
        size: (H, W), as for `up`.
        budget: limit for the memory beyond the inputs and the output, in bytes or as text such as "256MB"; None for no
            limit.
        to: what is done with the bands. None: they are returned as an iterator. A function or module: it is called with
            each band, and its results are concatenated along the rows. "labels": the index of the largest channel at
            each pixel, in uint8 or int16. A tensor on any device, or an array such as `numpy.memmap`, [B, C, H, W]: it
            is filled.

    Returns:
        Without `to`, an iterator of bands [B, C, rows, W] from top to bottom. Otherwise the function's results
        [B, ..., H, W], the labels [B, H, W], or `to` itself.

    Raises:
        ValueError: for what `up` refuses, an upsampler or option that cannot be computed in bands, a budget that is too
            small for one band (the message says what is needed), or a `to` of another shape.

    >>> up = resfu.create_upsampler("bilinear")
    >>> sum(band.shape[2] for band in resfu.stream(up, torch.randn(1, 8, 16, 16), size=(100, 100)))
    100
    """
    if not isinstance(up, Upsampler):
        raise ValueError(f"up must be a resfu.Upsampler, got {type(up).__name__}.")
    guidance, target = up.prepared(features, guidance, size)
    if features.numel() == 0:
        raise ValueError(f"features must hold at least one image and channel, got {list(features.shape)}.")
    plan, guidance = make_plan(up, features, guidance, target)
    limit = parse_budget(budget)
    if plan.least > limit:
        raise ValueError(f"budget must be at least {plan.least / 2**20:.1f} MB for these sizes, got {budget!r}.")
    bands = _bands(plan, features.detach(), guidance, limit)
    if to is None:
        return bands
    if callable(to):
        consume: Any = to
        with torch.no_grad():
            return torch.cat([consume(band) for band in bands], -2)
    if isinstance(to, str) and to == "labels":
        return _labels(bands, features, target)
    return _filled(bands, to, features, target)


def _bands(plan: Plan, features: Tensor, guidance: Tensor | None, limit: float) -> Iterator[Tensor]:
    guide, plan.form.room = Guide(guidance, plan.form.size), _KEPT * (limit - plan.least)
    with torch.no_grad():
        shared = plan.form.prepare(features, guide)
        totals = plan.totals(features, guide, shared)
    for rows in plan.bands:
        with torch.no_grad():
            band = plan.band(rows, features, guide, shared, totals)
        yield band
    plan.form.finish()


def _labels(bands: Iterator[Tensor], features: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest channel at each pixel."""
    dtype = torch.uint8 if features.shape[1] <= 256 else torch.int16
    labels = torch.empty((features.shape[0], *size), dtype=dtype, device=features.device)
    row = 0
    for band in bands:
        labels[:, row : row + band.shape[2]] = largest_class(band)
        row += band.shape[2]
    return labels


def _filled(bands: Iterator[Tensor], to: Any, features: Tensor, size: tuple[int, int]) -> Any:
    shape = (*features.shape[:2], *size)
    if tuple(getattr(to, "shape", ())) != shape:
        raise ValueError(f"to must be a function, 'labels', or a tensor or array {list(shape)}, got {_described(to)}.")
    if not (to.is_floating_point() if isinstance(to, Tensor) else to.dtype.kind == "f"):
        raise ValueError(f"to must hold floating point numbers, got {to.dtype}.")
    row = 0
    for band in bands:
        rows = slice(row, row + band.shape[2])
        part: Any = band
        if not isinstance(to, Tensor):
            part = (band.float() if band.dtype == torch.bfloat16 else band).cpu().numpy()  # NumPy has no bf16
        to[:, :, rows] = part
        row = rows.stop
    return to


def _described(to: Any) -> str:
    return f"one of {list(to.shape)}" if hasattr(to, "shape") else repr(to)
