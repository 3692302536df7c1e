"""Trained networks from their files: `resfu.load`, and checkpoints as version 0.1 wrote them."""

import numpy as np
import pytest
import torch
from PIL import Image

import resfu
from resfu.tasks import TASKS
from resfu.tasks.experiment import Experiment
from resfu.tasks.instances import InstanceModule
from resfu.tasks.label_maps import LabelMapModule
from resfu.tasks.loading import checkpoint_settings, load_data, load_module
from resfu.tasks.panoptic import PanopticModule
from resfu.tasks.run import RunFolder
from resfu.tasks.volumes import VolumeModule

# What `SegmentationTask` and `DetectionTask` kept of themselves, and `SegmentationData` and `DetectionData`.
OPTIMISATION = {
    "method": "adamw",
    "learning_rate": 6e-05,
    "weight_decay": 0.01,
    "momentum": 0.9,
    "betas": [0.9, 0.999],
    "head_multiplier": 10.0,
    "similarity_multiplier": 1.0,
    "undecayed": "norms",
}
SCHEDULE = {
    "power": 0.9,
    "minimum": 0.0,
    "warmup_steps": 3,
    "warmup_ratio": 1e-06,
    "total_steps": None,
    "drops": [],
    "drop_factor": 0.1,
}
SHARED = {
    "upsampler": "bilinear",
    "upsampler_options": None,
    "pretrained": False,
    "freeze_encoder": True,
    "optimisation": OPTIMISATION,
    "schedule": SCHEDULE,
    "seed": 5,
}
SEGMENTATION = {
    **SHARED,
    "host": "efficientnet-lite0",
    "loss_average": "valid",
    "inference": {"mode": "whole", "crop_size": None, "stride": None},
    "convention": "transunet",
}
DETECTION = {**SHARED, "host_options": {"min_size": 64, "max_size": 64, "frozen": False}, "engine": "pycocotools"}
SPLITS = {
    "root": None,
    "options": {},
    "train_options": None,
    "eval_options": None,
    "batch_size": 3,
    "eval_batch_size": 1,
    "num_workers": 0,
    "train_split": "train",
    "val_split": "val",
    "test_split": "test",
    "seed": 5,
    "images": None,
    "on_error": "raise",
}
PIXELS = {
    **SPLITS,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "crop_size": [64, 64],
    "scale_range": [0.5, 2.0],
    "base_size": None,
    "flip": True,
    "photometric": True,
    "cat_max_ratio": 0.75,
    "eval_size": None,
    "scan_flip": False,
    "scan_orientation": None,
    "scan_spacing": None,
    "nonfinite": "error",
    "fill_value": None,
}
MASK = "mask-rcnn-efficientnet-lite0"
OLD = {
    "label maps": (
        {**SEGMENTATION, "num_classes": 16},
        {**PIXELS, "dataset": "scenes", "augmentation": "photo"},
        LabelMapModule,
    ),
    "volumes": (
        {**SEGMENTATION, "num_classes": 9},
        {**PIXELS, "dataset": "ct", "augmentation": "slice"},
        VolumeModule,
    ),
    "instances": (
        {**DETECTION, "host": MASK, "num_classes": 9, "stuff_classes": 7, "boundary": True},
        {**SPLITS, "dataset": "scenes", "panoptic": False, "flip": True},
        InstanceModule,
    ),
    "panoptic": (
        {
            **DETECTION,
            "host": "panoptic-fpn-efficientnet-lite0",
            "num_classes": 9,
            "stuff_classes": 7,
            "boundary": False,
        },
        {**SPLITS, "dataset": "scenes", "panoptic": True, "flip": False},
        PanopticModule,
    ),
}


@pytest.fixture(params=OLD)
def old(request, tmp_path):
    """A checkpoint of version 0.1 with known weights, its task and its hyper-parameters."""
    model, data, module = OLD[request.param]
    known = {key: value for key, value in model.items() if key != "seed"}
    options = {"upsampler": "bilinear", "num_classes": model["num_classes"], "pretrained": False}
    if "stuff_classes" in model and request.param == "panoptic":
        options["stuff_classes"] = 7
    torch.manual_seed(1)
    host = resfu.HOSTS[known["host"]](upsampler_options=None, **options, **(model.get("host_options") or {}))
    content = {
        "state_dict": {f"host.{name}": value for name, value in host.state_dict().items()},
        "hyper_parameters": model,
        "datamodule_hyper_parameters": data,
    }
    if "host_options" in model:
        content["categories"] = [[n, f"kind {n}", n < 10, [n, n, n]] for n in range(1, 17)]
    else:
        names = [f"class {n}" for n in range(model["num_classes"])]
        content |= {"classes": names, "palette": [[n, n, n] for n in range(len(names))]}
    path = tmp_path / "old.ckpt"
    torch.save(content, path)
    return path, request.param, content, module


