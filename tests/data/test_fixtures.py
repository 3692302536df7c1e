"""What a fixture writes, its dataset reads as what the scenes had."""

import hashlib

import numpy as np
import pytest
import torch

from resfu.data import DATASETS, Scenes, create_dataset
from tests.support.label_fixtures import FIXTURES, write_fixture
from tests.support.medical_fixtures import MEDICAL_FIXTURES

# The class that each of the 16 of the scenes (sky to soil, rock to cable) becomes, from the published lists of classes.
EXPECTED = {
    "camvid": (0, 255, 4, 3, 255, 1, 4, 255, 5, 6, 5, 7, 2, 9, 8, 2),
    "ade20k": (2, 16, 9, 6, 21, 0, 13, 34, 66, 255, 4, 32, 36, 126, 80, 93),
    "cityscapes": (10, 9, 9, 0, 255, 3, 1, 255, 8, 255, 8, 4, 6, 11, 13, 5),
    "voc": (0, 0, 0, 0, 0, 0, 0, 0, 16, 2, 0, 9, 5, 13, 7, 0),
    "pascal-context": (46, 34, 28, 40, 56, 55, 29, 41, 26, 255, 52, 24, 32, 30, 13, 255),
    "pascal-context-60": (47, 35, 29, 41, 57, 56, 30, 42, 27, 0, 53, 25, 33, 31, 14, 0),
}
SIZE = (40, 56)


def test_every_dataset_on_disk_has_a_fixture():
    generated = {name for name, data in DATASETS.items() if data.__module__.startswith("resfu.data.generated.")}
    assert generated >= {"scenes", "ct", "cardiac"}
    own = {"folder", "volume-folder"}
    assert set(EXPECTED) == set(FIXTURES)
    assert set(DATASETS) == {*FIXTURES, *generated, *own, *(name for name in MEDICAL_FIXTURES if "nifti" not in name)}


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_loaded_is_what_the_scenes_had(name, split, fixture_root):
    root = fixture_root(name, count=6, size=SIZE, seed=3)
    data, scenes = create_dataset(name, split, root), Scenes(split, size=SIZE, count=6, seed=3)
    assert len(data) == 6
    seen = set()
    for sample, scene in zip(data, scenes, strict=True):
        expected = torch.tensor(EXPECTED[name])[scene["label"]]
        label = sample["label"].as_subclass(torch.Tensor)
        inside = ~beside_an_edge(expected) if name == "voc" else torch.ones(SIZE, dtype=torch.bool)
        assert torch.equal(label[inside], expected[inside])
        assert (label[~inside] == 255).all()
        difference = (sample["image"].float() - scene["image"].float()).abs().mean()
        assert difference <= (0 if name in ("camvid", "cityscapes") else 6)  # PNG, or JPEG
        seen |= set(scene["label"].unique().tolist())
    assert len(seen) >= 12


def beside_an_edge(label):
    edge = torch.zeros(label.shape, dtype=torch.bool)
    for row in range(label.shape[0]):
        for column in range(label.shape[1]):
            for other in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
                if 0 <= other[0] < label.shape[0] and 0 <= other[1] < label.shape[1]:
                    edge[row, column] |= label[row, column] != label[other]
    return edge


def test_the_labels_of_trainaug_have_no_border(fixture_root):
    root = fixture_root("voc", size=SIZE)
    data, scenes = create_dataset("voc", "trainaug", root), Scenes("train", size=SIZE, count=2)
    for sample, scene in zip(data, scenes, strict=True):
        assert torch.equal(sample["label"].as_subclass(torch.Tensor), torch.tensor(EXPECTED["voc"])[scene["label"]])


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    content = [(str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    return content


def test_the_same_arguments_write_the_same_files(fixture_root, tmp_path):
    first = digest(fixture_root("ade20k"))
    assert len(first) == 8
    assert digest(write_fixture("ade20k", tmp_path / "again", count=2)) == first
    assert digest(write_fixture("ade20k", tmp_path / "other", count=2, seed=1)) != first


def test_what_cannot_be_written_is_refused(fixture_root, tmp_path, save):
    others = r"write_coco_fixture, for synapse and acdc .*write_medical_fixture; scenes, ct and cardiac are generated"
    with pytest.raises(
        ValueError, match=rf"no fixture of 'coco'; choose one of camvid, ade20k, cityscapes, .*{others}"
    ):
        write_fixture("coco", tmp_path / "coco")
    save(tmp_path / "real" / "images" / "a.png", np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"real holds something already: give a new folder"):
        write_fixture("ade20k", tmp_path / "real")
    with pytest.raises(ValueError, match="count must be at least 1"):
        fixture_root("ade20k", count=0)
