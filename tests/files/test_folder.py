"""A folder is filled to the end or left as it was."""

import multiprocessing
import os
import signal
import time

import pytest

from resfu.files.folder import check_empty, filled


def write(place, then=lambda: None):
    (place / "lists").mkdir()
    (place / "lists" / "all.txt").write_text("a")
    (place / "data").mkdir()
    (place / "data" / "a").write_text("1")
    then()


def test_it_appears_at_the_end_and_the_last_part_last(tmp_path, monkeypatch):
    moved = []
    rename = type(tmp_path).rename
    monkeypatch.setattr(type(tmp_path), "rename", lambda self, target: (moved.append(self.name), rename(self, target)))
    with filled(tmp_path / "out", "resfu prepare", last=("data",)) as place:
        write(place)
        assert {entry.name[0] for entry in (tmp_path / "out").iterdir()} == {"."}
    assert moved == ["lists", "data"]
    assert sorted(os.listdir(tmp_path / "out")) == ["data", "lists"]
    assert (tmp_path / "out" / "data" / "a").read_text() == "1"


@pytest.mark.parametrize("made", [False, True])
def test_a_failure_leaves_nothing(tmp_path, made, request):
    muted = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, muted))
    out = tmp_path / "out"
    if made:
        out.mkdir()
    with pytest.raises(KeyboardInterrupt), filled(out, "resfu prepare") as place:
        write(place, then=lambda: signal.raise_signal(signal.SIGINT))
    assert out.exists() == made
    assert not made or os.listdir(out) == []


def test_what_holds_something_is_refused(tmp_path):
    (tmp_path / "x").touch()
    for place in (tmp_path, tmp_path / "x"):
        with pytest.raises(ValueError, match="holds something already"), filled(place, "resfu prepare"):
            pass
    check_empty(tmp_path / "missing")
    # Also what came in the meantime.
    with pytest.raises(ValueError, match="holds something already"), filled(tmp_path / "out", "prepare") as place:
        write(place, then=(tmp_path / "out" / "other").touch)
    assert os.listdir(tmp_path / "out") == ["other"]


def _fill(out):
    with filled(out, "resfu prepare") as place:
        write(place)
        time.sleep(60)


def test_two_at_a_time_and_one_that_was_killed(tmp_path):
    out = tmp_path / "out"
    process = multiprocessing.get_context("fork").Process(target=_fill, args=(out,))
    process.start()
    while not list(out.glob("*/data/a")):
        time.sleep(0.005)
    with pytest.raises(ValueError, match="in use by `resfu prepare`"), filled(out, "resfu prepare"):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with filled(out, "resfu prepare") as place:
        write(place)
    assert sorted(os.listdir(out)) == ["data", "lists"]
