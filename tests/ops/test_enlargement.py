"""Sums over the pixels of an enlarged map, without it."""

import pytest
import torch
import torch.nn.functional as F

from resfu import JBU, StackJBU
from resfu.ops import backends, reassemble
from resfu.ops.reassembly.enlargement import enlarged_sum, mirrored_bicubic
from resfu.upsamplers import jbu

numba = pytest.mark.skipif(not backends._NUMBA_INSTALLED, reason="needs the extra fast (numba)")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def defined(features, weights, bias):
    size = tuple(weights.shape[-2:])
    large = F.interpolate(features, size=size, mode="bicubic")
    return reassemble(large, weights, size, "dense", "reflect", backend="reference") + bias[:, None, None]


@pytest.mark.parametrize("p", [2, 3, 5, 16])
def test_the_table_of_an_axis(p):
    x = torch.randn(p, dtype=torch.float64)
    large = F.interpolate(x[None, None, :, None], size=(2 * p, 1), mode="bicubic")[0, :, :, 0]
    want = F.pad(large, (3, 3), mode="reflect")[0].unfold(0, 7, 1)
    low = F.pad(x[None], (3, 3), mode="replicate")[0].unfold(0, 7, 1).repeat_interleave(2, 0)
    torch.testing.assert_close(torch.einsum("pl,plk->pk", low, mirrored_bicubic(p, 7).double()), want)


@pytest.mark.parametrize("low", [(2, 16), (7, 21), (5, 150)])
def test_equals_its_definition(low):
    features, bias = torch.randn(2, 6, *low), torch.randn(6)
    weights = torch.randn(2, 49, 2 * low[0], 2 * low[1])
    want = defined(features.double(), weights.double(), bias.double())
    assert (enlarged_sum(features, weights, bias) - want).abs().max() <= 2e-6 * want.abs().max()


def test_with_gradients():
    features, weights = torch.randn(1, 4, 4, 17, requires_grad=True), torch.randn(1, 49, 8, 34, requires_grad=True)
    bias, cotangent = torch.randn(4, requires_grad=True), torch.randn(1, 4, 8, 34)
    results = []
    for function, dtype in ((enlarged_sum, torch.float32), (defined, torch.float64)):
        inputs = [t.detach().to(dtype).requires_grad_() for t in (features, weights, bias)]
        out = function(*inputs)
        results.append([out, *torch.autograd.grad(out, inputs, cotangent.to(dtype))])
    for got, want in zip(*results, strict=True):
        assert (got - want).abs().max() <= 5e-6 * want.abs().max()


def louder(up):
    for parameter in up.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return up.eval()


@numba
@torch.no_grad()
def test_the_compiled_kernel_of_jbu(monkeypatch):
    up, image = louder(JBU()), torch.randn(2, 3, 9, 37)
    got = up._kernel(image)
    monkeypatch.setattr(jbu, "_without_graph", lambda *tensors: False)
    want = up.double()._kernel(image.double())
    assert (got - want).abs().max() <= 5e-6 * want.abs().max()


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("graph", [True, False])
def test_a_stack_that_corrects_first(steps, graph, monkeypatch):
    up, features = louder(StackJBU(6, steps=steps)), torch.randn(1, 6, 8, 17, requires_grad=graph)
    image = torch.randn(1, 3, 8 * 2**steps, 17 * 2**steps)
    with torch.set_grad_enabled(graph):
        assert up._folds(features, image)
        got = up(features, image)
        monkeypatch.setattr(StackJBU, "_folds", lambda *inputs: False)
        want = up.double()(features.double(), image.double())
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


def test_a_stack_whose_steps_are_looked_at_corrects_last():
    up, features, image = StackJBU(4, steps=1).eval(), torch.randn(1, 4, 6, 16), torch.randn(1, 3, 12, 32)
    seen = []
    up.stages["1"].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    assert not up._folds(features, image)
    up(features, image)
    torch.testing.assert_close(seen[0], features)
    assert not up.train()._folds(features, image)
