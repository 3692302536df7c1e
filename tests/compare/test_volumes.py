"""Comparisons on volumes: by the command, and what the tables and the report say of the organs."""

import json
import re

import numpy as np
import pytest
import torch
from rich.console import Console

from resfu.cli import main
from resfu.cli.arguments import volume_size
from resfu.compare.classes import class_markdown, class_scores, print_classes
from resfu.compare.comparison import Comparison
from resfu.compare.report import render_report
from resfu.compare.summary import best, cells, headings, markdown, note, summarise
from resfu.data import create_dataset
from resfu.data.medical.transforms import slice_eval_transform
from resfu.tasks import TASKS
from resfu.tasks.pictures import VolumePictures
from resfu.tasks.volume_pictures import labelled_slices

VOLUMES = TASKS["volumes"]
SCORES = {score.key: score for score in VOLUMES.scores}
DICE = {("bilinear", 0): 50.0, ("resfu", 0): 60.0, ("bilinear", 1): 52.0, ("resfu", 1): 63.0}


@pytest.fixture
def volume_results(results):
    """As `results`, of volumes with two organs; the second is in no volume."""
    results["task"] = "volumes"
    results["settings"]["model"]["convention"] = "strict"
    results["settings"]["data"]["dataset"] = "ct"
    results["classes"] = results["classes"][1:]
    results["palette"] = results["palette"][1:]
    results["count"] = 3
    for run in results["runs"]:
        dice = DICE[run["upsampler"], run["seed"]]
        run["metrics"] = {"dice": dice, "hd95_found": 90 - dice, "hd95": 100 - dice, "missed": 1.0}
        run["curves"]["dice"] = run["curves"].pop("miou")
        run |= {"dice_by_class": [dice - 5, dice + 5], "hd95_by_class": [100 - dice, None]}
        run |= {"missed_by_class": [1, 0], "spurious_by_class": [0, 0], "hd95_found_by_class": [90 - dice, None]}
        del run["iou"]
    return results


def words_of(results):
    """The table of classes as it is printed."""
    return {
        label: {name: [str(word) for word in words] for name, words in by_name.items()}
        for label, by_name in class_scores(results).items()
    }


def test_the_tables_are_of_dice_and_hd95(volume_results):
    rows = summarise(volume_results)
    row = dict(zip(headings(VOLUMES), cells(rows[0]), strict=True))
    assert (row["Dice"], row["HD95"]) == ("51.00 ± 1.41", "39.00 ± 1.41")
    assert (row["HD95 by convention"], row["missed"]) == ("49.00 ± 1.41", "1.00 ± 0.00")
    assert (
        best(rows, SCORES["dice"]) == best(rows, SCORES["hd95"]) == best(rows, SCORES["hd95_found"]) == {"resfu"}
    )  # the lower distance
    assert "| **61.50 ± 2.12** | **28.50 ± 2.12** | **38.50 ± 2.12** |" in markdown(volume_results)
    assert "3 volumes, means over organs" in note(volume_results)
    assert "'strict'" in note(volume_results)
    organs = words_of(volume_results)
    organ = organs["a <i>class</i> & more"]["bilinear"]
    assert organ == ["46.00 ± 1.41", "39.00 ± 1.41", "49.00 ± 1.41", "1.00 ± 0.00"]
    assert organs["unseen"]["resfu"] == ["66.50 ± 2.12", "-", "-", "0.00 ± 0.00"]
    titles = ("Dice", "HD95", "HD95 by convention", "missed")
    assert class_markdown(volume_results).splitlines()[1] == (
        f"| organ | {' | '.join(f'{name} {title}' for name in ('bilinear', 'resfu') for title in titles)} |"
    )


def fail(results, upsampler):
    """Let an upsampler find no organ at all, as the convention of TransUNet scores that."""
    for run in results["runs"]:
        if run["upsampler"] == upsampler:
            run["metrics"] = {"dice": 0.0, "hd95_found": None, "hd95": 0.0, "missed": 6.0}
            found = {"dice": [0.0, 0.0], "hd95_found": [None, None], "hd95": [0.0, 0.0], "missed": [3, 3]}
            run |= {f"{key}_by_class": values for key, values in found.items()}


