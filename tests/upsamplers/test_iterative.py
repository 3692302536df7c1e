"""Several steps of upsampling, each with its own guidance."""

import pytest
import torch

import resfu
from resfu.upsamplers import Iterative


def test_each_step_goes_as_far_as_its_guidance():
    up = Iterative(resfu.ReSFU(8, 8) for _ in range(3)).double()
    x = torch.randn(2, 8, 3, 4, dtype=torch.double)
    guides = [torch.randn(2, 8, *size, dtype=torch.double) for size in ((5, 8), (11, 16), (24, 32))]
    want = x
    for step, guide in zip(up.steps, guides, strict=True):
        want = step(want, guide)
    torch.testing.assert_close(up(x, guides), want)
    assert up(x, guides, size=(23, 31)).shape == (2, 8, 23, 31)


def test_one_guidance_is_averaged_down_for_the_earlier_steps():
    up = Iterative(resfu.ReSFU(8, 4) for _ in range(2)).double()
    x, y = torch.randn(1, 8, 3, 4, dtype=torch.double), torch.randn(1, 4, 12, 16, dtype=torch.double)
    half = torch.nn.functional.avg_pool2d(y, 2)
    torch.testing.assert_close(up(x, y), up(x, [half, y]))


def test_without_guidance_the_steps_double():
    up = Iterative([resfu.Bilinear(), resfu.Nearest(scale_factor=3)])
    assert up(torch.zeros(1, 2, 4, 5)).shape == (1, 2, 24, 30)
    assert up(torch.zeros(1, 2, 4, 5), size=(17, 21)).shape == (1, 2, 17, 21)


@pytest.mark.parametrize("name", ["carafe", "fade", "a2u"])
def test_steps_of_whole_ratios_go_through_the_sizes_of_an_odd_encoder(create, maps, name):
    up = Iterative(create(name) for _ in range(3)).double()  # 41 x 27 -> 21 x 14 -> 11 x 7 -> 6 x 4
    x, y = maps(up.steps[0], low=(6, 4), high=(41, 27), dtype=torch.double)
    coarse = [torch.nn.functional.adaptive_avg_pool2d(y, size) for size in ((11, 7), (21, 14))]
    want = x
    for step, guide in zip(up.steps, [*coarse, y], strict=True):
        want = step(want, guide)
    assert want.shape[-2:] == (41, 27)
    torch.testing.assert_close(up(x, y), want)
    torch.testing.assert_close(up(x, [*coarse, y]), want)
    if name == "carafe":
        torch.testing.assert_close(up(x, size=(41, 27)), want)


def test_bad_chains_are_named():
    with pytest.raises(ValueError, match="at least one step"):
        Iterative([])
    up = Iterative([resfu.ReSFU(8, 8)])
    x, guide = torch.zeros(1, 8, 2, 2), torch.zeros(1, 8, 4, 4)
    with pytest.raises(ValueError, match="every step needs a guidance, coarse to fine: 1, got 2"):
        up(x, [guide] * 2)
    with pytest.raises(ValueError, match=r"step 1 must be one of resfu\.UPSAMPLERS, got Upsample"):
        Iterative(step for step in (resfu.Bilinear(), torch.nn.Upsample(scale_factor=2)))  # not seen by type checks
    call = getattr(Iterative.forward, "__wrapped__", Iterative.forward)
    with pytest.raises(ValueError, match=r"guidances must be a tensor or a list of tensors, got int"):
        call(up, x, 3)
    with pytest.raises(ValueError, match=r"the guidance of step 0 must be \[B, c, H, W\], got the shape \[8, 4, 4\]"):
        call(up, x, [guide[0]])
    with pytest.raises(ValueError, match=r"size must be \(H, W\), got 4"):
        call(Iterative([resfu.CARAFE(8)]), x, size=4)


def test_a_step_without_guidance_takes_none():
    up = Iterative([resfu.Bilinear(), resfu.ReSFU(8, 4)])
    x, guide = torch.randn(1, 8, 3, 4), torch.randn(1, 4, 12, 16)
    torch.testing.assert_close(up(x, [None, guide]), up.steps[1](up.steps[0](x, size=(6, 8)), guide))
    with pytest.raises(ValueError, match="ReSFU needs a guidance"):
        up(x, [None, None])
