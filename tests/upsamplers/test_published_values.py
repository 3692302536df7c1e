"""Values that follow from the published definitions, worked out by hand or from another form of the same method."""

import math

import pytest
import torch
import torch.nn.functional as F

import resfu
from resfu.ops import reassemble


def _zero(*modules):
    for module in modules:
        for parameter in module.parameters():
            torch.nn.init.zeros_(parameter)


def _assert_border(out, corner, edge):
    """In the first, second and third low-resolution pixel from the border; 1 from the third on."""
    out = out[0, 0]
    torch.testing.assert_close(out[:2, :2], torch.full((2, 2), corner), rtol=0, atol=5e-5)
    torch.testing.assert_close(out[:2, 4:-4], torch.full_like(out[:2, 4:-4], edge), rtol=0, atol=5e-5)
    torch.testing.assert_close(out[4:-4, -2:], torch.full_like(out[4:-4, -2:], edge), rtol=0, atol=5e-5)
    torch.testing.assert_close(out[4:-4, 4:-4], torch.ones_like(out[4:-4, 4:-4]))


@pytest.mark.parametrize("dynamic_scope", [True, False])
@pytest.mark.parametrize("style", ["lp", "pl"])
@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_dysample_without_offsets_is_bilinear(ratio, style, dynamic_scope):
    up = resfu.DySample(144, ratio, style, dynamic_scope=dynamic_scope)
    _zero(up.offset)
    x = torch.randn(2, 144, 5, 7)
    want = F.interpolate(x, scale_factor=ratio, mode="bilinear", align_corners=False)
    torch.testing.assert_close(up(x), want, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "scoring"), [("carafe", "encoder"), ("fade", "encoder"), ("a2u", "spread"), ("sapa", "query")]
)
def test_uniform_kernels_darken_the_border(create, maps, name, scoring):
    up = create(name)
    _zero(getattr(up, scoring))
    x, y = maps(up, batch=1, low=(7, 8), high=(14, 16))
    corner, edge = (4 / 9, 6 / 9) if name == "a2u" else (0.36, 0.60)
    _assert_border(up(torch.ones_like(x), y).detach(), corner, edge)


@pytest.mark.parametrize(("logit", "corner"), [(3.0, 0.9187), (-3.0, 0.0272)])
def test_sapa_leaks_weight_to_the_zero_scores_outside(logit, corner):
    up = resfu.SAPA(8, 8)
    _zero(up.query, up.key)
    torch.nn.init.constant_(up.query.bias, 1.0)
    torch.nn.init.constant_(up.key.bias, logit / 32)
    inside = 15 * math.exp(logit)
    _assert_border(up(torch.ones(1, 8, 7, 8), torch.randn(1, 8, 14, 16)).detach(), corner, inside / (inside + 10))


def test_fade_equals_its_four_shift_form(create, maps):
    """The first paper convolves four shifted copies of the guidance with stride 2 and interleaves the results."""
    up = create("fade").double()
    x, y = maps(up, dtype=torch.float64)
    guide, coarse = up.guidance_compressor(y), up.encoder(up.features_compressor(x))
    weight, bias = up.encoder.weight, up.encoder.bias
    shifts = [(a, b) for a in range(2) for b in range(2)]
    copies = [F.conv2d(F.pad(guide, (1 - b, b, 1 - a, a)), weight, bias, stride=2) + coarse for a, b in shifts]
    kernel = F.pixel_shuffle(torch.stack(copies, 2).flatten(1, 2), 2).softmax(1)
    torch.testing.assert_close(up(x, y), reassemble(x, kernel, (10, 12), "coarse"), rtol=1e-12, atol=1e-12)


def test_jbu_without_its_correction_is_a_weighted_mean():
    up = resfu.JBU().double().eval()
    torch.nn.init.constant_(up.log_temperature, 0.5)
    _zero(up.kernel_fixup[3])
    y = torch.randn(2, 3, 10, 15, dtype=torch.double)
    kernel = up._kernel(y)
    assert kernel.min() > 0
    torch.testing.assert_close(kernel.sum(1), torch.ones_like(kernel[:, 0]))
    ones = torch.ones(2, 4, 5, 6, dtype=torch.double)
    torch.testing.assert_close(up(ones, y), torch.ones(2, 4, 10, 15, dtype=torch.double))


def test_jbu_distances():
    near = resfu.JBU()._nearness().detach().view(7, 7)
    assert near[3, 3] == 1
    assert near[0, 0].item() == pytest.approx(math.exp(-1))
    assert near[3, 0].item() == pytest.approx(math.exp(-1 / 2))
    assert near[2, 3].item() == pytest.approx(math.exp(-1 / 18))


