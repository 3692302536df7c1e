"""COCO's files as people write them: the obvious is filled in and counted, the rest is named or left out at once."""

import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from resfu.data.coco import CocoInstances, CocoPanoptic, ScenePanoptic
from resfu.data.coco.segmentation import decode_mask, encode_rle, mask_extent, outlines
from resfu.data.image_files import UnreadableFileError
from tests.support.coco_edits import edit, flat, polygons_in, same, scores, with_crumbs, without, written_as_text
from tests.support.coco_fixture import write_coco_fixture

SIZE, COUNT = (48, 64), 3


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESFU_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield write_coco_fixture(tmp_path_factory.mktemp("coco") / "root", COUNT, SIZE)


@pytest.fixture
def root(written, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(written, tmp_path / "coco")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("iscrowd"), r"\d+ without iscrowd, read as 0 \(first: annotation \d+\)"),
        (
            lambda c: [entry.update(iscrowd=None) for entry in c["annotations"] if not entry["iscrowd"]],
            r"\d+ without iscrowd",
        ),
        (lambda c: [entry.update(iscrowd=str(entry["iscrowd"])) for entry in c["annotations"]], "written as text"),
        (without("area"), r"\d+ without an area, counted in the mask"),
        (without("bbox"), r"\d+ without a box of four numbers, computed from the mask"),
        (
            lambda c: [entry.update(bbox=[1, float("nan"), 3, 4]) for entry in c["annotations"]],
            "without a box of four numbers",
        ),
        (written_as_text, r"\d+ numbers written as text"),
        (flat, r"\d+ with a flat list of numbers"),
        (
            lambda c: [e.update(segmentation=[list(map(str, p)) for p in e["segmentation"]]) for e in polygons_in(c)],
            "numbers written as text",
        ),
        (with_crumbs, r"\d+ with polygons of fewer than three points, which are dropped"),
        (lambda c: [i.update(height="48", width="64") for i in c["images"]], "written as text .first: image"),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_obvious_is_filled_in_with_one_warning(change, said, split, written, root):
    edit(root, f"instances_{split}2017.json", change)
    with pytest.warns(UserWarning, match=f"instances_{split}2017.json was completed: .*{said}") as caught:
        found = CocoInstances(split, root)
    assert len(caught) == 1
    expected = CocoInstances(split, written)
    same(found, expected)
    assert scores(found) == pytest.approx(scores(expected), nan_ok=True)


def test_what_is_whole_is_read_without_a_word(written):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for split in ("train", "val"):
            list(CocoInstances(split, written))
            list(CocoPanoptic(split, written))


def test_a_byte_order_mark_is_no_part_of_the_text(written, root):
    file = root / "annotations" / "instances_val2017.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    same(CocoInstances("val", root), CocoInstances("val", written))


def test_notes_that_macos_lays_beside_pictures_are_no_pictures(written, root):
    def list_notes(content):
        content["images"].insert(0, {**content["images"][0], "id": 77, "file_name": "._000000010001.jpg"})
        content["annotations"].append({**content["annotations"][0], "id": 7000, "image_id": 77})

    (root / "val2017" / "._000000010001.jpg").write_bytes(b"\0\5\x16\7")
    edit(root, "instances_val2017.json", list_notes)
    with pytest.warns(UserWarning, match="1 images left out because their files are macOS metadata"):
        found = CocoInstances("val", root)
    same(found, CocoInstances("val", written))
    assert all(entry["image_id"] != 77 for entry in found.ground_truth()["annotations"])


