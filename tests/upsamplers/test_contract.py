"""The contract that every upsampler keeps, run over all of them."""

import copy

import pytest
import torch
from torch.func import functional_call

import resfu

LIMITED = [name for name, method in resfu.UPSAMPLERS.items() if method.ratios != "any"]
GUIDED = [name for name, method in resfu.UPSAMPLERS.items() if method.guided]
SIZES = {  # low and high resolution that a method takes, by its `ratios`; the "fixed" ones are built for 2
    "any": [((5, 6), (13, 17)), ((3, 7), (24, 56)), ((4, 4), (4, 4)), ((5, 6), (10, 12))],
    "integer": [((5, 6), (20, 18)), ((3, 7), (24, 56)), ((4, 4), (4, 4)), ((5, 6), (10, 12))],
    "fixed": [((3, 7), (6, 14)), ((5, 6), (10, 12))],
    "2": [((3, 7), (6, 14)), ((5, 6), (10, 12))],
}


# By precision: dtype, largest error of the output relative to its largest value, norm of a gradient's error relative to
# the gradient's or to 1/20 of the largest one's. Bounds for all methods, not twice what each was
# seen to reach: over five seeds NAF's outputs come to 0.027 in bf16.
PRECISIONS = {
    "fp32": (torch.float32, 5e-6, 5e-6),
    "bf16": (torch.bfloat16, 0.03, 0.1),
    "fp16": (torch.float16, 0.005, 0.01),
    "autocast": (torch.bfloat16, 0.03, 0.1),
}
# Where ReLU's arguments round to the other side of 0, whole terms of ReSFU's gradients come or go.
RESFU_GRADIENTS = {"fp32": 5e-6, "bf16": 0.2, "fp16": 0.1, "autocast": 0.2}
# AnyUp's scores lie behind fifteen layers, and the tests' weights make NAF's large. The worst of five seeds: NAF's
# outputs 3e-6 in fp32, AnyUp's 0.043 in bf16 and 0.0041 in fp16, its gradients 9e-6, 0.26 and 0.037. The bounds are 1.5
# to 2.5 times these.
OUTPUTS = {"naf": {"fp32": 7e-6}, "anyup": {"bf16": 0.09, "fp16": 0.009, "autocast": 0.09}}
ANYUP_GRADIENTS = {"fp32": 2e-5, "bf16": 0.4, "fp16": 0.055, "autocast": 0.4}


@pytest.fixture(params=list(resfu.UPSAMPLERS))
def name(request):
    return request.param


@pytest.fixture
def up(name, create):
    return create(name)


@pytest.fixture
def gradients():
    """`gradients(up, x, y, autocast)`: the output and the gradients of all inputs and parameters."""

    def gradients(up, x, y, autocast=False):
        inputs = [x.clone().requires_grad_(), y.clone().requires_grad_()] if up.guided else [x.clone().requires_grad_()]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            out = up(*inputs)
        cotangent = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        return [out, *torch.autograd.grad(out, [*inputs, *up.parameters()], cotangent)]

    return gradients


def test_shape_follows_the_guidance_or_size(up, maps):
    for low, high in SIZES[up.ratios]:
        x, y = maps(up, low=low, high=high)
        assert up(x, y).shape == (2, 32, *high)
        assert up(x, y, size=high).shape == (2, 32, *high)
        if up.ratios == "any":
            assert up(x, y, size=(high[0] + 1, high[1] + 2)).shape == (2, 32, high[0] + 1, high[1] + 2)


@pytest.mark.parametrize(("name", "ratio"), [(n, 4) for n in LIMITED if resfu.UPSAMPLERS[n].ratios == "fixed"])
def test_the_ratio_it_is_built_for(create, maps, name, ratio):
    up = create(name, scale_factor=ratio)
    x, y = maps(up, low=(3, 5), high=(12, 20))
    assert up(x, y).shape == (2, 32, 12, 20)
    if not up.guided:
        assert up(x).shape == (2, 32, 12, 20)


def test_odd_sizes(up, maps):
    x, y = maps(up.double(), low=(8, 11), high=(16, 21), dtype=torch.float64)
    y.requires_grad_(up.guided)
    size = (16, 21) if up.image_guided else None  # an image does not say how large the output is
    got = up(x.requires_grad_(), y, size)
    assert got.shape == (2, 32, 16, 21)
    assert got.is_contiguous()
    torch.testing.assert_close(up(x, y, size=(16, 21)), got)
    assert up(x[:0], y[:0], size).shape == (0, 32, 16, 21)
    last = up(*(t.contiguous(memory_format=torch.channels_last) for t in (x, y)), size)
    assert last.is_contiguous(memory_format=torch.channels_last)
    if up.ratios != "any":  # the whole size, cropped
        whole = up(x, torch.cat([y, y[..., -1:]], -1))
        torch.testing.assert_close(got, whole[..., :21])
        wanted = [x, y] if up.guided else [x]
        grad = torch.randn_like(got)
        found, expected = (torch.autograd.grad(out, wanted, grad) for out in (got, whole[..., :21]))
        for f, e in zip(found, expected, strict=True):
            torch.testing.assert_close(f, e)
        assert up(x, y, size=(15, 21)).shape == (2, 32, 15, 21)


