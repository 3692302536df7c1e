import json

import pytest

from resfu import UPSAMPLERS
from resfu.cli import main
from resfu.evaluation.cost.tables import RecountedRow
from resfu.evaluation.published import published_rows

HOST = ["cost", "efficientnet-lite0", "--size", "64x96", "--num-classes", "7"]


def test_a_network_with_some_upsamplers(tmp_path, capsys):
    file = tmp_path / "new" / "cost.json"
    assert main([*HOST, "--upsamplers", "bilinear,carafe,resfu", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert "efficientnet-lite0, num_classes 7, one image of 64 x 96" in out
    record = json.loads(file.read_text())
    assert record["size"] == [64, 96]
    assert list(record["upsamplers"]) == ["bilinear", "carafe", "resfu"]
    base, found = record["without_upsampler"], record["upsamplers"]
    head = 112 * 64 + 2 * 64 + 64 * 7 + 7  # projection with its normalisation, classifier
    assert base["parameters"] == found["bilinear"]["parameters"] == 700_768 + head
    carafe = 3 * (64 * 64 + 64 + 64 * 100 * 9 + 100)
    assert found["carafe"]["parameters"] - base["parameters"] == carafe
    assert f"{carafe:,}" in out
    # x8 of 64 channels from 4 x 6: 4 per element of 32 x 48
    for count in ("paper", "with_custom_operations", "as_run"):
        added = found["bilinear"][f"multiply_accumulates_{count}"] - base["multiply_accumulates"]
        assert added == 4 * 64 * 32 * 48
    assert found["resfu"]["multiply_accumulates_as_run"] < found["resfu"]["multiply_accumulates_paper"]


def test_detection_networks_have_their_parameters_counted(tmp_path, capsys):
    file = tmp_path / "cost.json"
    assert main(["cost", "panoptic-fpn-resnet50", "--upsamplers", "nearest,resfu", "--json", str(file)]) == 0
    assert "panoptic-fpn-resnet50, num_classes 80 upsampler" in " ".join(capsys.readouterr().out.split())
    found = json.loads(file.read_text())["upsamplers"]
    assert found == {"nearest": {"parameters": 46_031_467}, "resfu": {"parameters": 46_031_467 + 142_710}}


def test_every_upsampler_by_default(capsys):
    assert main(HOST) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in UPSAMPLERS] == list(UPSAMPLERS)


def test_options_reach_the_upsampler_and_what_does_not_fit_says_why(tmp_path, capsys):
    file = tmp_path / "cost.json"
    words = [*HOST, "--json", str(file), "--upsamplers"]
    assert main([*words, "dysample+style=pl,dysample"]) == 0
    record = json.loads(file.read_text())
    assert list(record["upsamplers"]) == ["dysample+style=pl", "dysample"]
    added = record["upsamplers"]["dysample+style=pl"]["parameters"] - record["without_upsampler"]["parameters"]
    assert added == 3 * (16 * 8 + 8 + 16 * 8)
    capsys.readouterr()
    assert main([*words, "nearest,fade+gated=true"]) == 1
    reason = "gated=True mixes the guidance into the features: guidance_channels = 32 must equal channels = 64."
    assert f"left out: fade+gated=true: {reason}" in " ".join(capsys.readouterr().out.split())
    assert json.loads(file.read_text())["left_out"] == {"fade+gated=true": reason}


def test_the_published_tables(tmp_path, capsys):
    pytest.importorskip("timm", reason="needs the extra hosts")
    file = tmp_path / "cost.json"
    assert main(["cost", "--tables", "9,1", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.replace(str(file), "").splitlines())) <= 100
    assert out.index("Table 1 (arXiv") < out.index("Table 9 (arXiv")
    words = [line.split() for line in out.splitlines()]
    assert ["resfu", "pspnet-resnet101", "65,719,880", "65.72", "="] in words
    assert ["fade", "segmenter-vit-s", "22,143,976", "22.14", "=", "33.715", "33.92", "?", "33.912"] in [
        line[:-1] for line in words
    ]
    assert "* deconv, pspnet-resnet101, 69.87: a sum of rounded parts" in out
    assert "published numbers: 36; equal to two decimals: 33, known misprints: 1, unexplained: 2, different: 0" in out
    record = json.loads(file.read_text())
    assert record["summary"] == {"equal": 33, "misprint": 1, "unexplained": 2, "different": 0}
    assert len(record["rows"]) == 18 + 9
    (row,) = (row for row in record["rows"] if row["table"] == 9 and row["upsampler"] == "deconv")
    # 384 x 384 weights a sub-pixel, 16 sub-pixels, 32 x 32 positions
    assert row["multiply_accumulates_paper"] == pytest.approx(32.7420e9 + 384**2 * 16 * 32**2, abs=5e4)


def test_a_number_that_differs_is_code_1(monkeypatch, capsys):
    (row,) = published_rows([1], "pspnet-resnet50", "resfu")
    monkeypatch.setattr("resfu.cli.cost.compare_tables", lambda tables: iter([RecountedRow(row, 46_700_000, None)]))
    assert main(["cost", "--tables"]) == 1
    out = capsys.readouterr().out
    assert "46.73  DIFFERENT" in out
    assert "published numbers: 1; equal to two decimals: 0, known misprints: 0, unexplained: 0, different: 1" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs either a HOST or --tables"),
        (["segmenter-vit-s", "--tables", "1"], "needs either a HOST or --tables"),
        (["--tables", "1,7"], "--tables: choose from 1, 2, 3, 4, 5, 6, 8, 9, got '7'"),
        (["segnet"], "unknown host 'segnet'; choose one of "),
        (["efficientnet-lite0", "--upsamplers", "carfae"], "unknown upsampler 'carfae'"),
        (["efficientnet-lite0", "--size", "64,96"], "--size: expected N or HxW, such as 64 or 48x64, got '64,96'"),
        (["efficientnet-lite0", "--upsamplers", "resfu+k"], "an option must be KEY=VALUE, got 'k'"),
        (["efficientnet-lite0", "--upsamplers", "carafe+style=pl"], "carafe has no option style; it takes channels,"),
        (["efficientnet-lite0", "--json", "."], "--json must be a file, and . is a folder"),
    ],
)
def test_bad_words_are_one_line_and_code_2(words, message, capsys):
    assert main(["cost", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("words", [["--size", "64"], ["--num-classes", "3"], ["--upsamplers", "resfu"]])
def test_tables_have_settings_of_their_own(words, capsys):
    assert main(["cost", "--tables", "9", *words]) == 2
    assert f"{words[0]} is for a HOST" in capsys.readouterr().err
