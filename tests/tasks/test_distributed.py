"""Two processes on gloo do what one does with the batch of both."""

from pathlib import Path

import pytest
import torch

from tests.support import apart

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    apart.run(SCRIPT, str(folder), warnings="error")
    return {name: torch.load(folder / f"{name}.pt", weights_only=False) for name in ("1-0", "2-0", "2-1")}


@pytest.mark.parametrize("what", ["weights", "gradients"])
def test_the_same_steps(results, what):
    one, first, second = (results[name][what] for name in ("1-0", "2-0", "2-1"))
    assert max(value.abs().max() for value in one) > 1e-2
    for expected, a, b in zip(one, first, second, strict=True):
        torch.testing.assert_close(a, expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(a, b)


@pytest.mark.parametrize("part", ["mask", "dice"])
def test_the_loss_of_sets_is_divided_by_the_masks_of_all(results, part):
    # Three masks in one process, six in the other: means of their own would weigh the former's twice.
    one, first, second = (results[name]["set_loss"][part] for name in ("1-0", "2-0", "2-1"))
    torch.testing.assert_close((first + second) / 2, one, rtol=1e-5, atol=1e-6)
    assert abs(first - second) > 0.1 * one


def test_metrics_are_reduced_over_all_images(results):
    # Five images: three for one process, two for the other, none of them twice.
    assert [results[name]["images"] for name in ("1-0", "2-0", "2-1")] == [5, 3, 2]
    one = results["1-0"]
    for name in ("2-0", "2-1"):
        for key in ("iou", "acc", "boundary_iou"):
            torch.testing.assert_close(results[name]["metrics"][key], one["metrics"][key], rtol=0, atol=1e-6)
        assert results[name]["logged"] == pytest.approx(one["logged"], rel=1e-5)
