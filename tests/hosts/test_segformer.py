"""SegFormer: published sizes, the head's arithmetic, the wiring of the slots."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import resfu
from resfu.hosts.segformer import SegFormer, SegFormerHead
from resfu.hosts.slot import SlotFactory


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("variant", "expected"), [("b1", 13_716_822), ("b5", 82_008_406)])
def test_published_parameters(variant: str, expected: int) -> None:
    with torch.device("meta"):
        assert count(resfu.create_host(f"segformer-mit-{variant}", upsampler="bilinear")) == expected
        assert count(resfu.create_host(f"segformer-mit-{variant}", upsampler="resfu")) == expected + 142_710


# Millions of parameters of the encoders, Table 1a of Xie et al., SegFormer, NeurIPS 2021.
@pytest.mark.parametrize(
    ("variant", "millions"), [("b1", 13.1), ("b2", 24.2), ("b3", 44.0), ("b4", 60.8), ("b5", 81.4)]
)
def test_published_encoder_parameters(variant: str, millions: float) -> None:
    with torch.device("meta"):
        encoder = resfu.create_host(f"segformer-mit-{variant}", upsampler="bilinear").encoder
    assert count(encoder) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.fixture
def host() -> SegFormer:
    torch.manual_seed(0)
    return SegFormer("b0", upsampler="resfu", num_classes=4).eval()


def test_encoder_sizes_round_up(host: SegFormer) -> None:
    with torch.no_grad():
        features = host.encoder(torch.randn(1, 3, 500, 683))
    assert [tuple(f.shape[1:]) for f in features] == [(32, 125, 171), (64, 63, 86), (160, 32, 43), (256, 16, 22)]


def test_layer_norms_have_the_published_epsilon(host: SegFormer) -> None:
    norms = [module for module in host.encoder.modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) > 20
    assert {norm.eps for norm in norms} == {1e-6}


def test_the_head_computes_what_the_configuration_says() -> None:
    torch.manual_seed(0)
    head = SegFormerHead((3, 4, 5, 6), num_classes=7, create_slot=SlotFactory("bilinear"), channels=8).eval()
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)  # pyright: ignore[reportArgumentType]
    sizes = ((17, 9), (9, 5), (5, 3), (3, 2))
    features = [torch.randn(2, 3 + i, *size) for i, size in enumerate(sizes)]
    weights = head.state_dict()

    def conv_norm_relu(x: Tensor, name: str) -> Tensor:
        y = torch.einsum("oi,bihw->bohw", weights[f"{name}.conv.weight"][..., 0, 0], x)
        scale = weights[f"{name}.norm.weight"] / (weights[f"{name}.norm.running_var"] + 1e-5).sqrt()
        shift = weights[f"{name}.norm.bias"] - weights[f"{name}.norm.running_mean"] * scale
        return (y * scale[:, None, None] + shift[:, None, None]).clamp(min=0)

    levels = [conv_norm_relu(f, f"projections.{i}") for i, f in enumerate(features)]
    levels = [F.interpolate(level, size=sizes[0], mode="bilinear", align_corners=False) for level in levels]
    fused = conv_norm_relu(torch.cat(levels, 1), "fusion")
    expected = torch.einsum("oi,bihw->bohw", weights["classifier.weight"][..., 0, 0], fused)
    with torch.no_grad():
        torch.testing.assert_close(head(features, torch.empty(0)), expected, rtol=1e-4, atol=1e-5)


def test_every_slot_is_guided_by_projected_c1(host: SegFormer) -> None:
    seen: dict[str, tuple[Tensor, Tensor, tuple[int, int]]] = {}
    for name, slot in host.head.slots.items():

        def record(_: nn.Module, args: tuple[Tensor, Tensor], kwargs: dict, name: str = name) -> None:
            seen[name] = (*args, kwargs["size"])

        slot.upsampler.register_forward_pre_hook(record, with_kwargs=True)
    images = torch.randn(1, 3, 100, 140)
    with torch.no_grad():
        host(images)
        levels = [project(f) for project, f in zip(host.head.projections, host.encoder(images), strict=True)]
    assert list(seen) == ["c2", "c3", "c4"]
    for level, (features, guidance, size) in zip(levels[1:], seen.values(), strict=True):
        torch.testing.assert_close(features, level)
        torch.testing.assert_close(guidance, levels[0])
        assert size == (25, 35)


def test_published_initialisation() -> None:
    torch.manual_seed(0)
    head = SegFormerHead((64, 128, 320, 512), num_classes=150, create_slot=SlotFactory("nearest"))
    assert head.classifier.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert head.classifier.bias is not None
    assert head.classifier.bias.abs().max() == 0
    for block in (*head.projections, head.fusion):
        assert block.conv.bias is None
        assert block.conv.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert head.dropout.p == 0.1
