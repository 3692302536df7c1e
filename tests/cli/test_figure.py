import numpy as np
import pytest
import torch
from PIL import Image

from resfu.cli import main
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


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint with untrained weights."""

    def save(upsampler, palette=None):
        path = tmp_path / f"{upsampler}.ckpt"
        task = LabelMapModule("efficientnet-lite0", upsampler, num_classes=2)
        content = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams), "palette": palette}
        content["datamodule_hyper_parameters"] = {"dataset": "scenes"}
        torch.save(content, path)
        return str(path)

    return save


def figure(name, photo, *words):
    return main(["figure", name, "--image", str(photo), "--output", str(photo.parent / "out"), *words])


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
    content = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}
    content["datamodule_hyper_parameters"] = {"dataset": "scenes"}
    categories = [[1, "cat", True, [9, 9, 9]], [2, "sky", False, [0, 0, 250]]]
    heights = []
    for known in (categories, []):
        torch.save({**content, "categories": known}, tmp_path / "objects.ckpt")
        assert figure("features", photo, "--ckpt_path", str(tmp_path / "objects.ckpt"), "--slot", "c2") == 0
        with Image.open(photo.parent / "out/photo-features.png") as picture:
            heights.append(picture.height)
    assert heights[0] > heights[1] * 1.5  # what it finds is a second row, without categories there is none


def test_features_of_untrained_ones_say_so(photo, capsys):
    assert figure("features", photo, "--upsamplers", "sapa,resfu", "--no-pretrained") == 0
    said = capsys.readouterr().out
    assert "sapa: untrained: efficientnet-lite0, encoder with random weights, head and upsampler with random" in said
    assert written(photo) == ["photo-features.png"]


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
        (["features", "--image", "missing.png"], "missing.png"),
        (["features", "--ckpt_path", "gone"], "--ckpt_path brings its own network: leave --pretrained out"),
        ([], "the following arguments are required: FIGURE"),
    ],
)
def test_bad_input_is_named(photo, capsys, words, message):
    rest = ["--image", str(photo), "--no-pretrained", *words[1:]] if words else []
    assert main(["figure", *words[:1], *rest]) == 2
    assert message in capsys.readouterr().err


def test_help_names_the_figures_of_the_paper(capsys):
    assert main(["figure", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for figure in ("(Fig. 8)", "(Figs. 6 and 16)", "(Fig. 17)", "(Fig. 22)"):
        assert figure in said
