"""The arithmetic behind docs/evidence.md."""

import json

import pytest
import torch
from PIL import Image

from benchmarks.evidence import picture, table, volumes
from benchmarks.evidence.counts import class_scores, curve, image_counts, scores
from benchmarks.evidence.intervals import paired_difference
from benchmarks.evidence.protocol import DISTANCES, ROWS, Training
from resfu.evaluation.semantic import SemanticMetrics

K = 4


class Guess(torch.nn.Module):
    """A network whose logits are its images."""

    def __init__(self):
        super().__init__()
        self.host = torch.nn.Module()
        self.host.num_classes = K

    def logits(self, images):
        return images


def batches():
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        label = torch.randint(K, (1, 6, 7), generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2)
        label[:, :5] = 255
        noise = torch.randn(1, K, 48, 56, generator=generator)
        yield {"image": torch.nn.functional.one_hot(label.clamp(max=K - 1), K).movedim(-1, 1) + noise, "label": label}


def test_scores_are_those_of_the_metric():
    metric = SemanticMetrics(K)
    for batch in batches():
        metric.update(batch["image"].argmax(1), batch["label"])
    counts, expected = image_counts(Guess(), batches()), metric.compute()
    assert scores(counts) == {key: pytest.approx(expected[key]) for key in ("miou", "biou")}
    # The standard band of images of this size is one pixel wide.
    assert curve(counts)[1] == pytest.approx(expected["biou"])
    assert list(curve(counts)) == list(DISTANCES)


def result(seed, shift):
    counts = image_counts(Guess(), batches())
    better = {**counts, "intersection": [[n + shift for n in image] for image in counts["intersection"]]}
    return {"seed": seed, "counts": better}


def test_the_difference_is_paired():
    first, second = [result(0, 0), result(1, 5)], [result(0, 9), result(1, 14), result(2, 0)]
    found = paired_difference(first, second, draws=50)
    expected = scores(second[0]["counts"])["miou"] - scores(first[0]["counts"])["miou"]
    mean, low, high = found["miou"]
    assert mean == pytest.approx(expected)
    # Every draw has the same images and seeds on both sides: what is left is the weight of the images.
    assert low <= mean <= high
    assert high - low < 0.5 * expected
    assert found["biou"] == (0, 0, 0)
    with pytest.raises(ValueError, match="no seed in common"):
        paired_difference([result(0, 0)], [result(3, 0)])


def test_choosing_a_rate_never_sees_the_validation_images():
    choosing = Training(ROWS["resfu-coarse"], 0.01, 3, choosing=True).experiment("anywhere").settings
    assert (choosing["data"]["train_split"], choosing["data"]["val_split"]) == ("fit", "held-out")
    assert choosing["model"]["upsampler_options"] == {"neighbours": "coarse"}
    optimisation = choosing["model"]["optimisation"]
    assert optimisation["learning_rate"] * optimisation["head_multiplier"] == pytest.approx(0.01)
    final = Training(ROWS["bilinear-skip"], 0.01, 3, encoder="trained").experiment("anywhere").settings
    assert (final["data"]["train_split"], final["data"]["val_split"]) == ("train", "val")
    assert final["model"]["host_options"] == {"skip_channels": 32}
    assert final["model"]["freeze_encoder"] is False
    assert final["model"]["host"] == "efficientnet-lite0"
    faster = Training(ROWS["resfu-rate-x3"], 0.01, 0, host="efficientnet-lite2")
    assert faster.name == "lite2-frozen-2400/final/resfu-rate-x3-0.01-seed0"
    settings = faster.experiment("anywhere").settings["model"]
    assert (settings["host"], settings["optimisation"]["similarity_multiplier"]) == ("efficientnet-lite2", 3)


def test_scores_of_classes_have_the_mean_of_all():
    counts = image_counts(Guess(), batches())
    assert sum(class_scores(counts)) / K == pytest.approx(scores(counts)["miou"])


def test_gains_are_those_over_the_first_row():
    results = {"bilinear": [result(0, 0)], "resfu": [result(0, 9)], "other": [result(3, 0)]}
    assert table.gains(results, "bilinear", "resfu")[0].startswith("+")
    assert table.gains(results, "resfu", "bilinear")[0].startswith("-")
    for first, second in (("resfu", "resfu"), ("resfu", "other"), ("resfu", "missing")):
        assert table.gains(results, first, second) == ["", ""]


