"""What `predict` finds in folders, what it calls the results, and the pictures over the photos."""

import numpy as np
import pytest
import torch
from PIL import Image

from resfu.tasks.files import check_output, find_files
from resfu.tasks.legend import over_photo

SUFFIXES = (".png", ".jpg")


@pytest.fixture
def folder(tmp_path):
    for name in (
        "b.png",
        "a.JPG",
        "deep/er/b.png",
        "twins/c.jpg",
        "twins/c.png",
        "._a.JPG",
        ".cache/d.png",
        "notes.txt",
    ):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    return tmp_path / "photos"


def test_results_keep_the_path_and_twins_their_suffix(folder):
    found = find_files([folder], SUFFIXES, "image")
    assert list(found) == ["a", "b", "deep/er/b", "twins/c.jpg", "twins/c.png"]
    assert [file.relative_to(folder).as_posix() for file in found.values()] == [
        "a.JPG", "b.png", "deep/er/b.png", "twins/c.jpg", "twins/c.png",
    ]  # fmt: skip
    assert list(find_files([folder / "deep", folder / "b.png"], SUFFIXES, "image")) == ["er/b", "b"]
    assert list(find_files([folder / "deep"], SUFFIXES, "scan", keep_suffix=True)) == ["er/b.png"]


def test_all_problems_are_named_at_once(folder):
    places = [folder, folder / "b.png", folder.parent / "empty", folder / "x.png", folder / "deep" / "er", folder / "y"]
    with pytest.raises(ValueError, match=r"no image or folder .*x\.png; .*y; .*empty holds no image .*called b\.png: "):
        find_files(places, SUFFIXES, "image")
    with pytest.raises(FileNotFoundError, match=r"x\.png; there is no image or folder .*y\.$"):
        find_files(places[3:4] + places[5:], SUFFIXES, "image")
    with pytest.raises(ValueError, match="no images to predict: give files or folders"):
        find_files([], SUFFIXES, "image")


def test_results_do_not_go_among_the_photos(folder):
    found = find_files([folder], SUFFIXES, "image")
    with pytest.raises(ValueError, match=r"result of .*b\.png would overwrite it"):
        check_output([folder], found, folder, ".png")
    with pytest.raises(ValueError, match="would be among the files of"):
        check_output([folder], found, folder / "out", ".png")
    check_output([folder / "a.JPG"], {"a": folder / "a.JPG"}, folder, ".png")
    check_output([folder], found, folder.parent / "out", ".png")


def test_a_legend_lists_the_classes_that_are_there():
    photo = np.full((40, 60, 3), 100, np.uint8)
    label_map = torch.zeros(40, 60, dtype=torch.uint8)
    label_map[:10] = 2
    shown = over_photo(photo, label_map, ["sky", "sea", "land"], [[200, 0, 0], [0, 200, 0], [0, 0, 200]])
    assert shown.dtype == np.uint8
    assert shown.shape[1] == 60
    assert shown[5, 5].tolist() == [50, 50, 150]
    assert shown[30, 5].tolist() == [150, 50, 50]
    legend = shown[40:].reshape(-1, 3).tolist()
    assert legend.index([200, 0, 0]) < legend.index([0, 0, 200])  # the most frequent first
    assert [0, 200, 0] not in legend
    with pytest.raises(ValueError, match="two pictures of one size"):
        over_photo(photo, label_map[1:], ["sky", "sea", "land"], [[0, 0, 0]] * 3)


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg"])
def test_a_legend_fits_any_width(name):
    shown = over_photo(np.zeros((4, 9, 3), np.uint8), torch.zeros(4, 9, dtype=torch.uint8), [name], [[1, 2, 3]])
    assert Image.fromarray(shown).width == 9
