"""The linear probe: a 1 x 1 convolution on frozen pixel features (the protocol of JAFAR, AnyUp and NAF)."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.compare.probe.photos import Seen, upsampled
from resfu.compare.probe.samples import Samples
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

    Cross entropy over labelled pixels, AdamW with rate 5e-4, which falls along a half cosine over all steps, decay
    1e-5. Without `pixels` each image comes as it is or mirrored, as drawn.

    Args:
        pf: makes the features; its upsampler takes the low-resolution ones.
        trained: images; without `pixels` every second one is the mirror of that before.
        measured: images to measure on.
        classes: number of classes.
        steps: of the optimiser.
        seeds: of the classifiers' first weights and of the order of images; one classifier each.
        pixels: train on so many labelled pixels of each image, drawn at random, of which every seed has its own. Each
            image is then upsampled once instead of once a step. None: on all pixels.
        batch_size: images a step.
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
    """Which images every step sees: all in turn, in a new order each time; of an image and its mirror either."""
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
            metric.update(classifier(features).argmax(1), seen.label)
        on_step()
    return [{key: float(metric.compute()[key]) for key in ("miou", "biou", "aacc")} for metric in metrics]
