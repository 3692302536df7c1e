"""A folder has one owner at a time; one that has ended is no owner."""

import json
import multiprocessing
import os
import resource
import signal
import time

import pytest

from resfu.files.lock import LOCK, FolderInUseError, Owner, locked

FORK = multiprocessing.get_context("fork")


def hold(folder, seconds=60.0):
    with locked(folder, "resfu fit"):
        time.sleep(seconds)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder x."""
    process = FORK.Process(target=hold, args=(tmp_path / "x",))
    process.start()
    while not ((tmp_path / "x" / LOCK).exists() and (tmp_path / "x" / LOCK).read_text()):
        time.sleep(0.005)
    yield process
    process.kill()
    process.join()


def rewrite(folder, **values):
    file = folder / LOCK
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_another_process_is_refused_and_told_whose_it_is(tmp_path, holder):
    words = rf"x is in use by `resfu fit` \(process {holder.pid} on .*\): wait for its end, or choose another --run"
    with pytest.raises(FolderInUseError, match=words), locked(tmp_path / "x", "resfu fit", "choose another --run"):
        pass
    assert json.loads((tmp_path / "x" / LOCK).read_text())["pid"] == holder.pid


def test_the_same_process_is_refused_too(tmp_path):
    with locked(tmp_path, "one"), pytest.raises(FolderInUseError, match="`one`"), locked(tmp_path, "two"):
        pass
    assert os.listdir(tmp_path) == []


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and its number is not free yet
    with locked(tmp_path / "x", "resfu fit"):
        assert json.loads((tmp_path / "x" / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / "x" / LOCK).exists()


def test_a_number_that_was_given_again_is_not_the_owner(tmp_path, holder):
    rewrite(tmp_path / "x", started="1")
    with locked(tmp_path / "x", "resfu fit"):
        pass


def test_a_damaged_lock_is_taken_over(tmp_path):
    (tmp_path / LOCK).write_text('{"pid"')
    with locked(tmp_path, "resfu fit"):
        pass


@pytest.mark.parametrize("room", [0, 20])
def test_a_full_disk_is_named_and_leaves_no_lock(tmp_path, room):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(OSError, match=rf"cannot write .*{LOCK}: "), locked(tmp_path / "x", "resfu fit"):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("key", ["host", "namespace"])
def test_of_another_machine_it_is_said_how_to_remove_the_lock(tmp_path, holder, key):
    rewrite(tmp_path / "x", **{key: "node7"})
    with (
        pytest.raises(FolderInUseError, match=rf"cannot be seen whether .* remove .*x/{LOCK}"),
        locked(tmp_path / "x", ""),
    ):
        pass
    (tmp_path / "x" / LOCK).unlink()
    with locked(tmp_path / "x", "resfu fit"):
        pass


def test_a_folder_that_cannot_be_made_says_what_to_do(tmp_path):
    (tmp_path / "x").symlink_to(tmp_path / "nowhere" / "y")
    words = r"^cannot make the folder .*/x \(File exists\): give another --run\.$"
    with pytest.raises(OSError, match=words), locked(tmp_path / "x", "resfu fit", "give another --run"):
        pass


def test_a_folder_that_stayed_empty_is_removed(tmp_path):
    with locked(tmp_path / "a" / "b", "resfu fit"):
        assert (tmp_path / "a" / "b" / LOCK).is_file()
    assert os.listdir(tmp_path) == []
    with locked(tmp_path / "a" / "b", "resfu fit"):
        (tmp_path / "a" / "x").touch()
    assert os.listdir(tmp_path / "a") == ["x"]


def test_the_owner_tells_whether_it_runs():
    assert Owner.here("x").alive is True


def _try(folder, results, told):
    try:
        with locked(folder, "resfu fit"):
            results.put(1)
            told.wait(60)
    except FolderInUseError:
        results.put(0)


def test_of_many_that_find_a_dead_owner_one_takes_over(tmp_path, holder):
    holder.kill()
    results, told = FORK.Queue(), FORK.Event()
    processes = [FORK.Process(target=_try, args=(tmp_path / "x", results, told)) for _ in range(8)]
    for process in processes:
        process.start()
    assert sum(results.get(timeout=60) for _ in processes) == 1
    told.set()
    for process in processes:
        process.join()
