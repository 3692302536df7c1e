"""Plain folders of your own photos or volumes, whose classes stand in classes.txt."""

import numpy as np
import pytest
import torch
from PIL import Image

from resfu.data import LabelFolder, VolumeFolder, create_dataset
from resfu.data.class_list import read_classes

CLASSES = "background\nroad #804080\nwater mill  #FFA000\n"


@pytest.fixture
def folder(tmp_path, save):
    """Two photos of train and one of val, images/SPLIT beside labels/SPLIT."""
    rng = np.random.default_rng(0)
    for split, name in (("train", "a.jpg"), ("train", "b.png"), ("val", "c.png")):
        save(tmp_path / "images" / split / name, rng.integers(0, 256, (6, 8, 3)))
        label = rng.integers(0, 3, (6, 8))
        label[0, 0] = 255
        save(tmp_path / "labels" / split / f"{name[0]}.png", label)
    (tmp_path / "classes.txt").write_text(CLASSES)
    return tmp_path


def by_split(folder):
    """The same files as SPLIT/images beside SPLIT/labels."""
    for kind in ("images", "labels"):
        for split in ("train", "val"):
            (folder / split).mkdir(exist_ok=True)
            (folder / kind / split).rename(folder / split / kind)
        (folder / kind).rmdir()


@pytest.mark.parametrize("arrange", [lambda folder: None, by_split])
def test_a_folder_is_a_dataset(folder, arrange):
    whole = [create_dataset("folder", "train", folder)[place] for place in range(2)]
    arrange(folder)
    data = create_dataset("folder", "train", folder)
    assert isinstance(data, LabelFolder)
    assert [sample["name"] for sample in data] == ["a", "b"]
    assert (data.classes, data.num_classes) == (("background", "road", "water mill"), 3)
    assert data.palette.tolist() == [[0, 0, 0], [0x80, 0x40, 0x80], [0xFF, 0xA0, 0]]
    for sample, expected in zip(data, whole, strict=True):
        assert torch.equal(sample["image"], expected["image"])
        assert torch.equal(sample["label"], expected["label"])
        assert sample["label"][0, 0] == 255
        assert set(sample["label"].unique().tolist()) == {0, 1, 2, 255}
    assert len(create_dataset("folder", "val", folder)) == 1


def test_the_classes_are_known_before_a_split_is_opened(folder):
    names, palette = LabelFolder.describe(folder, {})
    assert names == ("background", "road", "water mill")
    assert palette.shape == (3, 3)
    assert VolumeFolder.describe(folder, {})[0] == names
    scenes = create_dataset("scenes", "val", folder / "cache", count=1, size=(32, 32))
    assert type(scenes).describe(None, {}) == (scenes.classes, scenes.palette)


NO_LABEL = r"without their label file: 1 of 2.*b\.png"
NO_CLASSES = r"no class list .*classes\.txt: .*has one class"
UNKNOWN = r"a\.png holds the labels \[7\]; .*classes\.txt lists 3 classes, 0 to 2, and 255 is ignored"
OTHER_SIZE = r"a\.jpg is 6 x 8 but its label .*a\.png is 5 x 8"


