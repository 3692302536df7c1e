"""The wheel alone is enough: everything that the commands read lies in it."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import resfu

ROOT = Path(__file__).parent.parent
SMALL = "--data.options.size [64,64] --data.train_options.count 2 --data.eval_options.count 1 --crop 64 --steps 1"
SMALL += " --batch-size 2 --pictures 1 --threads 1 --model.pretrained false --model.schedule.warmup_steps 0"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="builds the wheel; in the group dev")
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


def test_what_is_in_it(wheel):
    assert wheel.name == f"resfu-{resfu.__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < 5e6
    names = set(zipfile.ZipFile(wheel).namelist())
    committed = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert {name.removeprefix("src/") for name in committed.split()} <= names
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


def test_a_comparison_without_the_repository(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    words = f"compare --recipe scenes --upsamplers bilinear,resfu --root cache --output out {SMALL}".split()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    # Without the extra "fast": it would compile its kernels once more, for this folder.
    script = "import sys; sys.modules['numba'] = None; import resfu; from resfu.cli import main; "
    script += "print(resfu.__file__); sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.startswith(str(tmp_path / "installed"))
    assert (tmp_path / "out" / "report.html").is_file()


def test_one_version_everywhere():
    for name, pattern in (("pyproject.toml", r'^version = "(.*)"$'), ("CITATION.cff", r"^version: (.*)$")):
        assert re.search(pattern, (ROOT / name).read_text("utf-8"), re.MULTILINE)[1] == resfu.__version__, name