def test_a_total_failure_is_not_the_best_distance(volume_results, capsys):
    fail(volume_results, "resfu")
    rows = summarise(volume_results)
    row = dict(zip(headings(VOLUMES), cells(rows[1]), strict=True))
    assert [row[score.title] for score in VOLUMES.scores] == ["0.00 ± 0.00", "-", "0.00 ± 0.00", "6.00 ± 0.00"]
    assert [best(rows, score) for score in VOLUMES.scores] == [{"bilinear"}] * 4
    assert "| resfu | 0.00 ± 0.00 | - | 0.00 ± 0.00 | 6.00 ± 0.00 |" in markdown(volume_results)
    words = ["0.00 ± 0.00", "-", "0.00 ± 0.00", "3.00 ± 0.00"]
    assert words_of(volume_results)["unseen"]["resfu"] == words
    assert "".join(f"<td>{word}</td>" for word in words) in render_report(volume_results, [])
    print_classes(volume_results, Console(width=100))
    assert "resfu 0.00 ± 0.00 - 0.00 ± 0.00 3.00 ± 0.00" in " ".join(capsys.readouterr().out.split())
    fail(volume_results, "bilinear")
    rows = summarise(volume_results)
    assert best(rows, SCORES["hd95"]) == best(rows, SCORES["hd95_found"]) == set()  # nobody found an organ
    volume_results["classes"], volume_results["palette"] = ["one organ"], [[1, 2, 3]]
    assert list(words_of(volume_results)) == ["one organ"]


def test_who_misses_more_has_not_the_better_distance(volume_results):
    for run in volume_results["runs"]:
        run["metrics"]["missed"] = 2.0 if run["upsampler"] == "resfu" else 1.0
    rows = summarise(volume_results)
    assert best(rows, SCORES["dice"]) == {"resfu"}
    assert best(rows, SCORES["hd95"]) == best(rows, SCORES["hd95_found"]) == {"bilinear"}


def test_results_of_before_the_organs_found_were_told_apart(volume_results):
    for run in volume_results["runs"]:
        for key in ("hd95_found", "missed"):
            del run["metrics"][key]
        del run["hd95_found_by_class"]
    rows = summarise(volume_results)
    assert cells(rows[0])[1:5] == ["51.00 ± 1.41", "-", "49.00 ± 1.41", "-"]
    assert best(rows, SCORES["hd95"]) == {"resfu"}
    assert words_of(volume_results)["unseen"]["resfu"] == ["66.50 ± 2.12", "-", "0.00 ± 0.00"]


def test_other_data_have_no_table_of_all_their_scores(results):
    assert not TASKS["label maps"].lists_classes
    assert VOLUMES.lists_classes
    assert list(class_scores(results)["sky"]["resfu"]) == [class_scores(results)["sky"]["resfu"][0]]  # IoU alone


