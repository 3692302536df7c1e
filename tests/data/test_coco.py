"""COCO's files against pycocotools and against the scenes that the fixture is made of; damaged files are named."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from torchvision.ops import masks_to_boxes

from resfu.data.coco import (
    CocoInstances,
    CocoPanoptic,
    SceneInstances,
    ScenePanoptic,
    collate,
    create_instance_dataset,
    create_panoptic_dataset,
)
from resfu.data.coco.transforms import eval_transform, train_transform
from resfu.data.image_files import UnreadableFileError
from tests.support.coco_fixture import STAND_INS, write_coco_fixture

SIZE, COUNT = (48, 64), 4
# pycocotools' decode is not up to numpy 2's rules.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESFU_CACHE", str(tmp_path_factory.mktemp("cache")))
        root = write_coco_fixture(tmp_path_factory.mktemp("coco") / "root", COUNT, SIZE)
        scenes = {split: ScenePanoptic(split, size=SIZE, count=COUNT) for split in ("train", "val")}
    return root, scenes


@pytest.fixture
def root(written, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(written[0], tmp_path / "coco")


def edit(root, name, change):
    file = root / "annotations" / name
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


# --- the ways to write a mask


# --- the fixture, read by pycocotools and by the datasets


@pytest.mark.parametrize("split", ["train", "val"])
def test_pycocotools_reads_what_the_fixture_writes(split, written, capsys):
    root, scenes = written
    coco = COCO(root / "annotations" / f"instances_{split}2017.json")
    kinds = []
    for image_id, sample in zip(coco.getImgIds(), scenes[split], strict=False):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image_id))
        target = sample["target"]
        assert len(annotations) == len(target["labels"])
        for annotation, mask, label in zip(annotations, target["masks"], target["labels"], strict=True):
            assert np.array_equal(coco.annToMask(annotation), mask)
            assert annotation["area"] == mask.sum()
            assert annotation["bbox"] == coco_mask.toBbox(coco.annToRLE(annotation)).tolist()
            name = STAND_INS[scenes[split].things[int(label) - 1].name]
            assert coco.loadCats(annotation["category_id"])[0]["name"] == name
            counts = annotation["segmentation"]["counts"] if isinstance(annotation["segmentation"], dict) else None
            kinds.append(("polygons" if counts is None else type(counts).__name__, annotation["iscrowd"]))
    assert {("polygons", 0), ("str", 0), ("list", 1)} == set(kinds)
    assert kinds.count(("list", 1)) == 1
    assert "creating index" in capsys.readouterr().out


def test_coco_has_80_things_and_53_kinds_of_stuff_with_gaps_in_the_ids(written):
    instances, panoptic = CocoInstances("val", written[0]), CocoPanoptic("val", written[0])
    assert [category.name for category in instances.categories] == [category.name for category in panoptic.things]
    assert len(instances.things) == 80
    assert len(panoptic.stuff) == 53
    assert instances.things[11].id == 13  # stop sign: 12 is not used
    assert instances.things[-1].id == 90
    assert (panoptic.categories[80].id, panoptic.categories[-1].id) == (92, 200)


@pytest.mark.parametrize("split", ["train", "val"])
def test_what_is_loaded_is_what_the_scenes_had(split, written):
    root, scenes = written
    instances, panoptic = CocoInstances(split, root), CocoPanoptic(split, root)
    assert len(instances) == len(panoptic) == len(scenes[split])
    crowds = 0
    for item, whole, scene in zip(instances, panoptic, scenes[split], strict=False):
        expected, crowd = scene["target"], torch.zeros(len(scene["target"]["labels"]), dtype=torch.bool)
        if not crowds and len(crowd) > 1:
            crowd[0], crowds = True, 1
        kept = ~crowd if split == "train" else torch.ones_like(crowd)
        names = [STAND_INS[scenes[split].things[label - 1].name] for label in expected["labels"][kept].tolist()]
        for target in (item["target"], whole["target"]):
            assert [instances.things[label - 1].name for label in target["labels"].tolist()] == names
            assert torch.equal(target["masks"].as_subclass(torch.Tensor), expected["masks"][kept])
            boxes = masks_to_boxes(expected["masks"][kept])
            boxes[:, 2:] += 1
            assert torch.equal(target["boxes"].as_subclass(torch.Tensor), boxes)
            assert torch.equal(target["area"], expected["masks"][kept].sum((1, 2)).float())
            assert target["iscrowd"].tolist() == crowd[kept].int().tolist()
            assert target["image_id"] == int(item["name"])
        for ours, theirs in zip(whole["segments"], scene["segments"], strict=True):
            assert torch.equal(whole["ids"] == ours["id"], scene["ids"] == theirs["id"])
            name = STAND_INS[scenes[split].categories[theirs["category_id"]].name]
            assert panoptic.categories[ours["category_id"]].name == name
            assert ours["isthing"] == theirs["isthing"]
            region = whole["target"]["semantic"][whole["ids"] == ours["id"]].unique().tolist()
            assert region == [53 if ours["isthing"] else [category.name for category in panoptic.stuff].index(name)]
        assert (item["image"].float() - scene["image"].float()).abs().mean() < 6  # JPEG
    assert crowds == 1


def test_void_is_ignored(root):
    edit(root, "panoptic_val2017.json", lambda content: content["annotations"][0]["segments_info"].pop(0))
    file = root / "annotations" / "panoptic_val2017" / "000000010001.png"
    with pytest.raises(
        ValueError, match=r"000000010001\.png and .*json do not belong together: pixels have the ids \["
    ):
        CocoPanoptic("val", root)[0]
    ids = np.array(Image.open(file))
    sky = (ids == ids[0, 0]).all(2)
    ids[sky] = 0
    Image.fromarray(ids).save(file)
    item = CocoPanoptic("val", root)[0]
    assert torch.equal(item["target"]["semantic"] == 255, torch.from_numpy(sky))
    ids[:] = 0
    Image.fromarray(ids).save(file)
    with pytest.raises(ValueError, match="has no pixel"):
        CocoPanoptic("val", root)[0]


def test_images_without_a_box_to_train_on_are_dropped_in_training_only(root):
    def change(content):
        first, second, third = (image["id"] for image in content["images"][:3])
        kept = [entry for entry in content["annotations"] if entry["image_id"] != first]
        for entry in kept:
            if entry["image_id"] == second:
                entry["iscrowd"] = 1
        number_of = sum(entry["image_id"] == third for entry in kept)
        thin = next(entry for entry in kept if entry["image_id"] == third)
        for extra, box in enumerate(([3, 3, 0.5, 9], [70, 0, 5, 5]), start=1000):
            kept.append({**thin, "id": extra, "bbox": box})
        content["annotations"] = kept
        content["info"] = number_of

    for split in ("train", "val"):
        edit(root, f"instances_{split}2017.json", change)
    train, val = CocoInstances("train", root), CocoInstances("val", root)
    assert [len(train), len(val)] == [COUNT - 2, COUNT]
    assert len(train[0]["target"]["labels"]) == train.content["info"]
    assert len(val[2]["target"]["labels"]) == val.content["info"] + 2
    empty = val[0]["target"]
    assert [list(empty[key].shape) for key in ("boxes", "labels", "masks")] == [[0, 4], [0], [0, *SIZE]]
    assert val[1]["target"]["iscrowd"].all()


def test_damaged_files_are_named_and_skipped_on_request(root):
    picture = root / "val2017" / "000000010002.jpg"
    picture.write_bytes(b"no picture")
    with pytest.raises(UnreadableFileError, match=r"000000010002\.jpg.*on_error='skip'"):
        CocoInstances("val", root)[1]
    data = CocoInstances("val", root, on_error="skip")
    with pytest.warns(UserWarning, match=r"000000010002\.jpg.*next readable sample"):
        assert data[1]["target"]["image_id"] == 10003
    assert data[1]["target"]["image_id"] == 10003  # without a second warning
    (root / "annotations" / "panoptic_val2017" / "000000010004.png").write_bytes(b"no ids")
    with pytest.warns(UserWarning, match=r"000000010004\.png"):
        assert CocoPanoptic("val", root, on_error="skip")[3]["target"]["image_id"] == 10001
    (root / "annotations" / "instances_val2017.json").write_text('{"images": [')
    with pytest.raises(UnreadableFileError, match=r"annotation file .*instances_val2017\.json"):
        CocoInstances("val", root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("categories"), "has no categories: it is not a COCO file"),
        (lambda c: c["images"].append(c["images"][0]), "gives two images the same id"),
        (lambda c: c["annotations"][0].update(image_id=5), "annotates image 5, which it does not list"),
        (lambda c: c["annotations"][0].update(category_id=12), "category 12 in image 10001"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 2]]), "annotation 1 of .*json: polygons of"),
        (lambda c: c["images"][0].update(height=47), r"annotation 1 of .*size \[48, 64\], but its image \[47, 64\]"),
        (lambda c: c["images"][0].update(file_name="x.jpg"), r"1 of 4 files are missing; .*x\.jpg"),
        (lambda c: c.update(images=[], annotations=[]), "has no image"),
    ],
)
def test_annotations_that_contradict_themselves_are_named(change, message, root):
    edit(root, "instances_val2017.json", change)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        CocoInstances("val", root)[0]


def test_what_is_missing_is_said(root, tmp_path):
    with pytest.raises(ValueError, match="unknown split 'test' of coco; choose one of train, val"):
        CocoInstances("test", root)
    with pytest.raises(ValueError, match="on_error must be"):
        CocoInstances("val", root, on_error="ignore")
    with pytest.raises(FileNotFoundError, match=r"no file .*instances_val2017\.json.*cocodataset\.org"):
        CocoInstances("val", tmp_path)
    with pytest.raises(ValueError, match="coco needs root"):
        create_panoptic_dataset("coco", "val")
    with pytest.raises(ValueError, match="unknown dataset 'lvis'; choose one of coco, scenes"):
        create_instance_dataset("lvis", "val")
    with pytest.raises(ValueError, match=r"'coco' has no option size; its options are on_error"):
        create_instance_dataset("coco", "val", root, size=(32, 32))
    with pytest.raises(ValueError, match="holds something already"):
        write_coco_fixture(root)
    edit(root, "panoptic_val2017.json", lambda content: content["annotations"].pop(0))
    with pytest.raises(ValueError, match="image 10001 must have one annotation"):
        CocoPanoptic("val", root)


# --- the scenes without files


def test_scenes_give_the_same_items_as_coco(written, tmp_path):
    root, scenes = written
    instances = create_instance_dataset("scenes", "val", tmp_path, size=SIZE, count=COUNT)
    assert isinstance(instances, SceneInstances)
    assert [category.id for category in instances.things] == list(range(7, 16))
    for ours, theirs in (
        (instances[0], CocoInstances("val", root)[0]),
        (scenes["val"][0], CocoPanoptic("val", root)[0]),
    ):
        assert set(ours) == set(theirs)
        for key, value in theirs["target"].items():
            assert type(ours["target"][key]) is type(value)
            assert getattr(ours["target"][key], "dtype", None) == getattr(value, "dtype", None)
    assert torch.equal(instances[-1]["target"]["masks"], scenes["val"][3]["target"]["masks"])
    with pytest.raises(IndexError, match="index 4 is out of range for a dataset of 4"):
        instances[4]
    batch = collate([instances[0], instances[1]])
    assert [len(batch[key]) for key in ("image", "target", "name")] == [2, 2, 2]


def test_the_ground_truth_of_scenes_is_what_pycocotools_takes(tmp_path, capsys):
    data = SceneInstances("val", tmp_path, size=SIZE, count=2)
    coco = COCO()
    coco.dataset = json.loads(json.dumps(data.ground_truth()))
    coco.createIndex()
    assert coco.getImgIds() == [1, 2]
    for item in data:
        target = item["target"]
        for annotation, mask in zip(coco.imgToAnns[target["image_id"]], target["masks"], strict=True):
            assert np.array_equal(coco.annToMask(annotation), mask)
            assert annotation["bbox"] == coco_mask.toBbox(coco.annToRLE(annotation)).tolist()
    assert capsys.readouterr().out


# --- transforms and sampling


def test_the_flip_keeps_boxes_masks_and_labels_together(written):
    torch.manual_seed(0)
    item = ScenePanoptic.load(written[1]["val"], 0)
    out = train_transform(flip=True)(item)
    assert out["image"].shape == (3, 48, 64)
    assert out["image"].dtype == torch.float32
    assert out["image"].max() <= 1
    target = out["target"]
    assert all(type(target[key]) is torch.Tensor for key in ("boxes", "masks", "semantic", "labels"))
    boxes = masks_to_boxes(target["masks"])
    boxes[:, 2:] += 1
    torch.testing.assert_close(target["boxes"], boxes)
    assert out["ids"].dtype == torch.int32
    original = item["ids"].as_subclass(torch.Tensor)
    assert torch.equal(out["ids"], original) or torch.equal(out["ids"], original.flip(1))
    for segment in out["segments"]:
        assert target["semantic"][out["ids"] == segment["id"]].unique().numel() == 1
    plain = eval_transform()(item)
    assert torch.equal(plain["target"]["boxes"], item["target"]["boxes"].as_subclass(torch.Tensor))


def test_both_directions_of_the_flip_occur(written):
    torch.manual_seed(0)
    item = written[1]["val"][0]
    flipped = [not torch.equal(train_transform()(item)["ids"], item["ids"]) for _ in range(20)]
    assert 4 < sum(flipped) < 16
