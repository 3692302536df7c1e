"""Smoothing, normalising and comparing in compiled kernels: against the layers one by one, in fp64."""

import copy

import pytest
import torch

from resfu import ReSFU
from resfu.ops import backends
from resfu.ops.layers import projection
from resfu.ops.similarity import numba as similarity_numba
from resfu.ops.similarity import numba_padded
from resfu.upsamplers.normalised_projection import normalised_projection
from resfu.upsamplers.similarity import SimilarityBlock

pytestmark = pytest.mark.skipif(not backends._NUMBA_INSTALLED, reason="needs the extra fast (numba)")

D, M, G = 16, 64, 2
SIZES = [((5, 6), (10, 12)), ((4, 5), (16, 40)), ((3, 3), (48, 48)), ((40, 3), (80, 15)), ((1, 1), (3, 2))]


@pytest.fixture
def block():
    torch.manual_seed(0)
    made = SimilarityBlock(D, 3, G, M)
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.2)
    torch.nn.init.normal_(made.norm.weight, mean=1, std=0.2)
    return made


def found(block, maps, step, backend):
    """Scores and all gradients; without a key the first map is missing."""
    maps = [None if x is None else x.detach().requires_grad_() for x in maps]
    out = block(*maps, step, "fine", backend)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    inputs = [x for x in maps if x is not None] + list(block.parameters())
    return [out, *torch.autograd.grad(out, inputs, cotangent)]


@pytest.mark.parametrize("key", ["smoothed", "high", "low"])
@pytest.mark.parametrize(("low", "high"), SIZES)
def test_block(block, low, high, key):
    sizes = {"smoothed": None, "high": high, "low": low}[key]
    torch.manual_seed(1)
    maps = [None if sizes is None else 2 + torch.randn(2, D, *sizes), 1 + torch.randn(2, D, *high)]
    got = found(block, maps, low, "numba")
    exact = [None if x is None else x.double() for x in maps]
    want = found(copy.deepcopy(block).double(), exact, low, "cpu")
    plain = found(block, maps, low, "cpu")
    names = ["out", *(["key"] if sizes else []), "query", *(name for name, _ in block.named_parameters())]
    values = dict(zip(names, want, strict=True))
    # The bias of the norm is the same in query and key and cancels: the sum of terms like those of the weight is 0.
    assert values["norm.bias"].abs().max() < 1e-12
    values["norm.bias"] = values["norm.weight"]
    for name, ours, theirs, right in zip(names, got, plain, want, strict=True):
        scale = max(1.0, float(values[name].detach().abs().max()))
        error, usual = ((t.double() - right).detach().abs().max() / scale for t in (ours, theirs))
        assert error <= max(5e-6, 2 * float(usual))


def test_second_derivatives_take_operators(block):
    query = torch.randn(1, D, 8, 8, requires_grad=True)
    squares = []
    for backend in ("numba", "cpu"):
        (first,) = torch.autograd.grad(block(None, query, (4, 4), "fine", backend).sum(), query, create_graph=True)
        squares.append(torch.autograd.grad(first.square().sum(), query)[0])
    torch.testing.assert_close(*squares, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("grad", [True, False])
def test_upsampler_makes_no_map_of_its_own(monkeypatch, grad):
    filled = []
    fill = numba_padded.Source.fill
    monkeypatch.setattr(numba_padded.Source, "fill", lambda s, planes: filled.append(s) or fill(s, planes))
    up = ReSFU(8, 8)
    keeps = []
    forward = similarity_numba.forward
    monkeypatch.setattr(similarity_numba, "forward", lambda *given: keeps.append(given[3]) or forward(*given))
    with torch.set_grad_enabled(grad):
        up(torch.randn(1, 8, 5, 6), torch.randn(1, 8, 20, 24))
    assert [(source.maps, source.norm is not None) for source in filled] == [(1, True), (2, True)]
    assert keeps == [False, grad]  # what backward will read, of the key that takes twice the time


def test_hooked_branch_is_called_with_its_key():
    up, seen = ReSFU(8, 8), []
    up.detail_similarity.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    x, y = torch.randn(1, 8, 5, 6), torch.randn(1, 8, 20, 24)
    want = ReSFU(8, 8)
    want.load_state_dict(up.state_dict())
    torch.testing.assert_close(up(x, y), want(x, y))
    assert seen[0].shape == (1, 32, 20, 24)


def by_operators(x, groups, affine, eps, weight, bias):
    """What the kernel gives, also in fp64."""
    (B, C), pixels = x.shape[:2], x.shape[2:].numel()
    y, mean, inverse = torch.native_group_norm(x, *affine, B, C, pixels, groups, eps)
    return torch.einsum("dc, bchw -> bdhw", weight, y) + bias[:, None, None], mean, inverse


@pytest.mark.parametrize("mean", [0.5, 100.0])  # far from 0, differences of sums would cost digits
def test_gradients_of_the_projection(monkeypatch, mean):
    monkeypatch.setattr(projection, "normalised_product", by_operators)
    torch.manual_seed(0)
    norm, convolution = torch.nn.GroupNorm(4, 8).double(), torch.nn.Conv2d(8, 16, 1).double()
    torch.nn.init.normal_(norm.weight)
    x = (torch.randn(2, 8, 3, 4, dtype=torch.double) + mean).requires_grad_()
    inputs = (x, norm.weight, norm.bias, convolution.weight, convolution.bias)

    def run(x, *parameters):
        return normalised_projection(x, norm, convolution.weight.flatten(1), convolution.bias)

    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.shape) or t, lambda t: t):
        got = run(*inputs)
    assert saved.count(x.shape) == 1  # no normalised map
    want = convolution(norm(x))
    cotangent = torch.randn_like(want)
    torch.testing.assert_close(got, want)
    found, wanted = (torch.autograd.grad(out, inputs, cotangent) for out in (got, want))
    torch.testing.assert_close(found, wanted)
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


@pytest.mark.parametrize(
    ("shape", "groups", "width"),
    [((1, 32, 40, 40), 32, 32), ((2, 64, 7, 9), 32, 16), ((1, 6, 33, 47), 3, 8), ((3, 96, 1, 5), 32, 8)],
)
def test_projection_in_one_kernel(shape, groups, width):
    torch.manual_seed(0)
    x, norm = 3 * torch.randn(shape) + 20, torch.nn.GroupNorm(groups, shape[1])
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    convolution = torch.nn.Conv2d(shape[1], width, 1)
    got = projection.normalised_product(
        x, groups, (norm.weight, norm.bias), norm.eps, convolution.weight.flatten(1), convolution.bias
    )
    want = convolution.double()(norm.double()(x.double()))
    torch.testing.assert_close(got[0].double(), want, rtol=1e-5, atol=3e-5)
    value = x.double().unflatten(1, (groups, -1)).flatten(2)
    torch.testing.assert_close(got[1].double(), value.mean(2), rtol=1e-6, atol=1e-6)
    inverse = (value.var(2, correction=0) + norm.eps).rsqrt()
    torch.testing.assert_close(got[2].double(), inverse, rtol=1e-6, atol=1e-6)


def test_projection_keeps_nan_in_its_image():
    x, norm, convolution = torch.randn(2, 8, 6, 7), torch.nn.GroupNorm(2, 8), torch.nn.Conv2d(8, 8, 1)
    x[1, 5, 2, 3] = float("nan")
    got = projection.normalised_product(
        x, 2, (norm.weight, norm.bias), norm.eps, convolution.weight.flatten(1), convolution.bias
    )[0]
    assert got[0].isfinite().all()
    assert got[1].isnan().all()
