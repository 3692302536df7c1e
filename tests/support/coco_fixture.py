"""A tiny copy of COCO on disk, made from the procedural scenes: to test a pipeline without a download.

Pictures and outlines are those of the scenes; the labels stand for some category of COCO. Nothing that is measured on
them says anything about COCO.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from resfu.data.base import Sample
from resfu.data.coco.scenes import ScenePanoptic
from resfu.data.coco.segmentation import Segmentation, encode_rle, outlines
from resfu.data.palette import voc_palette
from resfu.files.atomic import replacing, write_json

# The 53 categories of stuff; torchvision knows the things.
_STUFF = {
    92: "banner", 93: "blanket", 95: "bridge", 100: "cardboard", 107: "counter", 109: "curtain", 112: "door-stuff",
    118: "floor-wood", 119: "flower", 122: "fruit", 125: "gravel", 128: "house", 130: "light", 133: "mirror-stuff",
    138: "net", 141: "pillow", 144: "platform", 145: "playingfield", 147: "railroad", 148: "river", 149: "road",
    151: "roof", 154: "sand", 155: "sea", 156: "shelf", 159: "snow", 161: "stairs", 166: "tent", 168: "towel",
    171: "wall-brick", 175: "wall-stone", 176: "wall-tile", 177: "wall-wood", 178: "water-other", 180: "window-blind",
    181: "window-other", 184: "tree-merged", 185: "fence-merged", 186: "ceiling-merged", 187: "sky-other-merged",
    188: "cabinet-merged", 189: "table-merged", 190: "floor-other-merged", 191: "pavement-merged",
    192: "mountain-merged", 193: "grass-merged", 194: "dirt-merged", 195: "paper-merged", 196: "food-other-merged",
    197: "building-other-merged", 198: "rock-merged", 199: "wall-other-merged", 200: "rug-merged",
}  # fmt: skip

# For each class of the scenes a category; things stand for things, since only these are told apart.
STAND_INS = {
    "sky": "sky-other-merged",
    "mountain": "mountain-merged",
    "grass": "grass-merged",
    "road": "road",
    "water": "water-other",
    "wall": "wall-other-merged",
    "soil": "dirt-merged",
    "rock": "sports ball",
    "flower": "potted plant",
    "ring": "donut",
    "tree": "umbrella",
    "fence": "bench",
    "lamp": "traffic light",
    "animal": "horse",
    "cart": "car",
    "cable": "kite",
}


def write_coco_fixture(root: str | Path, count: int = 4, size: tuple[int, int] = (48, 64), seed: int = 0) -> Path:
    """Write a tiny valid copy of COCO 2017, instances and panoptic.

    It has all 133 categories. Every second mask without a hole is written as polygons, the others as run lengths, and
    one object of each split as a crowd, where an image has two or more.

    Args:
        root: a new or empty folder; what `create_instance_dataset` and `create_panoptic_dataset` take as their root.
        count: scenes in "train", of which those without a thing are left out, and in "val".
        size: (H, W) in pixels, at least 32.
        seed: another one gives other pictures.

    Returns:
        The folder. The same arguments write the same files.

    Raises:
        ValueError: for a count or size that makes no sense, or a folder that holds something.
    """
    folder = Path(root)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} holds something already: give a new folder, so that no real data are overwritten.")
    for first, split in ((1, "train"), (10001, "val")):
        scenes = ScenePanoptic(split, size=size, count=count, seed=seed)
        _write_split(folder, split, [scenes[index] for index in range(len(scenes))], first)
    return folder


def _write_split(folder: Path, split: str, samples: list[Sample], first: int) -> None:
    categories = _categories()
    numbers = {category["name"]: category["id"] for category in categories}
    category_ids = [numbers[STAND_INS[category.name]] for category in ScenePanoptic.categories]  # by place
    images, instances, panoptic = [], [], []
    crowded = False
    for image_id, sample in enumerate(samples, start=first):
        name = f"{image_id:012d}"
        picture, ids = sample["image"].permute(1, 2, 0).numpy(), sample["ids"].numpy()
        images.append({"id": image_id, "file_name": f"{name}.jpg", "height": ids.shape[0], "width": ids.shape[1]})
        # JPEG's usual halving of the colour would blur pictures as small as these.
        _save(picture, folder / f"{split}2017" / f"{name}.jpg", quality=95, subsampling=0)
        things = [segment["id"] for segment in sample["segments"] if segment["isthing"]]
        crowd = things[0] if len(things) > 1 and not crowded else None
        crowded = crowded or crowd is not None
        stored, segments = np.zeros_like(ids), []
        for segment in sample["segments"]:
            mask = ids == segment["id"]
            category = category_ids[segment["category_id"]]
            entry = {"category_id": category, "iscrowd": int(segment["id"] == crowd), **_box_and_area(mask)}
            stored_id = 1000 * category + segment["id"]  # takes all three bytes
            stored[mask] = stored_id
            segments.append({"id": stored_id, **entry})
            if segment["isthing"]:
                number = len(instances) + 1
                written = _written(mask, entry["iscrowd"], polygons=number % 2 == 1)
                instances.append({"id": number, "image_id": image_id, "segmentation": written, **entry})
        _save(_encode_ids(stored), folder / "annotations" / f"panoptic_{split}2017" / f"{name}.png")
        panoptic.append({"image_id": image_id, "file_name": f"{name}.png", "segments_info": segments})
    things_only = [{key: entry[key] for key in ("id", "name", "supercategory")} for entry in categories[:80]]
    for kind, annotations, listed in (("instances", instances, things_only), ("panoptic", panoptic, categories)):
        content = {"images": images, "annotations": annotations, "categories": listed}
        file = folder / "annotations" / f"{kind}_{split}2017.json"
        write_json(file, content, indent=None, durable=False)


def _categories() -> list[dict[str, Any]]:
    things = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    named = {number: name for number, name in enumerate(things) if name not in ("__background__", "N/A")}
    colours = voc_palette(256).tolist()
    return [
        {
            "id": number,
            "name": name,
            "supercategory": "thing" if number in named else "stuff",
            "isthing": int(number in named),
            "color": colours[number],
        }
        for number, name in (named | _STUFF).items()
    ]


def _written(mask: NDArray[np.bool_], crowd: int, polygons: bool) -> Segmentation:
    outline = outlines(mask) if polygons and not crowd else None
    return outline or encode_rle(mask, compress=not crowd)


def _box_and_area(mask: NDArray[np.bool_]) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return {"bbox": [int(side) for side in box], "area": int(mask.sum())}


def _encode_ids(ids: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """The picture that `decode_ids` reads."""
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)


def _save(array: NDArray[np.uint8], path: Path, **options: Any) -> None:
    with replacing(path, durable=False) as draft:
        Image.fromarray(array).save(draft, **options)
