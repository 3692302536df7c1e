"""Files for other runtimes: what the backend "portable" computes, and what `resfu.export` writes and refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import resfu
from resfu.deploy.export_program import Shapes
from resfu.deploy.export_runtimes import OnnxRuntime
from resfu.ops.portable import portable_form
from tests.support import apart

SIZES = {
    "whole": ((5, 4), (10, 12)),
    "whole x4": ((3, 5), (12, 20)),
    "real": ((5, 7), (13, 18)),
    "same": ((6, 5), (6, 5)),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("neighbours", ["fine", "coarse", "dense"])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_portable_reassembly_is_the_reference(size, neighbours, groups):
    low, high = SIZES[size]
    if neighbours == "dense" and low != high:
        return
    torch.manual_seed(0)
    x = torch.randn(2, 4, *low, dtype=torch.float64)
    q = torch.randn(2, 4, *high, dtype=torch.float64)
    weights = torch.randn(2, groups * 9, *high, dtype=torch.float64)
    got, want = (
        resfu.ops.reassemble(x, weights, neighbours=neighbours, groups=groups, backend=backend)
        for backend in ("portable", "reference")
    )
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    got, want = (resfu.ops.correlate(q, x, 3, neighbours, backend=backend) for backend in ("portable", "reference"))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"neighbours": "coarse"},
        {"similarity": "concat"},
        {"similarity": "inner_product"},
        {"guided_filter_stride": 2},
        {"kernel_size": 5, "dilation": 2},
    ],
    ids=str,
)
def test_the_portable_resfu_is_the_reference(size, options):
    low, high = SIZES[size]
    torch.manual_seed(0)
    up = resfu.ReSFU(16, 8, projection_dim=16, hidden_channels=16, groups=2, guided_filter_radius=3, **options)
    up = up.double().eval()
    with torch.no_grad():
        for parameter in up.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
        maps = torch.randn(2, 16, *low, dtype=torch.float64), torch.randn(2, 8, *high, dtype=torch.float64)
        up.backend = "reference"
        want = up(*maps)
        up.backend = "auto"
        with portable_form():
            got = up(*maps)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", resfu.UPSAMPLERS)
def test_every_portable_upsampler_is_itself(name, create, maps):
    up = create(name).double()
    x, y = maps(up, 3, (6, 7), (12, 14), torch.float64)
    with torch.no_grad():
        want = up(x, y)
        with portable_form():
            got = up(x, y)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


HERE = Path(__file__).parent
WRITTEN = (
    *("resfu x4.onnx", "carafe x2.onnx", "sapa x1.5.onnx", "a2u x2.onnx"),
    *("resfu x4.xml", "bilinear.xml", "carafe x2.pte", "carafe x2.pt2"),
)
NODES = {"resfu-x4.onnx": 300, "carafe-x2.onnx": 60}


def found(printed: str) -> dict:
    """What a script prints, one line of JSON each."""
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return {key: value for line in lines for key, value in line.items()}


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """File to [largest difference at unseen sizes, nodes], measured where resfu can't be imported."""
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino", "executorch"):
        pytest.importorskip(package, reason="the extra deploy is not installed")
    folder = tmp_path_factory.mktemp("written")
    written = found(apart.run(HERE / "written.py", str(folder), *WRITTEN))
    assert written == {file: file.replace(" ", "-") for file in WRITTEN}
    command = [sys.executable, "-W", "ignore", str(HERE / "unseen.py"), str(folder)]
    return found(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_files_run_at_unseen_sizes_without_the_package(unseen):
    assert len(unseen) == len(WRITTEN)
    for file, (difference, _) in unseen.items():
        assert difference < 1e-4, file


@pytest.mark.parametrize("file", NODES)
def test_few_nodes_are_left_after_the_runtime_has_optimised(file, unseen):
    assert unseen[file][1] <= NODES[file]


WHOLE_EXAMPLE = """
import torch, resfu
from resfu.deploy.export_program import Shapes, program_of
torch.manual_seed(0)
up = resfu.ReSFU(8, 8, projection_dim=8, hidden_channels=8, groups=1, guided_filter_radius=1).eval()
program = program_of(up, Shapes((torch.randn(2, 8, 5, 4), torch.randn(2, 8, 10, 12)), "ratio"))
for low, high in (((5, 7), (13, 18)), ((4, 6), (12, 12)), ((6, 5), (7, 10))):
    x, y = torch.randn(1, 8, *low), torch.randn(1, 8, *high)
    torch.testing.assert_close(program.module()(x, y), up(x, y), rtol=1e-4, atol=1e-5)
"""


def test_no_ratio_of_the_example_is_kept_where_it_is_open():
    """The maps of networks have the ratio of their strides only where the image has a size of theirs."""
    apart.run(WHOLE_EXAMPLE)


@pytest.fixture
def bilinear():
    return resfu.Bilinear(scale_factor=2).eval(), torch.randn(1, 4, 5, 6)


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("net.tflite", {}, "must end in one of .onnx"),
        ("net.onnx", {"dynamic": "sizes"}, "dynamic must be one of"),
        ("net.onnx", {"dtype": torch.float64}, "dtype must be torch.float32 or torch.float16"),
        ("net.pte", {"dtype": torch.float16}, "ExecuTorch"),
    ],
)
def test_bad_requests_are_named(bilinear, tmp_path, path, options, message):
    with pytest.raises(ValueError, match=message):
        resfu.export(*bilinear, tmp_path / path, **options)
    assert list(tmp_path.iterdir()) == []


