"""A start gives an interpolation at step 0, and every parameter learns within two steps."""

import pytest
import torch
import torch.nn.functional as F

from resfu import UPSAMPLERS, create_upsampler
from resfu.ops import reassemble
from resfu.upsamplers.starts import PUBLISHED, STARTS, interpolated

STARTABLE = [name for name, method in UPSAMPLERS.items() if method.startable]


def build(name, start, **options):
    torch.manual_seed(0)
    return create_upsampler(name, channels=8, guidance_channels=6, scale_factor=2, start=start, **options)


@pytest.fixture
def maps():
    torch.manual_seed(1)
    return torch.randn(2, 8, 5, 7), torch.randn(2, 6, 10, 14)


def test_the_methods_that_have_a_start():
    known = ["carafe", "fade", "sapa", "dysample", "resfu"]
    assert [name for name in STARTABLE if name in known] == known
    assert "resfu-image" in STARTABLE


@pytest.mark.parametrize("start", [start for start in STARTS if start != PUBLISHED])
@pytest.mark.parametrize("name", STARTABLE)
def test_the_first_result_is_the_interpolation(name, start, maps):
    mode, corners, _ = start.partition("-corners")
    options = {} if mode.startswith("nearest") else {"align_corners": bool(corners)}
    expected = F.interpolate(maps[0], size=(10, 14), mode=mode, **options)
    out = build(name, start)(*maps)
    # DySample and the bilinear ReSFU interpolate by their own arithmetic; the others add zeros to PyTorch's.
    if name == "dysample" or (name in ("resfu", "resfu-image") and start == "bilinear"):
        assert torch.allclose(out, expected, rtol=0, atol=4e-6)
    else:
        assert torch.equal(out, expected)


@pytest.mark.parametrize("start", [start for start in STARTS if start != PUBLISHED])
@pytest.mark.parametrize("name", STARTABLE)
def test_the_first_result_at_a_size_that_is_cropped(name, start, maps):
    guidance = maps[1][:, :, :9, :13].contiguous()
    expected = interpolated(maps[0], (9, 13), start)
    torch.testing.assert_close(build(name, start)(maps[0], guidance), expected, rtol=0, atol=4e-6)


@pytest.mark.parametrize("name", ["carafe", "fade", "dysample"])
def test_what_is_learned_is_cropped(name, maps):
    up = build(name, "bicubic").double()
    for parameter in up.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    features, guidance = (each.double() for each in maps)
    learned = up(features, guidance) - interpolated(features, (10, 14), "bicubic")
    found = up(features, guidance[:, :, :9, :13], size=(9, 13)) - interpolated(features, (9, 13), "bicubic")
    if name == "fade":  # its guidance is extended by the last row and column, which it sees
        learned, found = learned[:, :, :6, :10], found[:, :, :6, :10]
    assert learned.abs().max() > 0.1
    torch.testing.assert_close(found, learned[:, :, : found.shape[2], : found.shape[3]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", STARTABLE)
def test_gradients_reach_every_parameter_within_two_steps(name, maps):
    up = build(name, "bilinear")
    target = torch.randn(2, 8, 10, 14)
    optimiser = torch.optim.SGD(up.parameters(), 0.5)
    for step in range(2):
        optimiser.zero_grad()
        (up(*maps) - target).square().mean().backward()
        reached = [parameter for parameter in up.parameters() if parameter.grad.abs().sum() > 0]
        assert step or reached
        optimiser.step()
    assert len(reached) == len(list(up.parameters()))


@pytest.mark.parametrize("name", STARTABLE)
def test_the_published_form_is_the_default(name, maps):
    torch.manual_seed(0)
    default = create_upsampler(name, channels=8, guidance_channels=6, scale_factor=2)
    assert torch.equal(default(*maps), build(name, PUBLISHED)(*maps))
    assert default.start == PUBLISHED


@pytest.mark.parametrize(
    "options", [{"alignment": "semantic"}, {"similarity": "concat"}, {"dilation": 2}, {"neighbours": "coarse"}]
)
def test_the_ablations_of_resfu_start_as_well(options, maps):
    out = build("resfu", "bilinear", **options)(*maps)
    expected = F.interpolate(maps[0], size=(10, 14), mode="bilinear", align_corners=False)
    assert torch.allclose(out, expected, rtol=0, atol=4e-6)


def test_constants_stay_constant(maps):
    up = build("resfu", "bilinear")
    torch.nn.init.normal_(up.semantic_similarity.score.weight)
    ones = up(torch.ones(1, 8, 5, 7), maps[1][:1])
    assert torch.allclose(ones, torch.ones_like(ones), atol=1e-5)
    kernel = up.explain(maps[0], maps[1])["kernel"]
    assert torch.allclose(kernel.sum(1), torch.ones(2, 10, 14), atol=1e-5)
    assert kernel.min() < 0  # it may sharpen


def test_starts_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="start must be one of published, nearest"):
        build("carafe", "zero")
    with pytest.raises(ValueError, match="needs a learned similarity"):
        build("resfu", "bilinear", similarity="inner_product")
    with pytest.raises(ValueError, match="needs gated=False"):
        create_upsampler("fade", channels=8, guidance_channels=8, gated=True, start="nearest")


def test_small_scores_count_in_half_precision():
    """bf16 has steps of 1 / 32 around the head start."""
    features, scores = torch.randn(1, 4, 4, 4), torch.zeros(1, 9, 8, 8)
    scores[:, 4] = 0.01
    outs = [
        reassemble(features, scores.to(dtype), backend="cpu", softmax=True, from_centre=True)
        for dtype in (torch.bfloat16, torch.float64)
    ]
    torch.testing.assert_close(outs[0].double(), outs[1].double(), rtol=0, atol=2e-5)