def test_an_instance_of_stuff_is_named_when_opened(root):
    def change(content):
        used = content["annotations"][1]["category_id"]
        next(c for c in content["categories"] if c["id"] == used)["isthing"] = 0

    edit(root, "instances_val2017.json", change)
    with pytest.raises(ValueError, match=r"instances_val2017\.json: .*uses category \d+ in image"):
        CocoInstances("val", root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop("segmentation"), "it has no segmentation, so its mask is unknown"),
        (lambda e: e.update(segmentation=None), "it has no segmentation"),
        (lambda e: e.update(segmentation=[]), "it has no segmentation"),
        (lambda e: e.update(segmentation=[[]]), r"polygons of \[0\] numbers"),
        (lambda e: e.update(segmentation=[[1, 2]]), r"polygons of \[2\] numbers"),
        (lambda e: e.update(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), r"polygons of \[7\] numbers"),
        (lambda e: e.update(segmentation=[[1, 2, 3, 4, 5, None]]), "a polygon holds None, which is not a number"),
        (lambda e: e.update(segmentation=[[1, 2, 3, 4, 5, float("inf")]]), "a number that is not finite"),
        (lambda e: e.update(segmentation="mask.png"), "neither polygons nor run lengths: 'mask.png'"),
        (lambda e: e.update(segmentation={"size": [48, 64]}), "the runs of the mask must be a list or a string"),
        (lambda e: e.update(segmentation={"size": [48, 64], "counts": "0"}), "cover 0 of 48 x 64 pixels"),
        (lambda e: e.update(segmentation={"size": [48, 64], "counts": [1.5]}), "must be whole numbers"),
        (lambda e: e.update(iscrowd="yes"), "iscrowd must be 0 or 1, got 'yes'"),
        (lambda e: e.pop("category_id"), "uses category None in image"),
        (lambda e: e.pop("image_id"), "annotates image None, which it does not list"),
        (lambda e: e.update(category_id=[1]), r"uses category \[1\] in image"),
        (lambda e: e.update(image_id=[10001]), r"annotates image \[10001\], which it does not list"),
    ],
)
def test_an_annotation_that_makes_no_sense_is_named_or_left_out_when_opened(change, message, root):
    edit(root, "instances_val2017.json", lambda content: change(content["annotations"][1]))
    with pytest.raises(ValueError, match=rf"annotation 2 of .*instances_val2017\.json: .*{message}.*on_error='skip'"):
        CocoInstances("val", root)
    with pytest.warns(UserWarning, match=f"1 left out because they are invalid .first: annotation 2: .*{message}"):
        found = CocoInstances("val", root, on_error="skip")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum(len(item["target"]["labels"]) for item in found) == len(found.ground_truth()["annotations"])
    assert all(entry["id"] != 2 for entry in found.ground_truth()["annotations"])
    assert scores(found)[0] == pytest.approx(100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][0].pop("height"), "image 10001 of .*: its height must be a whole number of pixels"),
        (lambda c: c["images"][0].pop("file_name"), "image 10001 of .*: an image needs an id and a file_name"),
        (lambda c: c["images"].append("x.jpg"), "the image at place 3 of .*: it must be an object, got 'x.jpg'"),
    ],
)
def test_an_image_that_makes_no_sense_is_named_or_left_out(change, message, root):
    edit(root, "instances_val2017.json", change)
    with pytest.raises(ValueError, match=message):
        CocoInstances("val", root)
    with pytest.warns(UserWarning, match="1 left out because they are invalid"):
        found = CocoInstances("val", root, on_error="skip")
    assert len(found) == len(found.ground_truth()["images"]) >= COUNT - 1
    assert scores(found)[0] == pytest.approx(100)


def test_an_image_whose_id_is_a_list_is_named_or_left_out_with_its_annotations(root):
    edit(root, "instances_val2017.json", lambda content: content["images"][0].update(id=[10001]))
    with pytest.raises(ValueError, match=r"image \[10001\] of .*: an image needs an id and a file_name"):
        CocoInstances("val", root)
    with pytest.warns(UserWarning, match=r"left out because they are invalid \(first: image \[10001\]"):
        found = CocoInstances("val", root, on_error="skip")
    assert len(found) == COUNT - 1
    assert all(entry["image_id"] != 10001 for entry in found.ground_truth()["annotations"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(annotations={}), "its annotations must be a list, got dict"),
        (lambda c: c["categories"][0].pop("name"), "a category needs a name and an integer id"),
        (lambda c: c["categories"].append(c["categories"][0]), "gives two categories the same id"),
        (lambda c: c["categories"][0].update(color=7), r"the color of a category must be \[red, green, blue\]"),
        (lambda c: c["categories"].append("cat"), "its categories must be a list of objects"),
    ],
)
def test_files_that_make_no_sense_are_named(change, message, root):
    edit(root, "instances_val2017.json", change)
    with pytest.raises(ValueError, match=f"instances_val2017.json.* {message}"):
        CocoInstances("val", root)


def test_a_file_of_something_else_is_named(root):
    (root / "annotations" / "instances_val2017.json").write_text("17")
    with pytest.raises(ValueError, match="has no images, annotations, categories"):
        CocoInstances("val", root)