def test_inputs_that_are_none_or_of_several_types_are_named(tmp_path):
    maps = torch.randn(1, 16, 4, 4), torch.randn(1, 8, 8, 8).double()
    with pytest.raises(ValueError, match=r"inputs must have one dtype, got torch\.float32, torch\.float64"):
        resfu.export(resfu.ReSFU(16, 8).eval(), maps, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="inputs must be floating point maps"):
        resfu.export(resfu.ReSFU(16, 8).eval(), None, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=r"export\(module, inputs, path\): the path must be a str or Path, got tuple"):
        resfu.export(tmp_path / "net.onnx", resfu.ReSFU(16, 8).eval(), maps)
    with pytest.raises(ValueError, match=r"module must be a torch\.nn\.Module, got tuple"):
        resfu.export(maps, resfu.ReSFU(16, 8).eval(), tmp_path / "net.onnx")


@pytest.mark.parametrize("name", ["a2u", "carafe", "fade", "pixelshuffle"])
def test_an_open_ratio_is_refused_where_a_method_has_none(name, tmp_path, create, maps):
    up = create(name)
    with pytest.raises(ValueError, match="dynamic='ratio' is for upsamplers of any ratio"):
        resfu.export(up, maps(up)[: 1 + up.guided], tmp_path / "net.onnx", dynamic="ratio")
    assert list(tmp_path.iterdir()) == []


def test_a_module_in_training_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must return one tensor, got tuple: wrap it"):
        resfu.export(torch.nn.MaxPool2d(2, return_indices=True).eval(), torch.randn(1, 3, 8, 8), tmp_path / "x.onnx")
    with pytest.raises(ValueError, match=r"call \.eval\(\) first"):
        resfu.export(resfu.Bilinear(), torch.randn(1, 2, 4, 4), tmp_path / "net.onnx")


class _Wrong(OnnxRuntime):
    def check(self, dtype, module):
        pass

    def write(self, program, path):
        path.write_bytes(b"network")
        return []

    def load(self, path, threads=None):
        return lambda inputs: resfu.Bilinear(scale_factor=2)(*inputs) * 1.01


