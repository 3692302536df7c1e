"""The factory of datasets."""

import doctest

import pytest

import resfu.data
from resfu.data import DATASETS, CamVid, Scenes, create_dataset


def test_names_lead_to_classes(tmp_path):
    names = {"ade20k", "camvid", "cityscapes", "pascal-context", "pascal-context-60", "scenes", "voc"}
    medical = {"acdc", "cardiac", "ct", "synapse"}
    assert set(DATASETS) >= names | medical | {"folder", "volume-folder"}
    assert DATASETS["camvid"] is CamVid
    scenes = create_dataset("scenes", "val", root=tmp_path, count=1, size=(32, 32), seed=3)
    assert isinstance(scenes, Scenes)
    assert (scenes.split, scenes.seed, len(scenes)) == ("val", 3, 1)


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"'ade'; choose one of acdc, ade20k, camvid, .*, scenes, synapse, voc"):
        create_dataset("ade", "train", root=tmp_path)


def test_an_unknown_option_is_named_beside_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"'scenes' has no option dificulty; .*size, count, seed, difficulty"):
        create_dataset("scenes", "train", root=tmp_path, dificulty=0.5)


def test_its_example_is_so():
    assert doctest.testmod(resfu.data) == (0, 3)
