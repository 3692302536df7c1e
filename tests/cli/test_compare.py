import json
import re

import pytest

from resfu.cli import main
from resfu.recipes import read_recipe
from resfu.training.record import Record


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("scenes"))
    small = "--data.options.size [64,64] --data.train_options.count 4 --data.eval_options.count 2"
    small += " --crop 64 --steps 3 --batch-size 2 --pictures 1 --threads 1 --model.pretrained false --save_every 1"
    small += " --model.schedule.warmup_steps 1"
    given = small.split()
    return ["compare", "--recipe", "scenes", "--upsamplers", "bilinear,resfu", "--root", root, *given]


def test_interrupted_and_called_again_it_finishes_without_repeating(words, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    saved = Record.on_train_batch_end

    def interrupt(self, trainer, pl_module, *others):
        saved(self, trainer, pl_module, *others)
        if pl_module.hparams["upsampler"] == "resfu" and trainer.global_step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Record, "on_train_batch_end", interrupt)
        assert main([*words, "--output", str(output)]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    finished = output / "runs" / "bilinear-seed0" / "metrics.json"
    written = finished.stat().st_mtime_ns
    assert not (output / "runs" / "resfu-seed0" / "metrics.json").exists()
    assert not (output / "results.json").exists()

    assert main([*words, "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert "bilinear, seed 0: finished before" in said
    assert "resfu, seed 0: goes on" in said
    assert re.search(r"bilinear +\d+\.\d\d", said)
    assert finished.stat().st_mtime_ns == written

    results = json.loads((output / "results.json").read_text())
    assert [(run["upsampler"], run["seed"]) for run in results["runs"]] == [("bilinear", 0), ("resfu", 0)]
    assert results["settings"]["data"]["crop_size"] == [64, 64]
    assert results["count"] == 2
    for run in results["runs"]:
        assert [step for step, _ in run["curves"]["loss"]] == [1, 2, 3]
        assert len(run["iou"]) == len(results["classes"]) == 16
        summary = results["summary"][run["upsampler"]]["miou"]
        assert summary == {"mean": run["metrics"]["miou"], "std": None, "n": 1}
    assert results["versions"]["torch"]
    table = (output / "table.md").read_text()
    assert "| bilinear |" in table
    assert "| resfu |" in table
    assert "data:image/png;base64," in (output / "report.html").read_text()
    assert len(list((output / "sheets").glob("*.png"))) == 1

    # Another setting in the same folder is refused by name; another seed or upsampler is welcome.
    assert main([*words, "--output", str(output), "--lr", "0.5"]) == 2
    assert "model.optimisation.learning_rate was 0.0005 and is 0.05" in capsys.readouterr().err
    assert finished.stat().st_mtime_ns == written
    assert main([*words, "--output", str(output), "--seeds", "0,1", "--upsamplers", "nearest,bilinear"]) == 0
    assert finished.stat().st_mtime_ns == written
    table = json.loads((output / "results.json").read_text())["summary"]
    assert list(table) == ["nearest", "bilinear"]
    assert table["bilinear"]["miou"]["n"] == 2
    assert table["bilinear"]["miou"]["std"] is not None


def test_an_output_folder_that_cannot_be_written_ends_it_at_once(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("resfu.compare.run.train_one", None)  # no training may begin
    (tmp_path / "file").touch()
    assert main([*words, "--output", str(tmp_path / "file" / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cannot write to the output folder" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--upsamplers", "bilinear,cubist"], "unknown upsampler 'cubist'; choose from"),
        (["--upsamplers", ","], "no upsampler given"),
        (["--seeds", "0"], "at least 1, got '0'"),
        (["--seeds", "1,1"], "each only once"),
        (["--seeds", "x"], "argument --seeds: .*'x'"),
        (["--steps", "0"], "--steps: expected a whole number of at least 1"),
        (["--size", "64x"], "argument --size: expected N or HxW.*got '64x'"),
        (["--crop", "64x"], "argument --crop: expected N or HxW.*got '64x'"),
        (["--recipe", "moon"], "unknown recipe 'moon'; choose one of camvid"),
        (["--data", "moon"], "unknown dataset 'moon'; choose one of"),
        (["--data", "camvid", "--size", "64"], "dataset 'camvid' has no option size"),
        (["--lr", "0"], "--lr: expected a number above 0, got '0'"),
        (["--lr", "nan"], "--lr: expected a number above 0, got 'nan'"),
        (["--difficulty", "2"], "difficulty must be 0 to 1"),
        (["--model.hots", "x"], "unknown key model.hots; did you mean model.host?"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["--finetune", "--freeze-encoder"], "not allowed with"),
    ],
)
def test_bad_options_end_with_a_line_that_says_so(words, tmp_path, capsys, options, message):
    begin = words
    if "camvid" in options:  # which has no counts
        begin = [*words[: words.index("--data.train_options.count")], *words[words.index("--crop") :]]
    assert main([*begin, "--output", str(tmp_path / "out"), *options]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out" / "settings.json").exists()  # the corrected command is welcome there


@pytest.mark.parametrize(("data", "source"), [("camvid", "Get CamVid"), ("ade20k", "Get ADEChallengeData2016")])
def test_a_missing_data_folder_is_named(tmp_path, capsys, data, source):
    root = tmp_path / "nothing"
    assert main(["compare", "--data", data, "--root", str(root), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert str(root) in error
    assert source in error


def settings_of(argv, monkeypatch):
    """What `resfu compare` would begin with."""
    begun = []
    monkeypatch.setattr("resfu.compare.run.compare", lambda comparison, *others: begun.append((comparison, *others)))
    assert main(["compare", *argv, "--output", "x"]) == 0
    return begun[0][0].to_dict()


def test_short_options_stand_for_settings(monkeypatch):
    short = "--host efficientnet-lite0 --root R --steps 7 --batch-size 3 --crop 32x48 --lr 0.02 --finetune --workers 1"
    found = settings_of(short.split(), monkeypatch)
    data, model = found["data"], found["model"]
    assert (data["root"], data["batch_size"], data["crop_size"], data["num_workers"]) == ("R", 3, [32, 48], 1)
    assert (model["freeze_encoder"], found["trainer"]["max_steps"]) == (False, 7)
    # The rate of everything outside the encoder, which the recipe trains ten times as fast.
    assert model["optimisation"]["learning_rate"] == pytest.approx(0.002)
    full = settings_of(["--steps", "7", "--trainer.max_steps", "9", "--model.pretrained=false"], monkeypatch)
    assert (full["trainer"]["max_steps"], full["model"]["pretrained"]) == (9, False)
    assert settings_of(["ct"], monkeypatch) == settings_of(["--recipe", "ct"], monkeypatch)  # or the first word


def test_old_names_stand_for_settings_and_say_so(monkeypatch, capsys):
    old = "--no-pretrained --augment full --size 48x64 --difficulty 0.5 --train-images 5 --val-images 4 --validations 3"
    found = settings_of([*old.split(), "--steps", "9"], monkeypatch)
    assert "old names, which will go in 0.3; use a recipe and its settings" in capsys.readouterr().err
    data, model = found["data"], found["model"]
    assert (model["pretrained"], model["freeze_encoder"]) == (False, False)
    assert data["options"] == {"size": [48, 64], "difficulty": 0.5}
    assert (data["train_options"], data["eval_options"]) == ({"count": 5}, {"count": 4})
    assert (data["crop_size"], data["scale_range"], data["photometric"]) == ([48, 64], [0.5, 2.0], True)
    assert found["trainer"]["val_check_interval"] == 3
    assert found["recipe"] == "scenes"
    assert settings_of(["--augment", "flip"], monkeypatch)["data"]["scale_range"] == [1.0, 1.0]
    assert settings_of(["--validations", "2"], monkeypatch)["trainer"]["val_check_interval"] == 150


def test_old_names_of_volumes_and_objects(monkeypatch):
    found = settings_of(["--data", "cardiac", "--volume-size", "4x32x40", "--convention", "strict"], monkeypatch)
    assert (found["recipe"], found["data"]["options"]) == ("cardiac", {"size": [4, 32, 40]})
    assert found["model"]["convention"] == "strict"
    found = settings_of(["--data", "synapse", "--root", "r"], monkeypatch)
    assert (found["recipe"], found["data"]["dataset"], found["data"]["options"]) == ("ct", "synapse", None)
    words = ["--size", "48x64", "--host-options", "max_size=99", "box_nms_thresh=0.4"]
    found = settings_of(["--host", "mask-rcnn-efficientnet-lite0", *words], monkeypatch)
    assert found["recipe"] == "scenes-instances"
    options = {"min_size": 48, "max_size": 99, "box_nms_thresh": 0.4}
    assert found["model"]["host_options"] == options
    found = settings_of(["--host", "panoptic-fpn-efficientnet-lite0", "--size", "64"], monkeypatch)
    assert found["model"]["host_options"] == {"min_size": 64, "max_size": 64, "stuff_area": 56}
    found = settings_of(["--host", "mask-rcnn-resnet50", "--data", "coco", "--finetune"], monkeypatch)
    assert (found["data"]["dataset"], found["data"]["train_options"]) == ("coco", None)


def test_a_host_alone_asks_for_the_recipe_of_its_task(monkeypatch, capsys):
    assert settings_of(["--host", "panoptic-fpn-efficientnet-lite0"], monkeypatch)["recipe"] == "scenes-panoptic"
    assert capsys.readouterr().err == ""
    assert settings_of([], monkeypatch)["data"]["crop_size"] == read_recipe("scenes")["data"]["crop_size"]
