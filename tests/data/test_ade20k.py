"""ADE20K as ADEChallengeData2016 stores it."""

import numpy as np
import pytest
import torch

from resfu.data import ADE20K, create_dataset


@pytest.fixture
def root(tmp_path, save):
    """Two training images, the second grey and of one pixel; the label of the first has every number there is."""
    images, labels = tmp_path / "images" / "training", tmp_path / "annotations" / "training"
    save(images / "ADE_train_00000001.jpg", np.full((4, 38, 3), 90))
    save(labels / "ADE_train_00000001.png", np.array([*range(151), 255]).reshape(4, 38))
    save(images / "ADE_train_00000002.jpg", np.full((1, 1), 70))
    save(labels / "ADE_train_00000002.png", np.full((1, 1), 13))
    return tmp_path


def test_unlabelled_is_ignored_and_the_classes_start_at_0(root):
    data = create_dataset("ade20k", "train", root)
    assert len(data) == 2
    assert data[0]["name"] == "ADE_train_00000001"
    assert data[0]["label"].dtype == torch.int64
    assert data[0]["label"].flatten().tolist() == [255, *range(150), 255]


def test_grey_and_tiny_images_are_read(root):
    sample = ADE20K("train", root)[1]
    assert sample["image"].flatten().tolist() == [70, 70, 70]
    assert sample["label"].tolist() == [[12]]


def test_the_classes():
    assert len(ADE20K.classes) == len(set(ADE20K.classes)) == 150
    known = {0: "wall", 2: "sky", 12: "person", 20: "car", 48: "skyscraper", 89: "television receiver", 149: "flag"}
    assert {number: ADE20K.classes[number] for number in known} == known


def test_the_palette_is_the_published_one():
    colours = [tuple(colour) for colour in ADE20K.palette.tolist()]
    assert len(colours) == 150
    known = {0: (120, 120, 120), 2: (6, 230, 230), 12: (150, 5, 61), 20: (0, 102, 200), 149: (92, 0, 255)}
    assert {number: colours[number] for number in known} == known
    assert colours[6] == colours[48] == (140, 140, 140)  # the only colour that it has twice: road and skyscraper
    # It began as 150 hues of full saturation in random order, 23 of which were replaced and 32 dimmed a little.
    wheel = {tuple(round(255 * x) for x in hue(step)) for step in range(150)}
    assert len(wheel) == 150
    pure = [colour for colour in colours if 0 in colour and 255 in colour]
    assert len(pure) == len(set(pure)) == 95
    assert set(pure) <= wheel


def hue(step):
    """Full colours in 150 steps: one channel 1, one 0, the third between."""
    sector, between = divmod(step / 25, 1)
    return [
        (1, between, 0),
        (1 - between, 1, 0),
        (0, 1, between),
        (0, 1 - between, 1),
        (between, 0, 1),
        (1, 0, 1 - between),
    ][int(sector)]


def write_names(root, count=150):
    rows = [f"{number}\t0.1\t10\t1\t0\tname {number}, synonym, another" for number in range(1, count + 1)]
    table = "\n".join(["Idx\tRatio\tTrain\tVal\tStuff\tName", *rows]) + "\n"
    (root / "objectInfo150.txt").write_text(table, encoding="utf-8-sig")


def test_the_names_of_the_folder_are_taken(root):
    write_names(root)
    data = ADE20K("train", root)
    assert data.classes[:2] == ("name 1", "name 2")
    assert data.num_classes == 150
    assert ADE20K.classes[0] == "wall"


def test_another_list_of_names_is_refused(root):
    write_names(root, count=149)
    with pytest.raises(ValueError, match=r"objectInfo150\.txt must have .* rows 1 to 150, got 149"):
        ADE20K("train", root)


def test_a_label_out_of_range_names_file_and_labels(root, save):
    save(root / "annotations" / "training" / "ADE_train_00000002.png", [[151]])
    with pytest.raises(ValueError, match=r"ADE_train_00000002\.png holds the labels \[151\]; ADE20K has 1 to 150"):
        ADE20K("train", root)[1]


def test_missing_data_say_what_is_expected(root):
    with pytest.raises(ValueError, match=r"'test' of ade20k; choose one of train, val"):
        ADE20K("test", root)
    with pytest.raises(ValueError, match=r"ade20k needs root.*ADEChallengeData2016.*annotations/\{training,validation"):
        ADE20K("train")
    with pytest.raises(FileNotFoundError, match=r"no folder .*validation.*ADEChallengeData2016"):
        ADE20K("val", root)
    (root / "annotations" / "training" / "ADE_train_00000001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"images without their label file: 1 of 2; .*ADE_train_00000001\.png"):
        ADE20K("train", root)


def test_a_damaged_file_is_named_or_skipped(root):
    path = root / "images" / "training" / "ADE_train_00000001.jpg"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cannot read the image file .*ADE_train_00000001\.jpg"):
        ADE20K("train", root)[0]
    data = create_dataset("ade20k", "train", root, on_error="skip")
    with pytest.warns(UserWarning, match=r"ADE_train_00000001\.jpg"):
        assert data[0]["name"] == "ADE_train_00000002"
