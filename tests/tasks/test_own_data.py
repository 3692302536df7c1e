"""Your own data in `fit` and `predict`: plain folders, and classes that can be imported."""

import sys

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

import resfu
from resfu.cli import main
from resfu.data.registry import find_dataset
from resfu.tasks.label_map_data import LabelMapData
from resfu.tasks.loading import load_module
from resfu.training.quiet import known_warnings_ignored

SHORT = ["--model.upsampler", "bilinear", "--trainer.max_steps", "2", "--trainer.val_check_interval", "2"]
SHORT += ["--model.pretrained", "false", "--model.schedule.warmup_steps", "0", "--trainer.enable_progress_bar", "false"]
SHORT += ["--trainer.accelerator", "cpu", "--model.schedule.total_steps", "2"]
VAL = ["--data.test_split", "val"]
PHOTOS = [*SHORT, "--data.crop_size", "[32, 32]", "--data.batch_size", "2"]


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch):
    """Lightning's seeding writes into the environment and moves the generators."""
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture
def photos(tmp_path):
    root, rng = tmp_path / "photos", np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 1)):
        for kind, shape, high in (("images", (32, 40, 3), 256), ("labels", (32, 40), 3)):
            (root / kind / split).mkdir(parents=True)
            for number in range(count):
                picture = Image.fromarray(rng.integers(0, high, shape, np.uint8))
                picture.save(root / kind / split / f"{number}.png")
    (root / "classes.txt").write_text("ground\ncrop #00ff00\nweed\n")
    return root


