"""Probe several upsamplers on one encoder's features, side by side."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from resfu.compare.machine import describe_machine, describe_versions
from resfu.compare.probe.fidelity import fidelity, pairs_of
from resfu.compare.probe.linear import linear_probes
from resfu.compare.probe.photos import look
from resfu.compare.variants import parse_variant
from resfu.data import create_dataset
from resfu.frozen.find import find_encoder
from resfu.frozen.pixel_features import PixelFeatures
from resfu.recipes import changes

ALWAYS = ("nearest", "bilinear")


def parse_rows(words: Sequence[str]) -> dict[str, tuple[str, dict[str, Any], str | None]]:
    """Map each row's name to its upsampler, options and weights file; nearest and bilinear are always included, first.

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
    pixels: int | None = None,
    options: Mapping[str, Any] | None = None,
    before: Mapping[str, Any] | None = None,
    on_step: Callable[[str], object] = lambda row: None,
    on_row: Callable[[dict[str, Any]], object] = lambda results: None,
) -> dict[str, Any]:
    """Train and measure a classifier for every upsampler and seed.

    Args:
        encoder: as in `PixelFeatures`.
        upsamplers: see `parse_rows`.
        dataset: a key of `resfu.data.DATASETS`.
        root: folder of the data.
        size: S, the side of the square images.
        steps: number of optimiser steps for the classifiers.
        seeds: seeds of the classifiers.
        counts: the largest number of images to train on and to measure on.
        pixels: train on this many pixels of each image, see `linear_probes`; None for all.
        options: further arguments of the data set's class.
        before: results of an earlier call with the same settings, as returned or given to `on_row`. Its rows are kept;
            a row is measured again only if its weights differ.
        on_step: called with the row's name after each step.
        on_row: called with all results so far, each time a row has been measured.

    Returns:
        "settings" (weights by the SHA-256 of their file), "rows" (each with its name, "runs", "fidelity" and the
        "cpu_seconds" of all its runs), "machine" and "versions".

    Raises:
        ValueError: for an unknown name, a method that has parameters but no weights file, or rows of other settings.
    """
    found = find_encoder(encoder)
    made = {}
    asked = parse_rows(upsamplers)
    for row, (name, chosen, weights) in asked.items():
        made[row] = PixelFeatures(found, name, weights, **chosen)
        if weights is None and any(True for _ in made[row].upsampler.parameters()):
            raise ValueError(
                f"{row} needs weights: train them with `resfu distill --upsampler {row}` and give {row}@FILE."
            )
    digests = {row: weights and _digest(weights) for row, (*_, weights) in asked.items()}
    settings = {
        "encoder": encoder,
        "upsamplers": digests,
        "dataset": dataset,
        "size": size,
        "steps": steps,
        "seeds": list(seeds),
        "pixels": pixels,
    }
    known = _known(before, settings)
    splits = [create_dataset(dataset, split, root, **(options or {})) for split in ("train", "val")]
    pf = made[ALWAYS[0]]
    trained, measured = (
        look(pf, split, size, count, split is splits[0] and pixels is None)
        for split, count in zip(splits, counts, strict=True)
    )
    settings["images"] = {"train": len(trained) // (2 if pixels is None else 1), "val": len(measured)}
    known = _known(before, settings)
    settings["upsamplers"] = (before["settings"]["upsamplers"] if before else {}) | digests
    order = {**made, **known}
    results: dict[str, Any] = {"settings": settings, "rows": [known[name] for name in order if name in known]}
    results |= {"machine": describe_machine(), "versions": describe_versions()}
    pairs = pairs_of(found, measured) if made.keys() - known.keys() else {}
    for row, pf in made.items():
        if row in known:
            continue
        started = time.process_time()
        step = partial(on_step, row)
        runs = linear_probes(pf, trained, measured, splits[0].num_classes, steps, seeds, pixels, on_step=step)
        seconds = time.process_time() - started
        known[row] = {"name": row, "runs": runs, "fidelity": fidelity(pf, measured, pairs), "cpu_seconds": seconds}
        results["rows"] = [
            known[name] for name in order if name in known
        ]  # those measured before stay, whatever ends this
        on_row(results)
    return results


def _known(before: Mapping[str, Any] | None, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows that were measured with these settings, by their names.

    Raises:
        ValueError: naming every setting that differs, with both values.
    """
    if not before:
        return {}
    old, now = (
        {key: value for key, value in each.items() if key in settings} for each in (before["settings"], settings)
    )
    digests, wanted = old.pop("upsamplers"), now.pop("upsamplers")
    if found := changes(old, now):
        raise ValueError(f"what was measured before has other settings: {found}. Write to another place (--out).")
    return {
        row["name"]: row
        for row in before["rows"]
        if wanted.get(row["name"], digests[row["name"]]) == digests[row["name"]]
    }


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