@pytest.mark.parametrize("name", [n for n in LIMITED if resfu.UPSAMPLERS[n].ratios in ("fixed", "integer")])
def test_sizes_less_than_one_ratio_short_are_crops(create, maps, name):
    up = create(name, scale_factor=4)
    x, y = maps(up, low=(5, 6), high=(17, 22))
    whole = torch.nn.functional.pad(y, (0, 2, 0, 3), mode="replicate")
    torch.testing.assert_close(up(x, y, size=(17, 22)), up(x, whole)[..., :17, :22])
    with pytest.raises(ValueError, match=r"features of 5 x 6 give .* not 16 x 22.*cropped"):
        up(x, y, size=(16, 22))


def test_an_image_larger_than_an_odd_output_is_extended_in_proportion(create):
    up, x, image = create("stack-jbu"), torch.randn(1, 32, 8, 11), torch.randn(1, 3, 64, 84)
    extended = torch.nn.functional.pad(image, (0, 4, 0, 0), mode="replicate")
    torch.testing.assert_close(up(x, image, size=(16, 21)), up(x, extended)[..., :21])


@pytest.mark.parametrize("name", LIMITED)
def test_other_ratios_are_refused_by_name(create, maps, name):
    up = create(name)
    x, y = maps(up)
    small = y[..., :10, :12]
    with pytest.raises(ValueError, match=rf"{type(up).__name__} .*features of 5 x 6 give .* not 10 x 13"):
        up(x, torch.cat([small, small[..., :1]], -1), size=(10, 13))
    if up.ratios != "integer":
        with pytest.raises(ValueError, match="ratio 2: features of 5 x 6 give 10 x 12, not 15 x 18"):
            up(x, y.repeat(1, 1, 2, 2), size=(15, 18))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_values_and_gradients_agree_with_fp64(name, up, maps, gradients, precision):
    dtype, tolerance, of_gradients = PRECISIONS[precision]
    of_gradients = RESFU_GRADIENTS[precision] if name in ("resfu", "resfu-image") else of_gradients
    of_gradients = ANYUP_GRADIENTS[precision] if name == "anyup" else of_gradients
    tolerance = OUTPUTS.get(name, {}).get(precision, tolerance)
    up, autocast = up.to(dtype), precision == "autocast"
    inputs = maps(up, dtype=dtype)
    if autocast:
        up, dtype, inputs = up.float(), torch.float32, [t.float() for t in inputs]
    low = gradients(up, *inputs, autocast)
    assert all(got.dtype == dtype for got in low)
    # The same weights and inputs, rounded already.
    want, *exact = gradients(up.double(), *(t.double() for t in inputs))
    assert (low[0].double() - want).abs().max() <= tolerance * want.abs().max()
    norms = torch.stack([g.norm() for g in exact])
    errors = torch.stack([(got.double() - g).norm() for got, g in zip(low[1:], exact, strict=True)])
    assert (errors <= of_gradients * norms.clamp(min=norms.max() / 20)).all()


@pytest.mark.parametrize("autocast", [False, True])
def test_the_output_has_the_dtype_of_the_features(up, maps, autocast):
    x, y = maps(up)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        for batch in (2, 0):
            assert up(x[:batch], y[:batch]).dtype == torch.float32
            if autocast:
                assert up(x[:batch].bfloat16(), y[:batch]).dtype == torch.bfloat16


def test_any_strides_and_channels_last(up, maps):
    x, y = maps(up)
    want = up(x, y).detach()
    last = [t.contiguous(memory_format=torch.channels_last) for t in (x, y)]
    torch.testing.assert_close(up(*last).detach(), want, rtol=1e-4, atol=1e-5)
    assert up(*last).is_contiguous(memory_format=torch.channels_last)
    strided = [torch.stack([t, t], -1)[..., 0] for t in (x, y)]
    torch.testing.assert_close(up(*strided).detach(), want, rtol=1e-4, atol=1e-5)


def test_an_image_does_not_depend_on_its_batch_mates(up, maps):
    x, y = maps(up.double(), batch=3, dtype=torch.float64)
    torch.testing.assert_close(up(x, y)[1:2].detach(), up(x[1:2], y[1:2]).detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [n for n, method in resfu.UPSAMPLERS.items() if not method.image_guided])
def test_a_single_pixel(create, maps, name):
    up = create(name).double()
    for high in [(1, 1), (1, 2), (4, 4)] if up.ratios in ("any", "integer") else [(2, 2)]:
        x, y = maps(up, low=(1, 1), high=high, dtype=torch.float64)
        torch.testing.assert_close(up(x[:1], y[:1]), up(x, y)[:1])


