"""MaskFormer: published sizes, transformers' numbers, the wiring of the slots, the set loss."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DetrConfig, MaskFormerConfig, MaskFormerForInstanceSegmentation, SwinConfig
from transformers.models.maskformer.modeling_maskformer import MaskFormerPixelDecoder

import resfu
from resfu.hosts.maskformer import MaskFormer
from resfu.hosts.pixel_decoder import PixelDecoder
from resfu.hosts.slot import SlotFactory
from resfu.hosts.swin import SwinVariant
from resfu.upsamplers.jbu import JBU, StackJBU

TINY = SwinVariant(8, (2, 1, 1, 1), (1, 1, 2, 2), window_size=4)
CLASSES, QUERIES, LAYERS = 4, 6, 3


def build(upsampler: str = "resfu", variant: SwinVariant = TINY, **options: object) -> MaskFormer:
    torch.manual_seed(0)
    return MaskFormer(
        variant, upsampler, CLASSES, channels=32, num_queries=QUERIES, decoder_layers=LAYERS, **options
    ).eval()


def transformers_network(
    variant: SwinVariant, channels: int, num_classes: int, num_queries: int, decoder_layers: int
) -> MaskFormerForInstanceSegmentation:
    backbone = SwinConfig(
        image_size=384,
        embed_dim=variant.embed_dim,
        depths=variant.depths,
        num_heads=variant.num_heads,
        window_size=variant.window_size,
    )
    decoder = DetrConfig(
        use_timm_backbone=False,
        encoder_layers=0,
        decoder_layers=decoder_layers,
        d_model=channels,
        decoder_ffn_dim=8 * channels,
        num_queries=num_queries,
    )
    return MaskFormerForInstanceSegmentation(
        MaskFormerConfig(
            backbone_config=backbone,
            decoder_config=decoder,
            fpn_feature_size=channels,
            mask_feature_size=channels,
            num_labels=num_classes,
        )
    ).eval()


def randomised(network: nn.Module) -> nn.Module:
    """Biases, norms and position tables that start from 0 or 1 would hide mistakes."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("variant", "expected", "unused"), [("b", 101_829_391, 2_048), ("l", 211_575_627, 3_072)])
def test_published_parameters(variant: str, expected: int, unused: int) -> None:
    """The published 101.83 M and 211.58 M; transformers also has a LayerNorm that nothing uses."""
    from resfu.hosts.swin import VARIANTS

    with torch.device("meta"):
        assert count(resfu.create_host(f"maskformer-swin-{variant}", upsampler="nearest")) == expected
        whole = transformers_network(VARIANTS[variant], 256, 150, 100, 6)
    assert count(whole) == expected + unused


@pytest.mark.parametrize(
    ("upsampler", "options", "addition"),
    [
        ("bilinear", {}, 0),
        ("stack-jbu", {}, 84_491),
        ("carafe", {}, 222_444),
        ("fade", {}, 141_771),
        ("sapa", {}, 52_416),
        ("dysample", {"style": "pl"}, 3_096),
        ("resfu", {}, 142_710),
    ],
)
@pytest.mark.parametrize(("variant", "base"), [("b", 101_829_391), ("l", 211_575_627)])
def test_upsamplers_add_the_published_parameters(
    variant: str, base: int, upsampler: str, options: dict[str, object], addition: int
) -> None:
    """Table IV of arXiv 2407.02283, to the unit."""
    with torch.device("meta"):
        net = resfu.create_host(f"maskformer-swin-{variant}", upsampler=upsampler, upsampler_options=options)
    assert count(net) - base == addition


def test_with_nearest_the_pixel_decoder_is_that_of_transformers_to_the_bit() -> None:
    torch.manual_seed(0)
    other = MaskFormerPixelDecoder(in_features=20, lateral_widths=[5, 6, 7], feature_size=32, mask_feature_size=32)
    ours = PixelDecoder((5, 6, 7, 20), SlotFactory("nearest"), channels=32)
    ours.load_state_dict(other.state_dict())
    sizes = ((25, 37), (13, 19), (7, 10), (4, 5))
    features = [torch.randn(2, width, *size) for width, size in zip((5, 6, 7, 20), sizes, strict=True)]
    with torch.no_grad():
        theirs = other(list(features)).last_hidden_state
        assert torch.equal(ours(features, torch.randn(2, 3, 100, 148)), theirs)


