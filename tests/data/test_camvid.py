"""CamVid and, through it, datasets of image and label files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from resfu.data import CamVid, create_dataset

REAL = Path(__file__).parents[3] / "shared" / "data" / "camvid"
H, W = 12, 16


@pytest.fixture
def root(tmp_path):
    """Three train images: labels 0 to 11 in rows; the red channel of an image is ten times its label."""
    for index, name in enumerate(("a", "b", "c")):
        label = np.repeat(np.arange(H, dtype=np.uint8)[:, None], W, axis=1)
        image = np.stack([10 * label, np.full_like(label, index), np.zeros_like(label)], axis=-1)
        write(tmp_path / "images" / "train" / f"{name}.png", image)
        write(tmp_path / "labels" / "train" / f"{name}.png", label)
    (tmp_path / "images" / "train" / "._a.png").write_bytes(b"\0\5\x16\7")  # macOS's note beside a copy
    return tmp_path


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def test_images_labels_and_names_are_read(root):
    data = CamVid("train", root)
    assert len(data) == 3
    sample = data[1]
    assert isinstance(sample["image"], tv_tensors.Image)
    assert isinstance(sample["label"], tv_tensors.Mask)
    assert sample["image"].shape == (3, H, W)
    assert sample["image"].dtype == torch.uint8
    assert sample["label"].dtype == torch.int64
    assert sample["name"] == "b"
    assert sample["label"][:, 0].tolist() == [*range(11), 255]
    assert (sample["image"][0, :11] == 10 * sample["label"][:11]).all()
    assert (sample["image"][1] == 1).all()


def test_classes_and_palette(root):
    data = create_dataset("camvid", "train", root=root)
    assert data.num_classes == 11
    assert data.classes[0] == "sky"
    assert data.classes[10] == "bicyclist"
    assert data.palette.shape == (11, 3)
    assert data.palette.dtype == torch.uint8


def test_the_transform_is_applied(root):
    data = CamVid("train", root, transform=lambda sample: sample | {"label": sample["label"] + 1})
    assert data[0]["label"][3, 0] == 4


def test_jpeg_and_grey_images_and_palette_labels_are_read(root):
    folder = root / "images" / "train"
    (folder / "a.png").unlink()
    write(folder / "a.JPG", np.full((H, W, 3), 200, dtype=np.uint8))
    write(folder / "b.png", np.full((H, W), 70, dtype=np.uint8))
    label = Image.fromarray(np.full((H, W), 4, dtype=np.uint8))
    label.putpalette([7] * 768)  # the numbers count, not the colours
    label.save(root / "labels" / "train" / "b.png")
    data = CamVid("train", root)
    assert abs(int(data[0]["image"].float().mean()) - 200) <= 2
    assert (data[1]["image"] == 70).all()
    assert (data[1]["label"] == 4).all()


def test_without_a_root_it_says_where_to_get_the_data():
    with pytest.raises(ValueError, match=r"needs root.*SegNet.*images/\{train,val,test\}"):
        create_dataset("camvid", "train")


def test_a_missing_folder_is_named_with_where_to_get_the_data(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*SegNet.*labels/\{train,val,test\}.*11 for void"):
        CamVid("train", tmp_path / "nowhere")
    shutil.rmtree(root / "labels")
    with pytest.raises(FileNotFoundError, match=r"no folder .*labels"):
        CamVid("train", root)


def test_an_empty_folder_is_named(root):
    shutil.rmtree(root / "images" / "train")
    (root / "images" / "train").mkdir()
    (root / "images" / "train" / "notes.txt").write_text("not an image")
    with pytest.raises(FileNotFoundError, match=r"no \.png, \.jpg, \.jpeg file in .*train.*SegNet"):
        CamVid("train", root)


def test_an_unknown_split_lists_the_known_ones(root):
    with pytest.raises(ValueError, match="'training' of camvid; choose one of train, val, test"):
        CamVid("training", root)


def test_a_missing_label_is_named(root):
    (root / "labels" / "train" / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"images without their label file: 1 of 3; .*labels.*b\.png.*SegNet"):
        CamVid("train", root)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_label_out_of_range_is_an_error_that_names_file_and_labels(root, on_error):
    label = np.zeros((H, W), dtype=np.uint8)
    label[0, :3] = (12, 200, 255)
    write(root / "labels" / "train" / "b.png", label)
    with pytest.raises(ValueError, match=r"b\.png holds the labels \[12, 200, 255\].*0 to 10 and 11 for void"):
        CamVid("train", root, on_error=on_error)[1]


def test_a_colour_label_is_an_error_that_names_the_file(root):
    write(root / "labels" / "train" / "c.png", np.zeros((H, W, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"c\.png has Pillow mode 'RGB'"):
        CamVid("train", root)[2]


def test_sizes_that_differ_are_an_error_that_names_both_files(root):
    write(root / "labels" / "train" / "a.png", np.zeros((H, W + 1), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"images.*a\.png is 12 x 16 but its label .*a\.png is 12 x 17"):
        CamVid("train", root)[0]


def damage(path, how):
    data = path.read_bytes()
    path.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "text": b"not an image"}[how])


@pytest.mark.parametrize("how", ["truncated", "empty", "text"])
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_corrupt_file_is_an_error_that_names_it(root, kind, how):
    damage(root / kind / "train" / "b.png", how)
    data = CamVid("train", root)
    with pytest.raises(ValueError, match=rf"cannot read the image file .*{kind}.*b\.png.*on_error='skip'"):
        data[1]
    assert data[0]["name"] == "a"


def test_skip_takes_the_next_readable_sample_and_warns_once(root):
    damage(root / "images" / "train" / "b.png", "truncated")
    damage(root / "labels" / "train" / "c.png", "text")
    data = CamVid("train", root, on_error="skip")
    assert len(data) == 3
    with pytest.warns(UserWarning, match="cannot read the image file") as warned:
        assert data[1]["name"] == "a"
    assert ["b.png" in str(warned[0].message), "c.png" in str(warned[1].message), len(warned)] == [True, True, 2]
    # From here on a warning would be an error.
    assert [sample["name"] for sample in data] == ["a", "a", "a"]


@pytest.mark.filterwarnings("ignore:cannot read")
def test_skip_with_nothing_readable_is_an_error(root):
    for path in (root / "images" / "train").iterdir():
        damage(path, "empty")
    with pytest.raises(ValueError, match="no sample can be read, of 3"):
        CamVid("train", root, on_error="skip")[0]


def test_another_on_error_is_refused(root):
    with pytest.raises(ValueError, match="'raise' or 'skip', got 'ignore'"):
        CamVid("train", root, on_error="ignore")


@pytest.mark.skipif(not REAL.is_dir(), reason="the CamVid images are not in ../shared/data")
@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101)])
def test_the_real_images(split, count):
    data = CamVid(split, REAL)
    assert len(data) == count
    seen = set()
    for index in range(0, count, 15):
        sample = data[index]
        assert sample["image"].shape == (3, 360, 480)
        assert sample["label"].shape == (360, 480)
        seen |= set(sample["label"].unique().tolist())
    assert seen == {*range(11), 255}


def test_the_last_fifth_of_every_video_is_held_out(tmp_path):
    for video, count in (("0001TP", 11), ("0016E5", 5)):
        for number in range(count):
            for kind in ("images", "labels"):
                write(tmp_path / kind / "train" / f"{video}_{number:05}.png", np.zeros((4, 4), np.uint8))
    names = {split: [s["name"] for s in CamVid(split, tmp_path)] for split in ("train", "fit", "held-out")}
    assert names["held-out"] == ["0001TP_00009", "0001TP_00010", "0016E5_00004"]
    assert sorted(names["fit"] + names["held-out"]) == names["train"]
    assert not set(names["fit"]) & set(names["held-out"])
