"""Networks that upsample nothing but their logits, such as torchvision's DeepLab and FCN."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resfu import UPSAMPLERS, find_upsampling, load_upgraded, save_upgraded, upgrade


class Plain(nn.Module):
    """Three convolutions of stride 2, a classifier, and its logits brought to the image."""

    def __init__(self):
        super().__init__()
        self.stem, self.stage1 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 12, 3, 2, 1)
        self.stage2, self.head = nn.Conv2d(12, 16, 3, 2, 1), nn.Conv2d(16, 4, 1)

    def forward(self, images):
        deep = self.stage2(self.stage1(self.stem(images).relu()).relu())
        return F.interpolate(self.head(deep), size=images.shape[-2:], mode="bilinear", align_corners=False)


class Auxiliary(Plain):
    """Runs a second head first, and returns it last."""

    def forward(self, images):
        deep = self.stage2(self.stage1(self.stem(images).relu()).relu())
        second = F.interpolate(2 * self.head(deep), size=images.shape[-2:], mode="bilinear")
        first = F.interpolate(self.head(deep), size=images.shape[-2:], mode="bilinear")
        return {"out": first, "aux": second}


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(2, 3, 64, 64)


def test_logits_are_taken_where_there_is_nothing_else(images):
    plan = find_upsampling(Plain(), images)
    assert [(place.name, place.left_alone) for place in plan] == [("#0", "logits to the image")]
    assert plan.logits_alone
    assert plan.replaced == [plan[0]]
    assert (plan[0].by_way.name, plan[0].by_way.size, plan[0].call_by_way.ratio) == ("stem", (32, 32), (4, 4))
    assert "yes: logits to the image by way of stem" in str(plan)


@pytest.mark.parametrize("upsampler", UPSAMPLERS)
def test_every_upsampler_goes_to_the_stem_and_the_interpolation_on_to_the_image(upsampler, images, tmp_path):
    original = Plain()
    model = upgrade(original, upsampler, images)
    part, seen = model.resfu["0"], []
    part.upsampler.register_forward_hook(lambda module, args, output: seen.append(output))
    out = model(images)
    assert seen[0].shape == (2, 4, 32, 32)
    if UPSAMPLERS[upsampler].startable:
        assert torch.allclose(out, original(images), atol=1e-6)
    else:
        assert torch.equal(out, F.interpolate(seen[0], (64, 64), mode="bilinear"))
    if UPSAMPLERS[upsampler].guided:
        width = 3 if UPSAMPLERS[upsampler].image_guided else 32 if upsampler == "a2u" else 8
        assert next(step.guidance_channels for step in getattr(part.upsampler, "steps", [part.upsampler])) == width
    out.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    save_upgraded(model.eval(), tmp_path)
    loaded = load_upgraded(tmp_path, Plain()).eval()
    with torch.no_grad():
        for same in (loaded, copy.deepcopy(model)):
            assert torch.equal(same(images), model(images))


def test_every_parameter_learns_within_two_steps(images):
    for upsampler in ("resfu", "carafe", "sapa", "fade", "dysample"):
        torch.manual_seed(1)
        model = upgrade(Plain(), upsampler, images)
        optimiser = torch.optim.SGD(model.parameters(), 0.5)
        for _ in range(2):
            optimiser.zero_grad()
            (model(images) - images.mean(1, keepdim=True)).square().mean().backward()
            still = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0]
            optimiser.step()
        assert not still, (upsampler, still)


def test_other_batches_and_sizes(images):
    original = Plain()
    model = upgrade(original, "resfu", images)
    for size in ((1, 3, 72, 40), (3, 3, 67, 93)):
        x = torch.randn(size)
        assert torch.allclose(model(x), original(x), atol=1e-5)


def test_a_place_that_is_named_is_replaced_itself(images):
    model = upgrade(Plain(), "resfu", images, where="#0")
    seen = []
    model.resfu["0"].upsampler.register_forward_hook(lambda module, args, output: seen.append(output.shape[-2:]))
    model(images)
    assert seen == [(64, 64)]
    assert model.resfu["0"].upsampler.guidance_channels == 3


def test_the_guide_can_be_chosen(images):
    assert upgrade(Plain(), "resfu", images, guidance="image").resfu["0"].upsampler.guidance_channels == 3
    assert upgrade(Plain(), "resfu", images, guidance="stage1").resfu["0"].upsampler.guidance_channels == 12


def test_the_first_output_counts(images):
    plan = find_upsampling(Auxiliary(), images)
    assert [place.left_alone for place in plan] == ["logits to the image"] * 2
    assert plan.logits is plan[1]
    assert list(upgrade(Auxiliary(), "resfu", images).resfu) == ["1"]


def test_without_a_map_in_between_the_image_guides(images):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Upsample(scale_factor=2, mode="bilinear"))
    plan = find_upsampling(model, images)
    assert plan.logits_alone
    assert plan[0].by_way is None
    better = upgrade(model, "resfu", images)
    assert torch.allclose(better(images), model(images), atol=1e-6)
    assert better[1].resfu["0"].upsampler.guidance_channels == 3


class Otherwise(Plain):
    """The logits are interpolated in a way that is given, and shown in another form."""

    def __init__(self, show=lambda logits: logits, **options):
        super().__init__()
        self.show, self.options = show, options

    def forward(self, images):
        deep = self.stage2(self.stage1(self.stem(images).relu()).relu())
        return self.show(F.interpolate(self.head(deep), size=images.shape[-2:], **self.options))


@pytest.mark.parametrize(
    "show", [lambda x: x.softmax(1), lambda x: x.float().sigmoid(), lambda x: x.argmax(1), lambda x: (x > 0)[0]]
)
def test_probabilities_and_labels_show_logits(images, show):
    assert find_upsampling(Otherwise(show, mode="bilinear"), images)[0].left_alone == "logits to the image"


@pytest.mark.parametrize("options", [{"mode": "bicubic"}, {"mode": "bilinear", "align_corners": True}])
def test_an_interpolation_without_a_start_is_replaced_up_to_the_image(images, options):
    model = Otherwise(**options, antialias=True)
    plan = find_upsampling(model, images)
    assert plan.logits_alone
    assert plan[0].by_way is None
    assert upgrade(model, "resfu", images)(images).shape == (2, 4, 64, 64)


def test_a_pixel_shuffle_to_the_image_is_learned(images):
    model = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.PixelShuffle(2))
    assert find_upsampling(model, images)[0].left_alone == "learned by itself"
    with pytest.raises(ValueError, match="all upsampling of this network is learned"):
        upgrade(model, "resfu", images)
    assert upgrade(model, "resfu", images, where="all")(images).shape == (2, 4, 64, 64)


@pytest.mark.filterwarnings("ignore")
def test_torchvisions_deeplab():
    segmentation = pytest.importorskip("torchvision.models.segmentation", reason="needs the extra hosts")
    images = torch.randn(1, 3, 65, 97)
    net = segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, aux_loss=True).eval()
    better = upgrade(net, "resfu", images)
    new = {name.split(".upsampler")[0] for name, _ in better.named_parameters() if "resfu" in name.split(".")}
    assert new == {"resfu.0"}  # "out", not "aux"
    with torch.no_grad():
        for a, b in zip(better(images).values(), net(images).values(), strict=True):
            assert torch.allclose(a, b, atol=1e-5)