def test_pictures_of_another_size_are_named_or_skipped(root):
    Image.new("RGB", (64, 47)).save(root / "val2017" / "000000010001.jpg")
    with pytest.raises(UnreadableFileError, match=r"is 47 x 64, but .*json says 48 x 64"):
        CocoInstances("val", root)[0]
    with pytest.warns(UserWarning, match="is 47 x 64, .* The next readable sample takes its place"):
        assert CocoInstances("val", root, on_error="skip")[0]["target"]["image_id"] == 10002


def test_the_extent_of_a_mask_is_that_of_its_pixels():
    rng = np.random.default_rng(0)
    for _ in range(40):
        mask = (rng.random((7, 9)) < rng.choice([0, 0.03, 0.3, 1])).astype(np.uint8)
        mask[rng.integers(0, 4) : 6, rng.integers(0, 8)] |= rng.random() < 0.5
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1] if mask.any() else [0, 0, 0, 0]
        for segmentation in (encode_rle(mask), encode_rle(mask, compress=False), outlines(mask)):
            if segmentation:
                assert decode_mask(segmentation, 7, 9).tolist() == mask.tolist()
                assert mask_extent(segmentation, 7, 9) == (mask.sum(), box)


# --- panoptic


def segments_in(content):
    return [segment for annotation in content["annotations"] for segment in annotation["segments_info"]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("iscrowd"), "without iscrowd, read as 0 .first: segment "),
        (lambda s: s.update(iscrowd=None), "without iscrowd"),
        (lambda s: s.pop("area"), "without an area, counted in the pixels"),
        (lambda s: s.pop("bbox"), "without a box of four numbers, computed from the pixels"),
        (lambda s: s.update(bbox=[str(n) for n in s["bbox"]], area=str(s["area"])), "numbers written as text"),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_panoptic_segments_are_completed(change, said, split, written, root):
    edit(root, f"panoptic_{split}2017.json", lambda c: [change(s) for s in segments_in(c) if not s["iscrowd"]])
    with pytest.warns(UserWarning, match=said) as caught:
        found = CocoPanoptic(split, root)
    assert len(caught) == 1
    expected = CocoPanoptic(split, written)
    same(found, expected)
    assert [item["segments"] for item in found] == [item["segments"] for item in expected]


def test_an_image_whose_segments_make_no_sense_is_named_or_left_out(root):
    edit(root, "panoptic_val2017.json", lambda content: segments_in(content)[0].update(category_id=12))
    with pytest.raises(ValueError, match=r"annotation 10001 of .*: the file uses category 12 in image 10001"):
        CocoPanoptic("val", root)
    with pytest.warns(UserWarning, match="2 left out because they are invalid"):  # the annotation, and its image
        found = CocoPanoptic("val", root, on_error="skip")
    assert [item["target"]["image_id"] for item in found] == [10002, 10003]


def test_pictures_of_ids_that_contradict_the_file_are_skipped(root):
    file = root / "annotations" / "panoptic_val2017" / "000000010001.png"
    Image.new("RGB", (64, 48)).save(file)
    with pytest.raises(UnreadableFileError, match=r"000000010001\.png and .*json do not belong together"):
        CocoPanoptic("val", root)[0]
    with pytest.warns(UserWarning, match="next readable sample"):
        assert CocoPanoptic("val", root, on_error="skip")[0]["target"]["image_id"] == 10002


def test_listed_areas_that_are_not_the_pixels_are_warned_of(root):
    pixels = {}

    def change(content):
        for annotation in content["annotations"][1:]:
            segment = annotation["segments_info"][0]
            pixels[annotation["file_name"]] = (segment["id"], segment["area"])
            segment["area"] += 5

    for split in ("train", "val"):
        edit(root, f"panoptic_{split}2017.json", change)
    found = CocoPanoptic("val", root)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        items = [*found, *found, *CocoPanoptic("train", root)]
    assert len(items) >= 2 * COUNT
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2  # each file once; the training measures no PQ
    for words, name in zip(said, ("000000010002.png", "000000010003.png"), strict=True):
        number, area = pixels[name]
        assert f"panoptic_val2017/{name}: " in words
        assert f"such as {area + 5} for segment {number}, which has {area} pixels" in words
        assert "PQ here counts the pixels" in words
    assert items[1]["segments"][0]["area"] == pixels["000000010002.png"][1]


def test_scenes_count_their_pixels(tmp_path):
    item = ScenePanoptic("val", tmp_path, size=(32, 32), count=1)[0]
    assert [s["area"] for s in item["segments"]] == [int((item["ids"] == s["id"]).sum()) for s in item["segments"]]
