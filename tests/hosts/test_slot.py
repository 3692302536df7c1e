"""How upsamplers are put into a network: in one step or several, with which guidance."""

import pytest
import torch

import resfu
from resfu.hosts.slot import Slot, SlotFactory
from resfu.upsamplers import Iterative


@pytest.mark.parametrize(
    ("upsampler", "options", "addition"),
    [
        ("nearest", {}, 0),
        ("bicubic", {}, 0),
        ("deconv", {}, 1_574_400),
        ("pixelshuffle", {}, 1_579_008),
        ("stack-jbu", {}, 234_774),
        ("carafe", {}, 444_888),
        ("indexnet", {}, 12_601_344),
        ("fade", {}, 283_542),
        ("sapa", {}, 104_832),
        ("dysample", {"style": "pl"}, 6_192),
        ("resfu", {}, 142_710),
        ("resfu", {"iterative": True}, 2 * 142_710),
    ],
)
def test_segformer_gains_the_published_parameters(upsampler, options, addition):
    """Table III of arXiv 2407.02283: six steps of x2 for most, three modules for ReSFU."""
    with torch.device("meta"):
        net = resfu.create_host("segformer-mit-b1", upsampler=upsampler, upsampler_options=options)
    assert sum(p.numel() for p in net.parameters()) - 13_716_822 == addition


def test_steps_are_guided_by_the_levels_in_turn():
    slot = Slot("sapa", 32, 32, 4)
    assert isinstance(slot.upsampler, Iterative)
    assert slot.needs_guides
    assert not slot.exact
    x, image = torch.randn(1, 32, 3, 3), torch.randn(1, 3, 48, 48)
    middle, fine = torch.randn(1, 32, 5, 6), torch.randn(1, 32, 11, 12)
    want = slot.upsampler.steps[1](slot.upsampler.steps[0](x, middle), fine)
    torch.testing.assert_close(slot(x, [middle, fine], (11, 12), image), want)
    pooled = torch.nn.functional.adaptive_avg_pool2d(fine, (6, 6))
    want = slot.upsampler.steps[1](slot.upsampler.steps[0](x, pooled), fine)
    torch.testing.assert_close(slot(x, [fine], (11, 12), image), want)


def test_the_image_guides_stack_jbu():
    slot = Slot("stack-jbu", 8, 32, 4).eval()
    assert not slot.needs_guides
    assert slot.exact
    x, image = torch.randn(1, 8, 4, 5), torch.randn(1, 3, 64, 80)
    torch.testing.assert_close(slot(x, [], (16, 20), image), slot.upsampler(x, image))
    assert slot.upsampler.guidance_channels == 3


@pytest.mark.parametrize("upsampler", list(resfu.UPSAMPLERS))
def test_every_upsampler_also_goes_the_other_way(upsampler):
    """Direct instead of in steps, or the reverse, as far as the method can."""
    direct = not isinstance(Slot(upsampler, 32, 32, 4).upsampler, Iterative)
    if resfu.UPSAMPLERS[upsampler].ratios == "2":
        with pytest.raises(ValueError, match="the ratio 2 alone, got scale_factor = 4: chain steps"):
            Slot(upsampler, 32, 32, 4, {"iterative": direct})
        return
    slot = Slot(upsampler, 32, 32, 4, {"iterative": direct}).eval()
    x, guide, image = torch.randn(1, 32, 4, 5), torch.randn(1, 32, 16, 20), torch.randn(1, 3, 64, 80)
    assert slot(x, [guide], (16, 20), image).shape == (1, 32, 16, 20)


def test_what_the_network_sets_is_refused():
    with pytest.raises(ValueError, match="must not hold channels"):
        Slot("resfu", 8, 8, 2, {"channels": 4})


@pytest.mark.parametrize("upsampler", list(resfu.UPSAMPLERS))
def test_slots_draw_from_a_stream_of_their_own(upsampler):
    """What a network makes before, between and after its slots starts the same, whatever they draw."""
    torch.manual_seed(0)
    want = [torch.randn(3) for _ in range(3)]
    torch.manual_seed(0)
    create_slot = SlotFactory(upsampler)
    got = [torch.randn(3)]
    first = create_slot(32, 32, 2)
    got.append(torch.randn(3))
    second, guidance = create_slot(32, 32, 2), create_slot.image_guidance(4, 32)
    got.append(torch.randn(3))
    assert all(map(torch.equal, got, want))
    assert (guidance is not None) == first.needs_guides
    pairs = zip(first.named_parameters(), second.parameters(), strict=True)
    # Two slots are two draws; what starts from a constant, or from AnyUp's table of frequencies, is the same in both.
    drawn = [(a, b) for (name, a), b in pairs if a.dim() > 1 and a.std() > 0 and not name.endswith("frequencies")]
    assert all(not torch.equal(a, b) for a, b in drawn)


def test_the_same_seed_gives_the_same_slots():
    slots = []
    for _ in range(2):
        torch.manual_seed(3)
        slots.append(SlotFactory("resfu", {"kernel_size": 5})(32, 32, 2))
    assert all(map(torch.equal, *(slot.parameters() for slot in slots)))
    assert slots[0].upsampler.kernel_size == 5
