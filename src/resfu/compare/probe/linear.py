"""The linear probe: a 1 x 1 convolution on frozen pixel features (the protocol of JAFAR, AnyUp and NAF)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from resfu.compare.probe.photos import Seen
from resfu.evaluation.fidelity import Fidelity, consistency
from resfu.evaluation.semantic import SemanticMetrics
from resfu.frozen.pairs import Pairs, feature_pair
from resfu.frozen.pixel_features import PixelFeatures

_RATE, _DECAY = 5e-4, 1e-5


def linear_probe(
    pf: PixelFeatures,
    trained: Sequence[Seen],
    measured: Sequence[Seen],
    classes: int,
    steps: int,
    batch_size: int = 2,
    seed: int = 0,
    on_step: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Train a classifier on pixel features and measure it.

    Cross entropy over labelled pixels; AdamW with learning rate 5e-4, half a cosine over all steps, and weight decay
    1e-5. Each image is randomly mirrored.

    Args:
        pf: computes the features; its upsampler gets the low-resolution ones.
        trained: training images, each followed by its mirror image.
        measured: images to measure on.
        classes: number of classes.
        steps: of the optimiser.
        batch_size: images per step.
        seed: of the classifier's initial weights and of the order.
        on_step: called after every step and every measured image.

    Returns:
        "miou", "biou" and "aacc" in percent.
    """
    size = (trained[0].image.shape[-2], trained[0].image.shape[-1])
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = nn.Conv2d(trained[0].low.shape[1], classes, 1)
    optimizer = torch.optim.AdamW(classifier.parameters(), _RATE, weight_decay=_DECAY)
    order: list[int] = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 + math.cos(math.pi * step / steps)) / 2
        if len(order) < batch_size:
            order += torch.randperm(len(trained) // 2, generator=generator).tolist()
        batch = []
        for _ in range(batch_size):
            batch.append(trained[2 * order.pop(0) + int(torch.randint(2, (), generator=generator))])
        features = torch.cat([upsampled(pf, seen, size) for seen in batch])
        loss = F.cross_entropy(classifier(features), torch.cat([seen.label for seen in batch]), ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        on_step()
    metrics = SemanticMetrics(classes)
    with torch.no_grad():
        for seen in measured:
            metrics.update(classifier(upsampled(pf, seen, size)).argmax(1), seen.label)
            on_step()
    results = metrics.compute()
    return {key: float(results[key]) for key in ("miou", "biou", "aacc")}


@torch.no_grad()
def upsampled(pf: PixelFeatures, seen: Seen, size: tuple[int, int]) -> torch.Tensor:
    """The upsampled features of an image, [1, C, S, S]."""
    return pf.upsampler(seen.low, pf.guide(seen.image, seen.low), size=size)


@torch.no_grad()
def fidelity(pf: PixelFeatures, measured: Sequence[Seen]) -> dict[str, float]:
    """Agreement of upsampled features with the encoder's own.

    Returns:
        In percent: "cos" and "r2" with the features of the whole image, upsampled from those of the image at half its
        size; "pooled_cos" and "pooled_r2", upsampled from their averages over 2 x 2; "down_cos" between the
        low-resolution features and the upsampled ones, averaged down. "constant": the largest error for features of 1.
    """
    scales, pooled, down = Fidelity(), Fidelity(), []
    kinds: tuple[tuple[Fidelity, Pairs], ...] = ((scales, "scales"), (pooled, "pooled"))
    for seen in measured:
        for into, kind in kinds:
            pair = feature_pair(pf.encoder, seen.image, kind)
            high = (pair.high.shape[-2], pair.high.shape[-1])
            into.update(pf.upsampler(pair.low, pair.guidance, size=high), pair.high)
    for seen in measured[:8]:
        size = (seen.image.shape[-2] // 2, seen.image.shape[-1] // 2)
        down.append(consistency(pf.upsampler(seen.low, pf.guide(seen.image, seen.low), size=size), seen.low)["cos"])
    one, seen = torch.ones_like(measured[0].low), measured[0]
    flat = pf.upsampler(one, pf.guide(seen.image, one), size=tuple(seen.image.shape[-2:]))
    found = {
        f"{name}{key}": 100 * of.compute()[key]
        for name, of in (("", scales), ("pooled_", pooled))
        for key in ("cos", "r2")
    }
    return found | {"down_cos": 100 * sum(down) / len(down), "constant": float((flat - 1).abs().max())}
