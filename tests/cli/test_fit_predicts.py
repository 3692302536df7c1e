"""`resfu predict` with the checkpoint of a run of `resfu fit`."""

import numpy as np
import pytest
import torch
from PIL import Image

from resfu.cli import main
from resfu.data import DATASETS
from resfu.hosts.base import SegmentationHost
from resfu.tasks.photos import Photos


def test_predict_writes_label_maps(place, capsys):
    photos, output = place / "photos", place / "masks"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photos / "good.png")
    (photos / "bad.png").write_bytes(b"not a picture")
    words = ["predict", str(photos), "--checkpoint", str(place / "run" / "checkpoints" / "last.ckpt")]
    words += ["--output", str(output), "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert "cannot read the image" in captured.err
    assert "bad.png" in captured.err
    assert main([*words, "--on-error", "skip"]) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith(f"label maps in {output}: 1\n")
    assert "resfu: skipped: cannot read the image" in captured.err
    with Image.open(output / "good.png") as picture:
        assert (picture.mode, picture.size) == ("P", (50, 40))
        assert picture.getpalette()[:48] == DATASETS["scenes"].palette.flatten().tolist()
        assert np.array(picture).max() < 16


@pytest.fixture
def large(place, tmp_path):
    """A photo with its EXIF orientation, and the words that predict it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png", exif=exif)
    words = ["predict", str(tmp_path / "large.png"), "--ckpt_path", str(place / "run" / "checkpoints" / "last.ckpt")]
    words += ["--output", str(tmp_path / "out"), "--trainer.accelerator", "cpu"]
    return [*words, "--trainer.enable_progress_bar", "false"]


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ([], {(90, 60)}),
        (["--longest-side", "45"], {(45, 30)}),
        (["--longest-side", "200"], {(90, 60)}),
        (["--window", "48"], {(48, 48)}),
        (["--longest-side", "64", "--window", "48", "--stride", "16"], {(48, 43)}),
        (["--longest-side", "50", "--data.eval_size", "[80,20]"], {(30, 20)}),
    ],
)
def test_predict_works_at_the_size_it_is_told(large, tmp_path, options, seen, monkeypatch):
    sizes = set()
    encoder = SegmentationHost.coarse_logits
    monkeypatch.setattr(
        SegmentationHost, "coarse_logits", lambda host, x: sizes.add(tuple(x.shape[-2:])) or encoder(host, x)
    )
    assert main([*large, *options]) == 0
    assert sizes == seen
    with Image.open(tmp_path / "out" / "large.png") as picture:  # the label map lies over the photo as it is shown
        assert (picture.mode, picture.size) == ("P", (60, 90))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--stride", "16"], "--stride is the step of windows: give --window"),
        (["--longest-side", "0"], "--longest_side: expected a whole number of at least 1, got '0'"),
        (["--window", "16", "--stride", "20"], "stride (20, 20) is larger than crop_size (16, 16)"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(large, options, line, capsys):
    assert main([*large, *options]) == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("where", [SegmentationHost, Photos])
def test_out_of_memory_is_one_line(large, where, monkeypatch, capsys):
    def too_much(*_):
        torch.empty(2**58) if where is SegmentationHost else np.empty(2**58)

    monkeypatch.setattr(where, "coarse_logits" if where is SegmentationHost else "__getitem__", too_much)
    assert main(large) == 2
    error = capsys.readouterr().err
    assert error.startswith("resfu: out of memory; ")
    assert "--longest-side" in error
    assert "--window" in error
    assert error.count("\n") == 1
