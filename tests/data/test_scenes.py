"""The procedural scenes: what is in them, that they repeat exactly, and what difficulty does."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from resfu.data.generated.scenes import Scenes
from resfu.data.generated.scenes.classes import CLASSES, PALETTE, STUFF, THINGS
from resfu.data.generated.scenes.layout import layout
from resfu.data.generated.scenes.render import make_scene
from resfu.data.generated.seeding import Stream, generator
from tests.support import apart

SIZE = (64, 80)
COUNT = 60


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="module")
def scenes(cache):
    return Scenes("train", root=cache, size=SIZE, count=COUNT)


def label_hash(index, seed=0):
    scene = make_scene(seed, "train", index, SIZE)
    return hashlib.sha256(scene.categories[scene.ids - 1].tobytes()).hexdigest()


def edge_contrast(scene):
    """Mean step between neighbouring pixels of different segments over that within segments."""
    image = scene.image.astype(np.float64)
    step = np.abs(np.diff(image, axis=1)).mean(-1)
    edge = np.diff(scene.ids.astype(int), axis=1) != 0
    return step[edge].mean() / step[~edge].mean()


def test_an_item_keeps_the_contract(scenes):
    sample = scenes[3]
    assert list(sample) == ["image", "label", "name"]
    assert isinstance(sample["image"], tv_tensors.Image)
    assert isinstance(sample["label"], tv_tensors.Mask)
    assert sample["image"].dtype == torch.uint8
    assert sample["image"].shape == (3, *SIZE)
    assert sample["label"].dtype == torch.int64
    assert sample["label"].shape == SIZE
    assert sample["name"] == "train-000003"
    assert scenes.num_classes == 16
    assert scenes.ignore_index == 255


def test_there_are_16_classes_with_colours_of_their_own():
    assert (len(STUFF), len(THINGS)) == (7, 9)
    assert PALETTE.shape == (16, 3)
    assert PALETTE.dtype == torch.uint8
    assert len({tuple(colour) for colour in PALETTE.tolist()}) == 16


def test_every_class_occurs_and_nothing_else(scenes):
    counts = sum(torch.bincount(scenes[index]["label"].flatten(), minlength=16) for index in range(COUNT))
    assert len(counts) == 16
    share = counts / counts.sum()
    assert share.min() > 0.003, dict(zip(CLASSES, share.tolist(), strict=True))
    assert share.max() < 0.35


def test_any_order_gives_the_same_labels():
    forward = [label_hash(index) for index in range(5)]
    backward = [label_hash(index) for index in reversed(range(5))][::-1]
    assert forward == backward
    assert len(set(forward)) == 5


def test_a_fresh_process_gives_the_same_labels():
    code = (
        "import hashlib; from resfu.data.generated.scenes.render import make_scene\n"
        f"scene = make_scene(0, 'train', 4, {SIZE})\n"
        "print(hashlib.sha256(scene.categories[scene.ids - 1].tobytes()).hexdigest())"
    )
    assert apart.run(code).strip() == label_hash(4)


def test_seeds_and_splits_differ():
    assert label_hash(0) != label_hash(0, seed=1)
    train, val, test = (make_scene(0, split, 0, SIZE) for split in ("train", "val", "test"))
    assert not np.array_equal(train.ids, val.ids)
    assert not np.array_equal(val.ids, test.ids)


def test_semantic_instance_and_panoptic_labels_agree(scenes):
    for index in range(20):
        label = scenes[index]["label"].as_subclass(torch.Tensor)
        ids, segments = scenes.panoptic(index)
        assert ids.dtype == torch.int32
        assert [segment["id"] for segment in segments] == list(range(1, len(segments) + 1))
        assert set(ids.unique().tolist()) == {segment["id"] for segment in segments}
        rebuilt = torch.full_like(label, 255)
        for segment in segments:
            assert set(segment) == {"id", "category_id", "isthing", "iscrowd"}
            assert segment["isthing"] == (CLASSES[segment["category_id"]] in THINGS)
            assert segment["iscrowd"] == 0
            rebuilt[ids == segment["id"]] = segment["category_id"]
        assert torch.equal(rebuilt, label)

        masks, labels = scenes.instances(index)
        assert masks.dtype == torch.bool
        assert masks.shape == (len(labels), *label.shape)
        assert (masks.sum(0) <= 1).all()
        assert masks.flatten(1).any(1).all()
        for mask, category in zip(masks, labels, strict=True):
            assert (label[mask] == category).all()
        assert torch.equal(masks.any(0), label >= len(STUFF))


def test_a_class_of_stuff_is_one_segment(scenes):
    for index in range(COUNT):
        stuff = [segment["category_id"] for segment in scenes.panoptic(index)[1] if not segment["isthing"]]
        assert len(stuff) == len(set(stuff))


def test_things_hide_one_another():
    partly_hidden = 0
    for index in range(20):
        layers = layout(generator(0, "train", index, Stream.GEOMETRY), 128, 160)
        things = [layer for layer in layers if layer.category >= len(STUFF)]
        for place, far in enumerate(things):
            canvas = np.zeros((128, 160), dtype=bool)
            canvas[far.stamp.window] |= far.stamp.mask
            hidden = np.zeros_like(canvas)
            for near in things[place + 1 :]:
                hidden[near.stamp.window] |= near.stamp.mask
            partly_hidden += 0.05 < (canvas & hidden).sum() / canvas.sum() < 0.95
    assert partly_hidden > 20


def test_other_segments_show_through_holes(scenes):
    with_hole = dict.fromkeys(("ring", "cart", "fence", "tree"), 0)
    for index in range(COUNT):
        for mask, category in zip(*scenes.instances(index), strict=True):
            if CLASSES[category] in with_hole:
                hole = ndimage.binary_fill_holes(mask.numpy()) & ~mask.numpy()
                with_hole[CLASSES[category]] += bool(hole.any())
    assert min(with_hole.values()) >= 3, with_hole


def test_cables_and_fences_are_thin(scenes):
    thickness = {"cable": [], "fence": [], "rock": []}
    for index in range(COUNT):
        for mask, category in zip(*scenes.instances(index), strict=True):
            if CLASSES[category] in thickness:
                depth = ndimage.distance_transform_edt(np.pad(mask.numpy(), 1))
                thickness[CLASSES[category]].append(depth.max())
    median = {name: float(np.median(values)) for name, values in thickness.items()}
    assert median["cable"] <= 2
    assert median["fence"] <= 2
    assert median["rock"] >= 3


def test_difficulty_changes_the_image_and_not_the_labels():
    contrast = {difficulty: [] for difficulty in (0.0, 0.5, 1.0)}
    for index in range(6):
        ids = make_scene(0, "train", index, SIZE).ids
        for difficulty, values in contrast.items():
            scene = make_scene(0, "train", index, SIZE, difficulty)
            assert np.array_equal(scene.ids, ids)
            values.append(edge_contrast(scene))
    easy, middle, hard = (np.mean(values) for values in contrast.values())
    assert easy > 2.5  # objects are crisp: a step on a label edge stands out from the texture
    assert easy > 1.2 * middle > 1.2 * hard
    assert hard < 0.6 * easy


def test_workers_give_what_the_main_process_gives(scenes):
    batches = list(DataLoader(scenes, batch_size=4, num_workers=1, sampler=range(8)))
    images = torch.cat([batch["image"] for batch in batches])
    assert torch.equal(images, torch.stack([scenes[index]["image"] for index in range(8)]))


def test_it_iterates_counts_backwards_and_survives_pickling(scenes):
    assert len(list(scenes)) == COUNT
    assert scenes[-1]["name"] == f"train-{COUNT - 1:06d}"
    copy = pickle.loads(pickle.dumps(scenes))
    assert torch.equal(copy[2]["image"], scenes[2]["image"])
    for call in (scenes.__getitem__, scenes.panoptic, scenes.instances):
        with pytest.raises(IndexError, match=f"{COUNT} samples"):
            call(COUNT)


def test_the_transform_gets_the_sample(cache):
    scenes = Scenes("train", root=cache, size=SIZE, count=1, transform=lambda sample: {"only": sample["name"]})
    assert scenes[0] == {"only": "train-000000"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "training"}, "'training'.*train, val, test"),
        ({"size": (16, 64)}, "at least 32"),
        ({"size": (64,)}, r"\(H, W\)"),
        ({"size": 64}, r"\(H, W\)"),
        ({"size": (64.0, 64.0)}, "whole numbers"),
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"seed": -1}, "seed must be 0 to"),
        ({"difficulty": 1.5}, "difficulty must be 0 to 1, got 1.5"),
        ({"difficulty": float("nan")}, "difficulty must be 0 to 1"),
    ],
)
def test_bad_arguments_say_what_is_expected(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        Scenes(**{"split": "train", "root": tmp_path, "size": SIZE, "count": 1} | arguments)
    assert not list(tmp_path.iterdir())
