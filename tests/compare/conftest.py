import numpy as np
import pytest

from resfu.compare.comparison import Comparison
from resfu.recipes import merge
from resfu.tasks.pictures import ImagePictures, View
from tests.support.timing import timed_once

__all__ = ["timed_once"]

TINY = {
    "model": {"pretrained": False, "schedule": {"warmup_steps": 0}},
    "data": {
        "options": {"size": [64, 64]},
        "train_options": {"count": 6},
        "eval_options": {"count": 3},
        "batch_size": 2,
        "eval_batch_size": 1,
    },
    "trainer": {"max_steps": 4, "val_check_interval": 4},
}
LABEL_MAPS = {"data": {"crop_size": [64, 64]}}


@pytest.fixture(scope="session")
def scenes_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="session")
def tiny(scenes_cache):
    """Makes the smallest comparison that trains; settings change it."""

    def make(*settings, recipe="scenes", upsamplers=("bilinear", "resfu"), seeds=(0,)):
        own = LABEL_MAPS if recipe == "scenes" else {}
        return Comparison(recipe, upsamplers, seeds, merge(TINY, own, {"data": {"root": str(scenes_cache)}}, *settings))

    return make


def _run(upsampler, seed, miou):
    return {
        "upsampler": upsampler,
        "seed": seed,
        "metrics": {"miou": miou, "macc": miou + 10, "aacc": 80.0, "biou": miou - 20},
        "iou": [miou - 5, miou + 5, None],
        "curves": {
            "loss": [[step, 3.0 / step + 0.1 * seed] for step in range(1, 81)],
            "miou": [[40, miou - 10], [80, miou]],
        },
    }


@pytest.fixture
def results(tiny):
    """What results.json holds after two upsamplers and two seeds, with made-up numbers and unfriendly names."""
    cost = {
        "parameters": 1_234_567,
        "multiply_accumulates": 2_340_000_000,
        "host_ms": 12.34,
        "upsampler_ms": 1.26,
        "peak_bytes": 45_600_000,
    }
    return {
        "task": "label maps",
        "settings": tiny(seeds=(0, 1)).to_dict(),
        "versions": {"resfu": "0.1.0"},
        "machine": {"device": "CPU, 1 thread", "note": "</script><b>not bold</b>"},
        "classes": ["sky", "a <i>class</i> & more", "unseen"],
        "palette": [[0, 0, 255], [16, 128, 0], [255, 255, 255]],
        "count": 5,
        "cost_input": {"height": 64, "width": 96},
        "cost": {"bilinear": cost, "resfu": {**cost, "parameters": 2_000_000}},
        "runs": [
            _run("bilinear", 0, 50.0),
            _run("resfu", 0, 60.0),
            _run("bilinear", 1, 52.0),
            _run("resfu", 1, 61.0),
        ],
    }


@pytest.fixture
def pictures():
    """Two images as the report shows them."""
    generator = np.random.default_rng(0)

    def picture(height=8, width=12):
        return generator.integers(0, 255, (height, width, 3), np.uint8)

    def views(wrong):
        before, after = (View(f"features {when}", picture(4, 6)) for when in ("before", "after"))
        return before, after, View("prediction", picture()), View("errors", picture(), f"errors: {wrong} %")

    references = ("image", True), ("ground truth over the image", True), ("ground truth", False)
    return [
        ImagePictures(
            name,
            tuple(View(words, picture(), photo=photo) for words, photo in references),
            {"bilinear": views(30.0), "resfu": views(8.5)},
        )
        for name in ("first", 'second "<img src=x onerror=1>"')
    ]
