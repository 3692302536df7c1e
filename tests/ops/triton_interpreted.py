"""Runs the Triton kernels in the interpreter, on CPU tensors, beside the CPU operators, or their arithmetic on
positions beside that of the CPU. In a process of its own, since Triton reads TRITON_INTERPRET when it is imported.
Prints one line a case; test_triton.py reads them.
"""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

os.environ["TRITON_INTERPRET"] = "1"

import torch

from resfu.ops import window_softmax
from resfu.ops.grid import lr_cell
from resfu.ops.reassembly import cpu, operators
from resfu.ops.reassembly.tiles import window_start

triton = importlib.import_module("triton")
tl = importlib.import_module("triton.language")
interpreter = importlib.import_module("triton.runtime.interpreter")
create_dot = interpreter.InterpreterBuilder.create_dot
kernels = importlib.import_module("resfu.ops.reassembly.triton")
device = importlib.import_module("resfu.ops.reassembly.triton_kernels")
torch.utils.deterministic.fill_uninitialized_memory = True
torch.use_deterministic_algorithms(True)  # torch.empty is full of NaN

CASES = [
    # neighbours, low resolution, high resolution, M, groups, channels
    ("fine", (2, 3), (4, 6), 4, 1, 5),
    ("fine", (3, 2), (5, 7), 4, 2, 6),
    ("fine", (1, 2), (3, 9), 6, 1, 3),
    ("coarse", (2, 3), (4, 9), 5, 1, 4),
    ("coarse", (5, 5), (6, 9), 3, 2, 4),  # the last tiles' windows end beyond the map, here and below
    ("central", (4, 5), (6, 13), 3, 2, 4),
    ("fine", (5, 7), (6, 20), 4, 1, 3),
    ("dense", (4, 5), (4, 5), 3, 1, 7),
]


def dot(self, a, b, *rest):
    """The interpreter (3.8) keeps bf16 as its bits and multiplies those: widen them first."""
    tl = interpreter.tl
    for operand in (a, b):
        if operand.dtype == tl.bfloat16:
            operand.data = interpreter._convert_float(operand.data, tl.bfloat16, tl.float32, None).view("float32")
            operand.dtype = tl.float32
    return create_dot(self, a, b, *rest)


def rounded_to_bf16(self, source, dtype):
    """The interpreter (3.8) cuts fp32 off where GPUs round to bf16."""
    if (source.dtype.scalar, dtype.scalar) != (tl.float32, tl.bfloat16):
        return self.cast_impl(source, dtype)
    bits = torch.tensor(source.data).bfloat16().view(torch.uint16).numpy()
    return interpreter.TensorHandle(bits, tl.bfloat16)


interpreter.InterpreterBuilder.create_dot = dot
interpreter.InterpreterBuilder.create_fp_trunc = rounded_to_bf16


def difference(got: torch.Tensor, want: torch.Tensor) -> float:
    assert got.shape == want.shape
    assert not got.isnan().any()
    return ((got - want).abs().max() / want.abs().max()).item()


def surrounded(x: torch.Tensor, margins: tuple[int, int, int, int], fill: float) -> torch.Tensor:
    """x inside a larger map full of another value, in the same order in memory: what a wrong mask lets in is seen."""
    whole = torch.full([n + 2 * m for n, m in zip(x.shape, margins, strict=True)], fill, dtype=x.dtype)
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    whole = whole.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    return whole[tuple(slice(m, m + n) for n, m in zip(x.shape, margins, strict=True))].copy_(x)


@triton.jit
def positions_kernel(p, P, length, out, COUNT: tl.constexpr, READ: tl.constexpr):
    n = tl.arange(0, COUNT)
    p, P, length = tl.load(p + n), tl.load(P + n), tl.load(length + n)
    tl.store(out + n, device._start(p, P, length, READ).to(tl.float64))
    tl.store(out + COUNT + n, device._fraction(p, P, length, tl.float64))
    tl.store(out + 2 * COUNT + n, device._first(p, P, length, READ).to(tl.float64))


