"""Panoptic quality against the published rules in plain loops, and against cases worked by hand."""

import math

import numpy as np
import pytest
import torch

from resfu.evaluation.panoptic import PanopticMetrics, count_segments

THINGS, STUFF = 3, 2


def random_image(rng, shape=(24, 30)):
    """Ids of many bytes, void, crowds (two of a class in some), and a prediction that is a disturbed copy."""

    def segmented(count):
        ids = np.zeros(shape, dtype=np.int64)
        for _ in range(count):
            y, x = rng.integers(0, 20, 2)
            ids[y : y + rng.integers(2, 14), x : x + rng.integers(2, 16)] = rng.integers(1, 2**24)
        return ids

    true = segmented(9)
    found = np.roll(true, rng.integers(-2, 3, 2), (0, 1)) if rng.random() < 0.8 else segmented(8)
    for _ in range(4):
        y, x = rng.integers(0, 20, 2)
        found[y : y + 7, x : x + 7] = rng.choice([0, rng.integers(1, 2**24), rng.choice(true.ravel())])
    y, x = rng.integers(0, 16, 2)
    true[y : y + 8, x : x + 9] = 0
    classes = {int(number): int(rng.integers(0, THINGS + STUFF)) for number in np.unique(true)}
    true_segments = [
        {"id": int(number), "category_id": classes[int(number)], "iscrowd": int(rng.random() < 0.25)}
        for number in rng.permutation(np.unique(true[true > 0]))
    ]
    segments = []
    for number in rng.permutation(np.unique(found[found > 0])):
        same = classes.get(int(number), 0) if rng.random() < 0.9 else int(rng.integers(0, THINGS + STUFF))
        segments.append({"id": int(number), "category_id": same})
    return found, segments, true, true_segments


def in_loops(found, segments, true, true_segments):
    """The rules, segment by segment and pixel by pixel, in the order of the published evaluation."""
    sums = np.zeros((4, THINGS + STUFF))  # IoU, TP, FP, FN
    matched_truth, matched_found = set(), set()
    for t in true_segments:
        for f in segments:
            t_mask, f_mask = true == t["id"], found == f["id"]
            inside = f_mask & (true != 0)
            intersection = (t_mask & f_mask).sum()
            if not intersection or t["iscrowd"] or t["category_id"] != f["category_id"]:
                continue
            iou = intersection / (t_mask | inside).sum()
            if iou > 0.5:
                sums[0, t["category_id"]] += iou
                sums[1, t["category_id"]] += 1
                matched_truth.add(t["id"])
                matched_found.add(f["id"])
    crowds = {}
    for t in true_segments:
        if t["id"] in matched_truth:
            continue
        if t["iscrowd"]:
            crowds[t["category_id"]] = t["id"]
            continue
        sums[3, t["category_id"]] += 1
    for f in segments:
        if f["id"] in matched_found:
            continue
        where = true[found == f["id"]]
        excused = (where == 0) | (where == crowds.get(f["category_id"], 0))
        if excused.mean() > 0.5:
            continue
        sums[2, f["category_id"]] += 1
    return sums


def test_counts_equal_the_loops_on_random_images():
    rng = np.random.default_rng(0)
    total = np.zeros((4, THINGS + STUFF))
    excused = crowds = 0
    metrics = PanopticMetrics(THINGS, STUFF)
    for _ in range(120):
        image = random_image(rng)
        counts, expected = count_segments(*image, THINGS + STUFF), in_loops(*image)
        np.testing.assert_allclose(counts.iou, expected[0], rtol=1e-12)
        np.testing.assert_array_equal([counts.matched, counts.spurious, counts.missed], expected[1:])
        total += expected
        crowds += sum(segment["iscrowd"] for segment in image[3])
        excused += len(image[1]) - int(expected[1:3].sum())
        metrics.update(torch.from_numpy(image[0]).int(), image[1], torch.from_numpy(image[2]).int(), image[3])
    assert (total > 10).all()
    assert min(crowds, excused) > 50, "crowds, and predictions forgiven for void or a crowd, must be among the cases"
    iou, tp, fp, fn = total
    pq, sq, rq = 100 * iou / (tp + fp / 2 + fn / 2), 100 * iou / tp, 100 * tp / (tp + fp / 2 + fn / 2)
    result = metrics.compute()
    for name, values in (("pq", pq), ("sq", sq), ("rq", rq)):
        np.testing.assert_allclose(result[f"{name}_by_class"], values)
        assert result[name] == pytest.approx(values.mean())
        assert result[f"{name}_things"] == pytest.approx(values[:THINGS].mean())
        assert result[f"{name}_stuff"] == pytest.approx(values[THINGS:].mean())


def strip(*lengths):
    """A map of one row: pairs of an id and how many pixels it has."""
    return np.concatenate([np.full(count, number) for number, count in lengths])[None]


def segment(number, category=0, crowd=0):
    return {"id": number, "category_id": category, "iscrowd": crowd}


