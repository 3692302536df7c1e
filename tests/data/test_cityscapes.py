"""Cityscapes as its two archives unpack."""

import numpy as np
import pytest

from resfu.data import Cityscapes, create_dataset

# Annotation id of each evaluated class, in the order of the training ids, from the benchmark's documentation.
EVALUATED = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}


@pytest.fixture
def root(tmp_path, save):
    """Images of two cities in "train"; every label holds the ids 0 to 33."""
    for city, frame in (("ulm", 0), ("aachen", 1), ("aachen", 0)):
        name = f"{city}_{frame:06d}_000019"
        save(tmp_path / "leftImg8bit" / "train" / city / f"{name}_leftImg8bit.png", np.full((2, 17, 3), 9))
        labels = tmp_path / "gtFine" / "train" / city
        save(labels / f"{name}_gtFine_labelIds.png", np.arange(34).reshape(2, 17))
        save(labels / f"{name}_gtFine_instanceIds.png", np.full((2, 17), 200))
    return tmp_path


def test_annotation_ids_become_training_ids(root):
    data = create_dataset("cityscapes", "train", root)
    order = list(EVALUATED)
    expected = [order.index(number) if number in EVALUATED else 255 for number in range(34)]
    assert data[0]["label"].flatten().tolist() == expected
    assert data[0]["image"].shape == (3, 2, 17)


def test_all_cities_are_read_in_order(root):
    names = [sample["name"] for sample in Cityscapes("train", root)]
    assert names == [f"{name}_000019_leftImg8bit" for name in ("aachen_000000", "aachen_000001", "ulm_000000")]


def test_classes_and_palette():
    assert Cityscapes.classes == tuple(EVALUATED.values())
    assert Cityscapes.palette.shape == (19, 3)
    known = {0: [128, 64, 128], 10: [70, 130, 180], 13: [0, 0, 142], 18: [119, 11, 32]}
    assert {number: Cityscapes.palette[number].tolist() for number in known} == known


def test_a_label_out_of_range_names_file_and_labels(root, save):
    save(root / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png", np.full((2, 17), 255))
    with pytest.raises(
        ValueError, match=r"ulm_000000.*labelIds\.png holds the labels \[255\]; the labelIds .* 0 to 33"
    ):
        Cityscapes("train", root)[2]


def test_missing_data_say_what_is_expected(root):
    with pytest.raises(ValueError, match="'extra' of cityscapes; choose one of train, val, test"):
        Cityscapes("extra", root)
    with pytest.raises(ValueError, match=r"cityscapes needs root.*leftImg8bit_trainvaltest\.zip"):
        Cityscapes("train")
    with pytest.raises(FileNotFoundError, match=r"no folder .*val.*gtFine_trainvaltest\.zip"):
        Cityscapes("val", root)
    (root / "leftImg8bit" / "test").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no city folder in .*test"):
        Cityscapes("test", root)
    (root / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"images without their label file: 1 of 3; .*ulm_000000_000019_gtFine_lab"
    ):
        Cityscapes("train", root)
