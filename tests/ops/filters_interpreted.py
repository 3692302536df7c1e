"""Runs the guided filter's Triton kernels in the interpreter, on CPU tensors, beside the PyTorch operators in fp64. In
a process of its own, since Triton reads TRITON_INTERPRET when it is imported. Prints one line a case, or one with what
the custom operator round the kernels does; test_filters_triton.py reads them.
"""

import json
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
from triton_interpreted import surrounded, tl, triton  # new memory is full of NaN there

from resfu.ops import guided_filter
from resfu.ops.filters import api, operators
from resfu.ops.filters import triton as kernels
from resfu.ops.grid import lr_cell

np.seterr(over="raise", divide="raise", invalid="raise")

LAST, FP32, FP64 = torch.channels_last, torch.float32, torch.float64
CASES = [
    # size of x, of the guide, radius, images, channels, memory format, dtype of the guide, of x
    ((5, 6), (5, 6), 1, 2, 2, None, FP32, FP32),
    ((7, 7), (7, 7), 0, 1, 1, None, FP32, FP32),
    ((1, 1), (1, 1), 8, 1, 5, LAST, FP32, FP32),
    ((17, 5), (17, 5), 1, 1, 3, LAST, FP32, FP32),
    ((5, 6), (10, 12), 8, 1, 1, None, FP32, FP32),
    ((3, 5), (7, 13), 3, 1, 5, LAST, FP32, FP32),
    ((2, 40), (3, 270), 8, 1, 1, None, FP32, FP32),
    ((2, 30), (2, 150), 8, 1, 3, LAST, FP32, FP32),
    ((2, 64), (3, 280), 60, 1, 1, None, FP32, FP32),
    ((2, 3), (5, 7), 2, 1, 1, None, FP64, FP64),
    ((2, 3), (5, 7), 2, 1, 3, LAST, torch.bfloat16, torch.bfloat16),
    ((2, 3), (4, 6), 2, 1, 1, None, torch.float16, torch.float16),
    ((2, 3), (4, 6), 2, 2, 1, None, torch.bfloat16, FP32),
]


def random_map(size: tuple[int, ...], layout: torch.memory_format | None, dtype: torch.dtype) -> torch.Tensor:
    """Inside a larger one whose values are so large that a product with one of them overflows."""
    x = torch.randn(size).to(dtype).contiguous(memory_format=layout or torch.contiguous_format)
    return surrounded(x, (1, 4, 1, 20), torch.finfo(dtype).max)


def compare(case: tuple) -> dict:
    low, size, radius, B, C, layout, *dtypes = case
    guide, x = (random_map((B, C, *s), layout, d) for s, d in zip((size, low), dtypes, strict=True))
    got = kernels.guided_filter(guide, x, radius, 1e-3)
    assert got.shape == guide.shape
    assert got.dtype == torch.promote_types(*dtypes)
    assert not got.isnan().any()
    exact = guide.double(), x.double()
    wants = {
        "difference": guided_filter(*exact, radius, 1e-3),
        "wrong_radius": guided_filter(*exact, radius + 1, 1e-3),
        "wrong_column": guided_filter(exact[0], exact[1].roll(1, -1), radius, 1e-3),
    }
    errors = {name: ((got.double() - want).abs().max() / want.abs().max()).item() for name, want in wants.items()}
    return {"dtype": str(got.dtype), "case": str(case), **errors}


@triton.jit
def neighbours_kernel(q, out, W, w, COUNT: tl.constexpr, INDEX: tl.constexpr):
    n = tl.arange(0, COUNT)
    left, right, across = kernels._neighbours(tl.load(q + n), W, w, INDEX, tl.float64)
    tl.store(out + n, left.to(tl.float64))
    tl.store(out + COUNT + n, right.to(tl.float64))
    tl.store(out + 2 * COUNT + n, across)