def test_empty_batch(up, maps):
    x, y = (t.requires_grad_() for t in maps(up, batch=0))
    out = up(x, y)
    assert out.shape == (0, 32, 10, 12)
    out.sum().backward()  # as PyTorch's layers: every gradient is there, and 0
    for tensor in (x, *([y] if up.guided else []), *up.parameters()):
        assert tensor.grad.shape == tensor.shape
        assert not tensor.grad.any()
    with torch.no_grad():
        assert not up(x, y).requires_grad


def test_nan_passes_through(up, maps):
    x, y = maps(up)
    x[0, 0, 2, 2] = float("nan")
    out = up(x, y)
    assert out[0].isnan().any()
    assert out[1].isfinite().all()


def test_forward_and_backward_are_deterministic(up, maps, gradients):
    first, second = (gradients(up, *maps(up)) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_gradients_of_inputs_and_parameters(up, maps):
    up = up.double()
    x, y = maps(up, batch=2, low=(3, 2), high=(6, 4), dtype=torch.float64)
    # JBU's distances are fp32 numbers: too coarse for finite differences.
    parameters = {n: p.detach().requires_grad_() for n, p in up.named_parameters() if not n.endswith("deviation")}
    inputs = (x.requires_grad_(), y.requires_grad_(up.guided), *parameters.values())

    def run(x, y, *values):
        return functional_call(up, dict(zip(parameters, values, strict=True)), (x, y))

    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


def test_copies_give_the_same_result(name, create, up, maps, tmp_path):
    x, y = maps(up)
    want = up(x, y).detach()
    torch.testing.assert_close(copy.deepcopy(up)(x, y).detach(), want)
    torch.save(up.state_dict(), tmp_path / "up.pt")
    fresh = resfu.create_upsampler(
        name, channels=32, guidance_channels=up.guidance_channels or 32, scale_factor=2
    ).eval()
    fresh.load_state_dict(torch.load(tmp_path / "up.pt", weights_only=True))
    torch.testing.assert_close(fresh(x, y).detach(), want)
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_model(up, tmp_path / "up.safetensors")
    for parameter in fresh.parameters():
        torch.nn.init.zeros_(parameter)
    safetensors.load_model(fresh, tmp_path / "up.safetensors")
    torch.testing.assert_close(fresh(x, y).detach(), want)


def test_every_method_says_where_it_comes_from(name, up):
    assert up.ratios in SIZES
    assert resfu.UPSAMPLERS[name].__doc__
    textbook = name in ("nearest", "bilinear", "bicubic")
    assert bool(up.paper) != textbook


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.ones(2, 32, 5)}, "got the shape"),
        ({"features": torch.ones(2, 32, 5, 6, dtype=torch.int32)}, "floating point"),
        ({"features": torch.ones(2, 32, 0, 6)}, "at least one pixel"),
        ({"guidance": torch.ones(2, 32, 10)}, "guidance must be"),
        ({"guidance": lambda y: y[[0, 0, 0]]}, "batch of 2"),
        ({"guidance": lambda y: y[..., :4, :6]}, "at least as large"),
        ({"size": (4, 12)}, "size asks for 4 x 12"),
    ],
)
def test_bad_input_says_what_to_do(up, maps, change, message):
    x, y = maps(up)
    change = {key: value(y) if callable(value) else value for key, value in change.items()}
    with pytest.raises(ValueError, match=message):
        up(**({"features": x, "guidance": y} | change))


def test_weights_of_another_dtype_are_named(up, maps):
    x, y = maps(up)
    if not list(up.parameters()):
        assert up.double()(x, y).dtype == torch.float32
        return
    with pytest.raises(
        ValueError, match=r"features are torch\.float32 and the weights of \w+ are torch\.float64: conv"
    ):
        up.double()(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        assert up.float()(x.bfloat16(), y).dtype == torch.bfloat16


@pytest.mark.parametrize("name", GUIDED)
def test_guided_upsamplers_check_their_widths(create, maps, name):
    up = create(name)
    x, y = maps(up)
    with pytest.raises(ValueError, match="the channels of features must be 32, got 8"):
        up(x[:, :8], y)
    with pytest.raises(ValueError, match=f"the channels of guidance must be {y.shape[1]}, got 2"):
        up(x, y[:, :2])
    with pytest.raises(ValueError, match="needs a guidance"):
        up(x)
    with pytest.raises(ValueError, match=r"features are torch.float32 and guidance is torch.float64"):
        up(x, y.double())


def test_size_without_guidance():
    x = torch.zeros(2, 3, 5, 6)
    with pytest.raises(ValueError, match="needs size"):
        resfu.Bilinear()(x)
    assert resfu.Bilinear(scale_factor=2)(x).shape == (2, 3, 10, 12)
    assert resfu.Nearest(scale_factor=1.5)(x).shape == (2, 3, 7, 9)
    assert resfu.Bicubic(scale_factor=3)(x).shape == (2, 3, 15, 18)
