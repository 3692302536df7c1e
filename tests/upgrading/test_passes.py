"""Passes of an upgraded network: their results at step 0, several at a time, one within another, computed again."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from resfu import UPSAMPLERS, load_upgraded, save_upgraded, upgrade
from tests.upgrading.test_upgrade import Decoder


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(2, 3, 32, 32)


@pytest.mark.parametrize("upsampler", [name for name, method in UPSAMPLERS.items() if method.startable])
def test_networks_at_odd_sizes_start_as_before(upsampler):
    images = torch.randn(2, 3, 45, 51, generator=torch.Generator().manual_seed(0))
    original = Decoder()
    model = upgrade(original, upsampler, images)
    assert torch.allclose(model(images), original(images), atol=1e-6)
    other = images[..., :38, :43]
    assert torch.allclose(model(other), original(other), atol=1e-6)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("recompute", [False, True])
def test_scale_factors_that_are_not_the_ratio_of_the_sizes_start_as_before(mode, recompute):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 4, 1)

        def forward(self, pixels):
            x = self.stem(pixels)
            return self.head(F.interpolate(x, scale_factor=1.5, mode=mode, recompute_scale_factor=recompute))

    original, images = Scaled(), torch.randn(2, 3, 34, 46, generator=torch.Generator().manual_seed(0))
    model = upgrade(original, "resfu", images)
    assert torch.allclose(model(images), original(images), atol=1e-5)
    assert torch.allclose(model(images[..., :40]), original(images[..., :40]), atol=1e-5)


@pytest.mark.parametrize("upsampler", ["resfu", "carafe", "bilinear"])
def test_networks_that_convert_maps_on_the_way(upsampler, images):
    class Converting(Decoder):
        def forward(self, pixels):
            a = self.stem(pixels)
            x = F.interpolate(self.stage1(a).float(), size=a.shape[-2:], mode="bilinear")
            assert x.dtype == torch.float32
            return self.head(a + x.to(a.dtype))

    original = Converting().bfloat16()
    model = upgrade(original, upsampler, images.bfloat16())
    torch.testing.assert_close(model(images.bfloat16()), original(images.bfloat16()), atol=0.05, rtol=0.05)
    whole = upgrade(Converting(), upsampler, images).bfloat16()
    assert whole(images.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert model.float()(images).isfinite().all()


def test_threads_have_passes_of_their_own(images):
    model = upgrade(Decoder(), "resfu", images).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batches = [torch.randn(1, 3, side, side) for side in (32, 48, 64, 40)] * 10

    @torch.no_grad()
    def run(batch):
        return model(batch)

    wanted = [run(batch) for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(run, batches))
    for got, want in zip(found, wanted, strict=True):
        assert torch.allclose(got, want, atol=1e-5)
    assert torch.equal(copy.deepcopy(model)(batches[0]), model(batches[0]))


def test_a_network_that_calls_itself(images):
    class Mirrored(Decoder):
        def forward(self, pixels, again=True):
            a = self.stem(pixels)
            x = self.head(a + F.interpolate(self.stage1(a), size=a.shape[-2:]))
            return x + self.forward(pixels.flip(-1), again=False).flip(-1) if again else x

    original = Mirrored()
    model = upgrade(original, "resfu", images)
    assert torch.allclose(model(images), original(images), atol=1e-6)
    assert torch.allclose(model(images), original(images), atol=1e-6)  # the pass before has ended


class Checkpointed(Decoder):
    """A part that is computed again for the backward pass."""

    def __init__(self, calls=1, reentrant=False):
        super().__init__()
        self.calls, self.reentrant = calls, reentrant

    def forward(self, pixels):
        a = self.stem(pixels)
        return self.head(checkpoint(self.up, self.stage1(a.relu()), a, use_reentrant=self.reentrant))

    def up(self, x, like):
        for _ in range(self.calls):
            y = F.interpolate(x, size=like.shape[-2:], mode="bilinear")
        return y


def test_checkpointing_around_a_place_with_a_guide_is_an_error(images):
    out = upgrade(Checkpointed(), "resfu", images)(images)
    with pytest.raises(ValueError, match="nor has the recomputing of a checkpoint"):
        out.sum().backward()
    upgrade(Checkpointed(), "carafe", images)(images).sum().backward()  # needs none


def test_checkpointing_that_cannot_be_is_named(images):
    out = upgrade(Checkpointed(calls=2), "carafe", images)(images)
    with pytest.raises(ValueError, match=r"Or torch\.utils\.checkpoint computed this part again for the backward pass"):
        out.sum().backward()
    with (
        pytest.warns(UserWarning, match="None of the inputs have requires_grad"),
        pytest.raises(ValueError, match=r"torch\.utils\.checkpoint with use_reentrant=True sets one as well"),
    ):
        upgrade(Checkpointed(reentrant=True), "carafe", images)(images)


def test_damaged_files_are_named(images, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no upgrade\.json: expected what resfu\.save_upgraded writes"):
        load_upgraded(tmp_path / "nothing", Decoder())
    save_upgraded(upgraded := upgrade(Decoder(), "resfu", images), tmp_path)
    file, plan = tmp_path / "model.safetensors", tmp_path / "upgrade.json"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load_upgraded(tmp_path, original := Decoder())
    assert type(original) is Decoder  # and still the original
    whole = json.loads(plan.read_text())
    plan.write_text(json.dumps({key: value for key, value in whole.items() if key != "owners"}))
    with pytest.raises(ValueError, match=r"upgrade\.json is not what resfu\.save_upgraded writes"):
        load_upgraded(tmp_path, Decoder())
    for part, value in {"owners": {}, "exchanges": [{"owner": ""}]}.items():
        plan.write_text(json.dumps({**whole, part: value}))
        save_file(upgraded.state_dict(), file)
        with pytest.raises(ValueError, match=r"upgrade\.json is damaged \(KeyError"):
            load_upgraded(tmp_path, original)
        assert type(original) is Decoder
    plan.write_text(json.dumps(whole)[:-20])
    with pytest.raises(ValueError, match=r"upgrade\.json is not JSON"):
        load_upgraded(tmp_path, Decoder())
    plan.write_text("[]")
    with pytest.raises(ValueError, match=r"upgrade\.json is not what resfu\.save_upgraded writes"):
        load_upgraded(tmp_path, Decoder())


def test_arguments_in_the_wrong_order_are_named(images, tmp_path):
    better = upgrade(Decoder(), "resfu", images)
    with pytest.raises(ValueError, match=r"save_upgraded\(model, folder\): first the network, not \w*Path"):
        save_upgraded(tmp_path, better)
    save_upgraded(better, tmp_path)
    with pytest.raises(ValueError, match=r"load_upgraded\(folder, model\): .* not Decoder and \w*Path"):
        load_upgraded(Decoder(), tmp_path)


def test_another_network_stays_as_it_is(images, tmp_path):
    save_upgraded(upgrade(Decoder(), "resfu", images), tmp_path)
    other = Decoder()
    other.head = nn.Conv2d(8, 5, 1)
    names = list(other.state_dict())
    with pytest.raises(ValueError, match=r"2 tensors differ, such as head\.weight"):
        load_upgraded(tmp_path, other)
    assert list(other.state_dict()) == names
    other.head = nn.Conv2d(8, 4, 1)
    assert load_upgraded(tmp_path, other)(images).shape == (2, 4, 32, 32)


def test_attributes_of_a_transposed_convolution_are_named(images):
    class Weighed(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up = nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 8, 2, 2)

        def forward(self, x):
            return self.up(self.down(x)) * self.up.weight.mean()

    with pytest.raises(ValueError, match=r"a transposed convolution what its upsampler has not .*'weight'"):
        upgrade(Weighed(), "resfu", images, where="all")


def test_what_runs_outside_of_a_pass_is_not_kept(images):
    better = upgrade(Decoder(), "resfu", images)
    better.stem(images)
    assert not better._upgraded.root.guides