def test_every_task_of_version_0_1_is_still_there():
    assert OLD.keys() <= TASKS.keys()
    assert len(OLD) == 4


def test_a_checkpoint_of_version_0_1_loads(old):
    path, task, content, module = old
    found = resfu.load(path)
    assert type(found) is module
    assert not found.training
    for name, value in found.state_dict().items():
        if name in content["state_dict"]:
            torch.testing.assert_close(value, content["state_dict"][name], rtol=0, atol=0, msg=name)
    assert content["state_dict"].keys() <= found.state_dict().keys()
    assert (found.schedule.warmup_steps, found.optimisation.head_multiplier, found.freeze_encoder) == (3, 10, True)
    assert found.class_names[0] == {"volumes": "class 1", "label maps": "class 0"}.get(task, "kind 1")
    if task == "instances":
        assert (found.engine, found.boundary) == ("pycocotools", True)


def test_its_settings_and_data_are_those_of_today(old):
    path, task, content, _ = old
    settings = checkpoint_settings(path)
    experiment = Experiment(settings)
    assert experiment.task is TASKS[task]
    model, data = experiment.settings["model"], experiment.settings["data"]
    assert (model["schedule"]["warmup_steps"], model["freeze_encoder"]) == (3, True)
    assert data["batch_size"] == 3
    assert not {"augmentation", "panoptic"} & data.keys()
    assert "convention" not in model or task == "volumes"
    found = load_data(path, load_module(path))
    assert found.dataset == content["datamodule_hyper_parameters"]["dataset"]
    assert (found.batch_size, found.seed) == (3, 5)


@pytest.fixture
def run(tmp_path, toy_task, toy_data):
    """A run of `fit` on the toys, with a last and a best checkpoint of different weights."""
    folder = RunFolder(tmp_path / "run")
    folder.last.parent.mkdir(parents=True)
    for place, shift in ((folder.last, 0.0), (folder.best, 5.0)):
        task = toy_task()
        with torch.no_grad():
            task.host.head[1].bias[2] += shift
        content = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}
        content["datamodule_hyper_parameters"] = dict(toy_data().hparams)
        content |= {"classes": ["ground", "square", "never"], "palette": [[0, 0, 0], [255, 0, 0], [0, 0, 255]]}
        torch.save(content, place)
    return folder


def test_load_gives_a_network_that_takes_photos(run, tmp_path):
    net = resfu.load(run.path)
    assert net.classes == ("ground", "square", "never")
    assert net.palette[1] == [255, 0, 0]
    assert not net.host.training
    pixels = np.random.default_rng(0).integers(0, 256, (11, 14, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    labels = net.predict(tmp_path / "photo.png")
    assert (labels.shape, labels.dtype) == ((11, 14), torch.uint8)
    assert torch.equal(labels, net.predict(pixels))
    assert torch.equal(labels, net.predict(str(tmp_path / "photo.png")))
    normalised = (torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 - 0.5) / 0.25
    with torch.no_grad():
        assert torch.equal(labels, net.host(normalised).argmax(1)[0].to(torch.uint8))
    assert (labels == 2).all()  # the best checkpoint's
    assert not (resfu.load(run.last).predict(pixels) == 2).all()
    run.best.unlink()
    assert not (resfu.load(run.path).predict(pixels) == 2).all()


def test_photos_are_resized_as_in_the_validation_of_the_training(run, toy_data):
    content = torch.load(run.best, weights_only=True)
    content["datamodule_hyper_parameters"]["eval_size"] = (48, 24)
    torch.save(content, run.best)
    net, seen = resfu.load(run.path), []
    net.host.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    assert net.predict(np.zeros((12, 18, 3), np.uint8)).shape == (12, 18)
    assert seen == [(24, 36)]


def test_what_cannot_be_loaded_is_named(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint, run or comparison at .*nowhere"):
        resfu.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds 0 trained networks .none is finished"):
        resfu.load(tmp_path)
    (tmp_path / "text.ckpt").write_text("text")
    with pytest.raises(ValueError, match=r"text\.ckpt is not a checkpoint of resfu"):
        resfu.load(tmp_path / "text.ckpt")
    net = resfu.load(run.path)
    turned = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)[..., ::-1]  # as read by OpenCV
    assert np.array_equal(net.predict(turned), net.predict(turned.copy()))
    with pytest.raises(ValueError, match=r"a photo must be uint8 \[H, W, 3\] in RGB, got float32 \[3, 4, 4\]"):
        net.predict(np.zeros((3, 4, 4), np.float32))
    with pytest.raises(ValueError, match=r"text\.ckpt"):
        net.predict(tmp_path / "text.ckpt")
