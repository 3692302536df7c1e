"""Paired differences between two rows, with an interval that covers the choice of images and of seeds."""

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.evidence.counts import scores


def paired_difference(
    first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]], draws: int = 1000
) -> dict[str, tuple[float, float, float]]:
    """Second minus first, with a 95 % bootstrap interval.

    Each draw takes seeds and validation images with replacement, the same for both rows: what is hard in an image, or
    lucky in a seed, cancels.

    Args:
        first: results of one row, a seed each, as `benchmarks.evidence` writes them.
        second: those of the other row.
        draws: of the bootstrap.

    Returns:
        For "miou" and "biou": the mean over the seeds that both rows have, the 2.5th and the 97.5th percentile.

    Raises:
        ValueError: when the rows have no seed in common.
    """
    by_seed = [{result["seed"]: result["counts"] for result in row} for row in (first, second)]
    seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
    if not seeds:
        raise ValueError("the two rows have no seed in common: train both at one.")
    generator = torch.Generator().manual_seed(0)
    images = len(by_seed[0][seeds[0]]["union"])
    stacked = [{key: _stack([row[seed] for seed in seeds], key) for key in _KEYS} for row in by_seed]
    means = _difference(stacked, torch.arange(len(seeds)), torch.arange(images))
    drawn = []
    for _ in range(draws):
        chosen = torch.randint(len(seeds), (len(seeds),), generator=generator)
        seen = torch.randint(images, (images,), generator=generator)
        drawn.append(_difference(stacked, chosen, seen))
    found = {}
    for place, name in enumerate(("miou", "biou")):
        values = torch.tensor([draw[place] for draw in drawn], dtype=torch.float64)
        low, high = torch.quantile(values, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        found[name] = (means[place], low, high)
    return found


_KEYS = ("intersection", "union", "boundary_intersection", "boundary_union")


def _stack(counts: Sequence[dict[str, Any]], key: str) -> torch.Tensor:
    """[seeds, images, classes]."""
    return torch.tensor([one[key] for one in counts], dtype=torch.float64)


def _difference(rows: Sequence[dict[str, torch.Tensor]], seeds: torch.Tensor, images: torch.Tensor) -> list[float]:
    """mIoU and bIoU of the second row minus those of the first, mean over the seeds."""
    found = []
    for prefix in ("", "boundary_"):
        means = []
        for row in rows:
            right, union = (row[f"{prefix}{part}"][seeds][:, images].sum(1) for part in ("intersection", "union"))
            means.append((100 * right / union).nanmean(1).mean().item())
        found.append(means[1] - means[0])
    return found


def row_scores(results: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """ "miou" and "biou" of every seed."""
    found = [scores(result["counts"]) for result in results]
    return {key: [one[key] for one in found] for key in ("miou", "biou")}
