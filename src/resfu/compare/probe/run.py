"""Probe several upsamplers on one encoder's features, side by side."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resfu.compare.machine import describe_machine, describe_versions
from resfu.compare.probe.linear import fidelity, linear_probe
from resfu.compare.probe.photos import look
from resfu.compare.variants import parse_variant
from resfu.data import create_dataset
from resfu.frozen.find import find_encoder
from resfu.frozen.pixel_features import PixelFeatures

ALWAYS = ("nearest", "bilinear")


def parse_rows(words: Sequence[str]) -> dict[str, tuple[str, dict[str, Any], str | None]]:
    """Parse arguments to rows: from the row's name to upsampler, options and weights file; nearest and bilinear first.

    Args:
        words: arguments "NAME", "NAME+option=value" or, with weights, "NAME+option=value@FILE".

    Raises:
        ValueError: for an unknown upsampler or option.
    """
    rows = {}
    for word in [*ALWAYS, *(word for word in words if word not in ALWAYS)]:
        variant, _, weights = word.partition("@")
        rows[variant] = (*parse_variant(variant), weights or None)
    return rows


def probe(
    encoder: str,
    upsamplers: Sequence[str],
    dataset: str,
    root: str | None,
    size: int,
    steps: int,
    seeds: Sequence[int],
    counts: tuple[int | None, int | None] = (None, None),
    options: Mapping[str, Any] | None = None,
    on_step: Callable[[str], object] = lambda row: None,
) -> dict[str, Any]:
    """Train and measure a classifier for every upsampler and seed.

    Args:
        encoder: as in `PixelFeatures`.
        upsamplers: see `parse_rows`.
        dataset: a key of `resfu.data.DATASETS`.
        root: folder of the data.
        size: of the squares, S.
        steps: of the classifiers' optimiser.
        seeds: of the classifiers.
        counts: largest numbers of images for training and measuring.
        options: further arguments of the data set's class.
        on_step: called with the row's name after each step.

    Returns:
        "settings", "rows" (name, "runs" and "fidelity" of each, "seconds"), "machine" and "versions".

    Raises:
        ValueError: for an unknown name, or a method that has parameters but no weights file.
    """
    found = find_encoder(encoder)
    made = {}
    for row, (name, chosen, weights) in parse_rows(upsamplers).items():
        made[row] = PixelFeatures(found, name, weights, **chosen)
        if weights is None and any(True for _ in made[row].upsampler.parameters()):
            raise ValueError(
                f"{row} needs weights: train them with `resfu distill --upsampler {row}` and give {row}@FILE."
            )
    splits = [create_dataset(dataset, split, root, **(options or {})) for split in ("train", "val")]
    pf = made[ALWAYS[0]]
    trained, measured = (
        look(pf, split, size, count, mirrored=split is splits[0]) for split, count in zip(splits, counts, strict=True)
    )
    rows = []
    for row, pf in made.items():
        started = time.perf_counter()
        runs = [
            linear_probe(
                pf, trained, measured, splits[0].num_classes, steps, seed=seed, on_step=lambda r=row: on_step(r)
            )
            for seed in seeds
        ]
        seconds = (time.perf_counter() - started) / len(runs)
        rows.append({"name": row, "runs": runs, "fidelity": fidelity(pf, measured), "seconds": seconds})
    settings = {
        "encoder": encoder,
        "upsamplers": {row: weights and str(Path(weights)) for row, (*_, weights) in parse_rows(upsamplers).items()},
        "dataset": dataset,
        "size": size,
        "steps": steps,
        "seeds": list(seeds),
        "images": {"train": len(trained) // 2, "val": len(measured)},
    }
    return {"settings": settings, "rows": rows, "machine": describe_machine(), "versions": describe_versions()}
