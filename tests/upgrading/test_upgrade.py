"""`upgrade`: what is chosen, what the result can do, and an error for each common mistake."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.upgrade_networks import NETWORKS, YoloNeck
from resfu import UPSAMPLERS, find_upsampling, load_upgraded, save_upgraded, upgrade


class Decoder(nn.Module):
    """An encoder of two stages and a top-down path with skips, then logits of the image's size."""

    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.stage1, self.stage2 = nn.Conv2d(width, width, 3, 2, 1), nn.Conv2d(width, width, 3, 2, 1)
        self.head = nn.Conv2d(width, 4, 1)

    def forward(self, pixels):
        a = self.stem(pixels)
        b = self.stage1(a.relu())
        c = self.stage2(b.relu())
        x = b + F.interpolate(c, size=b.shape[-2:], mode="nearest")
        x = a + F.interpolate(x, size=a.shape[-2:], mode="bilinear", align_corners=True)
        return F.interpolate(self.head(x), size=pixels.shape[-2:], mode="bilinear")


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(2, 3, 32, 32)


def test_the_plan_and_its_table(images):
    plan = find_upsampling(Decoder(), images)
    assert [place.left_alone for place in plan] == ["", "", "logits to the image"]
    assert [[guide.name for guide in place.guides] for place in plan] == [
        ["stage1", "image"],
        ["stem", "image"],
        ["image"],
    ]
    assert plan[0].guides[0].rank == "skip"
    assert "#1     bilinear, corners  8 x 8    16 x 16  2      8" in str(plan)
    assert 0 < sum(place.share for place in plan) < 1
    assert plan.find("#1") is plan[1]


@pytest.mark.parametrize("upsampler", UPSAMPLERS)
def test_every_upsampler_learns_is_saved_and_loaded(upsampler, images, tmp_path):
    torch.manual_seed(1)
    original = Decoder()
    model = upgrade(original, upsampler, images)
    if UPSAMPLERS[upsampler].startable:
        assert torch.allclose(model(images), original(images), atol=1e-6)
    new = {name: parameter for name, parameter in model.named_parameters() if name.startswith("resfu.")}
    assert bool(new) == (upsampler not in ("nearest", "bilinear", "bicubic"))
    model(images).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    torch.optim.SGD(model.parameters(), 0.1).step()
    save_upgraded(model.eval(), tmp_path / "net")
    assert sorted(file.name for file in (tmp_path / "net").iterdir()) == ["model.safetensors", "upgrade.json"]
    loaded = load_upgraded(tmp_path / "net", Decoder()).eval()
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))


def test_one_upsampler_a_place_and_guides_by_name(images):
    model = upgrade(
        Decoder(), {"#0": "carafe", "#1": "resfu", "#2": "sapa"}, images, guidance={"#1": "image", "#2": "stem"}
    )
    kinds = {number: type(part.upsampler).__name__ for number, part in model.resfu.items()}
    assert kinds == {"0": "CARAFE", "1": "ReSFU", "2": "SAPA"}
    assert model.resfu["1"].upsampler.guidance_channels == 3
    assert model.resfu["2"].upsampler.guidance_channels == 8
    assert model(images).shape == (2, 4, 32, 32)


def test_options_reach_the_constructor(images):
    model = upgrade(Decoder(), "resfu", images, options={"kernel_size": 5}, start="published", where="#1")
    assert [part.upsampler.kernel_size for part in model.resfu.values()] == [5]
    assert model.resfu["1"].upsampler.start == "published"


def test_the_original_stays_as_it_is(images):
    original = Decoder().train()
    before, names = original(images), list(original.state_dict())
    model = upgrade(original, "resfu", images)
    assert torch.equal(original(images), before)
    assert list(original.state_dict()) == names
    assert type(original) is Decoder
    assert model.training
    assert model.resfu.training
    assert not original.stem._forward_hooks


