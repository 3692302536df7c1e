"""TransUNet: sizes, the encoder against timm, the decoder by hand, the wiring of the slots, the loss, weights."""

from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import resfu
from resfu.hosts.dice_loss import dice_loss
from resfu.hosts.hybrid_vit import HybridViT
from resfu.hosts.slot import SlotFactory
from resfu.hosts.transunet import TransUNet, TransUNetHead
from resfu.upsamplers.jbu import JBU, StackJBU
from tests.support.tiny_networks import count, randomised, transunet

BASE = 105_277_081
PUBLISHED = "vit_base_r50_s16_224"


def test_the_size_is_that_of_the_original() -> None:
    """Upstream: 105.277081 million at 9 classes, 105.276356 at 4, 97.8886 of them in the encoder."""
    with torch.device("meta"):
        net = resfu.create_host("transunet-r50-vit-b16", upsampler="bilinear", num_classes=9)
        assert count(net) == BASE
        assert round(count(net.encoder) / 1e6, 4) == 97.8886
        assert count(resfu.create_host("transunet-r50-vit-b16", upsampler="bilinear", num_classes=4)) == 105_276_356


# A module has, for c channels and g of the guidance: deconv 4c^2 + c, pixelshuffle 4c^2 + 4c, carafe 64c + 57,764, fade
# 64 (c + g) + 14,489, sapa 34 (c + g) + 64, dysample 4c + 8 ("pl") or 64c + 32, a JBU 6,233 (the correction c^2 + c),
# resfu 34 (c + g) + 30,162, by Tables I and II. Here c = 512, 256, 128 and g = 512, 256, 64, in ReSFU 64 all along.
@pytest.mark.parametrize(
    ("upsampler", "options", "addition"),
    [
        ("nearest", {}, 0),
        ("bicubic", {}, 0),
        ("deconv", {}, 1_377_152),
        ("pixelshuffle", {}, 1_379_840),
        ("stack-jbu", {}, 3 * 6_233 + 128**2 + 128),
        ("carafe", {}, 230_636),
        ("fade", {}, 154_059),
        ("sapa", {}, 58_944),
        ("dysample", {"style": "pl"}, 3_608),
        ("dysample", {"style": "lp"}, 57_440),
        ("resfu", {}, 127_478),
        ("resfu", {"iterative": True}, 34 * (2 * 512 + 2 * 256 + 128 + 64) + 3 * 30_162),
    ],
)
def test_what_upsamplers_add(upsampler: str, options: dict[str, object], addition: int) -> None:
    with torch.device("meta"):
        net = TransUNet(upsampler, upsampler_options=options)
    assert count(net) - BASE == addition


@pytest.mark.parametrize("size", [224, 512])
def test_the_whole_network_at_both_sizes(size: int) -> None:
    with torch.device("meta"):
        assert TransUNet("bilinear")(torch.empty(1, 3, size, size)).shape == (1, 9, size, size)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80)])
