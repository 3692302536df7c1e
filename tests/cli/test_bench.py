import json
import statistics

import pytest
from rich.console import Console

from resfu import UPSAMPLERS
from resfu.cli import main
from resfu.cli.bench import _count, _print, _short
from resfu.evaluation.bench import Pass, Row, Workload
from resfu.evaluation.cost import Latency

SMALL = ["bench", "--channels", "32", "--guidance-channels", "32", "--low", "8x6", "--rounds", "3", "--threads", "1"]


def test_the_table_and_the_record(tmp_path, capsys):
    file = tmp_path / "new" / "bench.json"
    assert main([*SMALL, "--output", str(file)]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert captured.err == ""
    assert max(map(len, lines)) <= 100
    assert "…" not in captured.out
    assert lines[0].strip() == "batch 1, channels 32, 8 x 6 -> 16 x 12, guidance 32, float32, CPU, 1 thread"
    assert [line.split()[0] for line in lines[4:-1]] == list(UPSAMPLERS)
    assert all("(" in line for line in lines[4:-1])

    record = json.loads(file.read_text())
    assert record["machine"]["device"] == "CPU, 1 thread"
    assert record["machine"]["threads"] == 1
    assert record["versions"]["torch"]
    assert record["arguments"] == {
        "channels": 32, "guidance_channels": 32, "low": [8, 6], "ratio": 2.0, "batch": 1, "dtype": "float32",
        "device": "cpu", "channels_last": False, "rounds": 3,
    }  # fmt: skip
    assert list(record["upsamplers"]) == list(UPSAMPLERS)
    assert record["left_out"] == {}
    for row in record["upsamplers"].values():
        assert set(row) == {"steps", "parameters", "multiply_accumulates", "forward", "forward_backward"}
        for kind in ("forward", "forward_backward"):
            base = record["upsamplers"]["bilinear"][kind]["latency"]["median_ms"]
            median = statistics.median(row[kind]["rounds_ms"])
            assert row[kind]["latency"]["median_ms"] == median
            assert row[kind]["latency"]["repeats"] == 3
            assert row[kind]["over_bilinear"] == pytest.approx(median / base)
            assert row[kind]["peak_bytes"] == row[kind]["peak_over_output"] * 4 * 32 * 16 * 12


def test_steps_are_shown_and_what_is_left_out_says_why(tmp_path, capsys):
    file = tmp_path / "bench.json"
    words = [*SMALL, "--ratio", "4", "--rounds", "1", "--output", str(file)]
    assert main([*words, "--upsamplers", "indexnet,bilinear", "--threads", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "CPU, 2 threads" in lines[0]
    assert [line.split()[:2] for line in lines[4:6]] == [["indexnet", "2"], ["bilinear", "1"]]
    assert json.loads(file.read_text())["upsamplers"]["indexnet"]["steps"] == 2

    # What was asked for by name and could not run ends in code 1; bilinear takes part without being asked.
    assert main([*words, "--upsamplers", "nearest,a2u", "--ratio", "3"]) == 1
    out = capsys.readouterr().out
    reason = "a2u has the ratio 2 alone, got scale_factor = 3: chain steps with resfu.upsamplers.Iterative."
    assert f"left out: a2u: {reason}" in " ".join(out.split())
    record = json.loads(file.read_text())
    assert list(record["upsamplers"]) == ["bilinear", "nearest"]
    assert record["left_out"] == {"a2u": reason}


def test_all_that_can_run_is_no_failure(capsys):
    assert main([*SMALL, "--ratio", "1.5", "--rounds", "1"]) == 0
    out = capsys.readouterr().out
    assert "left out: fade: FADE takes integer ratios" in out
    assert "resfu " in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--upsamplers", "carafe,carfae"], "unknown upsampler 'carfae'; choose from nearest, "),
        (["--upsamplers", ","], "no upsampler given"),
        (["--ratio", "two"], "--ratio: invalid float value: 'two'"),
        (["--ratio", "0.5"], "ratio must be a number of at least 1, got 0.5"),
        (["--low", "8x"], "--low: expected N or HxW, such as 64 or 48x64, got '8x'"),
        (["--channels", "0"], "--channels: expected a whole number of at least 1, got '0'"),
        (["--rounds", "-1"], "--rounds: expected"),
        (["--dtype", "float8"], "--dtype: invalid choice: 'float8'"),
        (["--device", "tpu"], "device must be cpu or cuda, got 'tpu'"),
        (["--device", "cuda:99"], "there is no device 'cuda:99'"),
        (["--speed"], "unrecognized arguments: --speed"),
    ],
)
def test_bad_options_are_one_line_and_code_2(options, message, capsys, monkeypatch):
    monkeypatch.setattr("resfu.cli.bench.measure", None)  # nothing may be measured
    assert main([*SMALL, *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("resfu: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_an_output_that_cannot_be_written_is_found_out_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("resfu.cli.bench.measure", None)
    (tmp_path / "file").touch()
    for output in (tmp_path, tmp_path / "file" / "bench.json"):
        assert main([*SMALL, "--output", str(output)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert str(tmp_path) in error


def test_help_names_every_upsampler(capsys):
    assert main(["bench", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert all(name in out for name in UPSAMPLERS)


def test_large_numbers_fit_too(capsys):
    times = [1234.5, 1000.0, 9999.0]
    measured = Pass(Latency.of(times), times, 1234.5, 10**9, 123.4)
    rows = {name: Row(8, 16_793_600, 33_163_000_000, measured, measured) for name in UPSAMPLERS}
    _print(Console(width=100), Workload(), rows, {"x": "[so] it is"})
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert out.count("1234 (1117-5617)") == 2 * len(UPSAMPLERS)
    assert out.count("16.8M") == out.count("33.2G") == len(UPSAMPLERS)
    assert "left out: x: [so] it is" in out


def test_numbers_have_three_digits():
    assert [_short(number) for number in (0, 0.0123, 0.999, 1.234, 12.34, 123.4, 1234.5)] == [
        "0", "0.01", "1.00", "1.23", "12.3", "123", "1234",
    ]  # fmt: skip
    assert [_count(number) for number in (0, 999, 6233, 2_100_224, 1_500_000_000)] == [
        "0", "999", "6.23k", "2.10M", "1.50G",
    ]  # fmt: skip
