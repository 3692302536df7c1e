"""What is found out about encoders: patches, tokens before them, normalisation."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import resfu
from resfu.frozen.encoder import FrozenEncoder
from resfu.frozen.find import find_encoder


class Tokens(nn.Module):
    """Tokens of square patches, and others before them; the patches' hold their own row and column."""

    def __init__(self, patch, prefix=0):
        super().__init__()
        self.patch, self.prefix = patch, prefix

    def forward(self, images):
        h, w = (n // self.patch for n in images.shape[-2:])
        places = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"), -1).flatten(0, 1)
        tokens = torch.cat([torch.full((self.prefix, 2), -1), places]).float()
        return tokens.expand(len(images), -1, -1) + 0 * images.mean()


@pytest.mark.parametrize("patch", [8, 14, 16, 28, 32])
@pytest.mark.parametrize("prefix", [0, 1, 2, 5, 12])
@pytest.mark.parametrize("given", [False, True])
def test_patches_of_tokens(patch, prefix, given):
    pf = resfu.PixelFeatures(Tokens(patch, prefix), "nearest", prefix=prefix if given else None)
    assert pf.channels == 2
    assert (pf.encoder.stride, pf.encoder.prefix if given else prefix) == (patch, prefix)
    low = pf.low(torch.rand(2, 3, 5 * patch, 7 * patch))
    assert low.shape == (2, 2, 5, 7)
    assert low[1, :, 3, 4].tolist() == [3, 4]


def test_any_number_of_tokens_may_be_given():
    low = resfu.PixelFeatures(Tokens(16, 100), prefix=100).low(torch.rand(1, 3, 64, 80))
    assert low[0, :, 3, 4].tolist() == [3, 4]
    low = resfu.PixelFeatures(Tokens(12, 3), stride=12).low(torch.rand(1, 3, 60, 96))
    assert low[0, :, 4, 7].tolist() == [4, 7]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Tokens(12),
            "324 tokens of an image of 224 x 224, at most 12 of them before the patches, fit no whole",
        ),
        (lambda: FrozenEncoder(Tokens(16), size=(64, 64)), "fit patches of 16 or 32: pass the stride"),
        (
            lambda: FrozenEncoder(Tokens(16, 13), stride=16),
            "at most 12 before them, but the encoder gave 209: pass its",
        ),
        (lambda: FrozenEncoder(Tokens(16, 1), stride=16, prefix=2), "and 2 before them, but the encoder gave 197"),
        (lambda: FrozenEncoder(Tokens(8, 1), stride=16), "pass its stride and prefix"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 3)),
            r"failed on images of 224 x 224\. .* It said: mat1 and",
        ),
        (
            lambda: lambda images: F.avg_pool2d(images, 10),
            "22 rows of features of an image of 224 x 224 show no stride",
        ),
    ],
)
def test_patches_that_are_not_clear(make, message):
    encoder = find_encoder(make())
    with pytest.raises(ValueError, match=message):
        encoder(torch.rand(1, 3, *(encoder.size or (224, 224))))


def test_another_number_of_tokens_before_the_patches_later():
    network = Tokens(16, 1)
    encoder = find_encoder(network)
    encoder(torch.rand(1, 3, 64, 64))
    network.prefix = 2
    with pytest.raises(ValueError, match="and 1 before them, but the encoder gave 18"):
        encoder(torch.rand(1, 3, 64, 64))


def test_stages_of_a_transformers_network_are_measured():
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])
    encoder = find_encoder(transformers.SwinModel(config))
    assert encoder(torch.rand(1, 3, *encoder.size_for((220, 250)))).shape == (1, 64, 7, 8)
    assert encoder.stride == 32
    assert encoder.mean == (0.485, 0.456, 0.406)


def beit(transformers):
    return transformers.BeitModel(
        transformers.BeitConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    )


def test_normalisation_of_the_published_weights():
    transformers = pytest.importorskip("transformers")
    assert find_encoder(beit(transformers)).mean == (0.5, 0.5, 0.5)
    config = transformers.MobileViTConfig(hidden_sizes=[8, 8, 8], neck_hidden_sizes=[8] * 7)
    network = transformers.MobileViTModel(config)
    encoder, image = find_encoder(network), torch.rand(1, 3, 64, 96)
    assert torch.equal(encoder(image), network(image.flip(1)).last_hidden_state)  # blue, green, red in 0..1
    assert encoder.stride == 32


