"""Which call is which, if passes differ: in Python the line of the code tells, in a graph the order of the calls."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from resfu import load_upgraded, save_upgraded, upgrade


class Matching(nn.Module):
    """Doubles its maps, and interpolates once more if a size was odd, as many U-Nets do."""

    def __init__(self):
        super().__init__()
        self.e0, self.e1, self.e2, self.head = (
            nn.Conv2d(3, 8, 1),
            nn.Conv2d(8, 8, 1),
            nn.Conv2d(8, 8, 1),
            nn.Conv2d(8, 2, 1),
        )

    def match(self, x, like):
        if x.shape[-2:] != like.shape[-2:]:
            x = F.interpolate(x, size=like.shape[-2:], mode="bilinear")
        return x

    def forward(self, image):
        fine = self.e0(image)
        middle = self.e1(F.max_pool2d(fine, 2))
        x = F.interpolate(self.e2(F.max_pool2d(middle, 2)), scale_factor=2, mode="bilinear")
        x = self.match(x, middle) + middle
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.head(self.match(x, fine) + fine)


# The calls of a pass by the size of the image.
CALLS = {
    32: ["double", "double again"],
    33: ["double", "double again", "match"],
    34: ["double", "match middle", "double again"],
}


def ran(network):
    """The numbers of the upsamplers that run, from now on."""
    found = []
    for number, part in network.resfu.items():
        part.register_forward_hook(lambda module, args, out, number=int(number): found.append(number))
    return found


@pytest.mark.parametrize("seen", CALLS)
@pytest.mark.parametrize("training", [False, True])
def test_a_call_that_only_some_sizes_need(seen, training, tmp_path):
    torch.manual_seed(0)
    net = Matching().train(training)
    better = upgrade(net, "resfu", torch.rand(2, 3, seen, seen))
    save_upgraded(better, tmp_path)
    for network in (better, load_upgraded(tmp_path, Matching().train(training))):
        for size, calls in CALLS.items():
            image, numbers = torch.rand(2, 3, size, size), ran(network)
            torch.testing.assert_close(network(image), better(image) if network is not better else net(image))
            assert [CALLS[seen][number] for number in numbers] == [call for call in calls if call in CALLS[seen]]


def test_after_an_edit_of_the_code_the_order_tells(tmp_path):
    image = torch.rand(2, 3, 33, 33)
    better = upgrade(Matching(), "resfu", image)
    save_upgraded(better, tmp_path)
    plan = json.loads((tmp_path / "upgrade.json").read_text())
    for call in plan["owners"][""]:
        for position in call["spot"][1]:
            position[0] += 1000
    (tmp_path / "upgrade.json").write_text(json.dumps(plan))
    loaded = load_upgraded(tmp_path, Matching())
    assert torch.equal(loaded(image), better(image))
    with pytest.raises(ValueError, match=r"the network resampled 2 of the 3 maps that resfu\.upgrade saw"):
        loaded(torch.rand(2, 3, 32, 32))


class Levels(nn.Module):
    """Upsamples in a loop, whose length the caller chooses, in a part that may be checkpointed."""

    def __init__(self):
        super().__init__()
        self.down, self.head, self.checkpointed = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 2, 1), False

    def up(self, x, levels):
        for _ in range(levels):
            x = F.interpolate(x, scale_factor=2, mode="bilinear")
        return x

    def forward(self, image, levels=2):
        x = self.down(image)
        x = checkpoint(self.up, x, levels, use_reentrant=False) if self.checkpointed else self.up(x, levels)
        return self.head(x)


@pytest.mark.parametrize(
    ("levels", "message"), [(1, "resampled 1 of the 2 maps"), (3, "more maps in this pass than the 2")]
)
def test_a_loop_keeps_its_length(levels, message):
    image = torch.rand(2, 3, 32, 32)
    better = upgrade(Levels(), "carafe", image)
    assert better(image).shape == (2, 2, 32, 32)
    with pytest.raises(ValueError, match=message):
        better(image, levels)
    assert better(image).shape == (2, 2, 32, 32)


class Beside(Levels):
    """A place, and a loop beside it."""

    def forward(self, image, levels=2):
        x = F.interpolate(self.down(image), size=image.shape[-2:], mode="bilinear")
        return self.head(x), self.up(x, levels)


def test_a_loop_of_calls_that_stay_may_have_any_length():
    image = torch.rand(2, 3, 32, 32)
    better = upgrade(Beside().eval(), "carafe", image, where="#0")
    for levels in (0, 1, 3):
        assert better(image, levels)[1].shape == (2, 8, 32 * 2**levels, 32 * 2**levels)
    with pytest.raises(ValueError, match="more maps in this pass than the 2"):
        upgrade(Beside().eval(), "carafe", image, where=["#0", "#1"])(image, 3)


def test_a_part_that_is_checkpointed_later_is_the_same_part():
    net, image = Levels().eval(), torch.rand(2, 3, 32, 32)
    better = upgrade(net, "carafe", image)
    numbers = ran(better)
    better.checkpointed = True
    with torch.no_grad():
        torch.testing.assert_close(better(image), net(image))
    assert numbers == [0, 1]


def test_a_part_that_is_no_longer_checkpointed_is_the_same_part():
    net, image = Levels().eval(), torch.rand(2, 3, 32, 32)
    net.checkpointed = True
    better = upgrade(net, "carafe", image)
    better.train()
    numbers = ran(better)
    better(image)
    better.checkpointed = False
    better(image)
    assert numbers == [0, 1, 0, 1]


class Extra(Levels):
    """May run its part once more before, in a checkpoint: then the order misleads."""

    def forward(self, image, more=False):
        x = self.down(image)
        if more:
            x = x + checkpoint(self.up, x, 1, use_reentrant=False)[..., ::2, ::2]
        return self.head(self.up(x, 1))


def test_no_upsampler_runs_twice_in_a_pass():
    image = torch.rand(2, 3, 32, 32)
    better = upgrade(Extra().eval(), "carafe", image)
    with torch.no_grad(), pytest.raises(ValueError, match="more maps in this pass than the 1 that"):
        better(image, more=True)
    assert better(image).shape == (2, 2, 16, 16)


class Refining(Levels):
    """Refines in evaluation mode, and in training mode on request."""

    def forward(self, image, refine=False):
        x = F.interpolate(self.down(image), scale_factor=2, mode="bilinear")
        if refine or not self.training:
            x = F.interpolate(x, scale_factor=2, mode="bilinear")
        return self.head(x)


def test_a_call_that_was_seen_in_the_other_mode():
    image = torch.rand(2, 3, 32, 32)
    with pytest.warns(UserWarning, match="#1 is not upsampled by the same call in training mode"):
        better = upgrade(Refining().eval(), "carafe", image).train()
    numbers = ran(better)
    better(image)
    better(image, refine=True)
    assert numbers == [0, 0, 1]