def test_each_row_is_compared_with_the_rate_that_the_table_shows():
    rows = {"bilinear": (0.01, 0), "sapa": (0.005, 5), "resfu": (0.01, 9)}
    shown = {name: [{**result(0, shift), "rate": rate, "training_seconds": 60}] for name, (rate, shift) in rows.items()}
    lines = {cells[0]: cells for cells in (line.strip("| ").split(" | ") for line in table.table(shown)[2:5])}
    assert (lines["sapa"][1], lines["resfu"][1]) == ("0.005", "0.01")
    assert lines["sapa"][5:] == [*table.gains(shown, "bilinear", "sapa"), *table.gains(shown, "sapa", "resfu")]
    assert lines["bilinear"][-2:] == table.gains(shown, "bilinear", "resfu")
    summary = next(line for line in table.summary(shown) if line.startswith("| sapa"))
    assert table.gains(shown, "bilinear", "sapa")[1] in summary


def test_the_best_rate_is_marked(tmp_path):
    folder = tmp_path / "frozen-800" / "choosing"
    folder.mkdir(parents=True)
    for name, rate, miou in (("sapa", 0.0025, 40), ("sapa", 0.005, 42), ("sapa", 0.01, 41.5), ("resfu", 0.005, 50)):
        found = {"row": name, "rate": rate, "metrics": {"miou": miou}}
        (folder / f"{name}-{rate}.json").write_text(json.dumps(found), "utf-8")
    assert table.rates(tmp_path)[2:] == ["| sapa | 40.0 | **42.0** | 41.5 |"]


def test_a_row_has_the_trainings_of_one_rate(tmp_path):
    choosing, final = (tmp_path / name for name in ("frozen-800/choosing", "frozen-2400/final"))
    for folder in (choosing, final):
        folder.mkdir(parents=True)

    def write(folder, row, rate, seed, miou=0):
        found = {"row": row, "rate": rate, "seed": seed, "metrics": {"miou": miou}}
        (folder / f"{row}-{rate}-{seed}.json").write_text(json.dumps(found), "utf-8")

    for row in ("sapa", "fade", "carafe"):
        for rate, miou in ((0.0025, 40), (0.005, 41), (0.01, 42)):
            write(choosing, row, rate, 0, miou)
    for given in (("sapa", 0.005, 0), ("sapa", 0.01, 0), ("sapa", 0.01, 1), ("fade", 0.005, 0), ("resfu", 0.005, 0)):
        write(final, *given)
    for given in (("carafe", 0.005, 0), ("carafe", 0.005, 1), ("carafe", 0.01, 0)):  # the better rate has fewer seeds
        write(final, *given)
    found = table.read("frozen-2400", tmp_path)
    rates = {name: [(run["rate"], run["seed"]) for run in runs] for name, runs in found.items()}
    assert rates == {
        "carafe": [(0.005, 0), (0.005, 1)], "sapa": [(0.01, 0), (0.01, 1)], "fade": [(0.005, 0)], "resfu": [(0.005, 0)],
    }  # fmt: skip
    assert {run["rate"] for runs in table.read("frozen-2400", tmp_path, rate=0.005).values() for run in runs} == {0.005}


def test_published_differences_of_resfus_parts():
    run = {**result(0, 0), "curves": {"miou": [[1800, 60.0], [2400, 60.7]]}}
    results = {name: [run] for name in ("resfu", "resfu-coarse", "resfu-start")}
    coarse, start = (line.split(" | ") for line in table.parts(results)[2:])
    assert coarse[-2:] == ["-0.17 / -0.26", "-0.72 / -0.82 |"]
    assert start[-3:] == ["+0.7", "", " |"]


def test_no_slice_of_the_scan_is_beside_one_that_is_predicted():
    first, second = (volumes.predicted_slices(52, half) for half in volumes.HALVES)
    assert (first ^ second).all()
    for predicted in (first, second):
        trained = volumes.training_slices(predicted).nonzero()[0]
        assert len(trained) >= 16
        assert abs(trained[:, None] - predicted.nonzero()[0]).min() == 2


def test_the_picture_is_that_of_the_numbers():
    with Image.open(picture.OUTPUT) as drawn:
        assert json.loads(drawn.text["Description"]) == picture.points(), "run python -m benchmarks.evidence.picture"


def test_a_picture_is_drawn(tmp_path):
    picture.draw(tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as drawn, Image.open(picture.OUTPUT) as kept:
        assert drawn.size == kept.size
        assert drawn.text == kept.text