def test_a_file_that_disagrees_is_not_left(bilinear, tmp_path, monkeypatch):
    monkeypatch.setattr("resfu.deploy.export.runtime_of", lambda path: _Wrong())
    monkeypatch.setattr("resfu.deploy.export.program_of", lambda *arguments: None)
    with pytest.raises(ValueError, match=r"disagrees with PyTorch on 1x4x5x6 by 1.0e-02 .* nothing was written"):
        resfu.export(*bilinear, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


class _Halves(torch.nn.Module):
    """Loses a share of its output in fp16."""

    share = 0.03

    def forward(self, x):
        return x * (1 - self.share) if x.dtype == torch.float16 else x


def test_a_network_that_overflows_in_half_precision_is_refused(tmp_path, monkeypatch):
    runtime = _Wrong()
    runtime.load = lambda path, threads=None: lambda inputs: inputs[0] * torch.inf
    monkeypatch.setattr("resfu.deploy.export.runtime_of", lambda path: runtime)
    monkeypatch.setattr("resfu.deploy.export.program_of", lambda *arguments: None)
    monkeypatch.setattr(_Halves, "share", torch.inf)
    with pytest.raises(ValueError, match="more than 2e-02: nothing was written"):
        resfu.export(_Halves().eval(), torch.ones(1, 4, 5, 6), tmp_path / "net.onnx", True, torch.float16)


@pytest.mark.parametrize(("times", "kept"), [(3.9, True), (4.1, False)])
def test_half_precision_may_lose_four_times_what_pytorch_loses(tmp_path, monkeypatch, times, kept):
    runtime = _Wrong()
    runtime.load = lambda path, threads=None: lambda inputs: inputs[0].float() * (1 - times * _Halves.share)
    monkeypatch.setattr("resfu.deploy.export.runtime_of", lambda path: runtime)
    monkeypatch.setattr("resfu.deploy.export.program_of", lambda *arguments: None)
    given = _Halves().eval(), torch.randn(1, 4, 5, 6), tmp_path / "net.onnx", True, torch.float16
    if kept:
        assert resfu.export(*given).is_file()
    else:
        with pytest.raises(ValueError, match="more than 1e-01: nothing was written"):
            resfu.export(*given)


def test_the_other_example_has_another_batch_and_odd_sizes_at_the_same_ratio():
    given, other = Shapes((torch.zeros(1, 3, 6, 8), torch.zeros(1, 2, 24, 32)), True).examples()
    assert [x.shape[0] for x in other] == [2, 2]
    (h, w), (H, W) = (x.shape[2:] for x in other)
    assert (H, W) == (4 * h, 4 * w)
    assert h % 2 == w % 2 == 1
    assert (h, w) != given[0].shape[2:]


def test_what_a_compiler_traces_is_larger_and_checked_too():
    """AOTInductor takes a number of the example that is 1, as of the tiles in a row of eight, for a constant."""
    shapes = Shapes((torch.zeros(1, 3, 6, 8), torch.zeros(1, 2, 24, 32)), True, times=4)
    assert [x.shape[2:] for x in shapes.inputs] == [(24, 32), (96, 128)]
    assert [x.shape[2:] for x in Shapes((torch.zeros(1, 3, 1, 2),), True, times=4).inputs] == [(24, 48)]
    assert [x.shape for x in [*shapes.examples()][2]] == [x.shape for x in shapes.inputs]
    assert [x.shape[2:] for x in Shapes((torch.zeros(1, 3, 6, 8),), False, times=4).inputs] == [(6, 8)]
    large = Shapes((torch.zeros(1, 3, 400, 600),), True, times=4)  # would cost sixteen times its memory
    assert [x.shape[2:] for x in large.inputs] == [(400, 600)]
    assert len([*large.examples()]) == 2


class Even(torch.nn.Module):
    """Takes even sizes alone, as many networks do."""

    def forward(self, x):
        return x + torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(x, 2), scale_factor=2)


class InPyTorch:
    """In place of a runtime: runs the module and keeps the sizes."""

    name, times, largest = "PyTorch", 1, None

    def __init__(self):
        self.sizes = []

    def check(self, dtype, module):
        pass

    def write(self, program, path):
        path.write_bytes(b"a file")
        return []

    def load(self, path):
        def run(inputs):
            self.sizes.append(tuple(inputs[0].shape))
            return Even()(*inputs)

        return run


def test_a_network_of_even_sizes_is_checked_at_multiples(tmp_path, monkeypatch):
    runtime = InPyTorch()
    monkeypatch.setattr("resfu.deploy.export.runtime_of", lambda path: runtime)
    monkeypatch.setattr("resfu.deploy.export.program_of", lambda *given: None)
    resfu.export(Even().eval(), torch.rand(1, 3, 8, 8), tmp_path / "even.onnx")
    assert runtime.sizes == [(1, 3, 8, 8), (2, 3, 16, 24)]
    with pytest.raises(RuntimeError, match="must match"):  # not the sizes' fault alone
        resfu.export(Even().eval(), torch.rand(1, 3, 7, 7), tmp_path / "odd.onnx")
