import pytest
import torch
from torch import nn

from resfu.hosts import create_host
from resfu.upsamplers import Upsampler, create_upsampler
from resfu.visualize.figures import choose_call, slot_calls
from resfu.visualize.recorder import recorded


@pytest.mark.parametrize(("upsampler", "names"), [("resfu", ["slot.upsampler"]), ("stack-jbu", ["slot.upsampler"])])
def test_slots_and_whole_upsamplers_are_recorded(upsampler, names):
    host = create_host("efficientnet-lite0", upsampler, num_classes=2).eval()
    with torch.no_grad(), recorded(host) as calls:
        host(torch.rand(1, 3, 32, 64))
    assert [call.name for call in calls] == [*(f"head.{name}" for name in names), "head.slot"]
    inner, slot = calls
    assert inner.module is host.head.slot.upsampler
    assert inner.output is slot.output
    assert inner.features is slot.features
    assert inner.size == slot.size == tuple(slot.output.shape[-2:])
    assert inner.guidance is (slot.inputs["images"] if upsampler == "stack-jbu" else slot.inputs["guides"][-1])
    assert not any(module._forward_hooks for module in host.modules())


def test_hooks_go_when_the_network_fails():
    host = create_host("efficientnet-lite0", "sapa", num_classes=2)
    with pytest.raises(ValueError, match="images must be"), recorded(host):
        host(torch.zeros(3))
    assert not any(module._forward_hooks for module in host.modules())


class Own(nn.Module):
    """A network of one's own around a plain upsampler."""

    stride = 4

    def __init__(self):
        super().__init__()
        self.up = create_upsampler("bilinear")

    def upsampled_features(self, images):
        low = nn.functional.avg_pool2d(nn.functional.pad(images, (0, 4, 0, 0)), 8)
        return {"only": (low, self.up(low, size=(2 * low.shape[-2], 2 * low.shape[-1])))}


def test_a_network_without_slots_shows_its_features():
    host = Own()
    call = choose_call(slot_calls(host, torch.rand(3, 16, 20)))
    assert tuple(call.output.shape) == (1, 3, 4, 6)
    assert call.frame.covered == (16.0, 24.0)
    assert call.resfu == ()
    with recorded(host) as calls:
        host.upsampled_features(torch.rand(1, 3, 16, 16))
    assert isinstance(calls[0].module, Upsampler)
    assert calls[0].guidance is None
