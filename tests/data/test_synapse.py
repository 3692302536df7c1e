"""Synapse: the prepared format, the raw scans that lead to it, and TransUNet's augmentation."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from resfu.data import Synapse, create_dataset
from resfu.data.generated.volumes import ct_volume
from resfu.data.medical.nifti import scale_window
from resfu.data.medical.writers import Case, write_synapse
from tests.support.medical_fixtures import write_medical_fixture

REAL = Path(__file__).parents[3] / "shared" / "data" / "mini-ct"
SIZE = (5, 48, 40)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A prepared copy that no test may change."""
    return write_medical_fixture("synapse", tmp_path_factory.mktemp("synapse") / "data", size=SIZE)


@pytest.fixture
def root(tmp_path):
    return write_medical_fixture("synapse", tmp_path / "data", size=SIZE)


def test_the_files_are_those_of_transunet(whole):
    names = sorted(path.name for path in (whole / "train_npz").iterdir())
    assert names == [f"case{case:04d}_slice{index:03d}.npz" for case in (1, 2) for index in range(5)]
    assert sorted(path.name for path in (whole / "test_vol_h5").iterdir()) == ["case0003.npy.h5", "case0004.npy.h5"]
    assert (whole / "lists_Synapse" / "test_vol.txt").read_text() == "case0003\ncase0004\n"
    with np.load(whole / "train_npz" / names[0]) as arrays:
        assert {key: (array.shape, array.dtype.kind) for key, array in arrays.items()} == {
            "image": ((48, 40), "f"),
            "label": ((48, 40), "f"),
        }
    with h5py.File(whole / "test_vol_h5" / "case0003.npy.h5") as file:
        assert {key: file[key].shape for key in file} == {"image": SIZE, "label": SIZE}


@pytest.mark.parametrize("split", ["train", "test", "val"])
def test_what_is_loaded_is_what_was_written(split, whole):
    data = create_dataset("synapse", split, whole)
    assert len(data) == 10
    for index, sample in enumerate(data):
        values, label = ct_volume(0, "train" if split == "train" else "test", index // 5, SIZE)
        assert isinstance(sample["image"], tv_tensors.Image)
        assert isinstance(sample["label"], tv_tensors.Mask)
        assert sample["image"].dtype == torch.float32
        assert torch.equal(sample["label"].as_subclass(torch.Tensor), torch.from_numpy(label[index % 5]).long())
        expected = np.clip((values[index % 5] + 125) / 400, 0, 1)
        assert np.allclose(sample["image"].numpy(), expected[None], atol=1e-6)
        assert sample["name"] == f"case{index // 5 + (1 if split == 'train' else 3):04d}_slice{index % 5:03d}"


def test_classes_are_in_the_order_of_the_published_table(whole):
    path = Path(__file__).parents[3] / "shared" / "spec" / "published" / "synapse.csv"
    data = Synapse("test", whole)
    assert (data.num_classes, tuple(data.palette.shape)) == (9, (9, 3))
    assert data.classes[0] == "background"
    if path.is_file():
        columns = path.read_text().splitlines()[0].split(",")[1:9]
        named = [" ".join(reversed(column.split("_"))) for column in columns]
        assert list(data.classes[1:]) == named


def test_volumes_serve_evaluation(whole):
    data = Synapse("test", whole)
    assert [volume.name for volume in data.volumes] == ["case0003", "case0004"]
    volume = data.volumes[1]
    assert len(volume) == 5
    values, label = ct_volume(0, "test", 1, SIZE)
    assert np.array_equal(data.classes_of(volume), label)
    assert np.array_equal(volume[2], scale_window(values[2]))


def test_lists_may_lie_where_transunet_has_them(root):
    (root / "lists").mkdir()
    (root / "lists_Synapse").rename(root / "lists" / "lists_Synapse")
    assert len(Synapse("train", root)) == 10
    (root / "lists" / "lists_Synapse" / "train.txt").rename(root / "train.txt")
    assert len(Synapse("train", root)) == 10
    names = (root / "train.txt").read_text()
    notes = "".join(f"._{name}\n" for name in names.split())  # ls lists macOS's notes beside the copies
    (root / "train.txt").write_text(notes + names, encoding="utf-8-sig")  # and a Windows editor puts a mark before it
    assert len(Synapse("train", root)) == 10
    (root / "train.txt").write_text(names, encoding="utf-16")
    with pytest.raises(ValueError, match=r"train\.txt is not UTF-8 text"):
        Synapse("train", root)
    (root / "train.txt").write_text("")
    with pytest.raises(ValueError, match=r"train\.txt lists no file"):
        Synapse("train", root)


def test_missing_data_are_named_with_where_to_get_them(root):
    with pytest.raises(ValueError, match=r"needs root.*resfu prepare synapse"):
        create_dataset("synapse", "train")
    with pytest.raises(ValueError, match="'all' of synapse; choose one of train, val, test"):
        Synapse("all", root)
    (root / "train_npz" / "case0002_slice003.npz").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of 10 listed files are missing; .*case0002_slice003\.npz.*test_vol_h5"
    ):
        Synapse("train", root)
    (root / "lists_Synapse" / "test_vol.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no list .*lists_Synapse.*test_vol\.txt or .*resfu prepare synapse"):
        Synapse("test", root)


