"""The kernels of the similarity scores: interpreted and compiled without a GPU, and on one where there is one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resfu.ops.similarity import Compressor, operators, similarity_scores
from resfu.upsamplers.similarity import SimilarityBlock


def run(script: str, *words: str) -> list[str]:
    pytest.importorskip("triton", reason="needs the package triton")
    path = Path(__file__).parent / script
    done = subprocess.run([sys.executable, str(path), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def random_inputs(key_size, size, kernel_size=3, groups=2, D=16, M=32, dtype=torch.double) -> list[torch.Tensor]:
    """Key, query, weight, bias and the compressor's tensors."""
    block = SimilarityBlock(D, kernel_size, groups, M)
    for p in block.parameters():
        torch.nn.init.normal_(p, std=p[0].numel() ** -0.5 if p.dim() > 1 else 1.0)
    layers = (block.reduce, block.reduce_norm, block.score)
    parameters = [block.weight, block.bias, *(p for layer in layers for p in (layer.weight, layer.bias))]
    maps = [torch.randn(2, D, *key_size), torch.randn(2, D, *size)]
    return [t.detach().to(dtype) for t in (*maps, *parameters)]


def scores(tensors, step, neighbours="fine", backend="auto"):
    key, query, weight, bias, *rest = tensors
    return similarity_scores(key, query, weight, bias, Compressor(*rest), step, "pcdc", neighbours, backend)


@pytest.fixture(scope="module")
def interpreted():
    """Of each case the differences from the definition, right and with a wrong tap."""
    results = [json.loads(line) for line in run("similarity_interpreted.py")]
    assert len(results) == 12 + 2 + 1
    return results


def test_the_interpreter_agrees_with_the_definition(interpreted):
    for result in interpreted:
        # No worse than PyTorch's operators in that type by more than one unit.
        bound = result["eager"] + torch.finfo(getattr(torch, result["dtype"][6:])).eps if "eager" in result else 2e-6
        assert result["difference"] <= bound, result


def test_a_wrong_tap_is_noticed(interpreted):
    noticed = [result["with a wrong tap"] > 0.1 for result in interpreted if "with a wrong tap" in result]
    assert len(noticed) == 12
    assert all(noticed)


def test_every_kernel_compiles_for_ampere_and_hopper():
    assert len(run("triton_compiled.py", "similarity")) == 8 * 3 * 2


CASES = [
    # size of the key, of the query, K, neighbours
    ((8, 12), (8, 12), 3, "fine"),
    ((4, 6), (8, 12), 3, "fine"),
    ((4, 6), (9, 13), 5, "fine"),
    ((4, 6), (9, 13), 3, "coarse"),
]


@pytest.mark.parametrize(("key_size", "size", "kernel_size", "neighbours"), CASES, ids=str)
class TestBackward:
    """What backward computes once more, in fp64 on the CPU, beside the definition under autograd."""

    def test_gradients(self, key_size, size, kernel_size, neighbours):
        tensors = [t.requires_grad_() for t in random_inputs(key_size, size, kernel_size)]
        want = scores(tensors, (4, 6), neighbours, "reference")
        grad = torch.randn_like(want)
        needs = [n != 3 for n in range(10)]
        wanted = [t for t, need in zip(tensors, needs, strict=True) if need]
        with torch.no_grad():
            got = torch.ops.resfu.similarity_scores_backward(grad, tensors, needs, 8, 1e-5, 4, 6, neighbours)
        for one, true in zip(got, torch.autograd.grad(want, wanted, grad), strict=True):
            torch.testing.assert_close(one, true, rtol=1e-9, atol=1e-9)

    def test_composition(self, key_size, size, kernel_size, neighbours):
        key, query, weight, bias, *rest = tensors = random_inputs(key_size, size, kernel_size)
        got = operators.composition(key, query, weight, bias, Compressor(*rest), (4, 6), neighbours)
        torch.testing.assert_close(got, scores(tensors, (4, 6), neighbours, "reference"), rtol=1e-10, atol=1e-10)


