"""Volumes in training: cases put together again, Dice and HD95 at validation and test, and the table of organs."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from rich.console import Console
from scipy.ndimage import zoom

from resfu.data import create_dataset
from resfu.data.image_files import UnreadableFileError
from resfu.evaluation.volumes import VolumeMetrics
from resfu.tasks import TASKS
from resfu.tasks.cases import Cases
from resfu.tasks.volumes import SliceData, VolumeModule
from resfu.training.quiet import known_warnings_ignored
from resfu.training.scores import headline, plain
from tests.support import apart
from tests.support.medical_fixtures import write_medical_fixture

SCRIPT = Path(__file__).with_name("volumes_in_two_processes.py")


@pytest.fixture(scope="module")
def synapse(tmp_path_factory):
    return write_medical_fixture("synapse", tmp_path_factory.mktemp("synapse") / "root", size=(4, 48, 40))


@pytest.fixture(scope="module")
def acdc(tmp_path_factory):
    return write_medical_fixture("acdc", tmp_path_factory.mktemp("acdc") / "root", size=(12, 32, 32))


def data_module(name, root, **options):
    options = {"crop_size": (32, 32), "batch_size": 2, **options}
    return SliceData(name, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), root=str(root), **options)


def trainer(**options):
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def make_task(num_classes, **options):
    torch.manual_seed(0)
    return VolumeModule(host="toy", upsampler="bilinear", num_classes=num_classes, **options)


def test_slices_become_cases_again_in_the_order_of_their_numbers(acdc, synapse):
    hearts = Cases(create_dataset("acdc", "val", acdc), 32)
    assert [hearts[i]["name"] for i in range(len(hearts))] == [
        f"case_{n:03d}_{p}" for n in (3, 4) for p in ("ED", "ES")
    ]
    assert [file.name for file in hearts.cases[0].files] == [f"case_003_sliceED_{i}" for i in range(12)]  # 10 after 9
    assert hearts.cases[0].classes().shape == (12, 32, 32)
    whole = create_dataset("acdc", "test", acdc)
    assert [case.name for case in Cases(whole, 32).cases] == [volume.name for volume in whole.volumes]
    scans = Cases(create_dataset("synapse", "train", synapse), 32)
    assert [(case.name, len(case)) for case in scans.cases] == [("case0001", 4), ("case0002", 4)]


def test_the_protocol_by_hand(synapse):
    """Cubic splines to the input size, normalised, argmax, back by the nearest neighbour, scored by volume."""
    task, data = make_task(9), data_module("synapse", synapse)
    with known_warnings_ignored():
        trainer().test(task, datamodule=data, verbose=False)
    expected = VolumeMetrics(9)
    test = create_dataset("synapse", "test", synapse)
    task.eval()
    for volume in test.volumes:
        labels = []
        for pixels in (volume[i] for i in range(4)):
            small = torch.from_numpy(zoom(pixels, (32 / 48, 32 / 40), order=3))
            with torch.no_grad():
                logits = task.host((small.expand(1, 3, 32, 32) - 0.5) / 0.25)
            labels.append(zoom(logits.argmax(1)[0].numpy().astype(np.uint8), (48 / 32, 40 / 32), order=0))
        expected.update(volume.name, np.stack(labels), volume.labels().astype(np.uint8))
    found, wanted = plain(task.results), plain(expected.compute())
    assert found["dice"] > 0
    assert found == wanted
    assert list(found["cases"]) == ["case0003", "case0004"]


def test_it_is_logged_printed_and_chosen_by(acdc, capsys):
    task, data = make_task(4), data_module("acdc", acdc)
    fit = trainer(max_steps=2, val_check_interval=2, check_val_every_n_epoch=None)
    with known_warnings_ignored():
        fit.fit(task, datamodule=data)
        assert f"val/{TASKS['volumes'].monitor.key}" == "val/dice"
        assert {"val/dice", "val/hd95", "train/loss"} <= fit.callback_metrics.keys()
        assert len(task.results["cases"]) == 4
        test = trainer()
        test.test(task, datamodule=data, verbose=False)
    out = capsys.readouterr().out
    assert all(
        name in out for name in ("right ventricle", "myocardium", "left ventricle", "Dice", "HD95", "volumes: 4")
    )
    assert "background" not in out
    assert float(test.callback_metrics["test/dice"]) == pytest.approx(task.results["dice"], rel=1e-6)
    # A network can be loaded without its data.
    make_task(4).load_state_dict(task.state_dict())


def test_the_convention_is_an_option_of_the_task(synapse):
    results = {}
    for convention in ("transunet", "strict"):
        task = make_task(9, convention=convention)
        with torch.no_grad():
            task.host.head[1].weight.zero_()
            task.host.head[1].bias.copy_(torch.eye(9)[0])  # background everywhere: every organ is missed
        with known_warnings_ignored():
            trainer().test(task, datamodule=data_module("synapse", synapse), verbose=False)
        results[convention] = headline(VolumeModule.scores, task.results)
        assert task.hparams["convention"] == convention
    diagonal = (4**2 + 48**2 + 40**2) ** 0.5
    missed = results["strict"]["missed"]
    assert missed > 0
    # The convention's distance of what was not found is 0; a distance that could be measured there is not.
    assert results["transunet"] == pytest.approx(
        {"dice": 0, "hd95": 0, "hd95_found": float("nan"), "missed": missed, "spurious": 0}, nan_ok=True
    )
    # Where an organ is in no volume it is right under "strict"; every other distance is the diagonal.
    assert results["strict"]["hd95"] == pytest.approx(diagonal)
    assert math.isnan(results["strict"]["hd95_found"])


def test_a_damaged_case_stops_or_is_left_out(synapse, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(synapse, root)
    file = root / "test_vol_h5" / "case0003.npy.h5"
    pixels = bytearray(file.read_bytes())
    pixels[len(pixels) // 3 : 2 * len(pixels) // 3] = bytes(len(pixels) // 3 + 1)
    file.write_bytes(pixels)
    task = make_task(9)
    with known_warnings_ignored(), pytest.raises(UnreadableFileError, match=r"case0003\.npy\.h5"):
        trainer().test(task, datamodule=data_module("synapse", root), verbose=False)
    skipping = data_module("synapse", root, options={"on_error": "skip"})
    with known_warnings_ignored(), pytest.warns(UserWarning, match=r"case0003\.npy\.h5.* is left out"):
        trainer().test(task, datamodule=skipping, verbose=False)
    assert list(task.results["cases"]) == ["case0004"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hearts", {}, "unknown dataset 'hearts'; choose one of .*synapse"),
        ("acdc", {"crop_size": (32, 48)}, r"slices are resized to a square, .* got \(32, 48\)"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        data_module(name, "nowhere", **options)


def printed_rows(metrics, classes):
    task = VolumeModule(host="toy", upsampler="bilinear", num_classes=len(classes))
    task.classes, task.results = classes, metrics
    console = Console(width=80)
    with console.capture() as capture:
        console.print(task.table())
    table = task.table()
    assert table.caption is not None
    return [line.replace("│", " ").split() for line in capture.get().splitlines()], str(table.caption)


def test_the_table_and_the_plain_values():
    metrics, (prediction, label) = VolumeMetrics(3), np.zeros((2, 2, 4, 8), dtype=np.uint8)
    label[0, 0, 0:4], prediction[0, 0, 2:6] = 1, 1  # half of the liver is found; the 95th percentile lies at 2
    label[1, 0, 0:4] = 2  # no spleen is found
    metrics.update("a", prediction, label)
    metrics.update("b", np.zeros_like(label), label)
    found = metrics.compute()
    rows, caption = printed_rows(found, ("background", "liver", "spleen"))
    assert ["liver", "25.00", "2.00", "1.00", "1", "0"] in rows
    assert ["spleen", "0.00", "-", "0.00", "2", "0"] in rows
    assert ["mean", "12.50", "2.00", "0.50", "3", "0"] in rows
    assert "those where the organ is labelled and predicted, 1 of 2 organs" in caption
    kept = json.loads(json.dumps(plain(found), allow_nan=False))
    assert (kept["dice"], kept["hd95_found"], kept["hd95"], kept["convention"]) == (12.5, 2.0, 0.5, "transunet")
    counts = (kept[f"{key}_by_class"] for key in ("found", "missed", "spurious"))
    assert list(counts) == [[1, 0], [1, 2], [0, 0]]
    assert (kept["found"], kept["missed"], kept["spurious"]) == (1, 3, 0)
    assert (kept["hd95_found_by_class"], kept["hd95_by_class"]) == ([2.0, None], [1.0, 0.0])
    assert kept["cases"] == {
        "a": {"dice": [50.0, 0.0], "hd95_found": [2.0, None], "hd95": [2.0, 0.0]},
        "b": {"dice": [0.0, 0.0], "hd95_found": [None, None], "hd95": [0.0, 0.0]},
    }


@pytest.mark.parametrize("convention", ["transunet", "strict"])
def test_a_total_failure_does_not_look_perfect(convention):
    metrics, label = VolumeMetrics(3, convention), np.ones((2, 3, 4), dtype=np.uint8)
    label[1] = 2
    metrics.update("a", np.zeros_like(label), label)
    found = metrics.compute()
    distance = "0.00" if convention == "transunet" else "5.39"  # the diagonal
    rows, caption = printed_rows(found, ("background", "liver", "spleen"))
    assert ["liver", "0.00", "-", distance, "1", "0"] in rows
    assert ["mean", "0.00", "-", distance, "2", "0"] in rows
    assert "0 of 2 organs" in caption
    assert plain(found)["hd95_found"] is None


def test_one_organ_has_its_table_and_its_values():
    metrics, label = VolumeMetrics(2), np.zeros((2, 3, 4), dtype=np.uint8)
    label[1] = 1
    metrics.update("a", label, label)
    found = metrics.compute()
    assert ["liver", "100.00", "0.00", "0.00", "0", "0"] in printed_rows(found, ("background", "liver"))[0]
    kept = plain(found)
    found = (kept[f"{key}_by_class"] for key in ("dice", "hd95_found", "missed"))
    assert list(found) == [[100.0], [0.0], [0]]
    assert kept["cases"]["a"]["dice"] == [100.0]


def test_two_processes_share_the_cases_and_merge_their_scores(acdc, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(acdc, root)
    names = (root / "lists_ACDC" / "valid.txt").read_text().split()
    odd = [name for name in names if not name.startswith("case_004_sliceES")]  # three cases
    (root / "lists_ACDC" / "valid.txt").write_text("\n".join(odd))
    apart.run(SCRIPT, str(root), str(tmp_path), warnings="error")
    one, first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert [found["shared"] for found in (one, first, second)] == [3, 2, 1]
    assert one["results"]["dice"] > 0
    for found in (first, second):
        assert found["logged"] == pytest.approx(one["logged"], rel=1e-6)
        assert found["results"].pop("dice") == pytest.approx(one["results"]["dice"], rel=1e-12)
        assert found["results"].pop("cases") == one["results"]["cases"]
        assert found["results"]["missed"] == one["results"]["missed"]
