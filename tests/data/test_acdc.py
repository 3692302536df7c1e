"""ACDC: the format that is passed round, and the challenge's files that lead to it."""

import json

import nibabel
import numpy as np
import pytest
import torch

from resfu.data import ACDC, create_dataset
from resfu.data.generated.volumes import cardiac_volume
from resfu.data.medical.prepare import ACDC_SPLITS, prepare_acdc
from tests.support.medical_fixtures import write_medical_fixture

SIZE = (3, 40, 32)


@pytest.fixture
def root(tmp_path):
    return write_medical_fixture("acdc", tmp_path / "data", count=1, size=SIZE)


@pytest.fixture
def raw(tmp_path):
    return write_medical_fixture("acdc-nifti", tmp_path / "raw", count=1, size=SIZE)


def test_the_files_are_those_of_the_shared_format(root):
    slices = [f"case_001_slice{phase}_{index}.npz" for phase in ("ED", "ES") for index in range(3)]
    assert (root / "lists_ACDC" / "train.txt").read_text().split() == slices
    assert sorted(path.name for path in (root / "train").iterdir()) == slices
    assert sorted(path.name for path in (root / "test").iterdir()) == [
        "case_003_volume_ED.npz",
        "case_003_volume_ES.npz",
    ]
    assert (root / "valid" / "case_002_sliceED_0.npz").is_file()
    with np.load(root / "test" / "case_003_volume_ED.npz") as arrays:
        assert {key: array.shape for key, array in arrays.items()} == {"img": SIZE, "label": SIZE}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_what_is_loaded_is_what_was_written(split, root):
    data = create_dataset("acdc", split, root)
    assert len(data) == 6
    case = {"train": 1, "val": 2, "test": 3}[split]
    for place, phase in enumerate(("ED", "ES")):
        values, label = cardiac_volume(0, split, 0, phase, SIZE)
        scaled = (values - values.min()) / (values.max() - values.min())
        for index in range(3):
            sample = data[3 * place + index]
            middle = f"volume_{phase}_slice{index:03d}" if split == "test" else f"slice{phase}_{index}"
            assert sample["name"] == f"case_{case:03d}_{middle}"
            assert sample["label"].tolist() == label[index].tolist()
            assert np.allclose(sample["image"].numpy(), scaled[index][None], atol=1e-6)


def test_classes_and_wrong_ids(root):
    data = ACDC("train", root)
    assert data.classes[1:] == ("right ventricle", "myocardium", "left ventricle")
    np.savez(data.volumes[2].path, img=np.zeros((2, 2)), label=np.array([[0, 1], [4, 200]]))
    with pytest.raises(ValueError, match=r"case_001_sliceED_2\.npz holds the labels \[4, 200\]; known are 0, 1, 2, 3"):
        data[2]
    np.savez(data.volumes[2].path, image=np.zeros((2, 2)), label=np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"cannot read the volume .*case_001_sliceED_2\.npz: .*img"):
        data[2]


def test_missing_and_damaged_files_are_named(root):
    with pytest.raises(ValueError, match=r"needs root.*resfu prepare acdc"):
        create_dataset("acdc", "train")
    path = root / "test" / "case_003_volume_ES.npz"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"cannot read the volume .*case_003_volume_ES\.npz"):
        ACDC("test", root)
    with pytest.warns(UserWarning, match=r"case_003_volume_ES\.npz.*left out"):
        assert len(ACDC("test", root, on_error="skip")) == 3
    np.savez(path, img=np.zeros((4, 4)), label=np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"'img' has shape \(4, 4\); expected \[D, H, W\]"):
        ACDC("test", root)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 listed files are missing; .*case_003_volume_ES\.npz"):
        ACDC("test", root)


@pytest.mark.parametrize("place", [".", "training"])
def test_preparing_the_challenges_files_gives_the_prepared_copy(raw, root, tmp_path, place):
    splits = json.loads((raw / "splits.json").read_text())
    info = raw / "training" / "patient001" / "Info.cfg"
    info.write_text(info.read_text() + "Hôpital: 1\n", encoding="utf-8-sig")  # a mark as Windows editors write it
    (raw / "training" / "._patient001").write_bytes(b"\0\5\x16\7")  # macOS's note beside a copy
    out = prepare_acdc(raw / place, tmp_path / "out", splits=splits)
    geometry = out / "geometry.json"
    geometry.write_text(geometry.read_text(), encoding="utf-8-sig")
    for split in ("train", "val", "test"):
        for found, expected in zip(ACDC(split, out), ACDC(split, root), strict=True):
            assert found["name"] == expected["name"]
            assert torch.equal(found["image"], expected["image"])
            assert torch.equal(found["label"], expected["label"])


def test_the_default_patients_are_70_10_and_20_of_every_group():
    patients = [number for numbers in ACDC_SPLITS.values() for number in numbers]
    assert sorted(patients) == list(range(1, 101))
    for group in range(5):  # five diagnoses of 20 patients each, in order
        inside = [
            sum(20 * group < n <= 20 * group + 20 for n in ACDC_SPLITS[split]) for split in ("train", "val", "test")
        ]
        assert inside == [14, 2, 4]


def test_what_cannot_be_prepared_is_named(raw, tmp_path):
    splits = json.loads((raw / "splits.json").read_text())
    with pytest.raises(FileNotFoundError, match=r"no .*patient004.*Info\.cfg.*in splits"):
        prepare_acdc(raw, tmp_path / "out")
    (raw / "training" / "patient001" / "Info.cfg").write_text("ED: first\n")
    with pytest.raises(ValueError, match=r"patient001.*Info\.cfg does not give the numbers of the frames"):
        prepare_acdc(raw, tmp_path / "out", splits=splits)
    with pytest.raises(FileNotFoundError, match=r"no folder patient001 in .*nowhere"):
        prepare_acdc(tmp_path / "nowhere", tmp_path / "out", splits=splits)
    folder = raw / "training" / "patient002"
    scan = nibabel.load(folder / "patient002_frame12_gt.nii.gz")
    nibabel.save(
        nibabel.Nifti1Image(np.asarray(scan.dataobj)[:, :, 1:], scan.affine), folder / "patient002_frame12_gt.nii.gz"
    )
    with pytest.raises(ValueError, match=r"patient002_frame12\.nii\.gz is \(3, 40, 32\).*\(2, 40, 32\)"):
        prepare_acdc(raw, tmp_path / "out", splits={"val": [2]})


def test_a_volume_of_one_value_stays_finite(raw, tmp_path):
    path = raw / "training" / "patient003" / "patient003_frame01.nii.gz"
    scan = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.full(scan.shape, 7, np.int16), scan.affine), path)
    out = prepare_acdc(raw, tmp_path / "out", splits={"test": [3]})
    assert (ACDC("test", out)[0]["image"] == 0).all()
