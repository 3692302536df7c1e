"""Pascal VOC 2012 and Pascal Context as the development kit stores them."""

import numpy as np
import pytest
from PIL import Image

from resfu.data import PascalContext, PascalContext60, PascalVOC, create_dataset
from resfu.data.palette import voc_palette


def kit_palette(count):
    """The colours as the development kit's script makes them, bit by bit."""
    colours = []
    for label in range(count):
        red = green = blue = 0
        for place in range(7, -1, -1):
            red |= (label & 1) << place
            green |= (label >> 1 & 1) << place
            blue |= (label >> 2 & 1) << place
            label >>= 3
        colours.append([red, green, blue])
    return colours


@pytest.fixture
def voc(tmp_path, save):
    """Two listed images and one that no list names; the labels are palette files."""
    for name in ("2007_000032", "2007_000039", "2010_000001"):
        save(tmp_path / "JPEGImages" / f"{name}.jpg", np.full((2, 11, 3), 40))
        label = Image.fromarray(np.array([*range(21), 255], dtype=np.uint8).reshape(2, 11))
        label.putpalette([value for colour in kit_palette(256) for value in colour])
        (tmp_path / "SegmentationClass").mkdir(exist_ok=True)
        label.save(tmp_path / "SegmentationClass" / f"{name}.png")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000039\n2007_000032\n", encoding="utf-8-sig")  # a Windows editor
    (lists / "trainaug.txt").write_text("2007_000032\n2010_000001")
    return tmp_path


def test_the_numbers_of_a_palette_file_are_the_labels(voc):
    data = create_dataset("voc", "train", voc)
    assert [sample["name"] for sample in data] == ["2007_000039", "2007_000032"]
    assert data[0]["label"].flatten().tolist() == [*range(21), 255]


def test_trainaug_prefers_the_augmented_labels(voc, save):
    save(voc / "SegmentationClassAug" / "2010_000001.png", np.full((2, 11), 15))
    first, second = PascalVOC("trainaug", voc)
    assert first["label"].flatten().tolist() == [*range(21), 255]
    assert (second["label"] == 15).all()


def test_classes_and_palette():
    assert len(PascalVOC.classes) == 21
    assert [PascalVOC.classes[number] for number in (0, 1, 15, 20)] == [
        "background",
        "aeroplane",
        "person",
        "tvmonitor",
    ]
    assert PascalVOC.palette.tolist() == kit_palette(21)
    assert PascalVOC.palette[15].tolist() == [192, 128, 128]
    assert voc_palette(256).tolist() == kit_palette(256)
    assert voc_palette(256)[255].tolist() == [224, 224, 192]


def test_a_label_out_of_range_names_file_and_labels(voc, save):
    save(voc / "SegmentationClass" / "2007_000032.png", np.full((2, 11), 21))
    with pytest.raises(ValueError, match=r"2007_000032\.png holds the labels \[21\]; Pascal VOC has 0 to 20, and 255"):
        PascalVOC("train", voc)[1]


def test_missing_data_say_what_is_expected(voc):
    with pytest.raises(ValueError, match="'test' of voc; choose one of train, val, trainval, trainaug"):
        PascalVOC("test", voc)
    with pytest.raises(ValueError, match=r"voc needs root.*VOCtrainval_11-May-2012"):
        PascalVOC("val")
    with pytest.raises(FileNotFoundError, match=r"no list .*val\.txt.*JPEGImages"):
        PascalVOC("val", voc)
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("\n")
    with pytest.raises(FileNotFoundError, match=r"the list .*val\.txt names no image"):
        PascalVOC("val", voc)
    (voc / "JPEGImages" / "2007_000032.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"images without their image file: 1 of 2; .*2007_000032\.jpg"):
        PascalVOC("train", voc)


@pytest.fixture
def context(tmp_path, save):
    """One image, whose label has every number."""
    save(tmp_path / "JPEGImages" / "2008_000002.jpg", np.full((1, 61, 3), 40))
    save(tmp_path / "SegmentationClassContext" / "2008_000002.png", [[*range(60), 255]])
    (tmp_path / "ImageSets" / "SegmentationContext").mkdir(parents=True)
    (tmp_path / "ImageSets" / "SegmentationContext" / "train.txt").write_text("2008_000002\n")
    return tmp_path


def test_the_background_of_context_is_ignored_or_a_class(context):
    assert create_dataset("pascal-context", "train", context)[0]["label"].tolist() == [[255, *range(59), 255]]
    assert create_dataset("pascal-context-60", "train", context)[0]["label"].tolist() == [[*range(60), 255]]


def test_classes_and_palettes_of_context():
    assert len(PascalContext.classes) == len(set(PascalContext.classes)) == 59
    assert list(PascalContext.classes) == sorted(PascalContext.classes)  # the published list is alphabetical
    assert PascalContext60.classes == ("background", *PascalContext.classes)
    assert PascalContext60.palette.tolist() == kit_palette(60)
    assert PascalContext.palette.tolist() == kit_palette(60)[1:]


def test_labels_and_splits_of_context_are_checked(context, save):
    save(context / "SegmentationClassContext" / "2008_000002.png", np.full((1, 61), 60))
    for dataset in (PascalContext, PascalContext60):
        with pytest.raises(ValueError, match=r"2008_000002\.png holds the labels \[60\]; Pascal Context has 0 to 59"):
            dataset("train", context)[0]
    with pytest.raises(ValueError, match="'trainval' of pascal-context; choose one of train, val"):
        PascalContext("trainval", context)
