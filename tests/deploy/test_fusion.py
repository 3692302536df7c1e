"""Class scores upsampled in place of features are the scores of upsampled features."""

import pytest
import torch

import resfu
from resfu.deploy.fusion import Classified
from resfu.evaluation.cost import peak_memory


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in ("nearest", "bilinear", "bicubic", "resfu", "sapa", "fade", "carafe", "dysample", "a2u")]
    + [("carafe", {"groups": 4}), ("dysample", {"style": "pl", "dynamic_scope": False})],
)
def test_upsampler_and_classifier_change_places(name, options):
    torch.manual_seed(0)
    up = resfu.create_upsampler(name, channels=16, guidance_channels=32, scale_factor=2, **options).double().eval()
    for parameter in up.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    classifier = torch.nn.Conv2d(16, 5, 1).double()
    features, guidance = torch.randn(2, 16, 7, 9).double(), torch.randn(2, 32, 14, 18).double()
    expected = classifier(up(features, guidance))
    found = Classified(up, classifier)(features, guidance)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-8)


@torch.no_grad()
@pytest.mark.parametrize("upsampler", ["resfu", "dysample", "carafe"])
@pytest.mark.parametrize("host", ["efficientnet-lite0", "segmenter-vit-s"])
def test_networks_give_the_same_logits(host, upsampler):
    torch.manual_seed(0)
    network = resfu.create_host(host, upsampler, num_classes=7).eval()
    fused = resfu.fuse_classifier(network)
    images = torch.randn(1, 3, 70, 96)
    torch.testing.assert_close(fused(images), network(images), atol=1e-5, rtol=1e-5)
    assert sum(p.numel() for p in fused.parameters()) == sum(p.numel() for p in network.parameters())


@torch.no_grad()
def test_features_at_high_resolution_are_saved():
    torch.manual_seed(0)
    up, classifier = resfu.create_upsampler("bilinear"), torch.nn.Conv2d(256, 4, 1)
    features = torch.randn(1, 256, 16, 16)
    plain = peak_memory(lambda x: classifier(up(x, size=(128, 128))), features)
    fused = peak_memory(lambda x: Classified(up, classifier)(x, size=(128, 128)), features)
    assert fused < plain / 10


def test_what_does_not_commute_is_refused():
    with pytest.raises(ValueError, match="has no upsampler that a 1 x 1 classifier follows"):
        resfu.fuse_classifier(resfu.create_host("segformer-mit-b0", "bilinear", num_classes=3).eval())
    network = resfu.create_host("efficientnet-lite0", "indexnet", num_classes=3)
    holder = torch.nn.Sequential()
    holder.host = network
    with pytest.raises(ValueError, match=r"this Sequential holds a network: give that, as module\.host"):
        resfu.fuse_classifier(holder)
    with pytest.raises(ValueError, match="dropout before the classifier"):
        resfu.fuse_classifier(network)
    with pytest.raises(ValueError, match="IndexNet does not commute"):
        resfu.fuse_classifier(network.eval())


def _lite(**options):
    torch.manual_seed(0)
    return resfu.create_host("efficientnet-lite0", "bilinear", num_classes=4, host_options=options).eval()


def test_something_before_the_classifier_is_refused():
    reason = "does not give its upsampled features straight to the classifier"
    with pytest.raises(ValueError, match=reason):
        resfu.fuse_classifier(_lite(skip_channels=8))
    network = _lite()
    network.head.projection = torch.nn.Conv2d(112, 64, 1)  # without an activation, after which another changes nothing
    resfu.fuse_classifier(network)
    handle = network.head.slot.register_forward_hook(lambda slot, args, out: out.relu())
    with pytest.raises(ValueError, match=reason):
        resfu.fuse_classifier(network)
    handle.remove()
    for options in ({"groups": 2}, {"stride": 2}, {"padding": 1}):
        network.head.classifier = torch.nn.Conv2d(64, 4, 1, **options)
        with pytest.raises(ValueError, match="has no upsampler that a 1 x 1 classifier follows"):
            resfu.fuse_classifier(network)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_in_half_precision_is_no_disagreement(dtype):
    network = _lite().to(dtype)  # its first scores are so small that fp16 rounds a tenth away
    fused = resfu.fuse_classifier(network)
    assert {p.dtype for p in (*fused.parameters(), *network.parameters())} == {dtype}


@pytest.mark.parametrize(
    "create", [lambda: resfu.CARAFE(8, start="bilinear"), lambda: resfu.FADE(8, 8, start="bilinear")]
)
def test_a_start_at_a_cropped_size(create):
    torch.manual_seed(0)
    up, classifier = create().eval(), torch.nn.Conv2d(8, 3, 1)
    for parameter in up.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    inputs = [torch.randn(1, 8, 8, 16)] + [torch.randn(1, 8, 15, 31)] * up.guided
    with torch.no_grad():
        want = classifier(up(*inputs, size=(15, 31)))
        torch.testing.assert_close(
            Classified(up, classifier).eval()(*inputs, size=(15, 31)), want, rtol=1e-4, atol=1e-5
        )
