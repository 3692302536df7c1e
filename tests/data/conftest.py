"""Tiny copies of data sets on disk."""

import numpy as np
import pytest
from PIL import Image

from tests.support.label_fixtures import write_fixture


@pytest.fixture(scope="session")
def scenes_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def fixture_root(tmp_path, scenes_cache, monkeypatch):
    """Write a fixture and give its folder."""
    monkeypatch.setenv("RESFU_CACHE", str(scenes_cache))

    def write(name, **options):
        return write_fixture(name, tmp_path / name, **{"count": 2, **options})

    return write


@pytest.fixture
def save():
    """Write an array as an image file, in a folder that may not be there."""

    def write(path, array):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(array, dtype=np.uint8)).save(path)

    return write
