"""The contract that every upsampler keeps, run over all of them."""

import copy

import pytest
import torch

import resfu

CHANNELS, GUIDANCE = 16, 8


@pytest.fixture(params=list(resfu.UPSAMPLERS))
def up(request):
    torch.manual_seed(0)
    up = resfu.create_upsampler(request.param, channels=CHANNELS, guidance_channels=GUIDANCE)
    for p in up.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return up


def _maps(batch=2, low=(5, 6), high=(10, 12), dtype=torch.float32):
    torch.manual_seed(1)
    return torch.randn(batch, CHANNELS, *low, dtype=dtype), torch.randn(batch, GUIDANCE, *high, dtype=dtype)


@pytest.mark.parametrize(
    ("low", "high"), [((5, 6), (10, 12)), ((5, 6), (13, 17)), ((3, 7), (24, 56)), ((4, 4), (4, 4))]
)
def test_shape_follows_the_guidance_or_size(up, low, high):
    x, y = _maps(low=low, high=high)
    assert up(x, y).shape == (2, CHANNELS, *high)
    assert up(x, y, size=(high[0] + 1, high[1] + 2)).shape == (2, CHANNELS, high[0] + 1, high[1] + 2)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.15), (torch.float16, 0.02)])
def test_dtypes_agree_with_fp64(up, dtype, tolerance):
    x, y = _maps(dtype=torch.float64)
    want = up.double()(x, y).detach()
    got = up.to(dtype)(x.to(dtype), y.to(dtype))
    assert got.dtype == dtype
    assert (got.detach().double() - want).abs().max() < tolerance * want.abs().max()


def test_autocast(up):
    x, y = _maps()
    want = up(x, y).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = up(x, y)
        mixed = up(x.bfloat16(), y)
    assert (got.detach().float() - want).abs().max() < 0.15 * want.abs().max()
    assert mixed.shape == want.shape


def test_any_strides_and_channels_last(up):
    x, y = _maps()
    want = up(x, y).detach()
    last = [t.contiguous(memory_format=torch.channels_last) for t in (x, y)]
    torch.testing.assert_close(up(*last).detach(), want, rtol=1e-4, atol=1e-5)
    assert up(*last).is_contiguous(memory_format=torch.channels_last)
    strided = [torch.stack([t, t], -1)[..., 0] for t in (x, y)]
    torch.testing.assert_close(up(*strided).detach(), want, rtol=1e-4, atol=1e-5)


def test_an_image_does_not_depend_on_its_batch_mates(up):
    x, y = _maps(batch=3)
    torch.testing.assert_close(up(x, y)[1:2].detach(), up(x[1:2], y[1:2]).detach(), rtol=1e-5, atol=1e-6)


def test_empty_batch(up):
    x, y = _maps(batch=0)
    assert up(x, y).shape == (0, CHANNELS, 10, 12)


def test_nan_passes_through(up):
    x, y = _maps()
    x[0, 0, 2, 2] = float("nan")
    assert up(x, y).isnan().any()


def test_backward_is_deterministic(up):
    gradients = []
    for _ in range(2):
        x, y = _maps()
        x.requires_grad_()
        up(x, y).square().sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)


def test_copies_give_the_same_result(up, tmp_path):
    x, y = _maps()
    want = up(x, y).detach()
    torch.testing.assert_close(copy.deepcopy(up)(x, y).detach(), want)
    torch.save(up.state_dict(), tmp_path / "up.pt")
    for p in up.parameters():
        torch.nn.init.zeros_(p)
    up.load_state_dict(torch.load(tmp_path / "up.pt", weights_only=True))
    torch.testing.assert_close(up(x, y).detach(), want)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.ones(2, CHANNELS, 5)}, "3 dimensions"),
        ({"features": torch.ones(2, CHANNELS, 5, 6, dtype=torch.int32)}, "floating point"),
        ({"features": torch.ones(2, CHANNELS, 0, 6)}, "at least one pixel"),
        ({"guidance": torch.ones(2, GUIDANCE, 10)}, "guidance must be"),
        ({"guidance": torch.ones(3, GUIDANCE, 10, 12)}, "batch of 2"),
        ({"guidance": torch.ones(2, GUIDANCE, 4, 6)}, "at least as large"),
        ({"size": (4, 12)}, "size asks for 4 x 12"),
    ],
)
def test_bad_input_says_what_to_do(up, change, message):
    x, y = _maps()
    with pytest.raises(ValueError, match=message):
        up(**({"features": x, "guidance": y} | change))


def test_guided_upsamplers_check_their_widths():
    up = resfu.ReSFU(CHANNELS, GUIDANCE)
    x, y = _maps()
    with pytest.raises(ValueError, match="features must have 16 channels, got 8"):
        up(x[:, :8], y)
    with pytest.raises(ValueError, match="guidance must have 8 channels, got 4"):
        up(x, y[:, :4])
    with pytest.raises(ValueError, match="needs a guidance"):
        up(x)
    with pytest.raises(ValueError, match=r"features are torch.float32 and guidance is torch.float64"):
        up(x, y.double())


def test_size_without_guidance():
    x, _ = _maps()
    with pytest.raises(ValueError, match="needs size"):
        resfu.Bilinear()(x)
    assert resfu.Bilinear(scale_factor=2)(x).shape == (2, CHANNELS, 10, 12)
    assert resfu.Nearest(scale_factor=1.5)(x).shape == (2, CHANNELS, 7, 9)


def test_unknown_names_list_the_choices():
    with pytest.raises(ValueError, match="nearest, bilinear, resfu"):
        resfu.create_upsampler("bicubic-ish")
    with pytest.raises(ValueError, match="resfu has no option radius; it takes channels"):
        resfu.create_upsampler("resfu", channels=8, guidance_channels=8, radius=3)
    with pytest.raises(ValueError, match="needs guidance_channels"):
        resfu.create_upsampler("resfu", channels=8)