def positions() -> None:
    """For every pixel of many axes: where its window begins, its fraction, and the first pixel that begins there."""
    axes = [(P, length) for length in (1, 2, 3, 5, 7, 12) for P in range(length, 4 * length + 3)]
    axes += [(40000, 30000), (65536, 65536), (70001, 3)]
    for neighbours in ("fine", "coarse", "central"):
        asked, wanted = [], []
        for P, length in axes:
            p = torch.arange(P)[:: 1 + P // 100]
            start = window_start(P, length, neighbours)
            asked.append(torch.stack([p, torch.full_like(p, P), torch.full_like(p, length)]))
            first = torch.searchsorted(start, p.contiguous())  # p in its second part: a place in the map
            wanted.append(torch.stack([start[p].double(), lr_cell(P, length)[1][p], first.double()]))
        arguments, want = torch.cat(asked, 1).int(), torch.cat(wanted, 1)
        count = 1 << (want.shape[1] - 1).bit_length()
        arguments = torch.nn.functional.pad(arguments, (0, count - want.shape[1]), value=1)
        got = torch.empty(3, count, dtype=torch.double)
        positions_kernel[(1,)](*arguments, got, COUNT=count, READ=kernels.READ[neighbours])
        wrong = (got[:, : want.shape[1]] != want).sum().item()
        print(json.dumps({"neighbours": neighbours, "positions": want.shape[1], "wrong": wrong}))


@contextmanager
def a_wrong_tap() -> Iterator[None]:
    """The CPU reads every window one pixel away: a comparison must notice."""
    cpu_window = cpu._window
    cpu._window = lambda x, *rest: cpu_window(x.roll(1, 1), *rest)
    yield
    cpu._window = cpu_window


def worst(
    got: list, calls: dict, sizes: tuple, neighbours: str, groups: int, scores: torch.Tensor, mask: bool
) -> float:
    """The largest difference of what the kernels gave from the CPU's in fp64."""
    want = [
        getattr(cpu, name)(*(t.double() for t in inputs), *sizes, neighbours, groups) for name, inputs in calls.items()
    ]
    padded, low = calls["window_sum"][0].double(), sizes[1:]
    share = window_softmax(scores.double(), groups, low if mask else None)
    want.append(operators.reassemble(padded, share, low, neighbours, groups))
    return max(difference(a.double(), b) for a, b in zip(got, want, strict=True))


def main() -> None:
    torch.manual_seed(0)
    runs = [(torch.float32, case) for case in CASES]
    runs += [(dtype, CASES[0]) for dtype in (torch.float64, torch.bfloat16, torch.float16)]
    for dtype, (neighbours, (h, w), (H, W), M, groups, C) in runs:
        padded = torch.randn(2, C, h + 2 * (M // 2), w + 2 * (M // 2), dtype=dtype)
        weights = torch.randn(2, groups * M * M, H, W, dtype=dtype)
        grad = torch.randn(2, C, H, W, dtype=dtype)
        if neighbours == "coarse":
            padded, grad = (t.contiguous(memory_format=torch.channels_last) for t in (padded, grad))
        # Maps with nothing between their pixels give channels-last output: there only other images are round them.
        margins = (1, 0, 0, 0) if groups == 2 and neighbours == "coarse" else (1, 3, 2, 30)
        padded, weights, grad = (surrounded(t, margins, float("nan")) for t in (padded, weights, grad))
        K = M - (neighbours == "fine")
        mask = neighbours != "coarse"
        scores = surrounded(3 * weights[:, : groups * K * K], margins, float("nan"))
        calls = {
            "window_sum": (padded, weights),
            "window_sum_to_features": (grad, weights),
            "window_sum_to_weights": (grad, padded),
        }
        got = [getattr(kernels, name)(*inputs, M, h, w, neighbours, groups) for name, inputs in calls.items()]
        assert all(each.dtype == dtype for each in got)
        got.append(kernels.softmax_window_sum(padded, scores, K, h, w, neighbours, groups, mask))
        arguments = (got, calls, (M, h, w), neighbours, groups, scores, mask)
        found = {"difference": worst(*arguments)}
        with a_wrong_tap():
            found["with a wrong tap"] = worst(*arguments)
        print(json.dumps({"dtype": str(dtype), "case": str((neighbours, h, w, H, W, M, groups)), **found}))


if __name__ == "__main__":
    positions() if "positions" in sys.argv else main()
