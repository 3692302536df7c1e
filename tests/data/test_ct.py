"""Procedural CT and cardiac volumes: what they hold, what they depend on, and their cache."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from resfu.data import create_dataset
from resfu.data.generated.volumes import CT, Cardiac, cardiac_volume, ct, ct_volume

SIZE = (6, 48, 40)


@pytest.mark.parametrize("make", [ct_volume, lambda s, p, i, size: cardiac_volume(s, p, i, "ES", size)])
def test_a_volume_depends_on_its_arguments_alone(make):
    image, label = make(3, "train", 5, SIZE)
    make(3, "train", 6, SIZE)
    again = make(3, "train", 5, SIZE)
    assert np.array_equal(image, again[0])
    assert np.array_equal(label, again[1])
    for other in (make(4, "train", 5, SIZE), make(3, "val", 5, SIZE), make(3, "train", 6, SIZE)):
        assert not np.array_equal(label, other[1])
        assert not np.array_equal(image, other[0])


def test_another_process_makes_the_same_labels():
    code = (
        "import hashlib; from resfu.data.generated.volumes import ct_volume;"
        f"print(hashlib.sha256(ct_volume(1, 'val', 2, {SIZE})[1].tobytes()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert output.stdout.strip() == hashlib.sha256(ct_volume(1, "val", 2, SIZE)[1].tobytes()).hexdigest()


def test_every_organ_is_in_every_scan_at_its_place():
    shares, aorta, cava = [], [], []
    for index in range(6):
        values, label = ct_volume(0, "train", index, (12, 96, 96))
        assert values.dtype == np.int16
        assert label.dtype == np.uint8
        shares.append(np.bincount(label.ravel(), minlength=9) / label.size)
        columns = {organ: np.argwhere(label == organ)[:, 2].mean() for organ in (3, 4, 5, 7)}
        assert columns[4] < 48 < columns[3]  # the patient's right is the image's left
        assert columns[5] < 48 < columns[7]
        aorta.append(values[label == 1].mean())
        liver = values[label == 5].mean()
        assert 40 < liver < 130
        assert values[:, 0, 0].mean() < -950
        cava.append((values[label == 0] > 100).mean())
    assert np.min(shares) > 0
    assert len(np.unique(np.round(shares, 6))) > 40
    assert np.ptp(aorta) > 30  # contrast differs
    assert np.min(cava) > 0.005  # bright tissue that has no label


def test_a_heart_contracts():
    for index in range(4):
        diastole, systole = (cardiac_volume(0, "train", index, phase, (8, 96, 96)) for phase in ("ED", "ES"))
        volumes = [np.bincount(label.ravel(), minlength=4) for _, label in (diastole, systole)]
        assert volumes[1][3] < 0.7 * volumes[0][3]
        assert volumes[1].min() > 50
        # The wall is a closed ring: nothing but it touches the chamber.
        chamber, label = systole[1] == 3, systole[1]
        for axis in (1, 2):
            for step in (1, -1):
                beside = np.roll(label, step, axis)[chamber]
                assert set(np.unique(beside).tolist()) <= {2, 3}


def test_a_dataset_of_slices(tmp_path):
    data = create_dataset("ct", "val", tmp_path, size=SIZE, count=2)
    assert len(data) == 12
    sample = data[7]
    assert isinstance(sample["image"], tv_tensors.Image)
    assert isinstance(sample["label"], tv_tensors.Mask)
    assert (sample["image"].shape, sample["image"].dtype) == ((3, 48, 40), torch.float32)
    assert (sample["label"].shape, sample["label"].dtype) == ((48, 40), torch.int64)
    assert sample["name"] == "val0001_slice001"
    values, label = ct_volume(0, "val", 1, SIZE)
    expected = torch.from_numpy(np.clip((values[1] + 125) / 400, 0, 1)).float()
    assert torch.allclose(sample["image"].as_subclass(torch.Tensor), expected.expand(3, -1, -1), atol=1e-6)
    assert sample["label"].tolist() == label[1].tolist()
    assert data.num_classes == len(data.palette) == 9
    assert data.classes[5] == "liver"


def test_hearts_come_in_two_phases(tmp_path):
    data = create_dataset("cardiac", "train", tmp_path, size=(2, 32, 32), count=2)
    assert isinstance(data, Cardiac)
    assert len(data) == 8
    assert [volume.name for volume in data.volumes] == [f"train{i:04d}_{p}" for i in range(2) for p in ("ED", "ES")]
    assert np.array_equal(data.classes_of(data.volumes[3]), cardiac_volume(0, "train", 1, "ES", (2, 32, 32))[1])
    images = torch.stack([sample["image"] for sample in data])
    assert (images.min(), images.max()) == (0, 1)


@pytest.fixture
def made(monkeypatch):
    """The indices that were generated."""
    calls = []

    def counted(seed, split, index, size):
        calls.append(index)
        return ct_volume(seed, split, index, size)

    monkeypatch.setattr(ct, "ct_volume", counted)
    return calls


def test_volumes_are_kept_and_a_larger_count_adds_to_them(tmp_path, made):
    CT("train", tmp_path, size=SIZE, count=2)
    CT("train", tmp_path, size=SIZE, count=2)
    assert sorted(made) == [0, 1]  # in two threads
    CT("train", tmp_path, size=SIZE, count=3)
    assert made[2:] == [2]
    CT("train", tmp_path, size=SIZE, count=1, seed=1)
    CT("val", tmp_path, size=SIZE, count=1)
    CT("train", tmp_path, size=(6, 40, 48), count=1)
    assert made[3:] == [0, 0, 0]


@pytest.mark.parametrize("damage", ["truncated", "empty", "deleted"])
def test_a_damaged_volume_is_generated_again(tmp_path, made, damage):
    data = CT("train", tmp_path, size=SIZE, count=2)
    whole, path = data[8], data.volumes[1].path
    content = path.read_bytes()
    path.unlink() if damage == "deleted" else path.write_bytes(content[: len(content) // 2 if damage[0] == "t" else 0])
    with pytest.warns(UserWarning, match=r"cannot read the volume .*train0001\.npz.* It is generated again"):
        mended = data[8]
    assert torch.equal(mended["image"], whole["image"])
    assert path.read_bytes() == content
    assert sorted(made[:2]) == [0, 1]
    assert made[2:] == [1]
    assert [file.name for file in path.parent.iterdir() if file.suffix != ".npz"] == []


def test_the_default_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RESFU_CACHE", str(tmp_path))
    Cardiac("test", size=(2, 32, 32), count=1)
    assert len(list((tmp_path / "cardiac").rglob("*.npz"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "all"}, "unknown split 'all' of ct; choose one of train, val, test"),
        ({"size": (6, 48)}, r"\(D, H, W\), whole numbers of at least \(4, 32, 32\); got \(6, 48\)"),
        ({"size": (6, 48, 16)}, "at least"),
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"seed": -1}, "seed must be 0 to"),
    ],
)
def test_impossible_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        CT(**{"split": "train", "root": tmp_path, **arguments})


def test_another_phase_is_refused():
    with pytest.raises(ValueError, match="'ED' or 'ES', got 'EF'"):
        cardiac_volume(0, "train", 0, "EF", SIZE)  # pyright: ignore[reportArgumentType]
