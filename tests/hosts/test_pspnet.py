"""PSPNet: published sizes, the encoder's strides and dilations, the head's arithmetic, the auxiliary loss, weights."""

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import resfu
from resfu.hosts import timm_weights
from resfu.hosts.pspnet import PSPHead, PSPNet
from resfu.hosts.resnet import DilatedResNet
from resfu.hosts.slot import SlotFactory
from resfu.upsamplers import Iterative
from tests.support import apart

BASES = {50: 46_678_006, 101: 65_670_134}
AUXILIARY = 2_398_358


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("depth", BASES)
def test_published_parameters(depth: int) -> None:
    """Table I of arXiv 2407.02283: 46.68 and 65.67 million, without the auxiliary classifier."""
    with torch.device("meta"):
        assert count(PSPNet(depth, "bilinear", auxiliary=False)) == BASES[depth]
        assert count(resfu.create_host(f"pspnet-resnet{depth}", upsampler="bilinear")) == BASES[depth] + AUXILIARY


# Each equals its row of Table I after rounding, but for deconv on ResNet-101 (69.865, printed 69.87).
@pytest.mark.parametrize(
    ("upsampler", "options", "addition"),
    [
        ("nearest", {}, 0),
        ("bicubic", {}, 0),
        ("deconv", {}, 4_194_816),
        ("pixelshuffle", {}, 4_202_496),
        ("stack-jbu", {}, 275_122),
        ("carafe", {}, 181_064),
        ("fade", {}, 102_706),
        ("sapa", {}, 39_296),
        ("dysample", {"style": "pl"}, 4_112),
        ("resfu", {}, 49_746),
    ],
)
@pytest.mark.parametrize("depth", BASES)
def test_upsamplers_add_the_published_parameters(depth: int, upsampler: str, options: dict, addition: int) -> None:
    with torch.device("meta"):
        net = PSPNet(depth, upsampler, upsampler_options=options, auxiliary=False)
    assert count(net) - BASES[depth] == addition