def test_ids_that_are_no_organs_name_the_file_and_them(root):
    path = root / "train_npz" / "case0001_slice002.npz"
    image, label = np.zeros((2, 4, 4), dtype=np.float32)
    for wrong, message in (((9, 13), r"holds the labels \[9, 13\]; known are 0, 1, .*, 8\. "), ((1.5, -1), "-1")):
        label[0, :2] = wrong
        np.savez(path, image=image, label=label)
        with pytest.raises(ValueError, match=rf"case0001_slice002\.npz.*{message}") as caught:
            Synapse("train", root, on_error="skip")[2]
        assert "labels='cascade'" in str(caught.value)


def test_an_image_and_label_of_two_sizes_are_refused(root):
    path = root / "train_npz" / "case0001_slice000.npz"
    np.savez(path, image=np.zeros((4, 4)), label=np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"slice000\.npz has an image of \(4, 4\) and a label of \(4, 5\)"):
        Synapse("train", root)[0]


# From the published preprocessing scripts: stored id -> class in the order of the table.
BTCV = {1: 7, 2: 4, 3: 3, 4: 2, 5: 0, 6: 5, 7: 8, 8: 1, 9: 0, 10: 0, 11: 6, 12: 0, 13: 0, 0: 0}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("btcv", BTCV),
        # CASCADE turns 5, 9, 10, 12 and 13 into background, moves 11 to 5, and keeps the rest.
        ("cascade", {0: 0, 5: BTCV[11], **{k: BTCV[k] for k in (1, 2, 3, 4, 6, 7, 8)}}),
        ({0: 0, 1: 8, 7: 3}, {0: 0, 1: 8, 7: 3}),
    ],
)
def test_stored_ids_are_mapped(root, labels, expected):
    stored = np.array([list(expected)], dtype=np.float64)
    np.savez(root / "train_npz" / "case0001_slice000.npz", image=np.zeros(stored.shape), label=stored)
    data = create_dataset("synapse", "train", root, labels=labels)
    assert data[0]["label"].tolist() == [list(expected.values())]


def test_impossible_label_maps_are_refused(whole):
    with pytest.raises(ValueError, match="unknown labels 'btc'; choose one of transunet, btcv, cascade"):
        Synapse("train", whole, labels="btc")
    for labels in ({1: 9}, {1: 255}, {-1: 0}, {}):
        with pytest.raises(ValueError, match=r"to the classes 0\.\.8; "):
            Synapse("train", whole, labels=labels)


def damage(path, how="truncated"):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if how == "truncated" else b"not a volume")


@pytest.mark.parametrize("how", ["truncated", "text"])
def test_a_damaged_slice_is_named_or_skipped(root, how):
    damage(root / "train_npz" / "case0001_slice003.npz", how)
    with pytest.raises(ValueError, match=r"cannot read the volume .*case0001_slice003\.npz.*on_error='skip'"):
        Synapse("train", root)[3]
    data = Synapse("train", root, on_error="skip")
    with pytest.warns(UserWarning, match=r"case0001_slice003\.npz.*next readable slice"):
        assert data[3]["name"] == "case0001_slice004"
    assert data[3]["name"] == "case0001_slice004"  # from here on a warning would be an error
    with pytest.raises(ValueError, match="'raise' or 'skip', got 'ignore'"):
        Synapse("train", root, on_error="ignore")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("how", ["truncated", "text"])
def test_a_damaged_volume_is_named_or_left_out(root, how):
    damage(root / "test_vol_h5" / "case0003.npy.h5", how)
    with pytest.raises(ValueError, match=r"cannot read the volume .*case0003\.npy\.h5.*on_error='skip'"):
        Synapse("test", root)
    with pytest.warns(UserWarning, match=r"case0003\.npy\.h5.*left out"):
        data = Synapse("test", root, on_error="skip")
    assert [volume.name for volume in data.volumes] == ["case0004"]


@pytest.mark.skipif(not REAL.is_dir(), reason="the CT slices are not in ../shared/data")
def test_the_real_slices_pass_through_the_format(tmp_path):
    cases = []
    for number, name in enumerate(("axial20_512", "abdomen_3mm"), start=1):
        with np.load(REAL / f"{name}.npz") as arrays:
            cases.append(Case("test", number, arrays["image"].astype(np.float32) / 255, arrays["label"]))
    write_synapse(tmp_path / "data", [*cases, cases[1]._replace(split="train", number=3)])
    data = Synapse("test", tmp_path / "data")
    assert [len(volume) for volume in data.volumes] == [20, 52]
    for volume, case in zip(data.volumes, cases, strict=True):
        assert np.array_equal(data.classes_of(volume), case.label)
    seen = {number for sample in Synapse("train", tmp_path / "data") for number in sample["label"].unique().tolist()}
    assert seen == set(range(9))  # all 8 organs are in the small volume
