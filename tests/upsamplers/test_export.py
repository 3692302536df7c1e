"""What leaves Python: exported programs, ONNX, and torch.jit.trace, which is refused where it would be wrong.

In a process of their own, as in test_graph_capture.py.
"""

import json

import pytest
import torch

import resfu
from tests.support import apart

SCRIPT = """
import gc, json, sys, traceback
import torch
import resfu
torch.set_num_threads(1)
gc.freeze()  # a search for garbage among all that is imported and captured takes a seventh of the time
gc.set_threshold(100_000, 20, 100)
resfu.ops.backends._NUMBA_INSTALLED = False  # programs hold PyTorch's operators, and are compared with these to the bit

def maps(low, high, width):
    return torch.randn(2, 32, *low), torch.randn(2, width, *high)

class Sized(torch.nn.Module):
    def __init__(self, up):
        super().__init__()
        self.up = up

    def forward(self, x, y):
        return self.up(x, y, size=(2 * x.shape[-2], 2 * x.shape[-1]))

def export(name):
    torch.manual_seed(0)
    width = 3 if resfu.UPSAMPLERS[name].image_guided else 32
    up = resfu.create_upsampler(name, channels=32, guidance_channels=width, scale_factor=2).eval()
    x, y = maps((5, 7), (10, 14), width)
    h, w = torch.export.Dim("h", min=4, max=64), torch.export.Dim("w", min=4, max=64)
    sizes = ({2: h, 3: w}, {2: 2 * h, 3: 2 * w})
    with torch.autocast("cpu", torch.bfloat16):
        program = torch.export.export(up, (x, y), dynamic_shapes=sizes)
        x, y = maps((6, 9), (12, 18), width)
        want = up(x, y)
    got = program.module()(x, y)  # outside, and at another size
    assert got.dtype == torch.float32
    difference = (got - want).abs().max().item()
    sized = Sized(up)
    try:
        traced = [torch.jit.trace(net, (x, y), check_trace=False) for net in (up, sized)]
    except ValueError as error:
        return difference, str(error)
    x, y = maps((5, 7), (10, 14), width)
    return difference, max((net(x, y) - up(x, y)).abs().max().item() for net in traced)

auto = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
nearest = torch.export.export(resfu.Nearest(), maps((16, 20), (37, 45), 2), dynamic_shapes=(auto, auto))
torch.export.save(nearest, sys.argv[1])
for name in sys.argv[2:]:
    try:
        print(json.dumps({name: export(name)}), flush=True)
    except Exception:
        print(json.dumps({name: traceback.format_exc()}), flush=True)
"""
TRACED = ("nearest", "bilinear", "bicubic", "deconv", "pixelshuffle", "indexnet", "dysample", "anyup")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def exported(folder):
    """For each upsampler the error of its program and of its trace, or messages in their place."""
    lines = apart.run(SCRIPT, str(folder / "nearest.pt2"), *resfu.UPSAMPLERS).splitlines()
    return {name: value for line in lines for name, value in json.loads(line).items()}


@pytest.mark.parametrize("name", resfu.UPSAMPLERS)
def test_a_program_keeps_the_autocast_and_a_derived_size(name, exported):
    """Exported under autocast with H = 2 h, it computes in that precision wherever it runs."""
    assert isinstance(exported[name], list), exported[name]
    assert exported[name][0] == 0


@pytest.mark.parametrize("name", resfu.UPSAMPLERS)
def test_a_trace_is_right_at_other_sizes_or_refused(name, exported):
    found = exported[name][1]
    if name in TRACED:
        assert found == 0
    else:
        assert "torch.jit.trace can't record" in found
        assert "resfu.export" in found
        assert "torch.export.export" in found


@pytest.fixture
def nearest_program(exported, folder):
    return torch.export.load(folder / "nearest.pt2")


def test_a_program_of_nearest_keeps_no_ratio(nearest_program):
    """Other runtimes compute the size from a ratio, and 16 x 20 becomes 15 x 19."""
    for node in nearest_program.graph.nodes:
        assert not any(isinstance(value, float) for value in node.args), node
    for low, high in (((8, 10), (16, 20)), ((12, 5), (74, 9))):
        x, y = torch.randn(2, 32, *low), torch.randn(2, 2, *high)
        assert torch.equal(nearest_program.module()(x, y), resfu.Nearest()(x, y))


@pytest.mark.filterwarnings("ignore")
def test_nearest_in_onnx(nearest_program, tmp_path):
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason="PyTorch writes ONNX with onnx and onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime runs what was written")
    torch.onnx.export(nearest_program, dynamo=True, verbose=False).save(tmp_path / "nearest.onnx")
    session = runtime.InferenceSession(tmp_path / "nearest.onnx", providers=["CPUExecutionProvider"])
    for low, high in (((8, 10), (16, 20)), ((12, 5), (74, 9))):
        x, y = torch.randn(2, 32, *low), torch.randn(2, 2, *high)
        names = [value.name for value in session.get_inputs()]
        (got,) = session.run(None, dict(zip(names, (x.numpy(), y.numpy()), strict=True)))
        assert torch.equal(torch.from_numpy(got), resfu.Nearest()(x, y))
