"""Metrics against a histogram in numpy, torchmetrics' Jaccard index and cases worked by hand."""

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from resfu.evaluation.boundary import boundary_counts, boundary_distance
from resfu.evaluation.label_maps import merge_ignored
from resfu.evaluation.semantic import SemanticMetrics


def random_maps(seed: int, batch: int = 3, num_classes: int = 6) -> tuple[Tensor, Tensor]:
    """Blocky maps; the label has ignored pixels and lacks the last class, the prediction lacks the first."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, num_classes - 1, (batch, 8, 10), generator=generator)
    prediction = torch.where(torch.rand(label.shape, generator=generator) < 0.6, label, label + 1).clamp_min(1)
    label = torch.where(torch.rand(label.shape, generator=generator) < 0.1, 255, label)
    grow = lambda m: m.repeat_interleave(6, 1).repeat_interleave(5, 2)  # noqa: E731
    return grow(prediction), grow(label)


def numpy_scores(prediction: Tensor, label: Tensor, num_classes: int) -> tuple[float, float, float]:
    """mIoU, mAcc and aAcc as mmsegmentation writes them."""
    keep = label.numpy() != 255
    p, g = prediction.numpy()[keep], label.numpy()[keep]
    bins = np.arange(num_classes + 1)
    I, P, G = (np.histogram(ids, bins)[0] for ids in (g[p == g], p, g))  # noqa: E741
    with np.errstate(invalid="ignore"):
        iou, acc = I / (P + G - I), I / G
    return 100 * np.nanmean(iou), 100 * np.nanmean(acc), 100 * I.sum() / G.sum()


def score(prediction: Tensor, label: Tensor, num_classes: int, **options: Any) -> dict[str, Any]:
    metrics = SemanticMetrics(num_classes, **options)
    metrics.update(prediction, label)
    return metrics.compute()


def shifted_square(shift: int = 1) -> tuple[Tensor, Tensor]:
    label = torch.zeros(1, 100, 100, dtype=torch.int64)
    label[:, 40:60, 40:60] = 1
    return torch.roll(label, shift, dims=2), label


def test_square_moved_by_one_column_by_hand() -> None:
    scores = score(*shifted_square(), num_classes=2)
    assert scores["iou"][1].item() == pytest.approx(100 * (19 * 20) / (21 * 20))
    assert scores["iou"][1].item() == pytest.approx(90.4762, abs=1e-4)
    assert scores["boundary_iou"][1].item() == pytest.approx(71.4286, abs=1e-4)
    assert scores["acc"][1].item() == pytest.approx(95)
    assert scores["aacc"] == pytest.approx(100 * (10_000 - 40) / 10_000)


def test_scores_equal_numpy_and_torchmetrics() -> None:
    num_classes = 8  # 6 and 7 appear nowhere
    metrics = SemanticMetrics(num_classes)
    jaccard = MulticlassJaccardIndex(num_classes, ignore_index=255)
    batches = [random_maps(seed) for seed in range(4)]
    for prediction, label in batches:
        metrics.update(prediction, label)
        jaccard.update(prediction, label)
    scores = metrics.compute()
    expected = numpy_scores(*(torch.cat(maps) for maps in zip(*batches, strict=True)), num_classes)
    assert (scores["miou"], scores["macc"], scores["aacc"]) == pytest.approx(expected, rel=1e-12)
    assert scores["miou"] == pytest.approx(100 * jaccard.compute().item(), rel=1e-5)


def test_absent_classes() -> None:
    label = torch.tensor([[[0, 0, 1, 255]]])
    prediction = torch.tensor([[[0, 2, 1, 3]]])
    scores = score(prediction, label, num_classes=5)
    assert scores["iou"].tolist()[:3] == [50.0, 100.0, 0.0]  # 2 is predicted, never labelled: it counts 0
    assert scores["iou"][3:].isnan().all()  # 3 is predicted on ignored pixels alone
    assert scores["acc"].tolist()[:2] == [50.0, 100.0]
    assert scores["acc"][2:].isnan().all()
    assert (scores["miou"], scores["macc"]) == (50.0, 75.0)
    assert scores["aacc"] == pytest.approx(200 / 3)


def test_perfect_prediction_scores_one_hundred() -> None:
    _, label = random_maps(0)
    scores = score(label.where(label != 255, 0), label, num_classes=6)
    assert [scores[key] for key in ("miou", "macc", "aacc")] == [100.0, 100.0, 100.0]
    assert score(*shifted_square(0), num_classes=2)["biou"] == 100.0


def test_ignored_pixels_have_no_influence() -> None:
    prediction, label = random_maps(1)
    keys = ("miou", "macc", "aacc")
    elsewhere = torch.where(label == 255, (prediction + 1) % 6, prediction)
    before, after = score(prediction, label, 6), score(elsewhere, label, 6)
    assert [before[key] for key in keys] == [after[key] for key in keys]


def test_boundary_pixels_are_summed_over_all_images() -> None:
    num_classes = 6
    batches = [random_maps(seed, batch=2) for seed in range(3)]
    sums: dict[str, Tensor] = {}
    for prediction, label in batches:
        for p, g in zip(prediction, label, strict=True):
            merged = merge_ignored(p[None], g[None], num_classes, 255)
            counts = boundary_counts(*merged, num_classes, boundary_distance(48, 50, 0.05))
            intersection, union = (count.double() for count in counts)
            sums["I"] = sums.get("I", torch.zeros(()).double()) + intersection[0]
            sums["U"] = sums.get("U", torch.zeros(()).double()) + union[0]
    expected_classes = sums["I"] / sums["U"]
    metrics = SemanticMetrics(num_classes, boundary_ratio=0.05)
    for prediction, label in batches:
        metrics.update(prediction, label)
    scores = metrics.compute()
    assert scores["biou"] == pytest.approx(100 * expected_classes.nanmean().item(), rel=1e-12)
    torch.testing.assert_close(scores["boundary_iou"], 100 * expected_classes, rtol=1e-12, atol=0, equal_nan=True)


def test_two_processes_reduce_to_one() -> None:
    other, whole = SemanticMetrics(6), SemanticMetrics(6)
    names = iter(other.metric_state)
    one = SemanticMetrics(
        6,
        distributed_available_fn=lambda: True,
        dist_sync_fn=lambda state, group: [state, other.metric_state[next(names)]],
    )
    for seed in range(5):
        maps = random_maps(seed)
        (one, other)[seed % 2].update(*maps)
        whole.update(*maps)
    both, expected = one.compute(), whole.compute()
    assert both["miou"] != other.compute()["miou"]
    for key, value in expected.items():
        torch.testing.assert_close(both[key], value, rtol=1e-12, atol=0, equal_nan=True)


def test_batches_of_different_sizes_and_reset() -> None:
    metrics = SemanticMetrics(6)
    first = random_maps(0)
    metrics.update(*first)
    metrics.update(*(maps[:, :20, :30] for maps in random_maps(1)))
    both = metrics.compute()
    metrics.reset()
    metrics.update(*first)
    alone = metrics.compute()
    assert alone["miou"] != both["miou"]
    assert alone["miou"] == score(*first, num_classes=6)["miou"]


def test_nothing_but_ignored_pixels_gives_nan() -> None:
    ignored = torch.full((2, 9, 9), 255)
    scores = score(torch.zeros_like(ignored), ignored, 3)
    assert all(math.isnan(scores[key]) for key in ("miou", "macc", "aacc", "biou"))
    empty = torch.zeros(0, 9, 9, dtype=torch.int64)
    assert math.isnan(score(empty, empty, 3)["biou"])


def test_another_ignored_id() -> None:
    prediction, label = random_maps(2)
    moved = torch.where(label == 255, -1, label)
    assert score(prediction, moved, 6, ignore_index=-1)["biou"] == score(prediction, label, 6)["biou"]


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        (torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64), r"float32: call logits\.argmax\(1\) first"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64), r"got shape \[1, 3, 4, 4\].*argmax"),
        (torch.zeros(1, 4, 4, dtype=torch.int64), torch.zeros(4, 4, dtype=torch.int64), r"label must be \[B, H, W\]"),
        (torch.zeros(1, 4, 4, dtype=torch.int64), torch.zeros(1, 4, 4), "label must hold integer class ids"),
        (torch.zeros(1, 4, 5, dtype=torch.int64), torch.zeros(1, 4, 4, dtype=torch.int64), "resize the logits"),
        (torch.full((1, 4, 4), 3), torch.zeros(1, 4, 4, dtype=torch.int64), r"prediction .*out of range: 3; .*0\.\.2"),
        (
            torch.zeros(1, 2, 2, dtype=torch.int64),
            torch.tensor([[[0, 254], [-7, 255]]]),
            r"label .*out of range: -7, 254; expected 0\.\.2 or 255",
        ),
        (torch.full((1, 4, 4), 255), torch.full((1, 4, 4), 255), "prediction .*out of range: 255"),
    ],
)
def test_bad_maps_are_refused(prediction: Tensor, label: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SemanticMetrics(3).update(prediction, label)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"num_classes": 300}, "ignore_index = 255 is one of the classes 0 to 299: choose another label, such as -1"),
        ({"num_classes": 3, "boundary_ratio": 0.0}, "boundary_ratio must be above 0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SemanticMetrics(**options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_counts_the_same() -> None:
    prediction, label = random_maps(0)
    metrics = SemanticMetrics(6).cuda()
    metrics.update(prediction.cuda(), label.cuda())
    expected = score(prediction, label, 6)
    for key, value in metrics.compute().items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0, equal_nan=True)


def test_one_class_has_lists_of_one():
    metrics = SemanticMetrics(1)
    label = torch.zeros(2, 20, 20, dtype=torch.int64)
    label[:, :3] = 255
    for _ in range(2):
        metrics.update(torch.zeros_like(label), label)
    for result in (metrics.compute(), metrics.compute()):
        # Bands of 1 pixel, outside of the ignored rows: 52 of the frame, and 18 along these rows in the label alone.
        expected = [[100], [100], [pytest.approx(100 * 52 / 70)]]
        assert [result[key].tolist() for key in ("iou", "acc", "boundary_iou")] == expected
        assert [result[key] for key in ("miou", "macc", "aacc")] == [100] * 3
    copied = pickle.loads(pickle.dumps(metrics))
    assert copied.compute()["iou"].shape == (1,)