def test_the_network_is_that_of_transformers(tmp_path) -> None:
    torch.manual_seed(1)
    other = randomised(transformers_network(TINY, 32, CLASSES, QUERIES, LAYERS))
    other.save_pretrained(tmp_path)
    ours = build("nearest", pretrained=tmp_path)
    images = torch.randn(2, 3, 96, 160)
    with torch.no_grad():
        theirs = other(images)
        last = ours.head.predictions(ours.encoder(images), images)[-1]
        torch.testing.assert_close(last.classes, theirs.class_queries_logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(last.masks, theirs.masks_queries_logits, rtol=1e-4, atol=1e-5)
        # The paper's semantic inference, query by query.
        masks = F.interpolate(theirs.masks_queries_logits, size=(96, 160), mode="bilinear", align_corners=False)
        expected = torch.zeros(2, CLASSES, 96, 160)
        for query in range(QUERIES):
            probability = theirs.class_queries_logits[:, query].softmax(-1)[:, :CLASSES, None, None]
            expected += probability * masks[:, query, None].sigmoid()
        torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-5)


def test_earlier_layers_predict_as_if_they_were_the_last() -> None:
    host = randomised(build("bilinear"))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features = host.encoder(images)
        predictions = host.head.predictions(features, images)
        assert len(predictions) == LAYERS
        for number, prediction in enumerate(predictions, start=1):
            host.head.transformer.decoder.layers = host.head.transformer.decoder.layers[:number]
            torch.testing.assert_close(host.head.predictions(features, images)[-1], prediction)
            host = randomised(build("bilinear"))


def calls(host: MaskFormer, images: Tensor) -> tuple[list[Tensor], dict[str, tuple[nn.Module, Tensor, tuple]]]:
    """The laterals, C1's first, and what each slot's upsampler gets: itself, its guidance and its target size."""
    seen = {}
    for name, slot in host.head.pixel_decoder.slots.items():

        def record(module: nn.Module, args: tuple, kwargs: dict, name: str = name) -> None:
            guidance = args[1] if isinstance(args[1], Tensor) else args[1][0]
            seen[name] = (module, guidance, kwargs["size"])

        slot.upsampler.register_forward_pre_hook(record, with_kwargs=True)
    with torch.no_grad():
        features = host.encoder(images)
        host.head(features, images)
        layers = reversed(list(host.head.pixel_decoder.fpn.layers))
        laterals = [layer.proj(level) for layer, level in zip(layers, features[:3], strict=True)]
    return laterals, seen


