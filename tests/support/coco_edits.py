"""Ways to write COCO's files, and what a data set read from them gives."""

import json

import torch

from resfu.evaluation.instances import METRICS, InstanceMetrics


def edit(root, name, change):
    file = root / "annotations" / name
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def polygons_in(content):
    return [entry for entry in content["annotations"] if isinstance(entry["segmentation"], list)]


def scores(dataset):
    """Mask AP of perfect answers: pycocotools takes the ground truth as the dataset gives it."""
    metrics = InstanceMetrics(dataset.ground_truth())
    for item in dataset:
        target = item["target"]
        masks = target["masks"].as_subclass(torch.Tensor)
        metrics.update(target["image_id"], masks, torch.ones(len(masks)), target["labels"])
    found = metrics.compute()
    return [found[key] for key in METRICS]


def same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        for key in ("boxes", "labels", "masks", "area", "iscrowd"):
            assert torch.equal(torch.as_tensor(ours["target"][key]), torch.as_tensor(theirs["target"][key])), key


def without(key):
    return lambda content: [entry.pop(key) for entry in content["annotations"] if not entry["iscrowd"]]


def written_as_text(content):
    for entry in content["annotations"]:
        entry["bbox"] = [str(value) for value in entry["bbox"]] if entry["id"] % 2 else str(entry["bbox"])
        entry["area"] = str(entry["area"])


def flat(content):
    for entry in polygons_in(content):
        if len(entry["segmentation"]) == 1:
            entry["segmentation"] = entry["segmentation"][0]


def with_crumbs(content):
    for entry in polygons_in(content):
        entry["segmentation"] = [[], [3.0, 4.0], *entry["segmentation"], [1, 1, 5, 5]]
