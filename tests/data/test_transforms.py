"""Augmentation: sizes, padding, and that image and label stay together."""

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from resfu.data.transforms import (
    FitImage,
    PadTo,
    RandomCrop,
    RandomResize,
    eval_transform,
    train_transform,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def coded(height, width):
    """A sample whose label can be read off its image: class = 4 * (row half) + column quarter, red = 20 * class."""
    rows, columns = torch.arange(height) * 2 // height, torch.arange(width) * 4 // width
    label = 4 * rows[:, None] + columns
    image = torch.stack([20 * label, torch.full_like(label, 90), torch.full_like(label, 30)]).to(torch.uint8)
    return {"image": tv_tensors.Image(image), "label": tv_tensors.Mask(label), "name": "coded"}


def unnormalised(image):
    return image * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]


@pytest.mark.parametrize("size", [(40, 60), (300, 500)])
def test_training_gives_the_crop_size_whatever_comes_in(size):
    transform = train_transform((64, 96), MEAN, STD)
    for _ in range(10):
        sample = transform(coded(*size))
        assert type(sample["image"]) is torch.Tensor
        assert sample["image"].dtype == torch.float32
        assert sample["image"].shape == (3, 64, 96)
        assert type(sample["label"]) is torch.Tensor
        assert sample["label"].dtype == torch.int64
        assert sample["label"].shape == (64, 96)
        assert sample["name"] == "coded"
        assert set(sample["label"].unique().tolist()) <= {*range(8), 255}


def test_image_and_label_stay_together():
    transform = train_transform((64, 96), MEAN, STD, photometric=False)
    flipped = 0
    for _ in range(30):
        sample = transform(coded(80, 120))
        inside = sample["label"] != 255
        red = 255 * unnormalised(sample["image"])[0]
        # Bilinear interpolation mixes neighbouring classes within a pixel of an edge; elsewhere red is exact.
        wrong = ((red - 20 * sample["label"]).abs() > 2) & inside
        assert wrong.sum() <= 0.12 * inside.sum()
        row = sample["label"][0][inside[0]]
        flipped += bool(row[0] > row[-1])
    assert 5 <= flipped <= 25


def test_without_flip_columns_keep_their_order():
    transform = train_transform((64, 96), MEAN, STD, flip=False)
    for _ in range(20):
        row = transform(coded(80, 120))["label"][0]
        assert (row.diff()[row[1:] != 255] >= 0).all()


def test_the_border_is_0_in_the_image_and_255_in_the_label():
    transform = train_transform((100, 100), MEAN, STD, scale_range=(0.5, 0.5), flip=False)
    sample = transform(coded(80, 120))
    border = torch.ones(100, 100, dtype=torch.bool)
    border[:40, :60] = False
    assert (sample["label"][border] == 255).all()
    assert (sample["label"][~border] != 255).all()
    assert (sample["image"][:, border] == 0).all()
    assert (sample["image"][:, ~border] != 0).any(0).all()


