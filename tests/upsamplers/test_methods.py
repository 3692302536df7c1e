"""What only one method has: options, initialisation, limits."""

import pytest
import torch
import torch.nn.functional as F

import resfu
from resfu.upsamplers.options import check_whole


def test_published_initialisation():
    torch.manual_seed(0)
    carafe, fade, dysample = resfu.CARAFE(256), resfu.FADE(256, 256), resfu.DySample(256)
    assert carafe.encoder.weight.std().item() == pytest.approx(1e-3, rel=0.05)
    for layer, fan in ((carafe.compressor, 256 + 64), (fade.features_compressor, 256 + 64), (fade.encoder, 9 * 89)):
        bound = (6 / fan) ** 0.5  # Xavier, uniform
        assert layer.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert dysample.offset.weight.std().item() == pytest.approx(1e-3, rel=0.05)
    assert dysample.scope.weight.abs().max() == 0
    for norm in ("group", "layer"):
        sapa = resfu.SAPA(256, 256, norm=norm)
        assert sapa.query.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert sapa.key.bias.abs().max() == 0
    for layer in (carafe.encoder, carafe.compressor, fade.guidance_compressor, fade.encoder, dysample.offset):
        assert layer.bias.abs().max() == 0
    assert resfu.Deconv(64, 4).convolution.weight.abs().max().item() == pytest.approx(1 / 32, rel=0.01)
    assert resfu.PixelShuffle(64, 4).convolution.weight.abs().max().item() == pytest.approx(1 / 8, rel=0.01)


@pytest.mark.parametrize("gated", [False, True])
def test_fade_gate_mixes_in_the_guidance(gated):
    up = resfu.FADE(8, 8, gated=gated)
    x, y = torch.randn(1, 8, 7, 8), torch.randn(1, 8, 14, 16)
    plain = resfu.FADE(8, 8)
    plain.load_state_dict({key: value for key, value in up.state_dict().items() if not key.startswith("gate")})
    want = plain(x, y)
    if gated:
        gate = F.interpolate(up.gate(x).sigmoid(), size=(14, 16), mode="nearest")
        want = gate * y + (1 - gate) * want
    torch.testing.assert_close(up(x, y), want)


def test_fade_repeats_exactly():
    """At 41 PyTorch's own repetition reads the pixel before at every 41st place."""
    up = resfu.FADE(4, 4, kernel_size=3, gated=True).double()
    torch.nn.init.zeros_(up.guidance_compressor.weight)
    torch.nn.init.normal_(up.encoder.weight)
    torch.nn.init.normal_(up.gate.weight)
    x = torch.randn(1, 4, 1, 5, dtype=torch.double)
    out = up(x, torch.zeros(1, 4, 1, 205, dtype=torch.double)).detach()
    blocks = out.unflatten(-1, (5, 41))[..., :-1]  # one kernel and one gate a block; the encoder pads the last pixel
    torch.testing.assert_close(blocks[..., 1:2].expand_as(blocks[..., 1:]), blocks[..., 1:])
    torch.testing.assert_close(blocks[..., 1:, 0], blocks[..., 1:, 1])


def test_sapa_norms():
    x, y = torch.randn(1, 8, 3, 4, dtype=torch.double), torch.randn(1, 6, 6, 8, dtype=torch.double)
    layer = resfu.SAPA(8, 6, norm="layer").double()
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    torch.testing.assert_close(layer.features_norm(x), (x - mean) / (variance + 1e-5).sqrt())
    for options in ({"norm": "none"}, {"norm": "none", "projection_bias": False}):
        assert resfu.SAPA(8, 6, **options).double()(x, y).shape == (1, 8, 6, 8)


