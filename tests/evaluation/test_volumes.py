"""Dice and HD95 against a loop over all pairs of voxels, cases worked by hand, and the rules of TransUNet."""

import copy
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter, generate_binary_structure

from resfu.evaluation import surface_distance
from resfu.evaluation.surface_distance import dice, hd95, surface
from resfu.evaluation.volumes import VolumeMetrics, score_volume

NAN = float("nan")
REAL = Path(__file__).parents[3] / "shared" / "data" / "mini-ct"


def brute_hd95(first, second, spacing):
    """medpy's definition, by the distances of all pairs of surface voxels."""
    points = []
    for mask in (first, second):
        inside = {tuple(voxel) for voxel in np.argwhere(mask).tolist()}
        steps = [step for axis in range(mask.ndim) for step in (np.eye(mask.ndim, dtype=int)[axis],) * 2]
        signs = [sign * step for sign, step in zip(itertools.cycle((1, -1)), steps, strict=False)]
        edge = [v for v in sorted(inside) if any(tuple((np.array(v) + step).tolist()) not in inside for step in signs)]
        points.append(np.array(edge) * spacing)
    pairs = np.sqrt(((points[0][:, None] - points[1][None]) ** 2).sum(-1))
    return np.percentile(np.concatenate([pairs.min(1), pairs.min(0)]), 95)