def test_other_batches_and_sizes(images):
    original = Decoder()
    model = upgrade(original, "resfu", images)
    for size in ((1, 3, 40, 56), (3, 3, 33, 47)):
        x = torch.randn(size)
        assert torch.allclose(model(x), original(x), atol=1e-5)
    assert model(pixels=images).shape == model(images).shape  # the name of the input does not matter


def test_autocast(images):
    model = upgrade(Decoder(), "resfu", images)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(images)
    out.float().mean().backward()
    assert model.resfu["0"].upsampler.detail_similarity.score.weight.grad is not None


@pytest.mark.filterwarnings("ignore")
def test_distributed_data_parallel(images, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(upgrade(Decoder(), "resfu", images))
        for _ in range(2):
            model(images).square().mean().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
    finally:
        torch.distributed.destroy_process_group()


def test_nothing_is_kept_between_passes(images):
    model = upgrade(Decoder(), "resfu", images)
    model(images)
    assert not model._upgraded.root.guides
    with pytest.raises(RuntimeError):
        model(torch.randn(2, 4, 32, 32))
    assert model(images).shape == (2, 4, 32, 32)  # an error does not leave a pass half done


class Swapped(Decoder):
    """Its two places change their order, their widths or the way in which they interpolate, as it is told."""

    def __init__(self):
        super().__init__()
        self.wide, self.how = nn.Conv2d(3, 5, 4, 4), "as seen"

    def forward(self, pixels):
        deep = self.wide(pixels)[:, :3] if self.how == "width" else self.wide(pixels)
        mode = "nearest" if self.how == "mode" else "bilinear"
        first, second = (4, 2) if self.how == "order" else (2, 4)
        x = F.interpolate(deep, scale_factor=first, mode=mode)
        y = F.interpolate(self.wide(pixels), scale_factor=second, mode="bilinear")
        return x.sum() + y.sum()


class Frozen(Decoder):
    def forward(self, pixels):
        with torch.no_grad():
            x = F.interpolate(self.stage1(self.stem(pixels)), scale_factor=2, mode="bilinear")
        return self.head(x)


def test_mistakes_are_named(images, tmp_path):
    model = Decoder()

    def refused(match, *args, network=model, **options):
        with pytest.raises(ValueError, match=match):
            upgrade(network, *(args or ("resfu", images)), **options)

    refused("give it the inputs that its forward takes", "resfu")
    refused("must be a torch.nn.Module, got the class Decoder", network=Decoder)
    refused(
        r"does not take the inputs given \(images=float32 \[2, 3, 32, 32\]\).*named_inputs",
        "resfu",
        named_inputs={"images": images},
    )
    refused("unknown upsampler 'resfi'", "resfi", images)
    refused(r"no place 'head#7'; there are #0, #1, #2", where="head#7")
    refused(r"no module 'stage_1'.*stage1", guidance="stage_1")
    refused(r"head is computed after #0", guidance={"#0": "head"}, where="#0")
    refused(r"start must be 'as-before' or 'published'", start="before")
    taken = Decoder()
    taken.resfu = nn.Identity()
    refused("the network has a part named 'resfu', where upsamplers go: rename it", network=taken)
    refused("no place to replace", network=nn.Sequential(nn.Conv2d(3, 4, 1)))
    refused("upgraded already", network=upgrade(model, "same", images))
    refused("wrapped in OptimizedModule", network=torch.compile(model))
    compiled = Decoder()
    compiled.compile()
    refused(r"compiled in place \(.compile\(\)\): upgrade it first", network=compiled)
    refused("resfu has no option|has no option", options={"kernel": 3})
    refused("options must not hold scale_factor: the network sets it by itself", options={"scale_factor": 2})
    refused("upsampler must be a name or a mapping from places to names, got None", None, images)
    refused("where must be the name of a place, a list of names or 'all', got 3", where=3)
    hooked = Decoder()
    hooked.forward = hooked.forward
    refused("replaced on the object itself", network=hooked)
    with pytest.raises(ValueError, match="is not upgraded"):
        save_upgraded(model, tmp_path)
    with pytest.raises(FileNotFoundError):
        load_upgraded(tmp_path, model)
    save_upgraded(upgrade(model, "resfu", images), tmp_path)
    with pytest.raises(ValueError, match="tensors differ"):
        load_upgraded(tmp_path, Decoder(16))
    with pytest.raises(ValueError, match=r"has no memory \(device meta\): call .to_empty"):
        load_upgraded(tmp_path, Decoder().to("meta"))
    with pytest.raises(ValueError, match="not the network that the plan was made for"):
        load_upgraded(tmp_path, nn.Sequential(nn.Conv2d(3, 4, 1)))


@pytest.mark.parametrize("upsampler", [name for name, method in UPSAMPLERS.items() if not method.startable])
def test_methods_that_cannot_start_as_before_say_so(upsampler, images):
    able = "carafe, fade, sapa, dysample, resfu, resfu-image have"
    with pytest.raises(ValueError, match=rf"#0 cannot start as before: {upsampler} has no such form; {able}"):
        upgrade(Decoder(), upsampler, images, start="as-before")


def test_a_guide_on_another_device_is_named(images):
    class Elsewhere(Decoder):
        def forward(self, pixels):
            deep = self.stage1(self.stem(pixels).relu())
            like = self.beside(self.stem(pixels))
            return self.head(F.interpolate(deep, size=like.shape[-2:], mode="bilinear"))

    model = Elsewhere()
    model.beside = nn.Identity()
    better = upgrade(model, "resfu", images, guidance="beside")
    better.beside.register_forward_hook(lambda module, args, output: output.to("meta"), prepend=True)
    with pytest.raises(ValueError, match=r"guidance 'beside' of #0 is on meta and the features on cpu: choose another"):
        better(images)


def test_mistakes_in_the_training_loop_are_named(images):
    swapped = upgrade(Swapped(), "carafe", images)
    for how, message in {
        "width": r"was bilinear of 5 channels when resfu.upgrade saw it, and now is bilinear of \[2, 3, 8, 8\]",
        "mode": "was bilinear of 5 channels when resfu.upgrade saw it, and now is nearest of",
        "order": r"had the ratio 2 when resfu.upgrade saw it, and now goes from \(8, 8\) to \(32, 32\)",
    }.items():
        swapped.how = how
        with pytest.raises(ValueError, match=message):
            swapped(images)
    swapped.how = "as seen"
    swapped(images)
    frozen = upgrade(Frozen(), "resfu", images)
    with pytest.raises(ValueError, match=r"torch\.no_grad, so its upsampler would never train"):
        frozen(images)
    assert frozen.eval()(images).shape == (2, 4, 16, 16)
    lone = upgrade(YoloNeck(), "resfu", images)
    with pytest.raises(ValueError, match="Either a part of the network was called by itself"):
        lone.up(torch.randn(1, 32, 4, 4))
    state = upgrade(Decoder(), "resfu", images)._upgraded.root
    state.guides["stem"] = torch.empty(1, device="meta")
    with pytest.raises(ValueError, match="is on meta and the features on cpu"):
        state.guide("stem", "#1", torch.device("cpu"))
    with pytest.raises(ValueError, match="use DistributedDataParallel"):
        lone._replicate_for_data_parallel()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["transformers SegFormer", "smp Unet", "torchvision fasterrcnn", "monai SegResNet"])
def test_libraries_start_where_they_were(name):
    pytest.importorskip("segmentation_models_pytorch", reason="needs the dev group")
    pytest.importorskip("monai", reason="needs the dev group")
    from benchmarks.upgrade_matrix import outputs

    network = NETWORKS[name]
    original, inputs = network.build(), network.inputs()
    with torch.no_grad():
        for a, b in zip(outputs(upgrade(original, "resfu", *inputs)(*inputs)), outputs(original(*inputs)), strict=True):
            assert torch.allclose(a, b, atol=1e-5)
