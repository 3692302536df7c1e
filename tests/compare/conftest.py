import numpy as np
import pytest

from resfu.compare.pictures import ImagePictures, Layer
from resfu.compare.settings import Settings


@pytest.fixture(scope="session")
def scenes_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture
def tiny(scenes_cache):
    """Makes the smallest settings that train; keywords change them."""

    def make(**changes):
        values = {
            "upsamplers": ("bilinear", "resfu"),
            "seeds": (0,),
            "data": "scenes",
            "root": str(scenes_cache),
            "host": "efficientnet-lite0",
            "pretrained": False,
            "freeze_encoder": True,
            "steps": 4,
            "batch_size": 2,
            "learning_rate": 1e-2,
            "crop": (64, 64),
            "augment": "flip",
            "size": (64, 64),
            "difficulty": 0.0,
            "train_images": 6,
            "val_images": 3,
        }
        return Settings(**{**values, **changes})

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
        "kind": "label maps",
        "settings": tiny(seeds=(0, 1)).to_dict(),
        "versions": {"resfu": "0.1.0"},
        "machine": {"device": "CPU, 1 thread", "note": "</script><b>not bold</b>"},
        "classes": ["sky", "a <i>class</i> & more", "unseen"],
        "palette": [[0, 0, 255], [16, 128, 0], [255, 255, 255]],
        "images": 5,
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

    def layers(wrong):
        before, after = (Layer(f"features {when}", picture(4, 6)) for when in ("before", "after"))
        return before, after, Layer("prediction", picture()), Layer("errors", picture(), f"errors: {wrong} %")

    references = ("image", True), ("ground truth over the image", True), ("ground truth", False)
    return [
        ImagePictures(
            name,
            tuple(Layer(words, picture(), photo=photo) for words, photo in references),
            {"bilinear": layers(30.0), "resfu": layers(8.5)},
        )
        for name in ("first", 'second "<img src=x onerror=1>"')
    ]
