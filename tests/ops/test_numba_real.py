"""Compiled windows of whole low-resolution pixels at ratios that are not whole, against the reference in fp64."""

import pytest
import torch

from resfu.ops import correlate, reassemble

pytest.importorskip("numba")
from resfu.ops.reassembly import numba_real

SIZES = [
    ((5, 6), (7, 11)),
    ((8, 8), (8, 9)),  # whole along the rows alone
    ((3, 4), (31, 29)),
    ((17, 9), (18, 20)),  # more than a band of rows
    ((2, 2), (3, 2)),
]
each_size = pytest.mark.parametrize(("low", "high"), SIZES, ids=str)
each_operation = pytest.mark.parametrize("operation", ["sum", "softmax", "scores"])


def maps(operation, low, high, K=5):
    torch.manual_seed(0)
    on_pixels = torch.randn(2, 10 if operation == "scores" else K * K, *high)
    return on_pixels, torch.randn(2, 10, *low)


def computed(operation, on_pixels, features, backend, **options):
    if operation == "scores":
        return correlate(on_pixels, features, 5, backend=backend)
    return reassemble(
        features, on_pixels, neighbours="coarse", softmax=operation == "softmax", backend=backend, **options
    )


def close(got, want):
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=2e-6 * max(1.0, want.abs().max().item()))


@each_operation
@each_size
def test_values(operation, low, high):
    given = maps(operation, low, high)
    want = computed(operation, *(t.double() for t in given), "reference")
    assert numba_real.next_grid(torch.empty(1, 1, *high), low) is not None
    close(computed(operation, *given, "numba"), want)
    last = [t.contiguous(memory_format=torch.channels_last) for t in given]
    close(computed(operation, *last, "numba"), want)
    if operation != "scores":
        out = torch.full_like(want, 9.0, dtype=torch.float32)
        assert computed(operation, *given, "numba", out=out) is out
        close(out, want)


@each_operation
@each_size
def test_first_and_second_derivatives(operation, low, high):
    given, found = maps(operation, low, high), {}
    for backend, dtype in (("numba", torch.float32), ("reference", torch.float64)):
        inputs = [t.to(dtype).requires_grad_() for t in given]
        out = computed(operation, *inputs, backend)
        assert ("_Moved" in type(out.grad_fn).__name__) == (backend == "numba")
        cotangent = torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out).requires_grad_()
        first = torch.autograd.grad(out, inputs, cotangent, create_graph=True)
        both = sum(t.square().sum() for t in first)
        found[backend] = [*first, *torch.autograd.grad(both, [*inputs, cotangent])]
    for got, want in zip(found["numba"], found["reference"], strict=True):
        close(got, want)


@each_operation
def test_the_number_of_threads_changes_nothing(operation):
    given, before, results = maps(operation, *SIZES[3]), torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(computed(operation, *given, "numba"))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


@each_operation
def test_a_pixel_that_is_not_finite_reaches_no_other(operation):
    low, high = SIZES[0]
    on_pixels, features = maps(operation, low, high)
    on_pixels[1, 3, 2, 10] = float("nan")
    inputs = [on_pixels.requires_grad_(), features.requires_grad_()]
    out = computed(operation, *inputs, "numba")
    spoilt = torch.zeros(2, *high, dtype=torch.bool)
    spoilt[1, 2, 10] = True
    assert torch.equal(out.isnan().any(1), spoilt)
    to_pixels = torch.autograd.grad(out, on_pixels, torch.ones_like(out))[0]
    assert not to_pixels.isnan()[~spoilt[:, None].expand_as(to_pixels)].any()


def test_every_pixel_has_a_place_of_its_own_inside_its_low_resolution_pixel():
    for p, P in ((5, 7), (8, 9), (3, 31), (7, 13)):
        pixel, place = numba_real._places(P, p)
        ratio = len(pixel) // p
        assert len(pixel) == p * -(-P // p)
        assert pixel[place].tolist() == list(range(P))
        assert (pixel == -1).sum() == len(pixel) - P
        assert (place // ratio).tolist() == [i * p // P for i in range(P)]