def test_the_report_leafs_through_volumes(volume_results, pictures):
    shown = [np.full((4, 6, 3), value, np.uint8) for value in (0, 90, 200)]
    layers = dict.fromkeys(("image", "ground truth", "bilinear", "resfu"), shown)
    html = render_report(volume_results, pictures, [VolumePictures("case <1>", [2, 7, 12], layers)])
    data = json.loads(html.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    (volume,) = data["volumes"]
    assert (volume["name"], volume["slices"], volume["width"], volume["height"]) == ("case <1>", [2, 7, 12], 6, 4)
    assert {name: len(sources) for name, sources in volume["layers"].items()} == dict.fromkeys(layers, 3)
    assert [chart["title"] for chart in data["curves"]] == ["Training loss", "Validation Dice (%)"]
    assert "evaluated on 3 validation volumes" in html
    assert "<td>46.00 ± 1.41</td><td>39.00 ± 1.41</td><td>49.00 ± 1.41</td><td>1.00 ± 0.00</td>" in html
    assert "function startVolumes" in html


def test_settings_of_volumes():
    comparison = Comparison("ct")
    model, data = comparison.settings["model"], comparison.settings["data"]
    assert (comparison.task.name, data["crop_size"]) == ("volumes", (224, 224))
    assert model["convention"] == "transunet"
    assert (model["host"], model["pretrained"], model["freeze_encoder"]) == ("transunet-small", False, False)
    assert data["options"] == {"size": [24, 128, 128]}
    assert (data["train_options"], data["eval_options"]) == ({"count": 12}, {"count": 4})
    assert Comparison("scenes").task.name == "label maps"
    assert "convention" not in Comparison("scenes").settings["model"]
    assert volume_size("4x32x40") == (4, 32, 40)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "scenes", "--convention", "strict"], r"unknown key model\.convention"),
        (["--data", "synapse", "--volume-size", "4x32x32"], "dataset 'synapse' has no option size"),
        (["--data", "ct", "--augment", "flip"], r"unknown key data\.(scale_range|photometric)"),
        (["--data", "ct", "--volume-size", "32x32"], "expected DxHxW"),
        (["--data", "ct", "--data.crop_size", "[32, 48]"], "slices are resized to a square"),
    ],
)
def test_what_makes_no_sense_is_refused(words, message, tmp_path, capsys):
    root = ["--root", str(tmp_path)]
    assert main(["compare", *words, *root, "--output", str(tmp_path / "out")]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_pictures_show_image_and_label_at_one_size(tmp_path):
    transform = slice_eval_transform((40, 40), (0.0,) * 3, (1.0,) * 3)
    dataset = create_dataset("cardiac", "val", tmp_path, transform, size=(3, 32, 32), count=1)
    assert dataset[0]["label"].shape == (32, 32)
    drawn = labelled_slices(dataset, 40)
    assert drawn[0]["label"].shape == drawn[0]["image"].shape[-2:] == (40, 40)
    torch.testing.assert_close(drawn[0]["image"], dataset[0]["image"])


def test_the_command_compares_on_generated_scans_and_goes_on(tmp_path, capsys):
    words = ["compare", "--data", "ct", "--root", str(tmp_path / "cache"), "--output", str(tmp_path / "out")]
    words += ["--volume-size", "4x32x32", "--crop", "64", "--train-images", "2"]
    words += ["--val-images", "1", "--steps", "2", "--batch-size", "2", "--pictures", "1", "--validations", "1"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("HD95", "gallbladder", "pancreas"))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["count"], results["settings"]["model"]["convention"]) == (1, "transunet")
    for run in results["runs"]:
        assert run["metrics"].keys() >= {"dice", "hd95_found", "hd95", "missed"}
        assert len(run["dice_by_class"]) == len(run["hd95_by_class"]) == 8
        assert list(run["cases"]) == ["val0000"]
        assert run["curves"]["dice"][-1] == [2, pytest.approx(run["metrics"]["dice"], abs=1e-4)]
    assert results["summary"]["resfu"]["hd95"]["n"] == 1
    assert "| organ | bilinear Dice |" in (tmp_path / "out" / "table.md").read_text()
    html = (tmp_path / "out" / "report.html").read_text()
    data = json.loads(html.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    assert list(data["volumes"][0]["layers"]) == ["image", "ground truth", "bilinear", "resfu"]
    assert data["volumes"][0]["slices"] == [0, 1, 2, 3]

    written = (tmp_path / "out" / "runs" / "resfu-seed0" / "metrics.json").stat().st_mtime_ns
    assert main(words) == 0
    assert (tmp_path / "out" / "runs" / "resfu-seed0" / "metrics.json").stat().st_mtime_ns == written
    assert main([*words, "--convention", "strict"]) == 2
    assert "model.convention was 'transunet' and is 'strict'" in capsys.readouterr().err
