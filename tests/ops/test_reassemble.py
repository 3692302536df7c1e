"""Reassembly: the fast operators against the reference, the reference against hand cases."""

from importlib.util import find_spec

import pytest
import torch

from resfu.ops import correlate, reassemble, which_backend, window_softmax
from resfu.ops.reassembly.tiles import tiles

CASES = [
    # neighbours, low resolution, high resolution, K, groups, padding
    ("fine", (5, 6), (10, 12), 3, 1, "replicate"),
    ("fine", (5, 6), (15, 24), 5, 2, "replicate"),
    ("fine", (5, 6), (13, 17), 3, 1, "zero"),
    ("fine", (3, 4), (3, 4), 3, 1, "replicate"),
    ("fine", (1, 1), (4, 4), 3, 1, "replicate"),
    ("fine", (2, 3), (33, 50), 7, 1, "replicate"),
    ("fine", (20, 24), (32, 28), 3, 4, "reflect"),
    ("coarse", (5, 6), (10, 12), 5, 1, "zero"),
    ("coarse", (5, 6), (13, 17), 3, 4, "reflect"),
    ("coarse", (5, 7), (5, 14), 3, 2, "zero"),
    ("coarse", (9, 7), (10, 18), 3, 2, "replicate"),
    ("coarse", (17, 3), (29, 4), 3, 1, "zero"),  # rows of tiles that differ in height
    ("fine", (13, 3), (46, 4), 3, 2, "replicate"),
    ("coarse", (7, 9), (14, 18), 3, 1, "replicate"),
    ("central", (5, 8), (20, 32), 5, 2, "shift"),
    ("central", (6, 8), (15, 20), 3, 1, "shift"),
    ("central", (9, 7), (13, 17), 7, 1, "zero"),
    ("central", (4, 6), (13, 17), 9, 1, "shift"),  # fewer pixels than K
    ("coarse", (6, 9), (17, 18), 5, 1, "shift"),
    ("dense", (9, 8), (9, 8), 7, 1, "reflect"),
    ("dense", (9, 8), (9, 8), 3, 2, "zero"),
]


def _inputs(case, dtype=torch.float64):
    neighbours, (h, w), (H, W), K, groups, padding = case
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, h, w, generator=generator, dtype=dtype, requires_grad=True)
    a = torch.randn(2, groups * K * K, H, W, generator=generator, dtype=dtype, requires_grad=True)
    return x, a, {"neighbours": neighbours, "padding": padding, "groups": groups}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_cpu_equals_reference_forward_and_backward(case):
    x, a, options = _inputs(case)
    want = reassemble(x, a, backend="reference", **options)
    got = reassemble(x, a, backend="cpu", **options)
    grad = torch.randn(want.shape, generator=torch.Generator().manual_seed(1), dtype=want.dtype)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    for g, w in zip(torch.autograd.grad(got, (x, a), grad), torch.autograd.grad(want, (x, a), grad), strict=True):
        torch.testing.assert_close(g, w, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if case[4] == 1], ids=str)