def test_a_match_and_a_miss_by_hand():
    # Labelled 90 and 20 pixels; predicted 100, of which 80 on the first: IoU 80/110.
    true = strip((1, 90), (3, 20), (2, 20))
    found = np.where(np.arange(130) < 10, 4, np.where(np.arange(130) < 110, 5, 4))[None]
    metrics = PanopticMetrics(1, 1)
    metrics.update(found, [segment(5), segment(4, 1)], true, [segment(1), segment(2), segment(3, 1)])
    result = metrics.compute()
    assert [result[f"{name}_things"] for name in ("sq", "rq", "pq")] == pytest.approx(
        [72.7273, 66.6667, 48.4848], abs=1e-4
    )
    assert [result[f"{name}_stuff"] for name in ("sq", "rq", "pq")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("true", "true_segments", "found", "segments", "expected"),
    [
        # IoU of exactly 1/2 is no match.
        (strip((1, 20), (0, 0)), [segment(1)], strip((1, 10), (0, 10)), [segment(1)], (0, 0, 1, 1)),
        (strip((1, 20)), [segment(1)], strip((1, 11), (0, 9)), [segment(1)], (11 / 20, 1, 0, 0)),
        # Predicted pixels on void do not count in the union, predicted void does.
        (strip((1, 10), (0, 30)), [segment(1)], strip((1, 40)), [segment(1)], (1, 1, 0, 0)),
        # Half of it on void is spurious, more is not.
        (strip((2, 10), (0, 10)), [segment(2, 1)], strip((1, 20)), [segment(1)], (0, 0, 1, 1)),
        (strip((2, 9), (0, 11)), [segment(2, 1)], strip((1, 20)), [segment(1)], (0, 0, 0, 1)),
        # So for the crowd of its category, together with void, but not for another's.
        (strip((2, 9), (3, 6), (0, 5)), [segment(2, 1), segment(3, 0, 1)], strip((1, 20)), [segment(1)], (0, 0, 0, 1)),
        (strip((2, 9), (3, 11)), [segment(2, 1), segment(3, 1, 1)], strip((1, 20)), [segment(1)], (0, 0, 1, 1)),
        # Of two crowds the last counts.
        (strip((2, 12), (3, 8)), [segment(2, 0, 1), segment(3, 0, 1)], strip((1, 20)), [segment(1)], (0, 0, 1, 0)),
        (strip((2, 12), (3, 8)), [segment(3, 0, 1), segment(2, 0, 1)], strip((1, 20)), [segment(1)], (0, 0, 0, 0)),
        # A crowd is never matched and never missed, a listed segment without a pixel is missed.
        (strip((1, 20)), [segment(1, 0, 1)], strip((0, 20)), [], (0, 0, 0, 0)),
        (strip((1, 20)), [segment(1), segment(9)], strip((1, 20)), [segment(1)], (1, 1, 0, 1)),
    ],
)  # fmt: skip
def test_rules_by_hand(true, true_segments, found, segments, expected):
    counts = count_segments(found, segments, true, true_segments, 2)
    assert (counts.iou.sum(), counts.matched.sum(), counts.spurious.sum(), counts.missed.sum()) == pytest.approx(
        expected
    )


def test_nothing_seen_has_no_value():
    metrics = PanopticMetrics(2, 0)
    metrics.update(strip((0, 4)), [], strip((0, 4)), [])
    assert math.isnan(metrics.compute()["pq"])
    metrics.update(strip((1, 4)), [segment(1)], strip((1, 4)), [segment(1)])
    result = metrics.compute()
    assert result["pq"] == result["pq_things"] == 100
    assert math.isnan(result["pq_stuff"])
    assert result["pq_by_class"].tolist() == pytest.approx([100, math.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("found", "segments", "message"),
    [
        (strip((1, 5)), [segment(1)], r"same size, got \(1, 5\) predicted and \(1, 4\) labelled"),
        (strip((7, 4)), [segment(1)], "pixels have the id 7, which is not among the predicted segments"),
        (strip((1, 4)), [segment(1), segment(2)], "predicted segment 2 has no pixel"),
        (strip((1, 4)), [segment(1), segment(1)], "have the id 1 twice"),
        (strip((1, 4)), [segment(1), segment(0)], "have the id 0 twice, or it is 0"),
        (strip((1, 4)), [segment(1, 2)], "category 2; categories are 0 to 1, things first"),
        (strip((-1, 4)), [], "must be 0 to"),
        (strip((1, 4))[0], [], r"must be an integer \[H, W\], got int64 \[4\]"),
        (strip((1.0, 4)), [], r"got float64 \[1, 4\]"),
    ],
)
def test_what_makes_no_sense_is_refused(found, segments, message):
    with pytest.raises(ValueError, match=message):
        count_segments(found, segments, strip((1, 4)), [segment(1)], 2)


def test_there_must_be_a_class():
    with pytest.raises(ValueError, match="class of things or stuff is needed, got 0 and 0"):
        PanopticMetrics(0, 0)


def test_one_class_has_lists_of_one():
    for numbers, group in (((1, 0), "_things"), ((0, 1), "_stuff")):
        metrics = PanopticMetrics(*numbers)
        metrics.update(strip((1, 4)), [segment(1)], strip((1, 4)), [segment(1)])
        for result in (metrics.compute(), metrics.compute()):  # the second is torchmetrics' own copy
            assert [result[f"{name}_by_class"].tolist() for name in ("pq", "sq", "rq")] == [[100]] * 3
            assert result[f"pq{group}"] == result["pq"] == 100
        # As a step of a training calls it.
        forward = metrics(strip((1, 4)), [segment(1)], strip((1, 4)), [segment(1)])
        assert forward["pq_by_class"].tolist() == [100]
