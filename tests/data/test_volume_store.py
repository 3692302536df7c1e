"""The cache of generated volumes, filled by several processes at a time, one of which may be killed."""

import multiprocessing
import os
import time

import numpy as np

from resfu.data.generated.store import GeneratedStore

NAMES = [f"v{number}" for number in range(6)]


def fill(folder, wait=0.0):
    def make(index):
        time.sleep(wait)
        image, label = np.full((2, 64, 64), index, np.float32), np.full((2, 64, 64), index, np.uint8)
        return {"image": image, "label": label}

    GeneratedStore(folder, NAMES, make).fill("together")


def test_two_processes_and_a_kill(tmp_path):
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=fill, args=(tmp_path, wait)) for wait in (0.005, 0.005, 60)]
    for process in processes:
        process.start()
    for process in processes[:2]:
        process.join()
        assert process.exitcode == 0
    processes[2].kill()
    processes[2].join()
    for index, name in enumerate(NAMES):
        with np.load(tmp_path / f"{name}.npz") as arrays:
            assert (arrays["label"] == index).all()
    assert sorted(os.listdir(tmp_path)) == [f"{name}.npz" for name in NAMES]


def test_what_a_killed_process_left_long_ago_is_removed(tmp_path):
    old, new = tmp_path / ".resfu-old.part", tmp_path / ".resfu-new.part"
    for draft in (old, new):
        draft.mkdir()
        (draft / "v0.npz").write_bytes(b"PK")
    os.utime(old, (0, 0))
    fill(tmp_path)
    assert not old.exists()
    assert new.exists()  # another process may be writing it
