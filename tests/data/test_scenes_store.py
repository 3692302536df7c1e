"""The cache of generated scenes: kept, shared, and mended when damaged."""

import threading

import numpy as np
import pytest
import torch

from resfu.data.generated.scenes import Scenes, dataset
from resfu.data.generated.scenes.render import make_scene
from resfu.data.generated.store import GeneratedStore, default_cache_dir

SIZE = (32, 40)


def open_scenes(root, count=4, **options):
    return Scenes("train", root=root, size=SIZE, count=count, **options)


def files(root):
    return sorted(path for path in root.rglob("*") if path.is_file())


@pytest.fixture
def made(monkeypatch):
    """The indices that were generated, in order."""
    calls = []

    def counted(seed, split, index, size, difficulty):
        calls.append(index)
        return make_scene(seed, split, index, size, difficulty)

    monkeypatch.setattr(dataset, "make_scene", counted)
    return calls


def test_a_second_opening_generates_nothing(tmp_path, made):
    first = open_scenes(tmp_path)
    assert sorted(made) == [0, 1, 2, 3]
    made.clear()
    second = open_scenes(tmp_path)
    assert torch.equal(first[2]["image"], second[2]["image"])
    assert made == []


def test_a_larger_count_generates_only_the_rest(tmp_path, made):
    open_scenes(tmp_path, count=2)
    made.clear()
    open_scenes(tmp_path, count=5)
    assert sorted(made) == [2, 3, 4]


@pytest.mark.parametrize("options", [{"seed": 1}, {"difficulty": 0.5}])
def test_other_settings_have_files_of_their_own(tmp_path, made, options):
    usual = open_scenes(tmp_path, count=1)
    other = open_scenes(tmp_path, count=1, **options)
    assert made == [0, 0]
    assert not torch.equal(usual[0]["image"], other[0]["image"])


def test_another_version_or_size_has_files_of_its_own(tmp_path, made, monkeypatch):
    open_scenes(tmp_path, count=1)
    Scenes("train", root=tmp_path, size=(40, 32), count=1)
    Scenes("val", root=tmp_path, size=SIZE, count=1)
    monkeypatch.setattr(dataset, "VERSION", dataset.VERSION + 1)
    open_scenes(tmp_path, count=1)
    assert made == [0] * 4
    assert len(files(tmp_path)) == 4


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "other size"])
def test_a_damaged_file_is_generated_again(tmp_path, made, damage):
    scenes = open_scenes(tmp_path)
    whole = scenes[1]
    made.clear()
    path = files(tmp_path)[1]
    data = path.read_bytes()
    if damage == "other size":
        Scenes("train", root=tmp_path / "other", size=(40, 40), count=2)
        made.clear()
        path.write_bytes(files(tmp_path / "other")[1].read_bytes())
    else:
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]
        path.write_bytes({"truncated": data[:middle], "empty": b"", "flipped": flipped}[damage])
    with pytest.warns(UserWarning, match="000001.npz is damaged"):
        mended = scenes[1]
    assert torch.equal(mended["image"], whole["image"])
    assert torch.equal(mended["label"], whole["label"])
    assert made == [1]
    assert torch.equal(scenes[1]["image"], whole["image"])
    assert made == [1]


def test_a_deleted_file_is_generated_again(tmp_path, made):
    scenes = open_scenes(tmp_path)
    whole = scenes[0]["image"]
    for path in files(tmp_path):
        path.unlink()
    assert torch.equal(scenes[0]["image"], whole)


def test_an_interruption_leaves_only_whole_files(tmp_path):
    def make(index):
        if index == 3:
            raise KeyboardInterrupt
        return vars(make_scene(0, "train", index, SIZE))

    store = GeneratedStore(tmp_path, [f"{index:06d}" for index in range(30)], make)
    with pytest.raises(KeyboardInterrupt):
        store.fill("interrupted")
    left = files(tmp_path)
    assert len(left) < 30
    for path in left:
        with np.load(path) as arrays:
            assert arrays["image"].shape == (*SIZE, 3)
    assert not (tmp_path / "000003.npz").exists()


def test_a_failing_write_leaves_nothing(tmp_path, monkeypatch):
    def half_written(file, **arrays):
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", half_written)
    with pytest.raises(OSError, match="No space left"):
        open_scenes(tmp_path)
    assert files(tmp_path) == []


def test_two_at_a_time_fill_one_folder(tmp_path):
    errors = []

    def fill():
        try:
            names = [f"{index:06d}" for index in range(12)]
            make = lambda index: vars(make_scene(0, "train", index, SIZE))  # noqa: E731
            GeneratedStore(tmp_path, names, make).fill("together")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=fill) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [path.name for path in files(tmp_path)] == [f"{index:06d}.npz" for index in range(12)]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot make the cache folder .*file.*RESFU_CACHE"):
        open_scenes(tmp_path / "file")


def test_the_default_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RESFU_CACHE", str(tmp_path / "elsewhere"))
    assert default_cache_dir() == tmp_path / "elsewhere"
    Scenes("val", size=SIZE, count=1)
    assert len(files(tmp_path / "elsewhere" / "scenes")) == 1
    monkeypatch.delenv("RESFU_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "resfu"