def test_sapa_at_a_real_ratio_uses_the_pixel_that_contains_the_pixel():
    up = resfu.SAPA(4, 4, kernel_size=1)
    x = torch.randn(1, 4, 3, 4)
    torch.testing.assert_close(up(x, torch.randn(1, 4, 5, 7)), F.interpolate(x, size=(5, 7), mode="nearest"))


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels-last"])
def test_nearest_reads_the_pixel_that_contains_the_pixel(last):
    """PyTorch's own multiplies by a rounded ratio: at 12 -> 74 its pixel 37 reads 5."""
    up = resfu.Nearest()
    for h, H in ((12, 74), (14, 46), (7, 13), (5, 5), (3, 9), (64, 128), (1023, 2046), (1000, 2001), (347, 5000)):
        x = torch.arange(float(h)).expand(1, 4, 1, h)
        x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        for map, size in ((x, (1, H)), (x.mT, (H, 1))):
            got = up(map, size=size)[0, 3].flatten()
            assert got.tolist() == [p * h // H for p in range(H)], (h, H)
    x = torch.randn(1, 4, 12, 14, dtype=torch.double, requires_grad=True)
    x.data = x.data.contiguous(memory_format=torch.channels_last) if last else x.data
    out = up(x, size=(74, 46))
    assert out.is_contiguous(memory_format=torch.channels_last) == last
    grad = torch.randn_like(out)
    want = resfu.ops.reassemble(x, torch.ones(1, 1, 74, 46, dtype=torch.double), neighbours="coarse")
    assert torch.equal(out, want)
    torch.testing.assert_close(*(torch.autograd.grad(o, x, grad)[0] for o in (out, want)))


def test_carafe_groups_have_kernels_of_their_own():
    torch.manual_seed(0)
    up = resfu.CARAFE(8, 3, kernel_size=3, groups=2, encoder_dilation=2).double()
    torch.nn.init.normal_(up.encoder.weight)
    x = torch.randn(1, 8, 4, 5, dtype=torch.double)
    scores = F.pixel_shuffle(up.encoder(up.compressor(x)), 3)
    kernels = [scores[:, 9 * g : 9 * g + 9].softmax(1) for g in range(2)]
    want = [resfu.ops.reassemble(x[:, 4 * g : 4 * g + 4], kernels[g], (12, 15), "coarse") for g in range(2)]
    torch.testing.assert_close(up(x), torch.cat(want, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dysample_positions_do_not_round_in_low_precision(dtype):
    up = resfu.DySample(4, groups=1, dynamic_scope=False).to(dtype)
    torch.nn.init.zeros_(up.offset.weight)
    ramp = torch.linspace(-1, 1, 500).expand(1, 4, 2, 500)
    want = F.interpolate(ramp, scale_factor=2, mode="bilinear", align_corners=False)
    error = (up(ramp.to(dtype)).float() - want).abs().max()
    assert error <= 1.5 * torch.finfo(dtype).eps  # of the values, in [-1, 1], and no more


def test_dysample_offsets_count_low_resolution_pixels_columns_first():
    up = resfu.DySample(4, groups=2, dynamic_scope=False).double()
    torch.nn.init.zeros_(up.offset.weight)
    with torch.no_grad():  # (x, y) x group x sub-pixel: group 0 one pixel to the right, group 1 one down; times 0.25
        up.offset.bias.view(2, 2, 4).copy_(4 * torch.eye(2)[..., None])
    x = torch.randn(1, 4, 5, 6, dtype=torch.double)
    regular = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    got = up(x)
    torch.testing.assert_close(got[:, :2, :, :-4], regular[:, :2, :, 2:-2])
    torch.testing.assert_close(got[:, 2:, :-4], regular[:, 2:, 2:-2])


def test_stack_takes_a_guidance_of_any_size_from_the_outputs_up():
    up = resfu.StackJBU(8, steps=2).eval()
    x, image = torch.randn(2, 8, 3, 4), torch.randn(2, 3, 41, 70)
    out = up(x, image)
    assert out.shape == (2, 8, 12, 16)
    torch.testing.assert_close(up(x, F.adaptive_avg_pool2d(image, (12, 16)), size=(12, 16)).shape, out.shape)
    z = x
    for stage, size in zip(up.stages.values(), ((6, 8), (12, 16)), strict=True):
        z = stage(z, F.adaptive_avg_pool2d(image, size))
    torch.testing.assert_close(out, z + 0.1 * up.fixup(z))
    with pytest.raises(ValueError, match=r"at least as large as the output \(12 x 16\), got 11 x 16"):
        up(x, image[..., :11, :16])
    with pytest.raises(ValueError, match="StackJBU was built for the ratio 4"):
        up(x, image, size=(24, 32))


def test_stack_by_ratio_or_steps():
    assert len(resfu.StackJBU(8).stages) == 2
    assert len(resfu.StackJBU(8, steps=4).stages) == 4
    assert len(resfu.StackJBU(8, steps=4, scale_factor=16).stages) == 4
    assert len(resfu.create_upsampler("stack-jbu", channels=8, scale_factor=8).stages) == 3
    assert resfu.StackJBU(8, steps=3).scale_factor == 8


def test_dropout_acts_in_training_alone():
    up = resfu.StackJBU(8, steps=1)
    x, image = torch.randn(1, 8, 4, 4), torch.randn(1, 3, 8, 8)
    assert not torch.equal(up(x, image), up(x, image))
    up.eval()
    assert torch.equal(up(x, image), up(x, image))


def test_jbu_takes_real_ratios_and_the_guidances_size():
    up = resfu.JBU(guidance_channels=5).eval()
    x, y = torch.randn(1, 8, 3, 4), torch.randn(1, 5, 11, 13)
    assert up(x, y).shape == (1, 8, 11, 13)
    assert up(x, y, size=(9, 10)).shape == (1, 8, 9, 10)
    with pytest.raises(ValueError, match="the output must be larger than 3 x 3, got 3 x 13"):
        up(x, y[..., :3, :])


def test_odd_widths_share_what_divides_them():
    assert resfu.SAPA(40, 6).features_norm.num_groups == 20
    assert resfu.SAPA(40, 6).guidance_norm.num_groups == 6


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("deconv", {"scale_factor": 0}, "scale_factor must be a whole number from 1, got 0"),
        ("pixelshuffle", {"kernel_size": 2}, "kernel_size must be odd, got 2"),
        ("carafe", {"kernel_size": 4}, "kernel_size must be odd"),
        ("carafe", {"encoder_kernel_size": 2}, "encoder_kernel_size must be odd"),
        ("carafe", {"groups": 3}, "groups = 3 must divide channels = 32"),
        ("carafe", {"compressed_channels": 0}, "compressed_channels must be an int from 1, got 0"),
        ("fade", {"gated": True, "guidance_channels": 16}, "guidance_channels = 16 must equal channels = 32"),
        ("sapa", {"norm": "batch"}, "norm must be one of group, layer, none, got 'batch'"),
        ("dysample", {"style": "pll"}, "style must be one of lp, pl"),
        ("dysample", {"groups": 5}, "groups = 5 must divide channels = 32"),
        ("dysample", {"style": "pl", "scale_factor": 3}, "squared scale_factor = 9 must divide channels of style 'pl'"),
        ("stack-jbu", {"scale_factor": 6}, "a power of two from 2, got 6"),
        ("stack-jbu", {"scale_factor": 1}, "a power of two from 2, got 1"),
        ("stack-jbu", {"steps": 3, "scale_factor": 2}, r"scale_factor = 2 is not 2\^steps with steps = 3: leave one"),
        ("stack-jbu", {"steps": 0}, "steps must be an int from 1, got 0"),
        ("a2u", {"scale_factor": 4}, "a2u has the ratio 2 alone, got scale_factor = 4: chain steps with"),
        ("indexnet", {"scale_factor": 1.5}, r"indexnet has the ratio 2 alone, got scale_factor = 1\.5"),
        ("a2u", {"guidance_channels": 48}, "guidance_channels must be a multiple of 32, got 48"),
        ("indexnet", {"guidance_channels": 0}, "guidance_channels must be an int from 1, got 0"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        resfu.create_upsampler(name, **{"channels": 32, "guidance_channels": 32} | options)


def test_bad_options_of_one_module():
    with pytest.raises(ValueError, match=r"scale_factor must be a whole number from 1, got 1\.5"):
        check_whole("scale_factor", 1.5)
    assert check_whole("scale_factor", 2.0) == 2
    with pytest.raises(ValueError, match="radius must be an int from 1, got 0"):
        resfu.JBU(radius=0)
