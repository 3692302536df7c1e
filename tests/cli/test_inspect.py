"""`resfu inspect` on networks of other libraries and of one's own."""

import json

import pytest

from resfu.cli import main


@pytest.mark.filterwarnings("ignore")
def test_the_table_and_the_costs(tmp_path, capsys):
    pytest.importorskip("torchvision", reason="needs the extra hosts")
    words = ["inspect", "torchvision:lraspp_mobilenet_v3_large", "--size", "64", "--upsamplers", "resfu,carafe"]
    assert main([*words, "--json", str(tmp_path / "costs.json")]) == 0
    out = capsys.readouterr().out
    assert "classifier#0  bilinear  4 x 4  8 x 8" in out
    assert "no: logits to the image" in out
    record = json.loads((tmp_path / "costs.json").read_text())
    assert [place["name"] for place in record["places"]] == ["classifier#0", "#0"]
    assert record["upsamplers"]["carafe"]["parameters"] == 128 * 64 + 64 + 64 * 100 * 9 + 100
    assert record["upsamplers"]["resfu"]["multiply_accumulates"] > 0


def test_a_network_of_ones_own(tmp_path, capsys, monkeypatch):
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "def small():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 2, 2), nn.Upsample(scale_factor=2), nn.Conv2d(8, 2, 1))\n"
        "def number():\n"
        "    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["inspect", "my_nets:small", "--size", "16x24", "--upsamplers", "dysample"]) == 0
    assert "1#0    nearest  8 x 12  16 x 24" in capsys.readouterr().out
    for word, reason in {
        "my_nets:number": "gave a int, no torch.nn.Module",
        "my_nets:large": "my_nets has no 'large'",
        "no_nets:small": "there is no module 'no_nets'",
        "deeplabv3": "expected LIBRARY:NAME",
    }.items():
        assert main(["inspect", word]) == 2
        assert reason in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_logits_alone(tmp_path, capsys):
    pytest.importorskip("torchvision", reason="needs the extra hosts")
    words = ["inspect", "torchvision:fcn_resnet50", "--size", "32", "--upsamplers", "carafe,dysample"]
    assert main([*words, "--json", str(tmp_path / "costs.json")]) == 0
    assert "yes: logits to the image by way of backbone.relu" in capsys.readouterr().out
    record = json.loads((tmp_path / "costs.json").read_text())
    # From 4 x 4 to the stem's 16 x 16, 21 classes.
    assert record["upsamplers"]["carafe"]["parameters"] == 21 * 64 + 64 + 64 * 25 * 16 * 9 + 25 * 16
    assert record["upsamplers"]["dysample"]["places"] == 1


@pytest.mark.filterwarnings("ignore")
def test_a_network_that_upsamples_nothing(capsys, monkeypatch, tmp_path):
    (tmp_path / "my_flat_nets.py").write_text("from torch import nn\ndef flat():\n    return nn.Conv2d(3, 8, 3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["inspect", "my_flat_nets:flat", "--size", "16", "--upsamplers", "resfu,carafe"]) == 0
    out = capsys.readouterr().out
    assert "this network upsamples nothing" in out
    assert "left out: resfu, carafe: nothing is upsampled here" in out


def test_networks_that_fail_are_named(capsys, monkeypatch, tmp_path):
    (tmp_path / "my_bad_nets.py").write_text(
        "from torch import nn\ndef wanting(width):\n    pass\ndef flat():\n    return nn.Conv2d(4, 8, 3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for words, reason in {
        ("my_bad_nets:wanting",): r"my_bad_nets:wanting could not be created: TypeError: wanting() missing 1 required",
        (
            "my_bad_nets:flat",
            "--size",
            "8",
        ): "Conv2d does not take the inputs given (float32 [1, 3, 8, 8]): Given groups=1",
        ("my_bad_nets:flat", "--json", str(tmp_path)): f"--json writes a file, and {tmp_path} is a folder",
    }.items():
        assert main(["inspect", *words]) == 2
        assert reason in capsys.readouterr().err
