"""The Triton kernels: in the interpreter and through the compiler without a GPU, and on one where there is one."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resfu.ops import correlate, reassemble, which_backend

pytest.importorskip("triton", reason="needs the package triton")
# Of the largest value: a few roundings of fp32 and fp64. In bf16 and fp16 a weight is rounded once and the sum once.
# One unit in the last place each, 2^-7 in bf16.
BOUNDS = {"torch.float64": 1e-14, "torch.float32": 1e-6, "torch.bfloat16": 2 * 2**-7, "torch.float16": 2 * 2**-10}


def run(script: str, *words: str) -> subprocess.CompletedProcess:
    path = Path(__file__).parent / script
    return subprocess.run([sys.executable, str(path), *words], capture_output=True, text=True)


@pytest.fixture(scope="module")
def interpreted():
    """Of each case the differences from the CPU, right and with a wrong tap."""
    done = run("triton_interpreted.py")
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 11
    return results


def test_the_interpreter_agrees_with_the_cpu(interpreted):
    for result in interpreted:
        assert result["difference"] <= BOUNDS[result["dtype"]], result


def test_a_wrong_tap_is_noticed(interpreted):
    assert all(result["with a wrong tap"] > 0.1 for result in interpreted)


def test_kernels_and_cpu_agree_on_every_position():
    done = run("triton_interpreted.py", "positions")
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 3
    for result in results:
        assert result["positions"] > 2000
        assert result["wrong"] == 0, result


def test_every_kernel_compiles_for_ampere_and_hopper():
    done = run("triton_compiled.py")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4 * 2 * 4


def test_large_windows_fit_the_smallest_shared_memory():
    done = run("triton_compiled.py", "large")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 * 3 * 2


def test_triton_on_the_cpu_says_why_not():
    with pytest.raises(ValueError, match="backend='triton': it runs on CUDA tensors and can't run on cpu"):
        which_backend(torch.ones(1), "triton")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnTheGPU:
    CASES = (
        ("fine", (32, 32), (128, 128), 3, 1, "replicate"),
        ("fine", (31, 29), (97, 113), 5, 4, "replicate"),
        ("coarse", (60, 63), (120, 126), 5, 1, "zero"),
        ("coarse", (60, 63), (121, 140), 5, 2, "zero"),
        ("dense", (63, 60), (63, 60), 7, 1, "reflect"),
    )

    @pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels-last"])
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_agrees_with_fp64_on_the_cpu(self, case, dtype, last):
        neighbours, low, high, K, groups, padding = case
        options = {"neighbours": neighbours, "padding": padding, "groups": groups}
        torch.manual_seed(0)
        x, a = torch.randn(2, 96, *low), torch.randn(2, groups * K * K, *high)
        grad = torch.randn(2, 96, *high)
        inputs = [t.to(dtype) for t in (x, a, grad)]
        want = self.derivatives([t.double() for t in inputs], options)
        inputs = [t.cuda().contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
                  for t in inputs]  # fmt: skip
        assert which_backend(inputs[0]) == "triton"
        got, again = self.derivatives(inputs, options), self.derivatives(inputs, options)
        for one, two, true in zip(got, again, want, strict=True):
            assert one.dtype == dtype
            assert torch.equal(one, two), "not deterministic"
            bound = BOUNDS[str(dtype)]
            assert (one.double().cpu() - true).abs().max() <= bound * true.abs().max()

    @staticmethod
    def derivatives(inputs, options):
        x, a, grad = inputs
        x, a = x.detach().requires_grad_(), a.detach().requires_grad_()
        out = reassemble(x, a, **options)
        return out.detach(), *torch.autograd.grad(out, (x, a), grad)

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_the_softmax_inside_the_sum_equals_that_before_it(self, case):
        neighbours, low, high, K, groups, padding = case
        options = {"neighbours": neighbours, "padding": padding, "groups": groups, "softmax": True}
        x, scores = torch.randn(2, 96, *low), 3 * torch.randn(2, groups * K * K, *high)
        for mask in (False, neighbours == "fine"):
            want = reassemble(x.double(), scores.double(), mask=mask, **options)
            got = reassemble(x.cuda(), scores.cuda(), mask=mask, **options)
            assert (got.double().cpu() - want).abs().max() <= 1e-6 * want.abs().max()
            recorded = reassemble(x.cuda().requires_grad_(), scores.cuda(), mask=mask, **options)
            torch.testing.assert_close(recorded.detach(), got, rtol=1e-5, atol=1e-6)

    def test_correlate(self):
        query, key = torch.randn(1, 32, 40, 44), torch.randn(1, 32, 20, 22)
        torch.testing.assert_close(correlate(query.cuda(), key.cuda(), 5).cpu(), correlate(query, key, 5))

    def test_more_than_two_to_the_31_elements(self):
        x = torch.randn(1, 2080, 16, 16, device="cuda", dtype=torch.float16)
        a = torch.rand(1, 9, 1024, 1024, device="cuda", dtype=torch.float16)
        out = reassemble(x, a)
        assert out.numel() > 2**31
        torch.testing.assert_close(out[:, -8:], reassemble(x[:, -8:], a))

    def test_cuda_graph_and_compile(self):
        x, a = torch.randn(1, 64, 16, 16, device="cuda"), torch.randn(1, 9, 64, 64, device="cuda")
        want = reassemble(x, a)
        compiled = torch.compile(reassemble, fullgraph=True)
        torch.testing.assert_close(compiled(x, a), want)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = reassemble(x, a)
        graph.replay()
        torch.testing.assert_close(out, want)

    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
    def test_opcheck(self):
        padded = torch.randn(1, 4, 7, 8, device="cuda", requires_grad=True)
        weights = torch.randn(1, 16, 6, 8, device="cuda", requires_grad=True)
        importlib.import_module("resfu.ops.reassembly.operators")
        torch.library.opcheck(torch.ops.resfu.window_sum.default, (padded, weights, 4, 3, 4, "fine", 1))
