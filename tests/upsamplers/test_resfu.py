"""ReSFU's exact properties, its initialisation and its options."""

from importlib import import_module

import pytest
import torch

import resfu


def _random(*args, **options):
    torch.manual_seed(0)
    up = resfu.ReSFU(*args, **options).double()
    for p in up.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return up


CASES = [
    ((5, 6), (10, 12), {}),
    ((5, 6), (13, 17), {}),
    ((6, 5), (96, 80), {"kernel_size": 5}),
    ((5, 5), (5, 5), {}),
    ((1, 1), (8, 8), {}),
    ((5, 6), (20, 18), {"neighbours": "coarse"}),
    ((5, 6), (20, 18), {"similarity": "concat", "groups": 8}),
    ((5, 6), (20, 18), {"similarity": "inner_product"}),
    ((5, 6), (20, 18), {"alignment": "semantic", "guided_query": False}),
    ((5, 6), (20, 18), {"alignment": "detail", "smoothed_key": False}),
    ((5, 6), (20, 18), {"guided_filter_stride": 2, "projection_dim": 16, "kernel_size": 7}),
    ((5, 6), (20, 18), {"normalize_features": False, "normalize_guidance": False}),
]


@pytest.mark.parametrize(("low", "high", "options"), CASES, ids=str)
def test_fast_equals_reference_and_keeps_constants(low, high, options):
    up = _random(16, 12, **options)
    x = torch.randn(2, 16, *low, dtype=torch.double, requires_grad=True)
    y = torch.randn(2, 12, *high, dtype=torch.double, requires_grad=True)
    got = up(x, y)
    up.backend = "reference"
    want = up(x, y)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    inputs, grad = (x, y, *up.parameters()), torch.randn_like(want)
    for g, w in zip(*(torch.autograd.grad(out, inputs, grad) for out in (got, want)), strict=True):
        assert (g - w).abs().max() <= 1e-10 * max(1, w.abs().max())
    up.backend = "auto"
    with torch.no_grad():
        torch.testing.assert_close(up(x, y), got, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(up(torch.ones_like(x), y), torch.ones_like(got), rtol=1e-12, atol=1e-12)


def test_the_reference_runs_none_of_the_fast_operations(monkeypatch):
    def fast(*args, **options):
        raise AssertionError("not the reference")

    up = _random(16, 12, backend="reference")
    fast_ones = {
        "ops.filters.operators": ("box_sum", "_coefficients"),
        "ops.similarity.normalization": ("interpolation_matrix",),
        "ops.similarity.cpu": ("paired_central_difference", "concatenation"),
        "ops.reassembly.operators": ("reassemble", "correlate", "window_sum"),
        "upsamplers.projection": ("_affine",),
    }
    for module, names in fast_ones.items():
        for name in names:
            monkeypatch.setattr(import_module(f"resfu.{module}"), name, fast)
    monkeypatch.setattr("resfu.upsamplers.projection._LARGE", 1)
    x, y = torch.randn(1, 16, 3, 4, dtype=torch.double), torch.randn(1, 12, 6, 9, dtype=torch.double)
    with torch.no_grad():
        assert up(x, y).shape == (1, 16, 6, 9)
    up.backend = "auto"
    with pytest.raises(AssertionError, match="not the reference"):
        up(x, y)


def test_gradcheck():
    up = _random(8, 8, projection_dim=8, groups=1, hidden_channels=8, guided_filter_radius=2)
    x = torch.randn(1, 8, 2, 3, dtype=torch.double, requires_grad=True)
    y = torch.randn(1, 8, 5, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: up(x, y), (x, y), fast_mode=True)


def test_kernel_is_nearly_uniform_at_initialisation_and_zero_outside():
    up = resfu.ReSFU(8, 8)
    kernel = up.explain(torch.randn(1, 8, 6, 6), torch.randn(1, 8, 24, 24))["kernel"]
    assert kernel.max() < 0.5  # a corner pixel with four neighbours would have 1/4 each
    torch.testing.assert_close(kernel[0, :, 4:-4, 4:-4].mean((1, 2)), torch.full((9,), 1 / 9), atol=0.08, rtol=0)
    torch.testing.assert_close(kernel.sum(1), torch.ones(1, 24, 24))
    assert kernel[0, :3, 0].abs().max() == 0  # nothing above the first row
    assert kernel[0, 2::3, :, -1].abs().max() == 0


def test_explain_names_every_intermediate():
    up = resfu.ReSFU(8, 16)
    x, y = torch.randn(2, 8, 4, 5), torch.randn(2, 16, 16, 20)
    named = up.explain(x, y)
    shapes = {name: tuple(t.shape[1:]) for name, t in named.items()}
    maps = dict.fromkeys(("q", "q_gf", "q_gs"), (32, 16, 20))
    scores = dict.fromkeys(("semantic_scores", "detail_scores", "kernel"), (9, 16, 20))
    assert shapes == {**maps, "k": (32, 4, 5), **scores, "output": (8, 16, 20)}
    torch.testing.assert_close(named["output"], up(x, y))
    torch.testing.assert_close(up.explain(x, y, size=(9, 11))["output"], up(x, y, size=(9, 11)))


def test_published_initialisation():
    torch.manual_seed(0)
    up = resfu.ReSFU(256, 256)
    assert up.semantic_similarity.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.05)
    for conv in (up.query, up.key, up.detail_similarity.reduce):
        assert conv.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert conv.bias.abs().max() == 0
    assert up.semantic_similarity.bias.abs().max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "must be odd"),
        ({"groups": 3}, "multiple of groups = 3"),
        ({"projection_dim": 12}, "projection_dim = 12"),
        ({"alignment": "all"}, "both, semantic, detail"),
        ({"similarity": "cosine"}, "pcdc, concat, inner_product"),
        ({"neighbours": "dense"}, "fine, coarse"),
        ({"guided_filter_stride": 4}, "one of 1, 2"),
        ({"backend": "typo"}, "backend must be one of auto, reference, cpu, numba, triton, portable, got 'typo'"),
        ({"channels": 0}, "channels must be an int from 1, got 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        resfu.create_upsampler("resfu", **{"channels": 8, "guidance_channels": 8} | options)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_groups_of_a_single_value(backend):
    up = resfu.ReSFU(8, 8, projection_dim=8, hidden_channels=8, groups=1, backend=backend).double()
    x, y = torch.randn(2, 8, 1, 1, dtype=torch.double), torch.randn(2, 8, 1, 1, dtype=torch.double)
    torch.testing.assert_close(up(x[:1], y[:1]), x[:1])  # replicated neighbours: the kernel sums to 1
    torch.testing.assert_close(up(x[:1], y[:1]), up(x, y)[:1])


def test_a_guided_filter_without_a_ridge_is_refused():
    with pytest.raises(ValueError, match="guided_filter_eps must be above 0"):
        resfu.ReSFU(8, 8, guided_filter_eps=0.0)
