"""What the options of `resfu predict` stand for and refuse."""

import argparse

import pytest

from resfu.cli.prediction import add_options, chosen
from resfu.tasks import TASKS


def options(*words):
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(["photo.jpg", *words])


@pytest.mark.parametrize("option", ["--longest-side", "--window", "--stride"])
def test_objects_and_scans_have_sizes_of_their_own(option):
    given = options(option, "100")
    with pytest.raises(ValueError, match=f"{option} is not for .*: networks that find objects"):
        chosen(given, TASKS["instances"])
    with pytest.raises(ValueError, match=f"{option} is not for .*: the slices of a scan"):
        chosen(given, TASKS["volumes"])


def test_windows_overlap_by_a_third_unless_their_step_is_given():
    inference = chosen(options("--window", "90"), TASKS["label maps"])["model"]["inference"]
    assert inference == {"mode": "slide", "crop_size": [90, 90], "stride": [60, 60]}
    inference = chosen(options("--window", "90", "--stride", "45"), TASKS["label maps"])["model"]["inference"]
    assert inference["stride"] == [45, 45]
    with pytest.raises(ValueError, match="--stride is the step of windows: give --window"):
        chosen(options("--stride", "45"), TASKS["label maps"])


def test_the_others_are_settings_of_the_data():
    given = options("--longest-side", "640", "--on-error", "skip")
    assert chosen(given, TASKS["label maps"]) == {"data": {"on_error": "skip", "longest_side": 640}}
    given = options("--nonfinite", "fill", "--fill-value", "-3")
    assert chosen(given, TASKS["volumes"]) == {"data": {"on_error": "raise", "nonfinite": "fill", "fill_value": -3.0}}
