"""Similarity scores: the fast form against the definition, the definition against a loop over pixels."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from resfu.ops import backends, upsampled_group_norm
from resfu.ops.similarity import inner_product_scores, reference
from resfu.upsamplers.similarity import SimilarityBlock


def test_definition_is_equation_11_pixel_by_pixel():
    r, K = 2, 3
    key, query = torch.randn(1, 4, 8, 6, dtype=torch.double), torch.randn(1, 4, 8, 6, dtype=torch.double)
    weight, bias = torch.randn(6, 2, K, K, dtype=torch.double), torch.randn(6, dtype=torch.double)
    v = reference.paired_central_difference(key, query, weight, bias, (4, 3), "fine")
    for p, q in ((0, 0), (3, 2), (7, 5)):
        for m in range(6):
            total = bias[m].clone()
            for iy in range(K):
                for ix in range(K):
                    y, x = min(max(p + r * (iy - 1), 0), 7), min(max(q + r * (ix - 1), 0), 5)
                    for d in range(2):
                        channel = m // 3 * 2 + d
                        total += weight[m, d, iy, ix] * (key[0, channel, y, x] - query[0, channel, p, q])
            assert v[0, m, p, q].item() == pytest.approx(total.item(), abs=1e-12)


@pytest.mark.parametrize("size", [(12, 15), (13, 17), (96, 70)])
@pytest.mark.parametrize("key_on", ["low", "high"])
@pytest.mark.parametrize("similarity", ["pcdc", "concat"])
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("neighbours", ["fine", "coarse"])
def test_fast_scores_equal_the_definition(size, key_on, similarity, kernel_size, neighbours):
    block = SimilarityBlock(16, kernel_size, 4, 32, similarity).double()
    for p in block.parameters():
        torch.nn.init.normal_(p, std=0.5)
    key = torch.randn(2, 16, *((6, 5) if key_on == "low" else size), dtype=torch.double)
    query = torch.randn(2, 16, *size, dtype=torch.double)
    want = block(key, query, (6, 5), neighbours, "reference").detach()
    torch.testing.assert_close(block(key, query, (6, 5), neighbours, "cpu").detach(), want, rtol=1e-10, atol=1e-10)
    with torch.no_grad():  # in bands of rows
        torch.testing.assert_close(block(key, query, (6, 5), neighbours, "cpu"), want, rtol=1e-10, atol=1e-10)


def test_bands_are_really_taken(monkeypatch):
    from resfu.ops.similarity import api

    monkeypatch.setattr(api, "_BAND_ELEMENTS", 2 * 32 * 40 * 6)
    block, seen = SimilarityBlock(16, 3, 4, 32).double(), []
    hidden = api.hidden_channels
    monkeypatch.setattr(api, "hidden_channels", lambda v, c: seen.append(v.shape[2]) or hidden(v, c))
    key, query = torch.randn(2, 16, 5, 5, dtype=torch.double), torch.randn(2, 16, 40, 40, dtype=torch.double)
    with torch.no_grad():
        banded = block(key, query, (5, 5))
    assert seen == [6] * 6 + [4]
    torch.testing.assert_close(banded, block(key, query, (5, 5)).detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("similarity", ["pcdc", "concat"])
def test_no_images(similarity, backend):
    block = SimilarityBlock(16, 3, 4, 32, similarity)
    for key in (torch.ones(0, 16, 3, 4), torch.ones(0, 16, 6, 8)):
        out = block(key, torch.ones(0, 16, 6, 8), (3, 4), "fine", backend)
        assert out.shape == (0, 9, 6, 8)
        assert (torch.autograd.grad(out.sum(), block.weight)[0] == 0).all()
        with torch.no_grad():
            assert block(key, torch.ones(0, 16, 6, 8), (3, 4), "fine", backend).shape == (0, 9, 6, 8)


@pytest.mark.parametrize("neighbours", ["fine", "coarse"])
@pytest.mark.parametrize("size", [(12, 15), (13, 17), (6, 5)])
def test_group_norm_equals_its_reference_forward_and_backward(size, neighbours):
    x = (torch.randn(2, 16, 6, 5, dtype=torch.double) + 3).requires_grad_()
    weight, bias = (torch.randn(16, dtype=torch.double, requires_grad=True) for _ in range(2))
    got, want = (upsampled_group_norm(x, size, 8, weight, bias, 1e-5, neighbours, b) for b in ("auto", "reference"))
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    grad = torch.randn_like(want)
    for g, w in zip(*(torch.autograd.grad(out, (x, weight, bias), grad) for out in (got, want)), strict=True):
        torch.testing.assert_close(g, w, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("size", [(12, 15), (13, 17), (6, 5)])
def test_group_norm_of_the_upsampled_map_from_the_low_resolution_one(size, backend):
    x = torch.randn(2, 16, 6, 5, dtype=torch.double) + 3
    norm = torch.nn.GroupNorm(8, 16).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)

    def upsample(t):
        return F.interpolate(t, size=size, mode="bilinear")

    got = upsample(upsampled_group_norm(x, size, 8, norm.weight, norm.bias, backend=backend))
    torch.testing.assert_close(got, norm(upsample(x)), rtol=1e-10, atol=1e-10)


def test_equal_constant_maps_score_by_the_bias_alone():
    key = torch.full((1, 4, 3, 3), 1.7, dtype=torch.double)
    query = torch.full((1, 4, 6, 6), 1.7, dtype=torch.double)
    weight, bias = torch.randn(8, 1, 3, 3, dtype=torch.double), torch.randn(8, dtype=torch.double)
    v = reference.paired_central_difference(key, query, weight, bias, (3, 3), "fine")
    torch.testing.assert_close(v, bias.view(1, -1, 1, 1).expand(1, 8, 6, 6))


def test_inner_product_at_the_centre_is_the_product_with_the_upsampled_key():
    key, query = torch.randn(1, 4, 3, 4, dtype=torch.double), torch.randn(1, 4, 9, 8, dtype=torch.double)
    scores = inner_product_scores(key, query, 3, (3, 4))
    want = (query * F.interpolate(key, size=(9, 8), mode="bilinear")).sum(1)
    torch.testing.assert_close(scores[:, 4], want)
    shifted = F.interpolate(key, size=(9, 8), mode="bilinear")[:, :, 3:]  # one LR row further down
    torch.testing.assert_close(scores[:, 7, :6], (query[:, :, :6] * shifted).sum(1))


class _Dilated(TorchDispatchMode):
    """Notes what every dilated convolution and its gradients compute in."""

    def __init__(self):
        super().__init__()
        self.dtypes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "convolution" in str(function) and any(isinstance(a, list) and max(a, default=0) == 3 for a in args):
            self.dtypes.append(next(a.dtype for a in args if isinstance(a, torch.Tensor)))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("dilation", [None, 3], ids=["by ratio", "fixed"])
@pytest.mark.parametrize("autocast", [False, True])
def test_dilated_convolutions_with_gradients_leave_half_precision(dilation, autocast):
    """oneDNN's bf16 weight gradient of theirs is wrong in channels-last order, into which inductor brings them."""
    dtype = torch.float32 if autocast else torch.bfloat16
    block = SimilarityBlock(8, 3, 4, 16).to(dtype)
    maps = [torch.randn(1, 8, 6, 9, dtype=dtype) for _ in range(2)]
    with _Dilated() as dilated, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        block(*maps, (2, 3), dilation=dilation).sum().backward()
    assert len(dilated.dtypes) == 2  # forward and backward
    assert set(dilated.dtypes) == {torch.float32}


@pytest.mark.skipif(not backends._NUMBA_INSTALLED, reason="needs the extra fast (numba)")
@pytest.mark.parametrize("neighbours", ["fine", "coarse"])
@pytest.mark.parametrize(("low", "high"), [((5, 6), (20, 33)), ((1, 7), (4, 7)), ((9, 4), (10, 11))])
def test_gradients_of_the_compiled_upsampled_norm(neighbours, low, high):
    torch.manual_seed(0)
    given = torch.randn(2, 8, *low) + 3, torch.rand(8), torch.randn(8)
    cotangent, found = torch.randn(2, 8, *low), {}
    for backend, dtype in (("numba", torch.float32), ("reference", torch.float64)):
        tensors = [t.to(dtype).requires_grad_() for t in given]
        out = upsampled_group_norm(tensors[0], high, 4, *tensors[1:], 1e-5, neighbours, backend)
        first = torch.autograd.grad(out, tensors, cotangent.to(dtype), create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), tensors[:2])
        found[backend] = [out, *first, *second]
    for got, want in zip(found["numba"], found["reference"], strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-5 * float(want.detach().abs().max()))
