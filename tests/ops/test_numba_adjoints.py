"""The compiled window sum over whole low-resolution pixels and its adjoints, against PyTorch's operators in fp64."""

import pytest
import torch

from resfu.ops import correlate, reassemble
from resfu.ops.reassembly import cpu

pytest.importorskip("numba")
from resfu.ops.reassembly import numba_adjoints as adjoints

# images, channels, rows and columns of the low-resolution map, rows and columns of pixels for each, K
SHAPES = [
    (2, 11, 5, 6, 2, 2, 5),
    (1, 8, 9, 17, 2, 2, 3),
    (2, 16, 4, 40, 1, 1, 7),
    (1, 3, 10, 9, 4, 3, 5),
    (1, 20, 17, 33, 2, 2, 5),  # more than a band of rows, and an incomplete tile
    (2, 9, 1, 1, 8, 16, 3),
    (1, 5, 3, 2, 1, 5, 7),
]


def maps(shape, dtype=torch.float32):
    B, C, h, w, rh, rw, K = shape
    torch.manual_seed(0)
    padded, pixels = torch.randn(B, C, h + K - 1, w + K - 1), torch.randn(B, C, h * rh, w * rw)
    weights = torch.randn(B, K * K, h * rh, w * rw)
    return {"padded": padded, "pixels": pixels, "weights": weights}


ARGUMENTS = {
    "window_sum": ("padded", "weights"),
    "window_sum_to_weights": ("pixels", "padded"),
    "window_sum_to_features": ("pixels", "weights"),
}
each_function = pytest.mark.parametrize("name", ARGUMENTS)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def close(got, want):
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=2e-6 * max(1.0, want.abs().max().item()))


def by_operators(name, first, second, shape):
    _, _, h, w, _, _, K = shape
    return getattr(cpu, name)(first, second, K, h, w, "coarse", 1)


@each_function
@each_shape
def test_values(name, shape):
    first, second = (maps(shape)[key] for key in ARGUMENTS[name])
    h, w, K = shape[2], shape[3], shape[6]
    want = by_operators(name, first.double(), second.double(), shape)
    close(getattr(adjoints, name)(first, second, K, h, w), want)
    last = [t.contiguous(memory_format=torch.channels_last) for t in (first, second)]
    close(getattr(adjoints, name)(*last, K, h, w), want)


@each_function
def test_first_and_second_derivatives(name):
    shape = SHAPES[0]
    h, w, K = shape[2], shape[3], shape[6]
    given = [maps(shape)[key] for key in ARGUMENTS[name]]

    def derivatives(function, dtype):
        inputs = [t.to(dtype).requires_grad_() for t in given]
        out = function(*inputs)
        cotangent = torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out).requires_grad_()
        first = torch.autograd.grad(out, inputs, cotangent, create_graph=True)
        both = sum(t.square().sum() for t in first)
        return [*first, *torch.autograd.grad(both, [*inputs, cotangent])]

    def operators(a, b):
        return getattr(torch.ops.resfu, name)(a, b, K, h, w, "coarse", 1)

    found = derivatives(lambda a, b: getattr(adjoints, name)(a, b, K, h, w), torch.float32)
    for got, want in zip(found, derivatives(operators, torch.float64), strict=True):
        close(got, want)


@each_function
@each_shape
def test_the_number_of_threads_changes_nothing(name, shape):
    first, second = (maps(shape)[key] for key in ARGUMENTS[name])
    h, w, K = shape[2], shape[3], shape[6]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(getattr(adjoints, name)(first, second, K, h, w))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_what_is_not_finite_stays_in_its_windows():
    shape = SHAPES[4]
    h, w, K = shape[2], shape[3], shape[6]
    given = maps(shape)
    for name, arguments in ARGUMENTS.items():
        for key in arguments:
            for place in (0, -1):  # where a row ends, the next one begins in memory
                spoilt = {**given, key: given[key].clone()}
                spoilt[key][0, 2, 5, place] = float("nan")
                found = getattr(adjoints, name)(*(spoilt[k] for k in arguments), K, h, w)
                probe = {k: torch.zeros_like(given[k]) for k in arguments}
                probe[key][0, 2, 5, place] = 1
                other = next(k for k in arguments if k != key)
                probe[other].fill_(1)
                reached = by_operators(name, *(probe[k].double() for k in arguments), shape) != 0
                assert torch.equal(found.isnan(), reached), (name, key, place)


@pytest.mark.parametrize("neighbours", ["coarse", "dense"])
def test_they_are_what_trains(neighbours):
    ratio = 2 if neighbours == "coarse" else 1
    features = torch.randn(1, 12, 6, 7, requires_grad=True)
    scores = torch.randn(1, 25, 6 * ratio, 7 * ratio, requires_grad=True)
    query = torch.randn(1, 12, 6 * ratio, 7 * ratio, requires_grad=True)
    grad = torch.randn(1, 12, 6 * ratio, 7 * ratio)
    found = {}
    for backend in ("numba", "cpu"):
        out = reassemble(features, scores, neighbours=neighbours, softmax=True, backend=backend)
        likeness = correlate(query, features, 5, neighbours, backend=backend)
        names = {type(t.grad_fn).__name__ for t in (out, likeness)}
        assert (names == {"_SumBackward", "_ToWeightsBackward"}) == (backend == "numba")
        found[backend] = [out, likeness, *torch.autograd.grad(out, (features, scores), grad)]
        found[backend] += torch.autograd.grad(likeness, (query, features), scores.detach())
    for got, want in zip(found["numba"], found["cpu"], strict=True):
        close(got, want.double())