def test_normalisation_is_for_images_in_0_to_1():
    sample = {
        "image": tv_tensors.Image(torch.full((3, 4, 4), 51, dtype=torch.uint8)),
        "label": tv_tensors.Mask(torch.full((4, 4), 7)),
        "name": "grey",
    }
    expected = [(0.2 - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    for transform in (eval_transform(MEAN, STD), train_transform((4, 4), MEAN, STD, (1, 1), photometric=False)):
        out = transform(sample)
        torch.testing.assert_close(out["image"][:, 2, 1], torch.tensor(expected))
        assert (out["label"] == 7).all()


def test_evaluation_keeps_size_and_label():
    sample = coded(50, 70)
    out = eval_transform(MEAN, STD)(sample)
    assert out["image"].shape == (3, 50, 70)
    assert out["image"].dtype == torch.float32
    assert torch.equal(out["label"], sample["label"].as_subclass(torch.Tensor))


def test_the_scale_covers_its_range():
    resize = RandomResize((0.5, 2.0))
    sizes = [tuple(resize(coded(40, 60))["label"].shape) for _ in range(200)]
    heights = [height for height, _ in sizes]
    assert min(heights) < 25
    assert max(heights) > 75
    assert min(heights) >= 20
    assert max(heights) <= 80
    assert all(abs(width - 1.5 * height) <= 1.5 for height, width in sizes)


@pytest.mark.parametrize("factor", [0.5, 2.0, 1.7])
def test_a_resized_label_takes_the_nearest_pixel_centre(factor):
    label = torch.randint(0, 11, (30, 40))
    image = torch.zeros(3, 30, 40, dtype=torch.uint8)
    resized = RandomResize((factor, factor))({"image": tv_tensors.Image(image), "label": tv_tensors.Mask(label)})
    height, width = resized["label"].shape
    assert resized["image"].shape == (3, height, width)
    assert resized["label"].dtype == torch.int64
    for row in range(height):
        for column in range(width):
            source = label[int((row + 0.5) * 30 / height), int((column + 0.5) * 40 / width)]
            assert resized["label"][row, column] == source


# (H, W) and what it becomes within (2048, 512) for the factors 1 and 0.5, by hand: the sides times
# min(2048 / longer, 512 / shorter) times the factor, rounded.
FITTED = [
    ((300, 400), (512, 683), (256, 341)),
    ((683, 512), (683, 512), (342, 256)),
    ((200, 1000), (410, 2048), (205, 1024)),
    ((1000, 200), (2048, 410), (1024, 205)),
    ((1200, 1600), (512, 683), (256, 341)),
]


@pytest.mark.parametrize(("size", "whole", "half"), FITTED)
def test_the_scale_can_be_relative_to_bounds(size, whole, half):
    for factor, expected in ((1.0, whole), (0.5, half)):
        sample = RandomResize((factor, factor), base_size=(2048, 512))(coded(*size))
        assert sample["image"].shape == (3, *expected)
        assert sample["label"].shape == expected


def test_the_scale_covers_its_range_relative_to_bounds():
    resize = RandomResize((0.5, 2.0), base_size=(160, 60))
    heights = [resize(coded(20, 30))["label"].shape[0] for _ in range(200)]
    assert 30 <= min(heights) < 38
    assert 112 < max(heights) <= 120


def test_training_with_bounds_gives_the_crop_size():
    transform = train_transform((64, 96), MEAN, STD, base_size=(200, 60))
    for size in ((20, 30), (150, 100)):
        sample = transform(coded(*size))
        assert sample["image"].shape == (3, 64, 96)
        assert sample["label"].shape == (64, 96)


@pytest.mark.parametrize(("size", "whole"), [fitted[:2] for fitted in FITTED])
def test_evaluation_resizes_the_image_alone(size, whole):
    sample = coded(*size)
    out = eval_transform(MEAN, STD, eval_size=(2048, 512))(sample)
    assert out["image"].shape == (3, *whole)
    assert torch.equal(out["label"], sample["label"].as_subclass(torch.Tensor))
    # Red tells the class: it must be that of the label at the same share of the height and width.
    red = 255 * unnormalised(out["image"])[0]
    rows, columns = (torch.arange(1, 8, 2) / 8 * side for side in whole)
    label_rows, label_columns = (torch.arange(1, 8, 2) / 8 * side for side in size)
    found = red[rows.long()][:, columns.long()]
    assert ((found - 20 * sample["label"][label_rows.long()][:, label_columns.long()]).abs() < 2).all()


def test_an_image_without_a_label_is_resized_too():
    out = eval_transform(MEAN, STD, eval_size=(80, 40))({"image": coded(20, 30)["image"], "name": "photo"})
    assert out["image"].shape == (3, 40, 60)
    assert out["name"] == "photo"


def one_corner_mixed():
    """Class 3 but for a corner of stripes of classes 0 and 1: few windows are mixed."""
    label = torch.full((64, 64), 3)
    label[40:, 40:] = torch.arange(24) % 2
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    return {"image": tv_tensors.Image(image), "label": tv_tensors.Mask(label)}


def largest_share(label):
    counts = torch.bincount(label[label != 255])
    return float(counts.max() / counts.sum())


def test_one_class_crops_are_drawn_again():
    free, careful = RandomCrop((32, 32)), RandomCrop((32, 32), cat_max_ratio=0.75)
    sample = one_corner_mixed()
    share = {"free": 0, "careful": 0}
    for _ in range(200):
        share["free"] += largest_share(free(sample)["label"]) < 0.75
        share["careful"] += largest_share(careful(sample)["label"]) < 0.75
    probability = share["free"] / 200
    assert 0 < probability < 0.5
    # A draw and ten more: the chance that none is mixed.
    expected = 1 - (1 - probability) ** 11
    assert abs(share["careful"] / 200 - expected) < 0.12


def test_a_one_class_image_ends_with_the_tenth_draw_after_the_first(monkeypatch):
    checked = []
    crop = RandomCrop((8, 8), cat_max_ratio=0.75)
    monkeypatch.setattr(crop, "_is_mixed", lambda label: checked.append(label) or False)
    sample = one_corner_mixed()
    torch.manual_seed(3)
    draws = [[int(torch.randint(57, ())) for _ in range(2)] for _ in range(11)]
    torch.manual_seed(3)
    params = crop.make_params([sample["image"], sample["label"]])
    assert len(checked) == 10
    assert [params["top"], params["left"]] == draws[10]


def test_ignored_pixels_do_not_count_as_a_class():
    crop = RandomCrop((4, 4), cat_max_ratio=0.75)
    label = torch.full((4, 4), 255)
    assert not crop._is_mixed(label)
    label[0] = torch.tensor([0, 0, 1, 1])
    assert crop._is_mixed(label)
    label[0] = torch.tensor([0, 0, 0, 1])
    assert not crop._is_mixed(label)  # 0.75 is not below 0.75


def test_a_crop_cuts_image_and_label_at_the_same_place():
    place = torch.arange(40 * 50).reshape(40, 50)
    image = torch.stack([place % 256, place // 256, place * 0]).to(torch.uint8)
    out = RandomCrop((16, 16))({"image": tv_tensors.Image(image), "label": tv_tensors.Mask(place)})
    assert torch.equal(out["image"][0].long() + 256 * out["image"][1].long(), out["label"].as_subclass(torch.Tensor))


def test_the_seed_settles_everything():
    transform = train_transform((32, 32), MEAN, STD)
    torch.manual_seed(5)
    first = transform(coded(60, 60))
    torch.manual_seed(5)
    second = transform(coded(60, 60))
    assert torch.equal(first["image"], second["image"])
    assert torch.equal(first["label"], second["label"])


def test_samples_make_batches():
    transform = train_transform((32, 32), MEAN, STD)
    batch = next(iter(DataLoader([transform(coded(60, 60)) for _ in range(3)], batch_size=3)))
    assert batch["image"].shape == (3, 3, 32, 32)
    assert batch["label"].shape == (3, 32, 32)
    assert batch["name"] == ["coded"] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop_size": (0, 32)}, r"\(H, W\).*got \(0, 32\)"),
        ({"crop_size": (32, 32, 3)}, r"\(H, W\)"),
        ({"scale_range": (2.0, 0.5)}, "smallest <= largest"),
        ({"scale_range": (0.0, 1.0)}, "0 < smallest"),
        ({"cat_max_ratio": 0.0}, "cat_max_ratio must be above 0 and at most 1, got 0.0"),
        ({"mean": (0.5,)}, "mean and std must have 3 numbers"),
        ({"std": (0.5, 0.5, 0.0)}, "above 0"),
        ({"base_size": (512, 2048)}, r"\(long, short\).*larger one first; got \(512, 2048\)"),
        ({"base_size": (64, 0)}, "at least 1"),
    ],
)
def test_bad_arguments_say_what_is_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        train_transform(**{"crop_size": (32, 32), "mean": MEAN, "std": STD} | arguments)


def test_impossible_bounds_of_evaluation_are_refused():
    with pytest.raises(ValueError, match=r"\(long, short\).*got \(512,\)"):
        eval_transform(MEAN, STD, (512,))
    with pytest.raises(ValueError, match="larger one first"):
        FitImage((4, 5))


def test_plain_tensors_are_refused_not_passed_through():
    sample = {"image": torch.zeros(3, 8, 8, dtype=torch.uint8), "label": torch.zeros(8, 8, dtype=torch.int64)}
    with pytest.raises(ValueError, match=r"one tv_tensors\.Image and one tv_tensors\.Mask"):
        train_transform((8, 8), MEAN, STD)(sample)
    with pytest.raises(ValueError, match="of the same size"):
        PadTo((9, 9))({"image": tv_tensors.Image(sample["image"]), "label": tv_tensors.Mask(torch.zeros(8, 7))})