def test_correlate_is_the_adjoint_of_reassemble_in_its_weights(case):
    neighbours, _, _, K, _, padding = case
    key, a, options = _inputs(case)
    query = torch.randn(2, 8, *a.shape[-2:], dtype=torch.double, requires_grad=True)
    (want,) = torch.autograd.grad(reassemble(key, a, backend="reference", **options), a, query)
    for backend in ("reference", "cpu"):
        scores = correlate(query, key, K, neighbours, padding, backend)
        torch.testing.assert_close(scores, want, rtol=1e-12, atol=1e-12)
        grads = torch.autograd.grad(scores, (query, key), a.detach())
        torch.testing.assert_close(grads[0], reassemble(key, a, **options), rtol=1e-12, atol=1e-12)
        (to_key,) = torch.autograd.grad(reassemble(key, a, backend="reference", **options), key, query)
        torch.testing.assert_close(grads[1], to_key, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": torch.ones(1, 3, 4, 4)}, "differ in width"),
        ({"kernel_size": 4}, "must be odd"),
        ({"query": torch.ones(1, 4, 3, 8)}, "at least as large"),
        ({"key": torch.ones(2, 4, 4, 4)}, "batch size"),
        ({"query": torch.ones(4, 8, 8)}, "got the shape"),
    ],
)
def test_correlate_says_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        correlate(**{"query": torch.ones(1, 4, 8, 8), "key": torch.ones(1, 4, 4, 4), "kernel_size": 3, **change})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_weights_and_gradients_in_any_layout(case):
    """A pixel's weights, or its channels, may lie together in memory: other copies, the same numbers."""
    x, a, options = _inputs(case)
    grad = torch.randn(2, 8, *a.shape[-2:], dtype=torch.double)
    want = torch.autograd.grad(reassemble(x, a, **options), (x, a), grad)
    last = [t.detach().contiguous(memory_format=torch.channels_last).requires_grad_() for t in (a, grad)]
    out = reassemble(x, last[0], **options)
    torch.testing.assert_close(out, reassemble(x, a, **options), rtol=1e-12, atol=1e-12)
    for got, true in zip(torch.autograd.grad(out, (x, last[0]), last[1]), want, strict=True):
        torch.testing.assert_close(got, true, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_scores_become_weights_by_a_softmax(case, backend):
    x, scores, options = _inputs(case)
    groups = options["groups"]
    weights = scores.unflatten(1, (groups, -1)).softmax(2).flatten(1, 2)
    got = reassemble(x, scores, backend=backend, softmax=True, **options)
    torch.testing.assert_close(got, reassemble(x, weights, backend=backend, **options), rtol=1e-12, atol=1e-12)


def test_the_mask_leaves_out_what_lies_outside_the_image():
    """A constant stays constant whatever the padding holds; by hand at ratio 2, K 3: pixel 0 has no left neighbour."""
    x, scores = torch.ones(1, 2, 4, 5, dtype=torch.double), torch.randn(1, 9, 8, 10, dtype=torch.double)
    out = reassemble(x, scores, neighbours="coarse", padding="zero", softmax=True, mask=True)
    torch.testing.assert_close(out, torch.ones_like(out), rtol=1e-12, atol=1e-12)
    weights = window_softmax(scores, low=(4, 5)).unflatten(1, (3, 3))[0]
    outside = weights == 0
    assert outside[:, 0, :, :2].all()
    assert not outside[:, 0, 2:-2, 2:].any()
    assert outside[2, :, -2:].all()
    assert not outside[1, 1].any()
    with pytest.raises(ValueError, match="needs softmax=True"):
        reassemble(x, scores, mask=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_channels_last_in_channels_last_out(case):
    x, a, options = _inputs(case)
    last = x.detach().contiguous(memory_format=torch.channels_last)
    out = reassemble(last, a, **options)
    torch.testing.assert_close(out, reassemble(x, a, **options), rtol=1e-12, atol=1e-12)
    if case[1] != (1, 1):  # a single pixel is both
        assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("neighbours", ["fine", "coarse"])
def test_gradcheck_to_second_order(neighbours):
    x = torch.randn(1, 2, 2, 3, dtype=torch.double, requires_grad=True)
    a = torch.randn(1, 2 * 9, 3, 4, dtype=torch.double, requires_grad=True)

    def run(x, a):
        return reassemble(x, a, neighbours=neighbours, groups=2)

    assert torch.autograd.gradcheck(run, (x, a))
    assert torch.autograd.gradgradcheck(run, (x, a))


def test_gradcheck_dense():
    x = torch.randn(1, 2, 4, 4, dtype=torch.double, requires_grad=True)
    a = torch.randn(1, 9, 4, 4, dtype=torch.double, requires_grad=True)

    def run(x, a):
        return reassemble(x, a, neighbours="dense")

    assert torch.autograd.gradcheck(run, (x, a))
    assert torch.autograd.gradgradcheck(run, (x, a))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_uniform_zero_padded_window_darkens_the_border(backend):
    """Constant 1, K = 5, uniform weights, x2: 9/25 in the corner cells, 15/25 on the edges, 1 inside."""
    a = torch.full((1, 25, 12, 12), 1 / 25, dtype=torch.double)
    out = reassemble(torch.ones(1, 3, 6, 6, dtype=torch.double), a, neighbours="coarse", backend=backend)
    assert out[0, 0, 0, 0].item() == pytest.approx(0.36)
    assert out[0, 1, 0, 6].item() == pytest.approx(0.60)
    assert out[0, 2, 5, 6].item() == pytest.approx(1.0)


@pytest.mark.parametrize("size", [(12, 15), (17, 11), (48, 40)])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_one_hot_centre_is_bilinear_interpolation(backend, size):
    x = torch.randn(2, 4, 6, 5, dtype=torch.double)
    a = torch.zeros(2, 9, *size, dtype=torch.double)
    a[:, 4] = 1
    want = torch.nn.functional.interpolate(x, size=size, mode="bilinear")
    torch.testing.assert_close(reassemble(x, a, backend=backend), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("r", [2, 3, 4, 8])
def test_fine_is_the_dilated_window_of_the_upsampled_map(r):
    """The published form: upsample bilinearly, then weigh HR pixels r apart; in-range pixels only."""
    x, K = torch.randn(1, 3, 5, 6, dtype=torch.double), 3
    H, W = 5 * r, 6 * r
    a = torch.randn(1, 9, H, W, dtype=torch.double)
    up = torch.nn.functional.pad(torch.nn.functional.interpolate(x, size=(H, W), mode="bilinear"), (r,) * 4)
    inside = torch.nn.functional.pad(torch.ones(1, 1, H, W, dtype=torch.double), (r,) * 4)
    want = torch.zeros(1, 3, H, W, dtype=torch.double)
    masked = a.clone()
    for n in range(K * K):
        window = (slice(None), slice(None), slice(n // K * r, n // K * r + H), slice(n % K * r, n % K * r + W))
        masked[:, n] *= inside[window][:, 0]
        want += masked[:, n : n + 1] * up[window]
    torch.testing.assert_close(reassemble(x, masked), want, rtol=1e-12, atol=1e-12)


def test_last_row_receives_its_whole_gradient():
    """Weight 1 on the centre column, x2, last LR row: offsets -1, 0, +1 of the last HR rows give 0.25, 2 and 4."""
    x = torch.zeros(1, 1, 6, 1, dtype=torch.double, requires_grad=True)
    for row, want in ((0, 0.25), (1, 2.0), (2, 4.0)):
        a = torch.zeros(1, 9, 12, 1, dtype=torch.double)
        a[:, 3 * row + 1] = 1
        (grad,) = torch.autograd.grad(reassemble(x, a).sum(), x)
        assert grad[0, 0, -1].item() == pytest.approx(want)
        assert grad[0, 0, 0].item() == pytest.approx([4.0, 2.0, 0.25][row])


def test_rows_of_tiles_that_differ_in_height_make_few_blocks():
    for h, H in ((17, 29), (13, 46), (32, 40)):
        blocks = tiles(H, H, h, h, "fine").blocks(8)
        assert len(blocks) == 1
        assert blocks[0].pixel is not None
    for h, H in ((17, 34), (17, 17), (13, 52), (64, 65)):
        assert all(block.pixel is None for block in tiles(H, H, h, h, "fine").blocks(8))


@pytest.mark.parametrize("size", [(12, 12), (17, 29), (41, 36), (29, 17)])
def test_how_far_a_nan_in_a_gradient_reaches(size):
    x, a = torch.randn(1, 2, 12, 12, requires_grad=True), torch.randn(1, 9, *size, requires_grad=True)
    grad = torch.ones(1, 2, *size)
    row, column = (n // 2 for n in size)
    grad[0, 0, row, column] = float("nan")
    out = reassemble(x, a, neighbours="coarse", backend="cpu")
    to_features, to_weights = torch.autograd.grad(out, (x, a), grad)
    bad = to_features[0, 0].isnan().nonzero() - torch.tensor([row * 12 // size[0], column * 12 // size[1]])
    assert len(bad) >= 9
    assert bad.abs().max() <= 1 + 3
    assert to_features[0, 1].isfinite().all()
    assert to_weights.isnan().any(1).nonzero().tolist() == [[0, row, column]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_rounded_once(dtype):
    x, a, options = _inputs(("fine", (5, 6), (10, 12), 3, 1, "replicate"))
    got = reassemble(x.to(dtype), a.to(dtype), **options)
    want = reassemble(x.to(dtype).double(), a.to(dtype).double(), **options)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, rtol=torch.finfo(dtype).eps, atol=1e-3)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck reads it itself
def test_opcheck():
    padded, weights = torch.randn(1, 4, 7, 8, requires_grad=True), torch.randn(1, 16, 6, 8, requires_grad=True)
    torch.library.opcheck(torch.ops.resfu.window_sum.default, (padded, weights, 4, 3, 4, "fine", 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": torch.ones(1, 16, 8, 8)}, "K odd"),
        ({"weights": torch.ones(2, 9, 8, 8)}, "batch size"),
        ({"weights": torch.ones(1, 9, 3, 8)}, "at least as large"),
        ({"features": torch.ones(1, 4, 4)}, "got the shape"),
        ({"features": torch.ones(1, 4, 4, 4, dtype=torch.int64)}, "floating point"),
        ({"size": (9, 8)}, "not the weights' size"),
        ({"groups": 3}, "must divide"),
        ({"neighbours": "near"}, "fine, coarse, central, dense"),
        ({"neighbours": "dense"}, "needs features of the output's size"),
        ({"padding": "mirror"}, "zero, replicate, reflect"),
        ({"backend": "cuda"}, "auto, reference, cpu"),
    ],
)
def test_bad_input_says_what_to_do(change, message):
    call = {"features": torch.ones(1, 4, 4, 4), "weights": torch.ones(1, 9, 8, 8), **change}
    with pytest.raises(ValueError, match=message):
        reassemble(**call)


def test_which_backend():
    assert which_backend(torch.ones(1).double()) == "cpu"
    assert which_backend(torch.ones(1)) == ("numba" if find_spec("numba") else "cpu")
    assert which_backend(torch.ones(1, device="meta")) == "reference"
    with pytest.raises(ValueError, match="can't run on meta"):
        which_backend(torch.ones(1, device="meta"), "cpu")


@pytest.mark.parametrize("neighbours", ["fine", "coarse"])
def test_scores_that_are_all_the_least_number(neighbours):
    features, scores = torch.randn(1, 8, 4, 4), torch.zeros(1, 9, 16, 32)
    scores[..., 3:5] = torch.finfo(torch.float32).min
    out = reassemble(features, scores, neighbours=neighbours, softmax=True)
    torch.testing.assert_close(
        out, reassemble(features, scores, neighbours=neighbours, softmax=True, backend="reference")
    )