def wide_map(W: int, w: int) -> float:
    """The largest error of where columns read a map so wide that a position's numerator takes more than 32 bits."""
    q = torch.arange(W, dtype=torch.int32)[-64:]
    got = torch.empty(3, 64, dtype=FP64)
    neighbours_kernel[(1,)](q, got, W, w, COUNT=64, INDEX=tl.int64)
    cell, fraction = (t[-64:] for t in lr_cell(W, w))
    want = torch.stack([cell.clamp(min=0).double(), (cell + 1).clamp(max=w - 1).double(), fraction])
    return (got - want).abs().max().item()


def far_from_zero() -> float:
    """Mean 100, deviation 0.1: in fp32 a mean square less a squared mean would have no digit of the variance right."""
    guide, x = 100 + 0.1 * torch.randn(1, 1, 6, 40), torch.randn(1, 1, 6, 40)
    want = guided_filter(guide.double(), x.double(), 2)
    return (operators.guided_filter(guide, x, 2, 1e-3).double() - want).abs().max().item()


def flat() -> float:
    """One pixel has no variance: without a ridge the filter gives the map itself."""
    guide, x = torch.randn(1, 2, 1, 1), torch.randn(1, 2, 1, 1)
    return (kernels.guided_filter(guide, x, 2, 0.0) - x).abs().max().item()


def derivatives() -> float:
    """The custom operator runs its kernels in the interpreter here, so that its autograd can be seen without a GPU."""

    def maps(*size):
        return torch.randn(1, 1, *size, dtype=FP64, requires_grad=True)

    worst = 0.0
    for low in ((3, 4), (2, 3)):
        guide, x, grad = maps(3, 4), maps(*low), torch.randn(1, 1, 3, 4, dtype=FP64)
        got = torch.autograd.grad(operators.guided_filter(guide, x, 1, 1e-2), (guide, x), grad)
        want = torch.autograd.grad(guided_filter(guide, x, 1, 1e-2), (guide, x), grad)
        worst = max(worst, *((a - b).abs().max().item() for a, b in zip(got, want, strict=True)))
        (only,) = torch.autograd.grad(operators.guided_filter(guide.detach(), x, 1, 1e-2), x, grad)
        worst = max(worst, (only - want[1]).abs().max().item())
    twice = [
        torch.autograd.grad(f(guide, guide**2, 1, 1e-2).sum(), guide)[0]
        for f in (operators.guided_filter, guided_filter)
    ]
    worst = max(worst, (twice[0] - twice[1]).abs().max().item())
    small = maps(2, 3), maps(1, 2)
    check = {"fast_mode": True, "check_undefined_grad": False}
    assert torch.autograd.gradcheck(lambda g, x: operators.guided_filter(g, x, 1, 1e-1), small, **check)
    assert torch.autograd.gradgradcheck(lambda g, x: operators.guided_filter(g, x, 1, 1e-1), small, **check)
    torch.library.opcheck(operators.guided_filter, (*small, 1, 1e-1))
    return worst


def captured() -> float:
    """Dispatch as on CUDA: the compiler sees one operator, forward and backward are what they are without it."""
    api.which_backend = lambda *_: "triton"
    guide, x = torch.randn(1, 2, 4, 5, requires_grad=True), torch.randn(1, 2, 2, 3, requires_grad=True)
    graphs = []

    def backend(graph, inputs):
        graphs.append({str(node.target) for node in graph.graph.nodes})
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    want, got = (
        torch.autograd.grad(f(guide, x, 1).square().sum(), (guide, x))
        for f in (guided_filter, torch.compile(guided_filter, fullgraph=True, backend=backend))
    )
    exported = torch.export.export(Filter(), (guide, x)).graph
    seen = [*graphs, {str(node.target) for node in exported.nodes}]
    assert all(any("resfu.guided_filter" in target for target in each) for each in seen), seen
    return max((a - b).abs().max().item() for a, b in zip(got, want, strict=True))


class Filter(torch.nn.Module):
    def forward(self, guide: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return guided_filter(guide, x, 1)


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if sys.argv[1] == "cases":
        for case in CASES:
            print(json.dumps(compare(case)), flush=True)
    else:
        found = {"far_from_zero": far_from_zero(), "flat": flat(), "derivatives": derivatives(), "captured": captured()}
        print(json.dumps(found | {"wide_map": wide_map(40000, 30000)}))