def test_what_the_kernels_take():
    def takes(key_size, size, changed=None, **options):
        tensors = random_inputs(key_size, size, **{"dtype": torch.float32} | options)
        key, query, weight, _, *rest = tensors
        return operators.takes(key.to(changed), query, weight, Compressor(*rest), (4, 6))

    assert takes((4, 6), (9, 13))
    assert takes((8, 12), (8, 12))
    assert takes((4, 6), (9, 13), groups=1, M=128, dtype=torch.bfloat16)
    assert not takes((9, 13), (9, 13)), "a real ratio between pixels of the query"
    assert not takes((4, 6), (9, 13), dtype=torch.double)
    assert not takes((4, 6), (9, 13), changed=torch.bfloat16)
    assert not takes((4, 6), (9, 13), groups=1, M=128)
    assert not takes((4, 6), (9, 13), kernel_size=9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnTheGPU:
    CASES = (
        # size of the key, of the query, step, K, groups, D, M, neighbours
        ((128, 128), (128, 128), (32, 32), 3, 4, 32, 128, "fine"),
        ((63, 60), (63, 60), (21, 30), 5, 2, 16, 48, "fine"),
        ((32, 32), (128, 128), (32, 32), 3, 4, 32, 128, "fine"),
        ((31, 29), (97, 113), (31, 29), 5, 1, 32, 64, "fine"),
        ((31, 29), (97, 113), (31, 29), 3, 4, 32, 128, "coarse"),
    )

    @pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels-last"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_agrees_with_fp64_on_the_cpu(self, case, dtype, last):
        tensors, step, neighbours = self.inputs(case, dtype)
        want = scores([t.double() for t in tensors], step, neighbours, "reference")
        eager = (scores(tensors, step, neighbours) - want).abs().max()
        got = scores(self.on_gpu(tensors, last), step, neighbours, "triton")
        assert got.dtype == dtype
        rounding = 1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps
        assert (got.double().cpu() - want).abs().max() <= eager + rounding * want.abs().max()

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_gradients(self, case):
        tensors, step, neighbours = self.inputs(case, torch.float32)
        exact = [t.double().requires_grad_() for t in tensors]
        want = scores(exact, step, neighbours, "cpu")
        grad = torch.randn(want.shape)
        inputs = [t.requires_grad_() for t in self.on_gpu(tensors, True)]
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            got, again = (torch.autograd.grad(scores(inputs, step, neighbours), inputs, grad.cuda()) for _ in range(2))
        for one, two, true in zip(got, again, torch.autograd.grad(want, exact, grad.double()), strict=True):
            assert torch.equal(one, two), "not deterministic"
            # Some of millions of values lie so near 0 that rounding moves them across a ReLU's edge.
            assert (one.double().cpu() - true).norm() <= 2e-3 * true.norm()

    def test_no_hidden_map_in_memory(self):
        tensors, step, _ = self.inputs(self.CASES[2], torch.float32)
        inputs = [t.requires_grad_() for t in self.on_gpu(tensors, True)]
        scores(inputs, step)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        out = scores(inputs, step)
        hidden = 2 * 128 * 128 * 128 * 4
        assert torch.cuda.max_memory_allocated() - before < hidden / 4
        assert torch.cuda.memory_allocated() - before <= 2 * out.numel() * 4

    def test_cuda_graph_compile_and_autocast(self):
        tensors, step, _ = self.inputs(self.CASES[2], torch.float32)
        inputs = self.on_gpu(tensors, False)
        want = scores(inputs, step)
        torch.testing.assert_close(torch.compile(scores, fullgraph=True)(inputs, step), want)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = scores(inputs, step)
        graph.replay()
        torch.testing.assert_close(out, want)
        with torch.autocast("cuda", torch.bfloat16):
            half = scores(inputs, step)
        assert half.dtype == torch.bfloat16
        assert (half - want).abs().max() <= 0.05 * want.abs().max()

    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
    def test_opcheck(self):
        tensors = [t.cuda().requires_grad_() for t in random_inputs((4, 6), (9, 13), dtype=torch.float32)]
        torch.library.opcheck(operators.similarity_scores, (*tensors, 8, 1e-5, 4, 6, "fine"))

    @staticmethod
    def inputs(case, dtype):
        key_size, size, step, K, groups, D, M, neighbours = case
        torch.manual_seed(0)
        return random_inputs(key_size, size, K, groups, D, M, dtype), step, neighbours

    @staticmethod
    def on_gpu(tensors, last):
        form = torch.channels_last if last else torch.contiguous_format
        return [t.cuda().contiguous(memory_format=form) if t.dim() == 4 else t.cuda() for t in tensors]
