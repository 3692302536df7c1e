"""The guided filter's Triton kernels: in the interpreter and through the compiler without a GPU, and on one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from resfu.ops import guided_filter, which_backend
from resfu.ops.filters import operators

pytest.importorskip("triton", reason="needs the package triton")
# Of the largest value. In fp32 and fp64 the roundings of up to 256 columns add up, to about 16, since the interpreter
# sums one by one.
BOUNDS = {"torch.float64": 1e-14, "torch.float32": 2e-6, "torch.bfloat16": 2**-7, "torch.float16": 2**-10}


def run(script: str, word: str) -> list[str]:
    command = [sys.executable, str(Path(__file__).parent / script), word]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_interpreter_agrees_with_the_operators_in_fp64():
    results = [json.loads(line) for line in run("filters_interpreted.py", "cases")]
    assert len(results) == 13
    for result in results:
        assert result["difference"] <= BOUNDS[result["dtype"]], result
        if "(1, 1)" not in result["case"]:  # one pixel has one window and one column
            assert min(result["wrong_radius"], result["wrong_column"]) > 0.01, result


def test_the_operator_round_the_kernels():
    """Its derivatives, and a compiler's and an exporter's view of it."""
    (line,) = run("filters_interpreted.py", "operator")
    result = json.loads(line)
    assert result["far_from_zero"] < 1e-3  # of values of about 1
    assert result["derivatives"] < 1e-14
    assert result["captured"] == 0
    assert result["wide_map"] == 0
    assert result["flat"] < 1e-6


def test_every_kernel_compiles_for_ampere_and_hopper():
    assert len(run("triton_compiled.py", "filters")) == 3 * 5 * 2


@pytest.mark.parametrize(("low", "size"), [((3, 4), (9, 8)), ((5, 6), (7, 13)), ((1, 3), (4, 3)), ((3, 3), (3, 3))])
def test_two_products_interpolate(low, size):
    x = torch.randn(2, 3, *low, dtype=torch.double)
    want = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(operators.upsample(x, size), want, rtol=1e-13, atol=1e-13)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnTheGPU:
    CASES = (
        # size of x, of the guide, radius
        ((32, 32), (128, 128), 8),
        ((31, 29), (97, 113), 8),
        ((120, 640), (120, 640), 3),
        ((40, 75), (320, 600), 8),
        ((20, 30), (40, 300), 90),
    )

    @pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels-last"])
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_agrees_with_fp64_on_the_cpu(self, case, dtype, last):
        low, size, radius = case
        torch.manual_seed(0)
        layout = torch.channels_last if last else torch.contiguous_format
        inputs = [
            torch.randn(2, 6, *s).to(dtype).contiguous(memory_format=layout) for s in (size, low, size)
        ]  # the guide, x and a gradient
        want = self.derivatives([t.double() for t in inputs], radius)
        inputs = [t.cuda() for t in inputs]
        assert which_backend(inputs[0]) == "triton"
        got, again = self.derivatives(inputs, radius), self.derivatives(inputs, radius)
        for one, two, true in zip(got, again, want, strict=True):
            assert one.dtype == dtype
            assert torch.equal(one, two), "not deterministic"
            assert (one.double().cpu() - true).abs().max() <= BOUNDS[str(dtype)] * true.abs().max()

    @staticmethod
    def derivatives(inputs, radius):
        guide, x, grad = inputs
        guide, x = guide.detach().requires_grad_(), x.detach().requires_grad_()
        out = guided_filter(guide, x, radius)
        return out.detach(), *torch.autograd.grad(out, (guide, x), grad)

    def test_any_strides(self):
        guide, x = torch.randn(2, 70, 6, 90, device="cuda"), torch.randn(2, 20, 60, 3, device="cuda")
        guide, x = guide.permute(0, 2, 1, 3)[:, ::2, 3:, ::2], x.transpose(1, 3)[..., :30, 5:]
        want = guided_filter(guide.double().cpu(), x.double().cpu())
        torch.testing.assert_close(guided_filter(guide, x).double().cpu(), want, rtol=1e-5, atol=1e-5)

    def test_more_than_two_to_the_31_elements(self):
        guide = torch.randn(1, 2080, 1024, 1024, device="cuda", dtype=torch.float16)
        x = torch.randn(1, 2080, 8, 8, device="cuda", dtype=torch.float16)
        out = guided_filter(guide, x)
        assert out.numel() > 2**31
        torch.testing.assert_close(out[:, -8:], guided_filter(guide[:, -8:], x[:, -8:]))

    def test_cuda_graph_and_compile(self):
        guide, x = torch.randn(1, 8, 64, 64, device="cuda"), torch.randn(1, 8, 16, 16, device="cuda")
        want = guided_filter(guide, x)
        compiled = torch.compile(guided_filter, fullgraph=True)
        torch.testing.assert_close(compiled(guide, x), want)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = guided_filter(guide, x)
        graph.replay()
        torch.testing.assert_close(out, want)

    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
    def test_opcheck(self):
        guide = torch.randn(1, 4, 7, 8, device="cuda", requires_grad=True)
        x = torch.randn(1, 4, 3, 4, device="cuda", requires_grad=True)
        torch.library.opcheck(operators.guided_filter, (guide, x, 2, 1e-3))
