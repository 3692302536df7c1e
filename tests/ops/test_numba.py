"""The compiled kernels against the references: values, every gradient, borders, threads, and where they step aside."""

import multiprocessing

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from resfu import ReSFU
from resfu.evaluation.cost import multiply_accumulates
from resfu.ops import Compressor, backends, guided_filter, reassemble, similarity_scores, which_backend
from resfu.ops.compiled import threads
from resfu.ops.similarity import numba as numba_scores
from resfu.ops.similarity.numba_low import convolved
from resfu.ops.similarity.operators import convolved_key

pytestmark = pytest.mark.skipif(not backends._NUMBA_INSTALLED, reason="needs the extra fast (numba)")

SIZES = [  # low, high: one tile, several, odd ones, whole ratios and real ones
    ((5, 6), (10, 12)),
    ((4, 5), (16, 40)),
    ((7, 9), (33, 47)),
    ((3, 3), (48, 48)),
    ((6, 34), (6, 34)),
    ((20, 3), (80, 15)),
]
D, M, G = 16, 64, 2


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def both(function, tensors, grad_seed=1):
    """Result and gradients by the kernels, and by the reference in fp64."""
    results = []
    for backend, dtype in (("numba", torch.float32), ("reference", torch.float64)):
        inputs = [t.to(dtype).requires_grad_() for t in tensors]
        out = function(*inputs, backend=backend)
        cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(grad_seed)).to(dtype)
        results.append([out, *torch.autograd.grad(out, inputs, cotangent)])
    return results


def assert_near(got, want, digits=2e-6):
    for g, w in zip(got, want, strict=True):
        assert g.dtype == torch.float32
        assert (g - w).abs().max() <= digits * max(1.0, float(w.detach().abs().max()))


