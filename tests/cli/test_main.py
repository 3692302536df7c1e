import importlib
import json
import subprocess
import sys
import types

import pytest
import torch

import resfu
from resfu.cli import COMMANDS, main


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)
    assert main([]) == 2
    assert capsys.readouterr().err == out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"resfu {resfu.__version__}\n"


def test_an_unknown_command_lists_the_choices(capsys):
    assert main(["fits"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("resfu: unknown command 'fits'; choose one of ")
    assert all(name in captured.err for name in COMMANDS)
    assert "Did you mean 'fit'?" in captured.err
    assert captured.err.count("\n") == 1


@pytest.fixture
def fake(monkeypatch):
    """Make `resfu list` call a function."""

    def install(run):
        monkeypatch.setitem(sys.modules, "resfu.cli.listing", types.SimpleNamespace(run=run))

    return install


def raising(error):
    def run(words):
        raise error

    return run


def test_the_words_and_the_code_are_passed_on(fake):
    seen = []
    fake(lambda words: seen.append(words) or 7)
    assert main(["list", "a", "--b"]) == 7
    assert seen == [["a", "--b"]]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("size must be\n  above 0, got -1."), "resfu: size must be above 0, got -1.\n"),
        (FileNotFoundError("there is no folder x."), "resfu: there is no folder x.\n"),
        (PermissionError(13, "Permission denied", "/x"), "resfu: /x: Permission denied\n"),
        (ValueError(), "resfu: ValueError\n"),
        (SystemExit("wrong"), "resfu: wrong\n"),
    ],
)
def test_user_errors_are_one_line_and_code_2(fake, capsys, error, line):
    fake(raising(error))
    assert main(["list"]) == 2
    assert capsys.readouterr().err == line


def test_other_endings(fake, capsys, monkeypatch):
    fake(raising(KeyboardInterrupt()))
    assert main(["list"]) == 130
    fake(raising(SystemExit(None)))
    assert main(["list"]) == 0
    fake(raising(SystemExit(2)))
    assert main(["list"]) == 2
    fake(raising(RuntimeError("a fault of the program")))
    with pytest.raises(RuntimeError, match="a fault"):
        main(["list"])
    monkeypatch.setenv("RESFU_DEBUG", "1")
    fake(raising(ValueError("shown whole")))
    with pytest.raises(ValueError, match="shown whole"):
        main(["list"])


@pytest.mark.parametrize(("command", "extra"), [("fit", "train"), ("predict", "train"), ("compare", "all")])
def test_a_missing_extra_is_named(command, extra, capsys, monkeypatch):
    def without(name, *rest):
        raise ModuleNotFoundError("No module named 'lightning'", name="lightning.pytorch")

    monkeypatch.setattr(importlib, "import_module", without)
    assert main([command]) == 2
    needs = f'`resfu {command}` needs lightning, which is not installed: pip install "resfu[{extra}]"'
    assert capsys.readouterr().err == f"resfu: {needs}\n"


def test_a_missing_module_of_this_package_is_a_fault(monkeypatch):
    def without(name, *rest):
        raise ModuleNotFoundError("No module named 'resfu.cli.fit'", name="resfu.cli.fit")

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ModuleNotFoundError):
        main(["fit"])


def test_list_shows_every_name_in_the_base_installation():
    """In a process where the extras cannot be imported."""
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        extras = ("lightning", "torchvision", "timm", "transformers", "torchmetrics", "jsonargparse", "matplotlib")
        if name.partition(".")[0] in extras:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from resfu.cli import main
code = main(["list"])
assert main(["fit", "--help"]) == 2
assert main(["bench", "--upsamplers", "nearest", "--channels", "2", "--low", "2", "--rounds", "1"]) == 0
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in (*resfu.UPSAMPLERS, *resfu.HOSTS))
    assert 'pip install "resfu[train]"' in done.stderr


def test_list_says_what_each_upsampler_takes_and_holds(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    state = torch.get_rng_state()
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert torch.equal(torch.get_rng_state(), state)
    assert max(map(len, out.splitlines())) <= 80
    assert "what it does" not in out
    rows = {cells[0]: cells[1:] for cells in table_cells(out) if cells[0] in resfu.UPSAMPLERS}
    assert list(rows) == list(resfu.UPSAMPLERS)
    assert rows["bilinear"] == ["none", "any real", "0", ""]
    assert rows["deconv"] == ["none", "fixed at construction", "262,400", "1411.4038"]
    assert rows["carafe"] == ["none", "fixed at construction", "74,148", "1905.02188"]
    assert rows["stack-jbu"] == ["image", "power of two", f"{6233 + 256 * 257:,}", "2403.10516"]
    assert rows["indexnet"] == ["features", "x2", "2,100,224", "1908.00672"]
    assert rows["fade"] == ["features", "any integer", "47,257", "2207.10392"]
    assert rows["resfu"] == ["features", "any real", "47,570", "2407.02283"]


def test_list_shows_the_first_line_of_the_docstring_where_it_fits(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["list"]) == 0
    rows = {cells[0]: cells[1:] for cells in table_cells(capsys.readouterr().out)}
    assert rows["nearest"][-1] == "Nearest-neighbour interpolation: out[p, q] = x[floor(p h / H), floor(q w / W)]."
    assert rows["carafe"][-1] == "Reassembly with kernels that the features themselves predict."


def table_cells(text):
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line[:1] == "│"]


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "resfu", "lst"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("resfu: unknown command 'lst'")


def test_lists_as_json(tmp_path, capsys):
    place = tmp_path / "found.json"
    assert main(["list", "--json", str(place)]) == 0
    found = json.loads(place.read_text())
    assert found["upsamplers"]["resfu"]["arxiv"] == "2407.02283"
    assert found["upsamplers"]["resfu"]["parameters"] == sum(
        p.numel() for p in resfu.ReSFU(256, guidance_channels=256).parameters()
    )
    assert found["hosts"] == list(resfu.HOSTS)
    assert main(["list", "recipes", "--json", str(place)]) == 0
    assert json.loads(place.read_text())["scenes"]["data"]["dataset"] == "scenes"
    assert main(["list", "settings", "--json", str(place)]) == 2
    assert "not a table" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "x"], "argument what: invalid choice: 'x'"),
        (["doctor", "x"], "unrecognized arguments: x (see `resfu doctor --help`)"),
        (["bench", "--ratio", "1e9"], "out of memory; smaller sizes take less"),
    ],
)
def test_bad_words_are_one_line(words, message, capsys):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("resfu: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_closed_pipe_ends_the_output_silently():
    process = subprocess.Popen(
        [sys.executable, "-m", "resfu", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == ""