def test_the_encoder_equals_that_of_timm(height: int, width: int) -> None:
    torch.manual_seed(0)
    options = {"num_classes": 0, "global_pool": "", "class_token": False, "depth": 1}
    other = randomised(timm.create_model(PUBLISHED, img_size=64, dynamic_img_size=True, **options)).eval()
    encoder = HybridViT(depth=1, image_size=64).eval()
    encoder.vit.load_state_dict(other.state_dict())
    images = torch.randn(2, 3, height, width)
    with torch.no_grad():
        maps = other.patch_embed.backbone.forward_intermediates(images, intermediates_only=True)
        tokens = other.forward_features(images)
        features = encoder(images)
    shapes = [(64, 2), (256, 4), (512, 8), (768, 16)]
    assert [tuple(f.shape[1:]) for f in features] == [(c, height // s, width // s) for c, s in shapes]
    for ours, theirs in zip(features[:3], maps[:3], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for y in range(height // 16):
        for x in range(width // 16):
            theirs = tokens[:, y * (width // 16) + x]
            torch.testing.assert_close(features[3][:, :, y, x], theirs, rtol=1e-4, atol=1e-5)


def original_maps(weights: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """The encoder of the published TransUNet as its layers read: maps at strides 2, 4, 8, and 16 before the tokens."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        w = weights[f"{name}.weight"]
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.var((1, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        return F.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2)

    def norm(x: Tensor, name: str, groups: int = 32, eps: float = 1e-6) -> Tensor:
        return F.group_norm(x, groups, weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    def unit(x: Tensor, name: str, stride: int) -> Tensor:
        y = norm(conv(x, f"{name}.conv1"), f"{name}.norm1").relu()
        y = norm(conv(y, f"{name}.conv2", stride), f"{name}.norm2").relu()
        y = norm(conv(y, f"{name}.conv3"), f"{name}.norm3")
        if f"{name}.downsample.conv.weight" in weights:
            x = conv(x, f"{name}.downsample.conv", stride)
            x = norm(x, f"{name}.downsample.norm", groups=x.shape[1], eps=1e-5)
        return (x + y).relu()

    maps = [norm(conv(images, "stem.conv", 2), "stem.norm").relu()]
    x = F.max_pool2d(maps[0], 3, stride=2)
    for stage, stride in enumerate((1, 2, 2)):
        for number in range(2):
            x = unit(x, f"stages.{stage}.blocks.{number}", stride if number == 0 else 1)
        maps.append(x)
    maps[1] = F.pad(maps[1], (0, 1, 0, 1))
    return maps


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 80)])
def test_the_form_of_transunet_is_that_of_the_original(height: int, width: int) -> None:
    torch.manual_seed(0)
    encoder = HybridViT((2, 2, 2), 64, 1, image_size=64, form="transunet").double().eval()
    resnet = randomised(encoder.vit.patch_embed.backbone)
    images = torch.rand(2, 3, height, width, dtype=torch.float64)
    with torch.no_grad():
        expected = original_maps(resnet.state_dict(), images)
        stride_16: list[Tensor] = []
        encoder.vit.patch_embed.proj.register_forward_pre_hook(lambda _, args: stride_16.append(args[0]))
        features = [*encoder(images)[:3], *stride_16]
    shapes = [(c, height // s, width // s) for c, s in ((64, 2), (256, 4), (512, 8), (1024, 16))]
    assert [tuple(level.shape[1:]) for level in features] == shapes
    for ours, theirs in zip(features, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_encoder_has_the_published_form() -> None:
    with torch.device("meta"):
        vit = HybridViT().vit
    assert [len(stage.blocks) for stage in vit.patch_embed.backbone.stages] == [3, 4, 9]
    assert (len(vit.blocks), vit.blocks[0].attn.num_heads, vit.blocks[0].mlp.fc1.out_features) == (12, 12, 3072)
    assert vit.pos_embed is not None
    assert vit.pos_embed.shape == (1, 196, 768)
    assert {m.eps for m in vit.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}
    rates = {name.split(".", 2)[-1]: m.p for name, m in vit.named_modules() if isinstance(m, nn.Dropout)}
    assert rates.pop("pos_drop") == rates.pop("mlp.drop1") == rates.pop("mlp.drop2") == 0.1
    assert set(rates.values()) == {0.0}
    assert {block.attn.attn_drop.p for block in vit.blocks} == {0.0}


def doubled(x: Tensor) -> Tensor:
    """x2 so that the corners keep their place, each axis a matrix."""
    for axis in (2, 3):
        n = x.shape[axis]
        place = torch.arange(2 * n, dtype=torch.double) * (n - 1) / (2 * n - 1)
        weights = (1 - (place[:, None] - torch.arange(n)).abs()).clamp(min=0)
        x = torch.movedim(torch.tensordot(weights, x, dims=([1], [axis])), 0, axis)
    return x


@pytest.mark.parametrize("options", [{}, {"iterative": True}])
def test_with_bilinear_the_decoder_is_the_original(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    head = TransUNetHead((4, 6, 8, 5), 3, SlotFactory("bilinear", options), channels=(12, 10, 8, 6)).eval().double()
    weights = randomised(head).state_dict()

    def block(x: Tensor, name: str) -> Tensor:
        x = F.conv2d(x, weights[f"{name}.conv.weight"], padding=1)
        mean, variance, scale, shift = (
            weights[f"{name}.norm.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp(min=0)

    features = [torch.randn(2, c, 32 // s, 48 // s) for c, s in ((4, 2), (6, 4), (8, 8), (5, 16))]
    features = [level.double() for level in features]
    x = block(features[3], "bottleneck")
    for step, skip in enumerate(features[2::-1]):
        x = torch.cat([doubled(x), skip], 1)
        x = block(block(x, f"blocks.{step}.0"), f"blocks.{step}.1")
    x = block(block(doubled(x), "last_block.0"), "last_block.1")
    expected = F.conv2d(x, weights["classifier.weight"], weights["classifier.bias"], padding=1)
    with torch.no_grad():
        logits = head(features, torch.randn(2, 3, 32, 48).double())
    torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)


def test_initialisation_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    head = TransUNetHead((64, 256, 512, 768), 9, SlotFactory("nearest"))
    convolutions = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 10
    for conv in convolutions:
        bound = (conv.in_channels * 9) ** -0.5
        assert 0.97 * bound < conv.weight.abs().max() <= bound


def calls(host: TransUNet, images: Tensor) -> tuple[list[Tensor], dict[str, tuple[nn.Module, Tensor, tuple]]]:
    """The encoder's maps, and what each slot's upsampler gets: itself, its guidance and its target size."""
    seen = {}
    for name, slot in host.head.slots.items():

        def record(module: nn.Module, args: tuple, kwargs: dict, name: str = name) -> None:
            guidance = args[1] if isinstance(args[1], Tensor) else args[1][0]
            seen[name] = (module, guidance, kwargs["size"])

        slot.upsampler.register_forward_pre_hook(record, with_kwargs=True)
    with torch.no_grad():
        features = host.encoder(images)
        host.head(features, images)
    return features, seen


def test_resfu_is_guided_by_c1_in_every_step() -> None:
    (c1, *_), seen = calls(transunet("resfu"), torch.randn(1, 3, 64, 96))
    assert list(seen) == ["c4", "c3", "c2"]
    for (_, guidance, size), step in zip(seen.values(), (4, 2, 1), strict=True):
        assert size == (32 // step, 48 // step)
        torch.testing.assert_close(guidance, F.avg_pool2d(c1, step))


@pytest.mark.parametrize(("upsampler", "options"), [("sapa", {}), ("resfu", {"iterative": True})])
def test_the_others_are_guided_by_the_map_of_the_step(upsampler: str, options: dict[str, object]) -> None:
    (c1, c2, c3, _), seen = calls(transunet(upsampler, upsampler_options=options), torch.randn(1, 3, 64, 96))
    for (_, guidance, size), level in zip(seen.values(), (c3, c2, c1), strict=True):
        assert size == level.shape[-2:]
        torch.testing.assert_close(guidance, level, rtol=0, atol=0)


def test_stack_jbu_is_one_chain_with_one_correction() -> None:
    images = torch.randn(1, 3, 64, 96)
    _, seen = calls(transunet("stack-jbu"), images)
    assert [type(module) for module, _, _ in seen.values()] == [JBU, JBU, StackJBU]
    for (_, guidance, _), stride in zip(seen.values(), (8, 4, 2), strict=True):
        torch.testing.assert_close(guidance, F.avg_pool2d(images, stride))


def test_images_are_padded_to_a_multiple_of_16_and_not_normalised() -> None:
    host = transunet("bilinear")
    images = torch.rand(1, 3, 33, 70)
    continued = F.pad(images, (0, 10, 0, 15), mode="replicate")
    with torch.no_grad():
        torch.testing.assert_close(host(images), host(continued)[..., :33, :70], rtol=0, atol=0)
    assert (host.mean, host.std) == ((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize("upsampler", list(resfu.UPSAMPLERS))
def test_the_smallest_images(upsampler: str) -> None:
    host = transunet(upsampler)
    with torch.no_grad():
        assert host(torch.randn(1, 3, 1, 19)).isfinite().all()


def test_training_minimises_half_of_both_losses() -> None:
    host = transunet("bilinear")
    images, label = torch.rand(2, 3, 40, 48), torch.randint(4, (2, 40, 48))
    label[0, :5] = 255
    cross_entropy: Callable[..., Tensor] = nn.CrossEntropyLoss(ignore_index=255)
    with torch.no_grad():
        losses = host.losses(images, label, cross_entropy)
        logits = host(images)
        assert list(losses) == ["cross_entropy", "dice"]
        torch.testing.assert_close(losses["cross_entropy"], 0.5 * cross_entropy(logits, label))
        torch.testing.assert_close(losses["dice"], 0.5 * dice_loss(logits, label))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of 64, got 100"):
        TransUNet(width=100)
    for size in (0, 100):
        with pytest.raises(ValueError, match=f"image_size must be a multiple of 16, got {size}"):
            TransUNet(image_size=size)
