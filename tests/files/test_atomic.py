"""Files are whole or not there, whatever happens while they are written."""

import ast
import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resfu.files import atomic
from resfu.files.atomic import clear_drafts, replacing, write_bytes, write_json, write_text

SOURCE = Path(atomic.__file__).parents[1]


def write_hdf5(path):
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("label", data=NOISE)


def write_nifti(path):
    import nibabel

    nibabel.save(nibabel.Nifti1Image(NOISE, np.eye(4)), path)


def write_safetensors(path):
    import safetensors.torch

    safetensors.torch.save_file({"label": torch.from_numpy(NOISE)}, path)


def save_tensor(path):
    with path.open("wb") as file:
        torch.save(torch.from_numpy(NOISE), file)


NOISE = np.random.default_rng(0).integers(0, 255, (16, 128, 128)).astype(np.uint8)
# The libraries that write files here, each with words of its own for a full disk.
WRITERS = {
    "x.txt": lambda path: path.write_text("x" * 300_000),
    "x.npz": lambda path: np.savez(path, label=NOISE),
    "x.h5": write_hdf5,
    "x.nii.gz": write_nifti,
    "x.png": lambda path: Image.fromarray(NOISE.reshape(512, 512)).save(path),
    "x.ckpt": save_tensor,
    "x.safetensors": write_safetensors,
}


def test_the_new_file_takes_the_place_of_the_old_one_at_the_end(tmp_path):
    file = tmp_path / "made" / "x.txt"
    write_text(file, "é")
    with replacing(file) as draft:
        draft.write_text("new")
        assert draft.name == "x.txt"
        assert file.read_text("utf-8") == "é"
    assert file.read_text() == "new"
    assert os.listdir(file.parent) == ["x.txt"]


def cut_off(path):
    path.write_text("{")
    raise KeyboardInterrupt


def test_a_failure_leaves_the_old_file(tmp_path):
    file = tmp_path / "x.json"
    write_json(file, {"a": 1})
    with pytest.raises(KeyboardInterrupt), replacing(file) as draft:
        cut_off(draft)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"a": float("nan")})
    assert file.read_text() == '{\n "a": 1\n}\n'
    assert os.listdir(tmp_path) == ["x.json"]


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_and_leaves_the_old_file(name, tmp_path):
    """The limit on the size of files stands for the disk: it is met in the middle of the file too."""
    file = tmp_path / name
    file.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        words = rf"^cannot write .*/{name}: .* What was there before is kept\.$"
        with pytest.raises(OSError, match=words), replacing(file) as draft:
            WRITERS[name](draft)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == [name]


def test_another_files_error_is_left_alone(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere") as found, replacing(tmp_path / "x.txt"):
        (tmp_path / "elsewhere").read_text()
    assert "cannot write" not in str(found.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        write_text(tmp_path, "x")
    with pytest.raises(OSError, match=r"cannot write .*file/x\.txt: Not a directory"):
        write_text(tmp_path / "file" / "x.txt", "x")


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "x.txt"
    link.symlink_to(tmp_path / "real" / "y.txt")
    write_text(link, "through it")
    assert link.is_symlink()
    assert (tmp_path / "real" / "y.txt").read_text() == "through it"


def test_permissions_stay(tmp_path):
    file = tmp_path / "private.json"
    file.write_text("{}")
    file.chmod(0o600)
    write_text(file, "[]")
    assert file.read_text() == "[]"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_pipe_and_a_device_are_written_directly(tmp_path):
    write_text("/dev/null", "x")
    assert not Path("/dev/null").is_file()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_bytes(pipe, b"through it")
    assert os.read(reader, 100) == b"through it"
    os.close(reader)


def _write_again_and_again(path):
    for number in range(1_000_000):
        write_bytes(path, bytes([number % 256]) * 4_000_000)


def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_file(tmp_path):
    file = tmp_path / "x.bin"
    cut = 0
    for wait in (0, 0.001, 0.002, 0.004, 0.008):
        process = multiprocessing.get_context("fork").Process(target=_write_again_and_again, args=(file,))
        process.start()
        while not file.exists() or not list(tmp_path.glob(".resfu-*")):
            time.sleep(0.0005)
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        content = file.read_bytes()
        assert len(content) == 4_000_000
        assert content.count(content[:1]) == len(content)
        cut += len(list(tmp_path.glob(".resfu-*")))
        clear_drafts(tmp_path)
        assert os.listdir(tmp_path) == ["x.bin"]
    assert cut  # at least one was in the middle of a file


def test_drafts_that_may_be_in_use_stay(tmp_path):
    with replacing(tmp_path / "x.txt") as draft:
        draft.write_text("x")
        clear_drafts(tmp_path, older_than=3600)
    assert os.listdir(tmp_path) == ["x.txt"]
    clear_drafts(tmp_path / "missing")


# What writes a file, as the method of a path, a library or a picture.
WRITING = {"write_text", "write_bytes", "savefig", "savez", "savez_compressed", "save", "dump", "export_chrome_trace"}
ELSEWHERE = {
    "compare/report.py",  # pictures into a buffer
    "deploy/export_runtimes.py",  # into the draft that `replacing` gives
    "explore/view.py",  # pictures into a buffer
    "data/medical/writers.py",  # into the place that `filled` gives
    "evaluation/cost/memory.py",  # a trace that is read at once, in a temporary folder
}


def test_nothing_else_writes_files():
    """Every writer goes through `replacing`, which a new one has to as well."""
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        name = file.relative_to(SOURCE).as_posix()
        tree = ast.parse(file.read_text("utf-8"))
        inside = {
            id(node)
            for block in ast.walk(tree)
            if isinstance(block, ast.With) and "replacing(" in ast.unparse(block.items[0])
            for node in ast.walk(block)
        }
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and id(call) not in inside:
                method, given = call.func.attr, call.args or call.keywords
                modes = {ast.unparse(word) for word in call.args} & {"'w'", "'wb'", "'a'", "'x'"}
                opened = method in ("open", "File") and modes
                if (method in WRITING and given) or opened:
                    found.append((name, ast.unparse(call)))
    assert {name for name, _ in found} == ELSEWHERE, found