def test_the_encoder_dilates_where_it_would_stride() -> None:
    """ResNet-V1c of mmsegmentation: the first block of a dilated stage has half the stage's dilation."""
    with torch.device("meta"):
        resnet = DilatedResNet(101).resnet
    stages = [resnet[f"layer{n}"] for n in (1, 2, 3, 4)]
    assert [len(stage) for stage in stages] == [3, 4, 23, 3]
    assert [stage[0].conv2.stride for stage in stages] == [(1, 1), (2, 2), (1, 1), (1, 1)]
    assert [[block.conv2.dilation[0] for block in stage] for stage in stages] == [
        [1] * 3,
        [1] * 4,
        [1] + [2] * 22,
        [2, 4, 4],
    ]
    for stage in stages:
        assert {block.conv1.stride for block in stage} == {(1, 1)}
        shortcut = stage[0].downsample
        assert [type(layer) for layer in shortcut] == [nn.Conv2d, nn.BatchNorm2d]  # no average pool
        assert shortcut[0].stride == stage[0].conv2.stride
    stem = [layer for layer in resnet["conv1"] if isinstance(layer, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in stem] == [(32, 3, 2), (32, 3, 1), (64, 3, 1)]


def test_encoder_sizes_round_up() -> None:
    with torch.no_grad():
        features = DilatedResNet(14).eval()(torch.randn(1, 3, 75, 97))
    sizes = [(64, 38, 49), (256, 19, 25), (512, 10, 13), (1024, 10, 13), (2048, 10, 13)]
    assert [tuple(f.shape[1:]) for f in features] == sizes


def test_the_head_computes_what_the_configuration_says() -> None:
    torch.manual_seed(0)
    head = PSPHead((4, 4, 8, 6), num_classes=7, create_slot=SlotFactory("bilinear"), channels=5, auxiliary=False).eval()
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)  # pyright: ignore[reportArgumentType]
    weights = head.state_dict()
    stem, deepest = torch.randn(2, 4, 48, 24), torch.randn(2, 6, 12, 6)

    def conv_norm_relu(x: Tensor, name: str) -> Tensor:
        kernel = weights[f"{name}.conv.weight"]
        y = F.unfold(x, kernel.shape[-1], padding=kernel.shape[-1] // 2)
        y = (kernel.flatten(1) @ y).unflatten(2, x.shape[-2:])
        scale = weights[f"{name}.norm.weight"] / (weights[f"{name}.norm.running_var"] + 1e-5).sqrt()
        shift = weights[f"{name}.norm.bias"] - weights[f"{name}.norm.running_mean"] * scale
        return (y * scale[:, None, None] + shift[:, None, None]).clamp(min=0)

    levels = [deepest]
    for index, bins in enumerate((1, 2, 3, 6)):
        pooled = F.avg_pool2d(deepest, (12 // bins, 6 // bins))
        projected = conv_norm_relu(pooled, f"pyramid.{index}")
        levels.append(F.interpolate(projected, size=(12, 6), mode="bilinear", align_corners=False))
    low = conv_norm_relu(torch.cat(levels, 1), "bottleneck")
    high = F.interpolate(low, size=(48, 24), mode="bilinear", align_corners=False)
    expected = torch.einsum("oi,bihw->bohw", weights["classifier.weight"][..., 0, 0], high)
    with torch.no_grad():
        logits = head([stem, torch.empty(0), torch.empty(0), deepest], torch.empty(0))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def seen_by(host: PSPNet, images: Tensor) -> list[tuple]:
    """What the upsampler's modules got: features, guidance, size."""
    seen: list[tuple] = []
    slot = host.head.slot
    modules = slot.upsampler.steps if isinstance(slot.upsampler, Iterative) else [slot.upsampler]
    for module in modules:
        module.register_forward_pre_hook(lambda _, a, k: seen.append((*a, k["size"])), with_kwargs=True)
    with torch.no_grad():
        host(images)
    return seen


def test_the_stem_guides_and_sets_the_target() -> None:
    torch.manual_seed(0)
    host = PSPNet(14, "resfu", 4, channels=64).eval()
    images = torch.randn(1, 3, 75, 97)
    with torch.no_grad():
        stem = host.encoder(images)[0]
    ((features, guidance, size),) = seen_by(host, images)
    assert features.shape == (1, 64, 10, 13)
    torch.testing.assert_close(guidance, stem)
    assert size == (38, 49)


def test_the_first_of_two_steps_is_guided_by_the_pooled_stem() -> None:
    torch.manual_seed(0)
    host = PSPNet(14, "sapa", 4, channels=64).eval()
    images = torch.randn(1, 3, 64, 80)
    inside: list[Tensor] = []
    host.encoder.resnet["maxpool"].register_forward_hook(lambda _, __, output: inside.append(output))
    (_, pooled, size), (features, stem, target) = seen_by(host, images)
    torch.testing.assert_close(pooled, inside[0])
    assert (pooled.shape[1:], size) == ((64, 16, 20), (16, 20))
    assert features.shape == (1, 64, 16, 20)
    assert (stem.shape[1:], target) == ((64, 32, 40), (32, 40))


def test_the_auxiliary_loss_is_trained_in_one_pass_and_never_inferred() -> None:
    torch.manual_seed(0)
    host = PSPNet(14, "dysample", 4, channels=32).eval()  # takes whole ratios: the image is continued
    images, label = torch.randn(2, 3, 50, 70), torch.randint(4, (2, 50, 70))
    calls = {"encoder": 0, "auxiliary": 0}
    for name, module in (("encoder", host.encoder), ("auxiliary", host.head.auxiliary)):
        module.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    losses = host.losses(images, label, F.cross_entropy)
    assert calls == {"encoder": 1, "auxiliary": 1}
    assert list(losses) == ["main", "auxiliary"]
    with torch.no_grad():
        torch.testing.assert_close(losses["main"], F.cross_entropy(host(images), label))
        host.upsampled_features(images)
        assert calls == {"encoder": 3, "auxiliary": 1}
        continued = F.pad(images, (0, 2, 0, 6), mode="replicate")
        logits = host.head.auxiliary(host.encoder(continued)[3])
        logits = F.interpolate(logits, size=(56, 72), mode="bilinear", align_corners=False)[..., :50, :70]
        torch.testing.assert_close(losses["auxiliary"], 0.4 * F.cross_entropy(logits, label))
    losses["auxiliary"].backward()
    assert host.encoder.resnet["layer3"][0].conv2.weight.grad is not None
    assert host.encoder.resnet["layer4"][0].conv2.weight.grad is None
    plain = PSPNet(14, "bilinear", 4, auxiliary=False, channels=32).eval()
    assert list(plain.losses(images, label, F.cross_entropy)) == ["main"]


@pytest.mark.parametrize("upsampler", list(resfu.UPSAMPLERS))
def test_the_smallest_images(upsampler: str) -> None:
    host = PSPNet(14, upsampler, 4, channels=64).eval()
    with torch.no_grad():
        assert host(torch.randn(1, 3, 1, 19)).isfinite().all()


def test_published_initialisation() -> None:
    torch.manual_seed(0)
    head = PSPHead((64, 256, 512, 256, 512), num_classes=150, create_slot=SlotFactory("nearest"), channels=64)
    assert head.auxiliary is not None
    for classifier in (head.classifier, head.auxiliary[-1]):
        assert classifier.weight.std().item() == pytest.approx(0.01, rel=0.03)
        assert classifier.bias.abs().max() == 0
    for block, outputs in ((head.bottleneck, 64 * 9), (head.pyramid[0], 64), (head.auxiliary[0], 64 * 9)):
        assert block.conv.bias is None
        assert block.conv.weight.std().item() == pytest.approx((2 / outputs) ** 0.5, rel=0.02)
    assert head.dropout.p == head.auxiliary[1].p == 0.1


def test_an_unknown_depth() -> None:
    with pytest.raises(ValueError, match="the depth must be one of 14, 50, 101, got 34"):
        PSPNet(34)


@pytest.fixture(scope="module")
def donor() -> dict[str, Tensor]:
    """A file as timm publishes it: the whole classifying network."""
    torch.manual_seed(3)
    return timm.create_model("resnet50c", layers=(1, 1, 1, 1)).state_dict()


@pytest.mark.parametrize("classifier", [True, False])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_encoder_weights_from_a_file(tmp_path: Path, donor: dict[str, Tensor], suffix: str, classifier: bool) -> None:
    path = tmp_path / f"weights{suffix}"
    weights = {key: value for key, value in donor.items() if classifier or not key.startswith("fc.")}
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    loaded = PSPNet(14, "bilinear", 4, pretrained=path, channels=32).encoder.resnet.state_dict()
    assert set(loaded) == {key for key in donor if not key.startswith("fc.")}
    for key, value in loaded.items():
        torch.testing.assert_close(value, donor[key], rtol=0, atol=0)


def test_encoder_weights_from_a_folder_and_what_does_not_fit(tmp_path: Path, donor: dict[str, Tensor]) -> None:
    weights = {key: value for key, value in donor.items() if not key.endswith("num_batches_tracked")}
    save_file(weights, tmp_path / "model.safetensors")
    DilatedResNet(14).load(tmp_path)
    del weights["bn1.weight"]
    torch.save(weights | {"extra": torch.zeros(1), "conv1.0.weight": torch.zeros(2)}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"missing: bn1\.weight; unexpected: extra; misshapen: conv1\.0\.weight"):
        DilatedResNet(14).load(tmp_path / "weights.pth")


def test_encoder_weights_by_name(donor: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(name: str) -> dict[str, Tensor]:
        asked.append(name)
        return donor

    monkeypatch.setattr(timm_weights.timm.models, "load_state_dict_from_hf", fetch)
    for depth in (50, 101):
        with torch.device("meta"), pytest.raises(ValueError, match=rf"resnet{depth}c\.gluon_in1k do not fit .*missing"):
            PSPNet(depth, pretrained=True)
    assert asked == ["timm/resnet50c.gluon_in1k", "timm/resnet101c.gluon_in1k"]
    with pytest.raises(ValueError, match="no published weights of this encoder: give a path"):
        DilatedResNet(14).load(True)


def test_weights_that_cannot_be_fetched() -> None:
    script = "import resfu; resfu.create_host('pspnet-resnet50', pretrained=True)"
    last = apart.run(script, check=False).strip().splitlines()[-1]
    name = "timm/resnet50c.gluon_in1k (model.safetensors)"
    assert last.startswith(f"ValueError: the weights {name} could not be fetched"), last
    assert "give the path" in last
