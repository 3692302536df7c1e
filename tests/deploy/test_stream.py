"""Bands of every upsampler are its whole call, whatever the budget."""

import numpy as np
import pytest
import torch

import resfu
from resfu.deploy import plan
from resfu.deploy.forms import FORMS
from resfu.evaluation.cost import peak_memory
from tests.deploy.banded import SMALL, make


@pytest.fixture(autouse=True)
def _low_bands(monkeypatch):
    """As low as bands of large images are, of images that tests have time for."""
    monkeypatch.setattr(plan, "_LEAST", 1 << 16)


@pytest.mark.parametrize("name", list(FORMS))
def test_bands_are_the_whole_call(name):
    up, features, guidance, size = make(name)
    with torch.no_grad():
        whole = up(features, guidance, size)
    least = plan.make_plan(up, features, guidance, size)[0].least
    bands = list(resfu.stream(up, features, guidance, size, budget=int(least) + 1))
    assert len(bands) > 1
    torch.testing.assert_close(torch.cat(bands, 2), whole, atol=2e-5, rtol=2e-5)
    unlimited = torch.cat(list(resfu.stream(up, features, guidance, size, budget=None)), 2)
    assert torch.equal(torch.cat(bands, 2), unlimited)


@pytest.mark.parametrize(("low", "size"), [((14, 9), (56, 36)), ((14, 9), (54, 33)), ((31, 20), (33, 47))])
@pytest.mark.parametrize("name", ["resfu", "sapa", "stack-jbu", "carafe", "fade", "dysample"])
def test_whole_ratios_crops_and_ratios_near_one(name, low, size):
    up, features, guidance, _ = make(name)
    features = torch.randn(2, 16, *low, generator=torch.Generator().manual_seed(0))
    guidance = None if guidance is None else torch.randn(2, guidance.shape[1], *size)
    try:
        with torch.no_grad():
            whole = up(features, guidance, size)
    except ValueError:
        return  # not a ratio of this upsampler's
    found = torch.cat(list(resfu.stream(up, features, guidance, size)), 2)
    torch.testing.assert_close(found, whole, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alignment": "semantic"},
        {"alignment": "detail"},
        {"guided_query": False},
        {"smoothed_key": False, "normalize_guidance": False},
        {"kernel_size": 5},
    ],
)
def test_ablations_of_resfu(options):
    torch.manual_seed(0)
    up = resfu.ReSFU(16, 32, **options)
    features, guidance = torch.randn(1, 16, 12, 10), torch.randn(1, 32, 60, 50)
    with torch.no_grad():
        whole = up(features, guidance)
    torch.testing.assert_close(torch.cat(list(resfu.stream(up, features, guidance)), 2), whole, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", ["sapa", "a2u", "resfu", "resfu-image", "naf", "anyup", "carafe", "dysample"])
def test_parts_with_hooks_are_called_or_refused(name):
    up, features, guidance, size = make(name, sizes=SMALL)

    def bands():
        try:
            return torch.cat(list(resfu.stream(up, features, guidance, size)), 2)
        except ValueError as error:
            return str(error)

    for part in list(up.modules())[1:]:
        hook = part.register_forward_hook(lambda module, args, out: out * 1.5 + 0.1)
        with torch.no_grad():
            whole = up(features, guidance, size)
        if isinstance(found := bands(), str):
            assert "without a call, and it has hooks" in found
            assert name not in ("carafe", "dysample")
        else:
            torch.testing.assert_close(found, whole, atol=2e-5, rtol=2e-5)
        hook.remove()


def test_every_upsampler_has_bands():
    assert set(FORMS) == set(resfu.UPSAMPLERS)


@pytest.mark.parametrize("start", ["nearest", "bilinear", "bilinear-corners", "bicubic"])
@pytest.mark.parametrize("name", ["resfu", "carafe", "sapa", "fade", "dysample"])
def test_upsamplers_that_start_as_an_interpolation(name, start):
    up, features, guidance, (H, W) = make(name, start=start)
    for size in ((H, W), (H - 1, W - 1)):
        with torch.no_grad():
            whole = up(features, guidance, size)
        bands = list(resfu.stream(up, features, guidance, size))
        assert len(bands) > 1
        torch.testing.assert_close(torch.cat(bands, 2), whole, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("image", [(101, 97), (40, 310)])
@pytest.mark.parametrize("name", ["naf", "anyup", "resfu-image"])
def test_images_of_other_sizes_than_the_output(name, image):
    up, features, _, size = make(name)
    guidance = torch.randn(2, 3, *image, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = up(features, guidance, size)
    found = torch.cat(list(resfu.stream(up, features, guidance, size)), 2)
    torch.testing.assert_close(found, whole, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", list(FORMS))
def test_a_budget_is_kept(name, monkeypatch):
    monkeypatch.undo()  # bands as of large images
    up, features, guidance, size = make(name)
    features, guidance = features[:1], None if guidance is None else guidance[:1]

    def bands(x):
        for _ in resfu.stream(up, x, guidance, size, budget="8MB"):
            pass

    assert peak_memory(bands, features) <= 8 * 2**20


def test_consumers(tmp_path):
    up, features, guidance, size = make("resfu")
    with torch.no_grad():
        whole = up(features, guidance, size)
        classifier = torch.nn.Conv2d(16, 5, 1)
        classified = resfu.stream(up, features, guidance, size, to=classifier)
        torch.testing.assert_close(classified, classifier(whole), atol=1e-4, rtol=1e-4)
        # labels of the bands themselves, whose numbers may differ from the whole call's by rounding
        bands = torch.cat(list(resfu.stream(up, features, guidance, size)), 2)
    assert torch.equal(resfu.stream(up, features, guidance, size, to="labels").long(), bands.argmax(1))
    out = torch.empty_like(bands)
    assert resfu.stream(up, features, guidance, size, to=out) is out
    assert torch.equal(out, bands)
    file = np.memmap(tmp_path / "features", np.float32, "w+", shape=tuple(bands.shape))
    resfu.stream(up, features, guidance, size, to=file)
    np.testing.assert_array_equal(file, bands.numpy())
    half, single = up.bfloat16(), np.empty(bands.shape, np.float32)
    found = list(resfu.stream(half, features.bfloat16(), guidance.bfloat16(), size))
    resfu.stream(half, features.bfloat16(), guidance.bfloat16(), size, to=single)
    np.testing.assert_array_equal(single, torch.cat(found, 2).float().numpy())


def test_what_has_no_bands_is_refused():
    features, guidance = torch.randn(1, 16, 8, 8), torch.randn(1, 32, 16, 16)
    with pytest.raises(ValueError, match=r"has neighbours='fine' alone, got 'coarse'"):
        resfu.stream(resfu.ReSFU(16, 32, neighbours="coarse"), features, guidance)
    with pytest.raises(ValueError, match=r"batch normalisation counts over the whole image: call .eval\(\)"):
        resfu.stream(resfu.IndexNet(16, 32), features, guidance)
    with pytest.raises(ValueError, match="budget must be at least"):
        resfu.stream(resfu.ReSFU(16, 32), features, guidance, budget="1KB")
    with pytest.raises(ValueError, match=r"or a tensor or array \[1, 16, 16, 16\], got one of \[1\]"):
        resfu.stream(resfu.ReSFU(16, 32), features, guidance, to=torch.empty(1))
    with pytest.raises(ValueError, match=r"this Bilinear is for volumes"):
        resfu.stream(resfu.Bilinear(scale_factor=2, dims=3), torch.randn(1, 8, 4, 6, 6))
    with pytest.raises(ValueError, match=r"JBU has no band form"):
        resfu.stream(resfu.JBU(32), features, guidance)
    with pytest.raises(ValueError, match=r"up must be one of resfu\.UPSAMPLERS"):
        resfu.checkpointed(torch.nn.Identity())


def test_memory_stays_below_that_of_the_whole_call():
    torch.manual_seed(0)
    up = resfu.ReSFU(8, 16).eval()
    features, guidance = torch.randn(1, 8, 32, 32), torch.randn(1, 16, 256, 256)

    def training(run):
        return lambda x: run(x, guidance).sum().backward()

    features.requires_grad_()
    banded = peak_memory(training(resfu.checkpointed(up)), features, grad=True)
    assert banded < 0.5 * peak_memory(training(up), features, grad=True)
    features, guidance = features[:, :, :16, :16], guidance[:, :, :128, :128]

    def bands(x):
        for _ in resfu.stream(up, x, guidance, budget="40MB"):
            pass

    assert peak_memory(bands, features.detach()) < 40 * 2**20


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    up, features, guidance, size = make("resfu", dtype)
    with torch.no_grad():
        whole = up(features, guidance, size)
    found = torch.cat(list(resfu.stream(up, features, guidance, size)), 2)
    assert found.dtype == dtype
    atol = 0.15 if dtype == torch.bfloat16 else 1e-9
    torch.testing.assert_close(found, whole, atol=atol, rtol=0.05 if dtype == torch.bfloat16 else 1e-9)


@pytest.mark.parametrize("low", [(9, 146), (8, 128)])
def test_encoders_of_a_wide_image_see_more_than_a_band(low):
    """Around a row NAF sees ten more, which would cost eleven times the row."""
    up = resfu.create_upsampler("naf", channels=384).eval()
    features, image = torch.zeros(1, 384, *low), torch.zeros(1, 3, 128, 2048)
    made = plan.Plan.of(up, features, image, (128, 2048), (128, 2048))
    assert 2 <= made.bands[0][1] < 16
    assert made.least < 256 * 2**20
    assert next(iter(made.all_bands(made.form.tall)))[1] > 100
    with torch.no_grad():
        tiles = list(made.form.tiles((0, 128)))
    assert len(tiles) > 5
    assert all(last - first > 64 for _, (first, last) in tiles[:-1])
    assert tiles[0][1][0] == 0
    assert tiles[-1][1][1] == 2048
    assert len(list(made.form.tiles((0, 128)))) == 1  # of gradients each band is computed by itself


@pytest.mark.parametrize("start", ["published", "bilinear"])
def test_one_module_for_both_comparisons(start):
    torch.manual_seed(0)
    up = resfu.ReSFU(16, 8, start=start).eval()
    up.detail_similarity = up.semantic_similarity
    for parameter in up.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    features, guidance = torch.randn(1, 16, 8, 9), torch.randn(1, 8, 32, 36)
    with torch.no_grad():
        bands = torch.cat(list(resfu.stream(up, features, guidance)), 2)
        torch.testing.assert_close(bands, up(features, guidance), rtol=1e-4, atol=1e-4)


def test_a_start_is_not_rounded_under_autocast():
    up, features = resfu.CARAFE(16, start="bilinear").eval(), torch.randn(1, 16, 8, 9) + 8
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        bands = torch.cat(list(resfu.stream(up, features)), 2)
    want = torch.nn.functional.interpolate(features, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(bands.float(), want, rtol=0, atol=1e-5)
