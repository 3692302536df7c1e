from contextlib import nullcontext

import pytest
import torch

import resfu
from resfu.compare.measure import measure_cost


@pytest.mark.parametrize("host", ["efficientnet-lite0", "segformer-mit-b0"])
def test_the_upsamplers_part_is_what_sets_two_networks_apart(host):
    images = torch.rand(1, 3, 64, 64)
    cost = {}
    for name in ("nearest", "bilinear"):
        network = resfu.create_host(host, name, num_classes=3)
        cost[name] = measure_cost(network, images, nullcontext, repeats=2)
        assert cost[name]["parameters"] == sum(p.numel() for p in network.parameters())
        assert cost[name]["upsampler_parameters"] == 0
        assert 0 < cost[name]["upsampler_ms"] < cost[name]["host_ms"] * 2
        assert cost[name]["peak_bytes"] > 0
    gap = cost["bilinear"]["multiply_accumulates"] - cost["nearest"]["multiply_accumulates"]
    assert gap == cost["bilinear"]["upsampler_multiply_accumulates"] > 0
    assert cost["nearest"]["upsampler_multiply_accumulates"] == 0


def test_measuring_ends_in_evaluation_mode_without_hooks():
    network = resfu.create_host("efficientnet-lite0", "resfu", num_classes=3)
    cost = measure_cost(network, torch.rand(1, 3, 32, 32), nullcontext, repeats=1)
    assert not network.training
    assert not any(module._forward_hooks for module in network.modules())
    own = sum(p.numel() for p in network.head.slot.parameters())
    assert cost["upsampler_parameters"] == own


def test_an_auxiliary_classifier_is_not_counted():
    network = resfu.create_host("efficientnet-lite0", "nearest", num_classes=3)
    alone = measure_cost(network, torch.rand(1, 3, 32, 32), nullcontext, repeats=1)["parameters"]
    network.head.auxiliary = torch.nn.Conv2d(8, 3, 1)
    assert measure_cost(network, torch.rand(1, 3, 32, 32), nullcontext, repeats=1)["parameters"] == alone