def layers(K=3):
    return [
        0.2 * torch.randn(M, D // G, K, K), 0.1 * torch.randn(M),
        0.2 * torch.randn(M, M // G, 1, 1), 0.1 * torch.randn(M), 1 + 0.1 * torch.randn(M), 0.1 * torch.randn(M),
        0.2 * torch.randn(K * K, M, 1, 1), torch.randn(K * K),
    ]  # fmt: skip


def scores(low, neighbours):
    def run(key, query, weight, bias, *rest, backend):
        return similarity_scores(
            key, query, weight, bias, Compressor(*rest), low, neighbours=neighbours, backend=backend
        )

    return run


@pytest.mark.parametrize("neighbours", ["fine", "coarse"])
@pytest.mark.parametrize(("low", "high"), SIZES)
def test_scores_of_a_low_resolution_key(low, high, neighbours):
    maps = torch.randn(2, D, *low), torch.randn(2, D, *high)
    assert_near(*both(scores(low, neighbours), (*maps, *layers())), digits=5e-6)


@pytest.mark.parametrize("low", [(5, 6), (3, 40), (1, 14)])  # a half tile, one and a half, all of a half one
def test_the_convolution_of_a_low_resolution_key(low):
    key, weight = torch.randn(2, D, *low), torch.randn(M, D // G, 3, 3)
    got = convolved(key, weight)[..., : low[1] + 2]  # [B, h + 2, M, w + 2]
    want = convolved_key(key.double(), weight.double()).permute(0, 2, 1, 4, 3).flatten(2, 3)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("low", "high"), [*SIZES, ((6, 7), (9, 21)), ((5, 9), (3, 7))])  # one axis whole; smaller
def test_scores_of_a_high_resolution_key(low, high):
    maps = torch.randn(2, D, *high), torch.randn(2, D, *high)
    assert_near(*both(scores(low, "fine"), (*maps, *layers())), digits=5e-6)


def test_what_inference_keeps_serves_training():
    maps = torch.randn(1, D, 11, 13), torch.randn(1, D, 11, 13)
    with torch.inference_mode():  # the shares of a ratio that no other test has
        scores((4, 5), "fine")(*maps, *layers(), backend="numba")
    assert_near(*both(scores((4, 5), "fine"), (*maps, *layers())), digits=5e-6)


def test_scores_of_a_map_that_is_far_from_zero():
    maps = torch.randn(1, D, 4, 5), 3 + torch.randn(1, D, 16, 20)
    assert_near(*both(scores((4, 5), "fine"), (*maps, *layers())), digits=2e-5)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("channels", [1, 8, 20])
@pytest.mark.parametrize(("low", "high"), SIZES)
def test_softmax_and_sum_of_neighbours(low, high, channels, mask):
    def run(features, scores, backend):
        return reassemble(features, scores, softmax=True, mask=mask, backend=backend)

    assert_near(*both(run, (torch.randn(2, channels, *low), 3 * torch.randn(2, 9, *high))))


@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_other_padding(padding):
    def run(features, scores, backend):
        return reassemble(features, scores, padding=padding, softmax=True, backend=backend)

    assert_near(*both(run, (torch.randn(1, 3, 5, 6), torch.randn(1, 9, 20, 24))))


def test_softmax_of_scores_that_overflow_an_exponential():
    features, score = torch.randn(1, 8, 4, 4), torch.randn(1, 9, 16, 16) * 300
    got, want = (reassemble(features, score, softmax=True, backend=b) for b in ("numba", "reference"))
    torch.testing.assert_close(got, want)
    score[0, 3, 2, 2] = float("nan")
    got = reassemble(features, score, softmax=True, backend="numba")
    assert got[0, :, 2, 2].isnan().all()
    assert got.isnan().sum() == 8


@pytest.mark.parametrize(("low", "high"), [SIZES[1], SIZES[3], SIZES[5]])
def test_gradients_without_partial_scores(low, high, monkeypatch):
    monkeypatch.setattr(numba_scores, "_KEPT", 0)
    maps = torch.randn(2, D, *high), torch.randn(2, D, *high)
    assert_near(*both(scores(low, "fine"), (*maps, *layers())), digits=5e-6)


@pytest.mark.parametrize("low", [(4, 5), (16, 40)])  # a key on the low-resolution map, and one of the query's size
def test_partial_scores_stored_past_the_cache(low, monkeypatch):
    tensors = (torch.randn(2, D, *low), torch.randn(2, D, 16, 40), *layers())
    found = []
    for large in (1 << 22, 0):
        monkeypatch.setattr(threads, "_LARGE", large)
        found.append(both(scores((4, 5), "fine"), tensors)[0])
    for got, want in zip(*found, strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize(("radius", "eps"), [(8, 1e-3), (2, 1e-2), (20, 1e-3), (0, 1e-3), (1, 0.0)])
@pytest.mark.parametrize(("low", "high"), [SIZES[0], SIZES[2], SIZES[4]])
def test_guided_filter(low, high, radius, eps):
    def run(guide, x, backend):
        return guided_filter(guide, x, radius, eps, backend=backend)

    if eps == 0 or radius == 0:  # whose gradients are those of a slope of 0 or of infinity
        guide, x = torch.randn(2, 3, *high), torch.randn(2, 3, *low)
        got, want = run(guide, x, "numba"), run(guide.double(), x.double(), "reference")
        assert (got - want).abs().max() < 1e-5
        return
    assert_near(*both(run, (torch.randn(2, 3, *high), torch.randn(2, 3, *low))), digits=1e-5)


@pytest.mark.parametrize("size", [(16, 20)])
def test_derivatives_of_the_derivatives(size):
    up = ReSFU(8, 8, projection_dim=16, groups=2, hidden_channels=64, backend="numba")
    for p in up.parameters():
        torch.nn.init.normal_(p, std=0.3)
    x, y = torch.randn(1, 8, 4, 5, requires_grad=True), torch.randn(1, 8, *size, requires_grad=True)
    second = []
    for backend in ("numba", "cpu"):
        up.backend = backend
        first = torch.autograd.grad(up(x, y).square().sum(), (x, y), create_graph=True)
        second.append(torch.autograd.grad(sum(g.square().sum() for g in first), (x, y)))
    for got, want in zip(*second, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3 * float(want.abs().max()))


def whole(threads_number):
    before = torch.get_num_threads()
    torch.set_num_threads(threads_number)
    try:
        torch.manual_seed(0)
        up = ReSFU(8, 8)
        x, y = torch.randn(3, 8, 9, 10, requires_grad=True), torch.randn(3, 8, 36, 40, requires_grad=True)
        out = up(x, y)
        return [out, *torch.autograd.grad(out.square().sum(), (x, y, *up.parameters()))]
    finally:
        torch.set_num_threads(before)


def kernels_alone(number):
    """What the kernels give, without PyTorch's own operators, which do add up differently in more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        torch.manual_seed(0)
        feature, score = torch.randn(2, 8, 9, 10, requires_grad=True), torch.randn(2, 9, 36, 40, requires_grad=True)
        guide, x = torch.randn(2, 3, 36, 40, requires_grad=True), torch.randn(2, 3, 36, 40, requires_grad=True)
        first = reassemble(feature, score, softmax=True, mask=True, backend="numba")
        second = guided_filter(guide, x, backend="numba")
        return [first, second, *torch.autograd.grad(first.sum() + second.sum(), (feature, score, guide, x))]
    finally:
        torch.set_num_threads(before)


def test_the_number_of_threads_does_not_show():
    one = kernels_alone(1)
    for _ in range(3):
        assert all(map(torch.equal, kernels_alone(2), one))


def test_twice_the_same():
    assert all(map(torch.equal, whole(2), whole(2)))


def test_threads_where_pytorch_has_no_openmp(monkeypatch):
    want = whole(2)
    monkeypatch.setattr(threads, "_parallel", lambda: 0)
    assert all(map(torch.equal, whole(2), want))


class Upsampled(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        torch.manual_seed(i)
        with torch.no_grad():
            return ReSFU(8, 8)(torch.randn(1, 8, 5, 6), torch.randn(1, 8, 20, 24))[0]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_forked_workers():
    want = torch.stack([Upsampled()[i] for i in range(4)])
    got = next(iter(DataLoader(Upsampled(), batch_size=4, num_workers=1, multiprocessing_context="fork")))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_which_backend_and_why_not():
    x = torch.ones(1, 1, 4, 4)
    assert which_backend(x) == which_backend(x, "numba") == "numba"
    assert which_backend(x.double()) == "cpu"
    with pytest.raises(ValueError, match=r"it computes in fp32, not in torch\.float64"):
        which_backend(x.double(), "numba")
    with pytest.raises(ValueError, match="it runs on the CPU and can't run on meta"):
        which_backend(x.to("meta"), "numba")


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(backends, "_NUMBA_INSTALLED", False)
    x = torch.ones(1, 1, 4, 4)
    assert which_backend(x) == "cpu"
    with pytest.raises(ValueError, match=r'numba is not installed \(pip install "resfu\[fast\]"\)'):
        which_backend(x, "numba")


def test_those_who_count_operators_see_them():
    x, y = torch.randn(1, 8, 5, 6), torch.randn(1, 8, 20, 24)
    counts = [multiply_accumulates(ReSFU(8, 8, backend=backend), x, y) for backend in ("auto", "cpu", "numba")]
    assert counts[0] == counts[1] == counts[2] > 0


@pytest.mark.parametrize(
    "options", [{"kernel_size": 5}, {"groups": 8}, {"hidden_channels": 16}, {"similarity": "concat"}]
)
def test_what_has_no_kernel_runs_the_operators(options):
    torch.manual_seed(0)
    up = ReSFU(8, 8, **options)
    x, y = torch.randn(1, 8, 5, 6), torch.randn(1, 8, 20, 24)
    got = up(x, y)
    up.backend = "cpu"
    torch.testing.assert_close(got, up(x, y), rtol=1e-3, atol=1e-5)