def plain_hd95(first, second, spacing):
    """medpy's definition, by distance transforms of the whole volume."""
    cross = generate_binary_structure(first.ndim, 1)
    edges = [mask ^ binary_erosion(mask, cross) for mask in (first, second)]
    to_edge = [distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return np.percentile(np.concatenate([to_edge[1][edges[0]], to_edge[0][edges[1]]]), 95)


def blob(rng, shape, share):
    field = gaussian_filter(rng.standard_normal(shape), rng.uniform(0.4, 1.5))
    return field > np.quantile(field, 1 - share)


@pytest.mark.parametrize("dense", [0.0, 1.1], ids=["transform", "tree"])
@pytest.mark.parametrize("spacing", [None, (2.5, 0.7, 1.1)])
def test_hd95_of_random_volumes_equals_the_loop_over_all_pairs(dense, spacing, monkeypatch):
    monkeypatch.setattr(surface_distance, "DENSE_SURFACE", dense)
    rng = np.random.default_rng(0)
    for _ in range(15):
        shape = tuple(rng.integers(1, 10, 3))
        first, second = (blob(rng, shape, rng.uniform(0.1, 0.9)) for _ in range(2))
        if first.any() and second.any():
            expected = brute_hd95(first, second, spacing or (1, 1, 1))
            assert hd95(first, second, spacing) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_hd95_equals_transforms_of_the_whole_volume_where_the_box_is_small():
    rng = np.random.default_rng(1)
    for spacing in (None, (5.0, 0.8, 0.8)):
        first, second = np.zeros((2, 24, 40, 50), dtype=bool)
        first[0:7, 20:40, 30:44], second[2:9, 18:36, 28:50] = blob(rng, (7, 20, 14), 0.6), blob(rng, (7, 18, 22), 0.5)
        expected = plain_hd95(first, second, spacing)
        assert hd95(first, second, spacing) == pytest.approx(expected, rel=1e-12)


@pytest.mark.skipif(not REAL.is_dir(), reason="the CT slices are not in ../shared/data")
def test_hd95_of_real_organs_equals_transforms_of_the_whole_volume():
    with np.load(REAL / "abdomen_3mm.npz") as arrays:
        label = arrays["label"]
    coarse = label[:, ::2, ::2].repeat(2, 1).repeat(2, 2)[:, : label.shape[1], : label.shape[2]]
    scores = score_volume(coarse, label, 9, "strict", (3.0, 3.0, 3.0))
    for organ in (2, 5, 6):
        expected = plain_hd95(coarse == organ, label == organ, (3.0, 3.0, 3.0))
        assert scores[organ - 1].hd95 == pytest.approx(expected, rel=1e-12)
        assert expected > 0


def test_hd95_of_plates_by_hand():
    first, second = np.zeros((2, 9, 6, 6), dtype=bool)
    first[1], second[4] = True, True
    assert hd95(first, second) == 3
    assert hd95(first, second, (2.0, 1.0, 1.0)) == 6
    assert hd95(first, first) == 0


def test_the_directions_are_pooled_and_the_percentile_is_linear():
    first, second = np.zeros((2, 20), dtype=bool)
    first[:], second[0] = True, True
    # In one dimension only the ends of a run are surface. Sorted: 0, 0, 19; 95 percent of the way is at 1.9.
    assert hd95(first, second) == pytest.approx(17.1)
    # In two dimensions all of it is. Sorted: 0, 0, 1 to 19; 95 percent of the way is at 19.
    field, corner = np.zeros((2, 1, 20), dtype=bool)
    field[:], corner[0, 0] = True, True
    assert hd95(field, corner) == pytest.approx(18)


def test_one_voxel_each_and_voxels_in_the_corners():
    first, second = np.zeros((2, 4, 5, 6), dtype=bool)
    first[0, 0, 0], second[3, 4, 5] = True, True
    assert hd95(first, second) == pytest.approx(math.sqrt(9 + 16 + 25))
    assert hd95(first, second, (1, 1, 2)) == pytest.approx(math.sqrt(9 + 16 + 100))
    assert dice(first, second) == 0


def test_the_border_of_the_volume_is_a_border_of_the_mask():
    full = np.ones((4, 5, 6), dtype=bool)
    assert surface(full).sum() == 4 * 5 * 6 - 2 * 3 * 4
    middle = np.zeros_like(full)
    middle[2, 2, 2] = True
    assert hd95(full, middle) == pytest.approx(brute_hd95(full, middle, (1, 1, 1)))


def test_dice_by_hand():
    first, second = np.zeros((2, 10, 10, 10), dtype=bool)
    first[2:6, 2:6, 2:6], second[3:7, 2:6, 2:6] = True, True
    assert dice(first, second) == 2 * 48 / 128 == 0.75
    assert math.isnan(dice(np.zeros(3, bool), np.zeros(3, bool)))


@pytest.fixture
def pair():
    """Organ 1 in both, 2 predicted only, 3 labelled only, 4 in neither."""
    prediction, label = np.zeros((2, 6, 8, 10), dtype=np.uint8)
    prediction[1], label[2] = 1, 1
    prediction[4, 0:2], label[5, 0:2] = 2, 3
    return prediction, label


def test_the_rules_of_transunet(pair):
    scores = score_volume(*pair, num_classes=5)
    assert [score.dice for score in scores] == [0, 1, 0, 0]
    assert [score.hd95 for score in scores] == [1, 0, 0, 0]
    assert [score.predicted for score in scores] == [True, True, False, False]
    assert [score.labelled for score in scores] == [True, False, True, False]


def test_the_strict_rules(pair):
    scores = score_volume(*pair, num_classes=5, convention="strict", spacing=(3.0, 1.0, 1.0))
    diagonal = math.sqrt(18**2 + 8**2 + 10**2)
    assert [score.dice for score in scores] == [0, 0, 0, 1]
    assert [score.hd95 for score in scores] == [3, diagonal, diagonal, pytest.approx(NAN, nan_ok=True)]


def test_the_diagonal_is_that_of_brats():
    label = np.zeros((155, 240, 240), dtype=np.uint8)
    label[0, 0, 0] = 1
    score = score_volume(np.zeros_like(label), label, 2, "strict")[0]
    assert score.hd95 == pytest.approx(373.128664)  # what that challenge gives a missed tumour


def shifted(distance, size=(8, 12, 12)):
    prediction, label = np.zeros((2, *size), dtype=np.int64)
    label[2:6, 2:6, 2:6] = 1
    prediction[2:6, 2:6, 2 + distance : 6 + distance] = 1
    return prediction, label


def test_means_over_cases_and_organs():
    metrics = VolumeMetrics(3)
    metrics.update("a", *shifted(0))
    metrics.update("b", *(torch.from_numpy(volume) for volume in shifted(2)))
    found = metrics.compute()
    # Case b: half of the 64 voxels overlap; organ 2 is in no volume, which counts 0.
    assert found["dice_by_class"].tolist() == [75, 0]
    assert found["dice"] == 37.5
    expected = brute_hd95(*(volume == 1 for volume in shifted(2)), (1, 1, 1))
    assert found["hd95_by_class"].tolist() == pytest.approx([expected / 2, 0])
    assert found["hd95"] == pytest.approx(expected / 4)
    assert list(found["cases"]) == ["a", "b"]
    assert found["cases"]["b"]["dice"].tolist() == [50, 0]
    assert found["cases"]["b"]["hd95"].tolist() == pytest.approx([expected, 0])


def test_the_distance_of_organs_found_leaves_out_the_rest(pair):
    for convention in ("transunet", "strict"):
        metrics = VolumeMetrics(5, convention)
        metrics.update("a", *pair)
        metrics.update("b", np.zeros_like(pair[1]), pair[1])
        found = metrics.compute()
        assert found["convention"] == convention
        assert found["hd95_found_by_class"].tolist() == pytest.approx([1, NAN, NAN, NAN], nan_ok=True)
        assert found["hd95_found"] == 1
        assert found["cases"]["b"]["hd95_found"].isnan().all()
        counts = [found[f"{key}_by_class"].tolist() for key in ("found", "missed", "spurious")]
        assert [found[key] for key in ("found", "missed", "spurious")] == [sum(each) for each in counts]
        assert counts == [[1, 0, 0, 0], [1, 0, 2, 0], [0, 1, 0, 0]]


def test_one_organ_has_lists_of_one():
    metrics = VolumeMetrics(2)
    for _ in range(2):  # a copy and a reset keep it so
        metrics = copy.deepcopy(metrics)
        metrics.update("a", *shifted(0))
        found = metrics.compute()
        keys = ("dice", "hd95", "hd95_found", "found", "missed", "spurious")
        vectors = [found[f"{key}_by_class"] for key in keys]
        assert [list(v.shape) for v in (*vectors, *found["cases"]["a"].values())] == [[1]] * 9
        assert (found["dice"], found["dice_by_class"].tolist()) == (100, [100])
        metrics.reset()


def test_strict_means_leave_out_what_has_no_value():
    metrics = VolumeMetrics(3, convention="strict")
    with pytest.warns(UserWarning, match="before the ``update``"):  # torchmetrics' own
        assert math.isnan(metrics.compute()["dice"])
    metrics.update("a", *shifted(0))
    prediction, label = shifted(0)
    metrics.update("b", np.zeros_like(prediction), label)
    found = metrics.compute()
    assert found["dice_by_class"].tolist() == [50, 100]
    assert found["hd95"] == pytest.approx(math.sqrt(8**2 + 12**2 + 12**2) / 2)
    assert math.isnan(found["hd95_by_class"][1])
    assert (found["missed_by_class"].tolist(), found["spurious_by_class"].tolist()) == ([1, 0], [0, 0])


def test_states_survive_a_checkpoint_and_join_exactly(tmp_path):
    whole, first, second = VolumeMetrics(2), VolumeMetrics(2), VolumeMetrics(2)
    for index in range(5):
        for metrics in (whole, *([first] if index < 2 else [second] if index > 2 else [])):
            metrics.update(f"case{index:04d} é", *shifted(index))
    torch.save(first.state_dict(), tmp_path / "metrics.pt")
    loaded = VolumeMetrics(2)
    loaded.load_state_dict(torch.load(tmp_path / "metrics.pt"))
    loaded.update("case0002 é", *shifted(2))
    loaded.merge_state(VolumeMetrics(2))
    loaded.merge_state(second)
    found, expected = loaded.compute(), whole.compute()
    assert sorted(found["cases"]) == [f"case{index:04d} é" for index in range(5)]
    for name, scores in expected["cases"].items():
        assert torch.equal(found["cases"][name]["dice"], scores["dice"])
        assert torch.equal(found["cases"][name]["hd95"], scores["hd95"])
    assert found["dice"] == pytest.approx(expected["dice"], rel=1e-15)
    loaded.merge_state(first)
    with pytest.raises(ValueError, match="several processes scored the case case0000"):
        loaded.compute()


def test_a_reset_forgets_the_cases():
    metrics = VolumeMetrics(2)
    metrics.update("a", *shifted(1))
    with pytest.raises(ValueError, match="'a' is not, or was scored already"):
        metrics.update("a", *shifted(1))
    metrics.reset()
    metrics.update("a", *shifted(0))
    assert metrics.compute()["dice"] == 100


def test_volumes_that_cannot_be_scored_are_refused(pair):
    prediction, label = pair
    with pytest.raises(ValueError, match=r"label holds class ids out of range: \[3\]; expected 0\.\.2"):
        score_volume(np.minimum(prediction, 2), label, 3)
    with pytest.raises(ValueError, match=r"prediction must be \[D, H, W\] of integer class ids, got .* float64"):
        score_volume(prediction.astype(float), label, 5)
    with pytest.raises(ValueError, match=r"same shape, got \(5, 8, 10\) and \(6, 8, 10\)"):
        score_volume(prediction[1:], label, 5)
    with pytest.raises(ValueError, match="'transunet' measures in voxels"):
        score_volume(prediction, label, 5, spacing=(1, 1, 1))
    with pytest.raises(ValueError, match="must be 'transunet' or 'strict', got 'medpy'"):
        VolumeMetrics(5, convention="medpy")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="at least 2, got 1"):
        VolumeMetrics(1)