def test_resfu_is_guided_by_c1_in_every_step() -> None:
    (c1, _, _), seen = calls(build("resfu"), torch.randn(1, 3, 96, 160))
    assert list(seen) == ["c4", "c3", "c2"]
    for (_, guidance, size), step in zip(seen.values(), (4, 2, 1), strict=True):
        assert size == (24 // step, 40 // step)
        torch.testing.assert_close(guidance, F.avg_pool2d(c1, step))


@pytest.mark.parametrize(("upsampler", "options"), [("sapa", {}), ("resfu", {"iterative": True})])
def test_the_others_are_guided_by_the_lateral_of_the_step(upsampler: str, options: dict[str, object]) -> None:
    laterals, seen = calls(build(upsampler, upsampler_options=options), torch.randn(1, 3, 96, 160))
    for (_, guidance, _), lateral in zip(seen.values(), reversed(laterals), strict=True):
        torch.testing.assert_close(guidance, lateral)


def test_stack_jbu_is_one_chain_with_one_correction() -> None:
    images = torch.randn(1, 3, 96, 160)
    _, seen = calls(build("stack-jbu"), images)
    assert [type(module) for module, _, _ in seen.values()] == [JBU, JBU, StackJBU]
    for (_, guidance, _), stride in zip(seen.values(), (16, 8, 4), strict=True):
        torch.testing.assert_close(guidance, F.avg_pool2d(images, stride))


def test_images_and_labels_are_padded_to_a_multiple_of_32() -> None:
    host = build("bilinear")
    images, label = torch.randn(1, 3, 50, 70), torch.randint(CLASSES, (1, 50, 70))
    continued = F.pad(images, (0, 26, 0, 14), mode="replicate")
    continued_label = F.pad(label.double(), (0, 26, 0, 14), mode="replicate").long()
    with torch.no_grad():
        torch.testing.assert_close(host(images), host(continued)[..., :50, :70], rtol=0, atol=0)
        losses = host.losses(images, label, F.cross_entropy)
        torch.testing.assert_close(losses, host.losses(continued, continued_label, F.cross_entropy), rtol=0, atol=0)


def test_images_are_padded_as_the_original_does_on_request() -> None:
    """With zeros, and labels that are ignored there."""
    host = build("bilinear", continuation="zeros")
    images, label = torch.randn(1, 3, 50, 70), torch.randint(CLASSES, (1, 50, 70))
    continued = F.pad(images, (0, 26, 0, 14))
    ignored = F.pad(label, (0, 26, 0, 14), value=255)
    with torch.no_grad():
        torch.testing.assert_close(host(images), host(continued)[..., :50, :70], rtol=0, atol=0)
        losses = host.losses(images, label, F.cross_entropy)
        torch.testing.assert_close(losses, host.losses(continued, ignored, F.cross_entropy), rtol=0, atol=0)
        assert (host(images) - build("bilinear")(images)).abs().max() > 1e-4


def test_training_lowers_the_loss_also_under_autocast() -> None:
    host = build("resfu")
    images = torch.randn(2, 3, 40, 64)
    label = torch.zeros(2, 40, 64, dtype=torch.long)
    label[:, :, 30:], label[1, 20:] = 1, 255

    def unused(*_: Tensor) -> Tensor:
        raise AssertionError("MaskFormer has a loss of its own")

    optimizer = torch.optim.AdamW(host.parameters(), lr=1e-3)
    totals = []
    for _ in range(6):
        with torch.autocast("cpu", torch.bfloat16):
            losses = host.losses(images, label, unused)
        assert {value.dtype for value in losses.values()} == {torch.float32}
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert all(map(math.isfinite, totals))
    assert totals[-1] < 0.8 * totals[0]


@pytest.mark.parametrize(
    ("shape", "value", "message"),
    [
        ((1, 32, 30), 0, r"must be \[B, H, W\] = \[1, 32, 32\]"),
        ((1, 32, 32), CLASSES, r"must lie in 0\.\.3 or be 255 \(ignored\), got \[4\]"),
        ((1, 32, 32), -1, r"got \[-1\]"),
    ],
)
def test_labels_that_do_not_fit(shape: tuple[int, ...], value: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("nearest").losses(torch.zeros(1, 3, 32, 32), torch.full(shape, value), F.cross_entropy)


def test_initial_weights_are_those_of_detr_and_detectron2() -> None:
    head = build("nearest").head
    layer = head.transformer.decoder.layers[1]
    for weight, bound in (
        (layer.self_attn.q_proj.weight, (6 / (32 + 96)) ** 0.5),  # one matrix of 96 rows for query, key and value
        (layer.encoder_attn.o_proj.weight, (6 / 64) ** 0.5),
        (layer.mlp.fc1.weight, (6 / (32 + 256)) ** 0.5),
        (head.pixel_decoder.fpn.stem.get_submodule("0").weight, (3 / (64 * 9)) ** 0.5),
        (head.pixel_decoder.fpn.layers[2].proj[0].weight, (3 / 8) ** 0.5),
    ):
        assert bound * 0.97 < weight.abs().max() <= bound
    assert head.transformer.queries_embedder.weight.std().item() == pytest.approx(1, abs=0.15)