def test_a_folder_of_photos_is_trained_on_and_its_network_needs_it_no_more(photos, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    assert main(["fit", "--data.dataset", "folder", "--data.root", str(photos), "--run", str(run), *PHOTOS]) == 0
    assert main(["test", "--run", str(run), "--checkpoint", "last", *VAL]) == 0
    assert "weed" in capsys.readouterr().out
    photos.rename(tmp_path / "elsewhere")
    words = ["--run", str(run), "--checkpoint", "last", "--output", str(out), "--overlay"]
    assert main(["predict", str(tmp_path / "elsewhere" / "images"), *words]) == 0
    assert len(list((out / "train").iterdir())) == 8
    with Image.open(out / "val" / "0.overlay.jpg") as picture:
        assert picture.width == 40
        assert picture.height > 32
    with Image.open(out / "val" / "0.png") as picture:
        assert picture.getpalette()[3:6] == [0, 255, 0]
        assert np.array(picture).max() < 3
    assert resfu.load(run).class_names == ["ground", "crop", "weed"]
    assert main(["validate", "--run", str(run), "--checkpoint", "last"]) == 2
    assert f"no class list {photos}" in capsys.readouterr().err


def test_a_folder_without_classes_ends_the_command(photos, tmp_path, capsys):
    (photos / "classes.txt").unlink()
    assert (
        main(["fit", "--data.dataset", "folder", "--data.root", str(photos), "--run", str(tmp_path / "r"), *PHOTOS])
        == 2
    )
    assert f"no class list {photos / 'classes.txt'}" in capsys.readouterr().err


def test_a_folder_of_volumes_is_trained_on(tmp_path, capsys):
    pytest.importorskip("h5py")
    root, rng = tmp_path / "volumes", np.random.default_rng(0)
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        arrays = {"image": rng.random((4, 32, 32), np.float32), "label": rng.integers(0, 3, (4, 32, 32))}
        np.savez(root / split / f"{split}.npz", **arrays)
    (root / "classes.txt").write_text("background\nstem\nroot\n")
    run = tmp_path / "run"
    words = ["--data.dataset", "volume-folder", "--data.root", str(root), "--run", str(run), *SHORT]
    assert main(["fit", *words, "--data.crop_size", "[32, 32]", "--data.batch_size", "2"]) == 0
    assert main(["test", "--run", str(run), "--checkpoint", "last", *VAL]) == 0
    out = capsys.readouterr().out
    assert "stem" in out
    assert "Dice" in out
    scan, predicted = root / "val" / "val.npz", tmp_path / "out"
    with pytest.warns(UserWarning, match="stored is assumed"):
        assert main(["predict", str(scan), "--run", str(run), "--checkpoint", "last", "--output", str(predicted)]) == 0
    with np.load(predicted / "val.npz") as arrays:
        assert arrays["label"].shape == (4, 32, 32)


MODULE = '''
"""A data set of somebody else."""

import torch
from torchvision import tv_tensors

from resfu.data import SegmentationDataset


class Stripes(SegmentationDataset):
    classes = ("left", "right")
    palette = torch.tensor([(255, 0, 0), (0, 0, 255)], dtype=torch.uint8)

    def __init__(self, split, root=None, transform=None, width=40):
        super().__init__(transform)
        self.split, self.width = split, width

    def __len__(self):
        return 4

    def load(self, index):
        label = (torch.arange(self.width) >= 8 + 4 * index).long().repeat(32, 1)
        image = (label * 200).to(torch.uint8).repeat(3, 1, 1)
        return {"image": tv_tensors.Image(image), "label": tv_tensors.Mask(label), "name": str(index)}


def make(split):
    return Stripes(split)
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "own_stripes"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "data.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_stripes.data"
    for name in ("own_stripes", "own_stripes.data"):
        sys.modules.pop(name, None)


def test_a_class_of_ones_own_is_trained_on(package, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--data.dataset", f"{package}:Stripes", "--data.options", "{width: 48}", "--run", str(run), *PHOTOS]
    assert main(["fit", *words]) == 0
    assert resfu.load(run).class_names == ["left", "right"]
    assert main(["test", "--run", str(run), "--checkpoint", "last"]) == 0
    assert "right" in capsys.readouterr().out


def test_a_module_of_the_current_folder_is_found_last(tmp_path, monkeypatch):
    for name in ("here_alone", "json"):
        (tmp_path / f"{name}.py").write_text("class Stripes: ...\n")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.chdir(tmp_path)
    assert find_dataset({}, "here_alone:Stripes").__module__ == "here_alone"
    with pytest.raises(ValueError, match="cannot be imported: module 'json' has no attribute 'Stripes'"):
        find_dataset({}, "json:Stripes")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_stripes.dat:Stripes", "the dataset 'own_stripes.dat:Stripes' cannot be imported: No module named"),
        ("own_stripes.data:Strips", "cannot be imported: module 'own_stripes.data' has no attribute 'Strips'"),
        (":Stripes", "the dataset ':Stripes' cannot be imported"),
        ("own_stripes.data:make", "expected a class"),
        ("own_stripes.data", "unknown dataset 'own_stripes.data'; choose one of"),
    ],
)
def test_a_class_that_cannot_be_imported_ends_the_command(package, name, message, tmp_path, capsys):
    assert main(["fit", "--data.dataset", name, "--run", str(tmp_path / "run"), *PHOTOS]) == 2
    assert message in capsys.readouterr().err


def test_photos_of_several_sizes_are_measured_as_one_by_one(photos, tmp_path):
    for number, shape in enumerate(((32, 40), (40, 32), (32, 40), (24, 24)), start=1):
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)).save(photos / "images" / "val" / f"{number}.png")
        Image.fromarray(rng.integers(0, 3, shape, np.uint8)).save(photos / "labels" / "val" / f"{number}.png")
    run, found = tmp_path / "run", []
    assert main(["fit", "--data.dataset", "folder", "--data.root", str(photos), "--run", str(run), *PHOTOS]) == 0
    module = load_module(run / "checkpoints" / "last.ckpt")
    data = LabelMapData(dataset="folder", root=str(photos), mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3))
    for size in (1, 4):
        data.eval_batch_size = size
        with known_warnings_ignored():
            trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
            trainer.validate(module, datamodule=data, verbose=False)
        found.append({key: value for key, value in module.results.items() if isinstance(value, float)})
    assert found[0] == pytest.approx(found[1])