@pytest.mark.parametrize(
    ("place", "written", "error", "message"),
    [
        ("labels/train/b.png", None, FileNotFoundError, NO_LABEL),
        ("classes.txt", None, FileNotFoundError, NO_CLASSES),
        ("images/train/a.png", np.zeros((6, 8, 3)), ValueError, "several images called a"),
        ("labels/train/a.png", np.full((6, 8), 7), ValueError, UNKNOWN),
        ("labels/train/a.png", np.zeros((6, 8, 3)), ValueError, "a label map has one channel"),
        ("labels/train/a.png", np.zeros((5, 8)), ValueError, OTHER_SIZE),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(folder, save, place, written, error, message):
    (folder / place).unlink(missing_ok=True)
    if written is not None:
        save(folder / place, written)
    with pytest.raises(error, match=message):
        LabelFolder("train", folder)[0]


@pytest.mark.parametrize("photo", ["b.tif", "b.BMP", "b.webp"])
@pytest.mark.parametrize("label", ["b.png", "b.PNG"])
def test_other_formats_of_photos_and_spellings_are_found(folder, save, photo, label):
    (folder / "images/train/b.png").rename(folder / "images/train/old.png")
    Image.open(folder / "images/train/old.png").save(folder / "images/train" / photo)
    (folder / "images/train/old.png").unlink()
    (folder / "labels/train/b.png").rename(folder / "labels/train" / label)
    assert [sample["name"] for sample in LabelFolder("train", folder)] == ["a", "b"]


def test_labels_of_1_and_16_bits_are_numbers_too(folder):
    labels = np.array([[0, 1, 1], [1, 0, 1]])
    place = folder / "labels/train/a.png"
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(folder / "images/train/a.jpg")
    for stored in (labels.astype(bool), labels.astype(np.uint16)):
        Image.fromarray(stored).save(place)
        with Image.open(place) as written:
            assert written.mode == ("1" if stored.dtype == bool else "I;16")
        assert LabelFolder("train", folder)[0]["label"].tolist() == labels.tolist()
    Image.fromarray((labels * 256).astype(np.uint16)).save(place)
    with pytest.raises(ValueError, match=r"a\.png holds the label 256; labels are numbers from 0 to 255"):
        LabelFolder("train", folder)[0]


def test_black_and_white_masks_are_refused_before_a_training(folder, save):
    (folder / "classes.txt").write_text("background\nobject\n")
    for name in ("a", "b"):
        save(folder / f"labels/train/{name}.png", np.eye(6, 8) * 255)
    with pytest.raises(
        ValueError, match=r"all training labels are 0 or 255.*no pixel has the class 'object'\. Write 1"
    ):
        LabelFolder("train", folder)
    save(folder / "labels/train/b.png", np.eye(6, 8))
    assert len(LabelFolder("train", folder)) == 2
    for name in ("a", "b"):  # without objects, and without ignored pixels: odd, but not a mistake in the numbers
        save(folder / f"labels/train/{name}.png", np.zeros((6, 8)))
    assert len(LabelFolder("train", folder)) == 2


def test_a_split_that_is_not_there_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"no folder .*images.test.*A folder of your own data holds images"):
        LabelFolder("test", folder)
    with pytest.raises(ValueError, match="unknown split 'all' of folder"):
        LabelFolder("all", folder)
    with pytest.raises(ValueError, match="folder needs root"):
        LabelFolder("train")
    with pytest.raises(ValueError, match=r"no data folder: give root \(--data\.root DIR\)"):
        LabelFolder.describe(None, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists 0 classes; expected 1 to 255"),
        ("a\n\nb\n", r"line 2 of .*classes\.txt, '', is not a class: classes\.txt has one class per line"),
        ("a\nb #12345\n", "line 2 of .*'b #12345', is not a class"),
        ("#123456\n", "line 1 of .*is not a class"),
        ("a\nb\na #000000\n", "line 3 of .*is given twice"),
        ("\n".join(map(str, range(256))), "lists 256 classes; expected 1 to 255"),
    ],
)
def test_a_list_that_names_no_classes_is_refused(tmp_path, text, message):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_classes(tmp_path)
    (tmp_path / "classes.txt").write_bytes("Straße".encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8 text"):
        read_classes(tmp_path)


@pytest.fixture
def volumes(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "train").mkdir()
    for name in ("a", "b"):
        label = rng.integers(0, 3, (2, 6, 8))
        np.savez(tmp_path / "train" / f"{name}.npz", image=rng.random((2, 6, 8), np.float32), label=label)
    (tmp_path / "classes.txt").write_text(CLASSES)
    return tmp_path


def test_a_folder_of_volumes_is_a_dataset_of_slices(volumes):
    h5py = pytest.importorskip("h5py")
    with np.load(volumes / "train" / "b.npz") as stored, h5py.File(volumes / "train" / "c.h5", "w") as file:
        image, label = stored["image"], stored["label"]
        file["image"], file["label"] = image, label
    data = create_dataset("volume-folder", "train", volumes)
    assert isinstance(data, VolumeFolder)
    assert [volume.name for volume in data.volumes] == ["a", "b", "c"]
    assert (len(data), data.num_classes) == (6, 3)
    for place in (3, 5):
        assert np.array_equal(data[place]["image"][2].numpy(), image[1])
        assert np.array_equal(data[place]["label"].numpy(), label[1])
    assert np.array_equal(data.classes_of(data.volumes[1]), label)


def test_what_is_wrong_with_a_folder_of_volumes_is_named(volumes):
    with pytest.raises(FileNotFoundError, match=r"no folder .*val.*A folder of your own volumes holds"):
        VolumeFolder("val", volumes)
    np.savez(volumes / "train" / "a.npz", image=np.zeros((2, 6, 8), np.float32), label=np.full((2, 6, 8), 3))
    with pytest.raises(ValueError, match=r"a\.npz holds the labels \[3\]; known are 0, 1, 2\. These are the 3"):
        VolumeFolder("train", volumes)[0]
    np.savez(volumes / "train" / "b.npz", label=np.zeros((2, 6, 8)))
    with pytest.raises(ValueError, match=r"cannot read the volume .*b\.npz"):
        VolumeFolder("train", volumes)
    with pytest.warns(UserWarning, match="left out"):
        assert len(VolumeFolder("train", volumes, on_error="skip")) == 2