def test_normalisation_of_a_folder(tmp_path):
    network = beit(pytest.importorskip("transformers"))
    network.save_pretrained(tmp_path)
    assert find_encoder(str(tmp_path)).mean == (0.5, 0.5, 0.5)
    file = tmp_path / "preprocessor_config.json"
    settings = {
        "image_processor_type": "BeitImageProcessor",
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.4, 0.5, 0.6],
    }
    file.write_text(json.dumps(settings))
    for encoder in (str(tmp_path), type(network).from_pretrained(tmp_path)):
        found = find_encoder(encoder)
        assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    file.write_text(json.dumps({**settings, "do_normalize": False}))
    assert (found := find_encoder(str(tmp_path))).mean == (0, 0, 0)
    assert found.std == (1, 1, 1)
    assert find_encoder(str(tmp_path), stride=8, prefix=3).prefix == 3
    settings = {"image_processor_type": "GLPNImageProcessor"}  # which only divides by 255
    file.write_text(json.dumps(settings))
    assert find_encoder(str(tmp_path)).mean == (0, 0, 0)
    scaled = {"image_processor_type": "ViTImageProcessor", "rescale_factor": 2 / 255, "image_mean": [1, 1, 1]}
    file.write_text(json.dumps({**scaled, "image_std": [1, 1, 1]}))
    white = find_encoder(str(tmp_path)).normalized(torch.ones(1, 3, 2, 2))
    assert torch.allclose(white, torch.ones_like(white))
    random = find_encoder(str(tmp_path), pretrained=False)
    weights = [next(p for p in one.parameters() if p.dim() == 4) for one in (network, random)]
    assert not torch.equal(*weights)


def test_timm_in_transformers_keeps_its_own():
    timm, transformers = pytest.importorskip("timm"), pytest.importorskip("transformers")
    model = timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=32, num_heads=2, dynamic_img_size=True)
    wrapper = transformers.TimmWrapperModel.__new__(transformers.TimmWrapperModel)
    nn.Module.__init__(wrapper)
    wrapper.timm_model = model
    found = find_encoder(wrapper)
    assert (found.mean, found.stride, found.prefix) == ((0.5, 0.5, 0.5), 16, 1)


def test_detection_tokens_lie_behind_the_patches():
    transformers = pytest.importorskip("transformers")
    config = transformers.YolosConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_detection_tokens=10,
        image_size=[96, 160],
    )  # fmt: skip
    network = transformers.YolosModel(config).eval()
    encoder, image = find_encoder(network), torch.rand(1, 3, 96, 160)
    tokens = network(encoder.normalized(image)).last_hidden_state
    assert torch.equal(encoder(image)[0, :, 2, 3], tokens[0, 1 + 2 * 10 + 3])
    masked = transformers.ViTMAEModel(
        transformers.ViTMAEConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    )
    with pytest.raises(ValueError, match="ViTMAE masks and shuffles its patches"):
        find_encoder(masked)


def test_other_libraries_networks():
    timm, torchvision = pytest.importorskip("timm"), pytest.importorskip("torchvision")
    for network, channels in (
        (timm.create_model("vit_tiny_r_s16_p8_224", depth=1, embed_dim=32, num_heads=2, num_classes=0), 32),
        (torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None), 960),
    ):
        assert find_encoder(network).width() == channels
    with pytest.raises(
        ValueError, match=r"One that takes images of a single size is given as resfu\.frozen\.encoder\.FrozenEncoder"
    ):
        resfu.PixelFeatures(timm.create_model("mixer_s32_224", num_classes=0))(torch.rand(1, 3, 64, 96))
    with pytest.raises(ValueError, match=r"transformers finds no model"):
        find_encoder("transformers:/nothing/here")
    for wrong in ({"stride": 0}, {"stride": 8.0}, {"prefix": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            find_encoder(Tokens(16), **wrong)