def test_jbu_equals_its_definition():
    up = resfu.JBU(guidance_channels=4, key_dim=5, radius=1).double().eval()
    x, y = torch.randn(1, 2, 3, 4, dtype=torch.double), torch.randn(1, 4, 6, 8, dtype=torch.double)
    e = up.range_projection(y)
    padded = F.pad(e, (1, 1, 1, 1), mode="reflect")
    smooth = F.pad(F.interpolate(x, (6, 8), mode="bicubic", align_corners=False), (1, 1, 1, 1), mode="reflect")
    steps = [(i, j) for i in range(3) for j in range(3)]
    scores = torch.stack([(padded[..., i : i + 6, j : j + 8] * e).sum(1) for i, j in steps], 1)
    distance = torch.tensor([(i - 1) ** 2 + (j - 1) ** 2 for i, j in steps], dtype=torch.double)
    kernel = scores.softmax(1) * (-distance / 2).exp().view(1, 9, 1, 1)
    kernel = kernel / kernel.sum(1, keepdim=True)
    kernel = kernel + 0.1 * up.kernel_fixup(torch.cat([kernel, y], 1))
    want = sum(kernel[:, n, None] * smooth[..., i : i + 6, j : j + 8] for n, (i, j) in enumerate(steps))
    torch.testing.assert_close(up(x, y), want, rtol=1e-6, atol=1e-6)  # the distances are fp32


def test_indexnet_starts_at_half_of_nearest():
    up = resfu.IndexNet(6, 8).eval()
    _zero(up.index)
    x = torch.randn(2, 6, 4, 5)
    want = 0.5 * F.interpolate(x, scale_factor=2, mode="nearest")
    torch.testing.assert_close(up(x, torch.randn(2, 8, 8, 10)), want)


def test_indexnet_equals_its_definition(create, maps):
    up = create("indexnet").double()
    x, y = maps(up, dtype=torch.float64)
    y = 20 * y  # far enough for ReLU6's ceiling
    hidden = F.conv2d(y, up.encoder.weight, stride=2, padding=1) / (1 + 1e-5) ** 0.5  # fresh statistics
    hidden = hidden * up.norm.weight.view(1, -1, 1, 1) + up.norm.bias.view(1, -1, 1, 1)
    assert hidden.max() > 6
    index = F.conv2d(hidden.clamp(0, 6), up.index.weight).sigmoid()  # [B, 4, h, w]: sub-pixels, rows first
    gate = index.unflatten(1, (2, 2)).permute(0, 3, 1, 4, 2).reshape(2, 1, 10, 12)
    torch.testing.assert_close(up(x, y), gate * x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_a2u_equals_its_definition_image_by_image(create, maps):
    up = create("a2u").double()
    x, y = maps(up, batch=3, dtype=torch.float64)
    want = []
    for n in range(3):
        image = y[n : n + 1]
        pooled = F.adaptive_avg_pool2d(image, 6)
        sides = []
        for filter_, norm in ((up.first_filter, up.first_norm), (up.second_filter, up.second_norm)):
            kernel = filter_(pooled).expand(32, 1, 6, 6)
            sides.append(F.leaky_relu(norm(F.conv2d(image, kernel, stride=2, padding=2, groups=32)), 0.01))
        affinity = (sides[0] * sides[1]).sum(1, keepdim=True) / math.sqrt(32)
        scores = F.pixel_shuffle(up.spread(F.adaptive_avg_pool2d(image, 1)) * affinity, 2)
        want.append(reassemble(x[n : n + 1], scores.sigmoid().softmax(1), (10, 12), "coarse"))
    torch.testing.assert_close(up(x, y), torch.cat(want), rtol=1e-10, atol=1e-10)


def test_deconv_and_pixelshuffle_equal_their_formulas():
    x = torch.randn(1, 3, 4, 5, dtype=torch.double)
    deconv, shuffle = resfu.Deconv(3, 3).double(), resfu.PixelShuffle(3, 3).double()
    weight, bias = deconv.convolution.weight, deconv.convolution.bias
    want = torch.einsum("bcij,coxy->boixjy", x, weight).reshape(1, 3, 12, 15) + bias.view(1, 3, 1, 1)
    torch.testing.assert_close(deconv(x), want)
    weight, bias = shuffle.convolution.weight[..., 0, 0], shuffle.convolution.bias
    wide = torch.einsum("bcij,nc->bnij", x, weight) + bias.view(1, -1, 1, 1)
    want = wide.view(1, 3, 3, 3, 4, 5).permute(0, 1, 4, 2, 5, 3).reshape(1, 3, 12, 15)
    torch.testing.assert_close(shuffle(x), want)
