"""The linear probe: a 1 x 1 convolution on frozen pixel features (the protocol of JAFAR, AnyUp and NAF)."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.compare.probe.photos import Seen, upsampled
from resfu.compare.probe.samples import Samples
from resfu.deploy.decisions import largest_class
from resfu.evaluation.semantic import SemanticMetrics
from resfu.frozen.pixel_features import PixelFeatures

_RATE, _DECAY = 5e-4, 1e-5


def linear_probes(
    pf: PixelFeatures,
    trained: Sequence[Seen],
    measured: Sequence[Seen],
    classes: int,
    steps: int,
    seeds: Sequence[int],
    pixels: int | None = None,
    batch_size: int = 2,
    on_step: Callable[[], object] = lambda: None,
) -> list[dict[str, float]]:
    """Train classifiers on pixel features and measure them.

    The loss is cross entropy over labelled pixels. AdamW has weight decay 1e-5 and a learning rate that starts at 5e-4
    and falls along a half cosine over all steps. Without `pixels`, each image is used as it is or mirrored, at random.

    Args:
        pf: its upsampler makes the pixel features from the encoder's low-resolution features.
        trained: images to train on; without `pixels`, each image must be followed by its mirror image.
        measured: images to measure on.
        classes: number of classes.
        steps: number of optimiser steps.
        seeds: one classifier is trained for each; sets its initial weights and the order of the images.
        pixels: train on this many labelled pixels of each image, drawn at random and anew for every seed. Each image
            is then upsampled only once, not at every step. None: train on all pixels.
        batch_size: images per step.
        on_step: called after every step and every measured image.

    Returns:
        "miou", "biou" and "aacc" in percent, for each seed.
    """
    samples = None if pixels is None else Samples(pf, trained, pixels, seeds)

    def batch(seed: int, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        if samples is not None:
            return samples.batch(seed, places)
        seen = [trained[place] for place in places]
        return torch.cat([upsampled(pf, one) for one in seen]), torch.cat([one.label for one in seen])

    classifiers = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            classifier = nn.Conv2d(trained[0].low.shape[1], classes, 1)
        order = _places(len(trained), pixels is None, batch_size, steps, seed)
        _train(classifier, [lambda seed=seed, places=places: batch(seed, places) for places in order], on_step)
        classifiers.append(classifier)
    return _measured(classifiers, pf, measured, classes, on_step)


def _places(images: int, mirrored: bool, batch_size: int, steps: int, seed: int) -> list[list[int]]:
    """The image indices of each step: in random order, all before any repeats; `mirrored`: either form of each."""
    generator = torch.Generator().manual_seed(seed)
    forms = 2 if mirrored else 1
    order: list[int] = []
    batches = []
    for _ in range(steps):
        while len(order) < batch_size:
            order += torch.randperm(images // forms, generator=generator).tolist()
        turns = torch.randint(forms, (batch_size,), generator=generator).tolist()
        batches.append([forms * order.pop(0) + turn for turn in turns])
    return batches


def _train(
    classifier: nn.Conv2d, batches: Sequence[Callable[[], tuple[Tensor, Tensor]]], on_step: Callable[[], object]
) -> None:
    optimizer = torch.optim.AdamW(classifier.parameters(), _RATE, weight_decay=_DECAY)
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 + math.cos(math.pi * step / len(batches))) / 2
        features, label = batch()
        loss = F.cross_entropy(classifier(features), label, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        on_step()


@torch.no_grad()
def _measured(
    classifiers: Sequence[nn.Conv2d],
    pf: PixelFeatures,
    measured: Sequence[Seen],
    classes: int,
    on_step: Callable[[], object],
) -> list[dict[str, float]]:
    metrics = [SemanticMetrics(classes) for _ in classifiers]
    for seen in measured:
        features = upsampled(pf, seen)
        for classifier, metric in zip(classifiers, metrics, strict=True):
            metric.update(largest_class(classifier(features)), seen.label)
        on_step()
    return [{key: float(metric.compute()[key]) for key in ("miou", "biou", "aacc")} for metric in metrics]
