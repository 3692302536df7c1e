"""Networks in files: sizes that need padding, pyramids and positions that no example may fix."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, StdConv2dSame
from timm.layers.pool2d_same import MaxPool2dSame

from resfu.hosts.same_padding import take_same_layers
from resfu.ops.bicubic import antialiased_bicubic
from resfu.ops.canvas import cropped_to, extended_to
from resfu.ops.portable import portable_form
from tests.support import apart

NAMES = ("padding", "pspnet", "segmenter", "upgraded carafe")
PROGRAMS = ("upgraded resfu", "doubled", "chain", "pads")


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """File to largest difference at sizes that the export did not see."""
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason="the extra deploy is not installed")
    script, folder = Path(__file__).parent / "hosts_written.py", tmp_path_factory.mktemp("hosts")
    lines = apart.run(script, str(folder), *NAMES, *PROGRAMS).splitlines()
    return {key: value for line in lines if line[0] == "{" for key, value in json.loads(line).items()}


def test_networks_run_at_odd_and_small_sizes_that_the_export_did_not_see(unseen):
    assert set(unseen) == {*PROGRAMS, *(name + suffix for name in NAMES for suffix in (".onnx", ".xml"))}
    for file, difference in unseen.items():
        assert difference < 1e-4, file


@pytest.mark.parametrize("size", [(5, 9), (12, 7), (3, 30), (8, 11), (1, 1)])
def test_positions_are_resampled_as_by_pytorch(size):
    x = torch.randn(2, 3, 8, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    want = F.interpolate(x, size=size, mode="bicubic", align_corners=False, antialias=True)
    with portable_form():
        got = antialiased_bicubic(x, size)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("size", [(3, 4), (5, 4), (6, 9)])
def test_the_portable_canvas_is_the_plain_one(size, zeros):
    x = torch.randn(2, 3, 3, 4)
    want = extended_to(x, size, zeros)
    with portable_form():
        got = extended_to(x, size, zeros)
        back = cropped_to(got, (3, 4))
    assert torch.equal(got, want)
    assert torch.equal(back, x)


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("size", [(7, 8), (1, 2), (9, 3)])
def test_same_padding_is_timms(kernel_size, size):
    def theirs(stride):
        return [
            Conv2dSame(2, 3, kernel_size, stride=stride),
            StdConv2dSame(2, 3, kernel_size, stride=stride),
            MaxPool2dSame(kernel_size, stride=stride),
        ]

    x = torch.randn(2, 2, *size)
    for layer in (*theirs(2), *theirs(1)):
        ours = deepcopy(layer)
        take_same_layers(ours)
        assert torch.equal(ours(x), layer(x))
