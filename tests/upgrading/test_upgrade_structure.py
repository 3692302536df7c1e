"""`upgrade` of networks that change their path, their parts or their state, or have upsamplers already."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from resfu import ReSFU, find_upsampling, load_upgraded, save_upgraded, upgrade


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.rand(2, 3, 64, 64)


class Auxiliary(nn.Module):
    """An auxiliary head in training mode, before the main one, which interpolates twice."""

    def __init__(self, asks_targets=False):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(c, 8, 3, 2, 1) for c in (3, 8, 8))
        self.norm, self.drop = nn.BatchNorm2d(8), nn.Dropout(0.5)
        self.head, self.helper, self.asks_targets = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 3, 1), asks_targets

    def forward(self, x, targets=None):
        if self.training and self.asks_targets and targets is None:
            raise TypeError("targets, please")
        a = self.a(x)
        b = self.norm(self.b(a))
        c = self.c(self.drop(b))
        aux = F.interpolate(self.helper(c), size=a.shape[-2:], mode="bilinear") if self.training else None
        b = b + F.interpolate(c, size=b.shape[-2:], mode="bilinear")
        out = self.head(a + F.interpolate(b, size=a.shape[-2:], mode="bilinear"))
        return (out, aux) if self.training else out


def test_outputs_of_training_alone_do_not_shift_the_places(images, tmp_path):
    net = Auxiliary().eval()
    running = net.norm.running_mean.clone()
    better = upgrade(net, "resfu", images)
    assert torch.equal(net.norm.running_mean, running)
    torch.testing.assert_close(better(images), net(images), rtol=1e-5, atol=1e-5)
    save_upgraded(better, tmp_path)
    for made in (better, load_upgraded(tmp_path, Auxiliary().eval())):
        made.train()
        for module in (net.train(), made):
            module.norm.reset_running_stats()
            torch.manual_seed(0)
            found = module(images)
            if module is net:
                wanted = found
        for got, want in zip(found, wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
        sum(part.sum() for part in found).backward()
        assert all(p.grad is not None for name, p in made.named_parameters() if "out" in name or "kernel" in name)


def test_a_network_that_wants_targets_for_training_is_upgraded(images):
    net = Auxiliary(asks_targets=True)
    better = upgrade(net, "carafe", images)
    with pytest.raises(ValueError, match=r"interpolation|resamples more maps|had the ratio|was bilinear"):
        better(images, targets=1)
    assert better.eval()(images).shape == (2, 3, 32, 32)


class SavesMemory(nn.Module):
    """In training mode one of two interpolations is called through a checkpoint, in evaluation mode directly."""

    def __init__(self, renamed=False):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(c, 8, 3, 2, 1) for c in (3, 8, 8))
        self.head, self.renamed = nn.Conv2d(8, 3, 1), renamed

    def up(self, x, like):
        return F.interpolate(x, size=like.shape[-2:], mode="bilinear")

    def forward(self, x):
        a = self.a(x)
        b = self.b(a)
        c = self.c(b)
        if self.training and self.renamed:
            b = b + (lambda: F.interpolate(c, size=b.shape[-2:], mode="bilinear"))()
        elif self.training:
            b = b + checkpoint(self.up, c, b, use_reentrant=False)
        else:
            b = b + self.up(c, b)
        return self.head(a + self.up(b, a))


def test_a_checkpoint_in_training_mode_calls_the_same_places(images):
    better = upgrade(SavesMemory(), "carafe", images)
    seen = []
    for part in better.resfu.values():
        part.register_forward_hook(lambda module, args, out: seen.append((id(module), tuple(out.shape[-2:]))))
    better.train()(images)
    assert seen == [(id(part), size) for part, size in zip(better.resfu.values(), ((16, 16), (32, 32)), strict=True)]


def test_places_that_training_mode_does_not_reach_are_named(images):
    with pytest.warns(UserWarning, match=r"^#0 is not upsampled by the same call in training mode"):
        better = upgrade(SavesMemory(renamed=True), "carafe", images)
    seen = []
    better.resfu["1"].register_forward_hook(lambda module, args, out: seen.append(tuple(out.shape[-2:])))
    better.train()(images)
    assert seen == [(32, 32)]


class Early(nn.Module):
    """Two places, of which the first is skipped on request."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(c, 8, 3, 2, 1) for c in (3, 8, 8))
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x, deep=True):
        a = self.a(x)
        b = self.b(a)
        if deep:
            b = b + F.interpolate(self.c(b), size=b.shape[-2:], mode="bilinear")
        return self.head(a + F.interpolate(b, size=a.shape[-2:], mode="bilinear"))


def test_a_pass_that_skips_a_place(images):
    net = Early().eval()
    better = upgrade(net, "resfu", images)
    ran = []
    for number, part in better.resfu.items():
        part.register_forward_hook(lambda module, args, out, number=number: ran.append(number))
    for deep in (False, True):
        torch.testing.assert_close(better(images, deep=deep), net(images, deep=deep))
    assert ran == ["1", "0", "1"]


class Steps(nn.Sequential):
    def forward(self, x):
        return F.interpolate(super().forward(x), scale_factor=2, mode="bilinear")


def test_the_steps_of_an_upgraded_sequence_can_be_changed(images):
    net = nn.ModuleList([Steps(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 4, 1))])
    steps = upgrade(nn.Sequential(*net), "carafe", images)[0]
    steps.append(nn.Tanh())
    steps[-1] = nn.Sigmoid()
    steps[2] = nn.Conv2d(8, 5, 1)
    assert [type(step).__name__ for step in steps] == ["Conv2d", "ReLU", "Conv2d", "Sigmoid"]
    del steps[-1]
    steps.insert(0, nn.Identity())
    assert isinstance(steps.pop(0), nn.Identity)
    assert [name for name, _ in steps.named_children()] == ["0", "1", "2", "resfu"]
    steps[2] = nn.Conv2d(8, 4, 1)
    assert steps[2].out_channels == len(steps) + 1
    assert [type(step) for step in steps[1:]] == [nn.ReLU, nn.Conv2d]


class Chosen(Early):
    """A network that says itself what of it is pickled."""

    def __init__(self):
        super().__init__()
        self.lock, self.loaded = (n for n in (1, 2)), 0

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "lock"}

    def __setstate__(self, state):
        super().__setstate__(state)
        self.lock, self.loaded = (n for n in (1, 2)), self.loaded + 1


def test_a_network_with_a_state_of_its_own_is_copied_and_pickled(images):
    better = upgrade(Chosen(), "resfu", images)
    again = pickle.loads(pickle.dumps(copy.deepcopy(better)))
    assert again.loaded == better.loaded + 2
    assert torch.equal(again(images), better(images))


def test_upsamplers_that_a_network_has_already_stay(images):
    class Having(Early):
        def __init__(self):
            super().__init__()
            self.own = ReSFU(8, 8)

        def forward(self, x):
            a = self.a(x)
            b = self.own(self.b(a), a)
            return self.head(F.interpolate(b, scale_factor=2, mode="bilinear"))

    plan = find_upsampling(Having(), images)
    assert [place.name for place in plan] == ["#0"]
    assert not [guide.name for guide in plan.sources if guide.name.startswith("own.")]
    outer = nn.Sequential(upgrade(Early(), "resfu", images), nn.Upsample(scale_factor=2))
    with pytest.raises(ValueError, match=r"^0 is upgraded already"):
        upgrade(outer, "resfu", images)


def test_a_traced_graph_cannot_be_upgraded(images):
    with pytest.raises(ValueError, match=r"torch\.fx\.GraphModule, which rewrites its class"):
        upgrade(torch.fx.symbolic_trace(Early(), concrete_args={"deep": True}), "resfu", images)


class Looping(nn.Module):
    """A decoder that calls all that it has."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        for child in self.children():
            x = child(x)
        return F.interpolate(x, scale_factor=2, mode="bilinear")


def test_a_module_that_calls_all_its_submodules_is_named(images):
    with pytest.raises(ValueError, match=r"calls all its submodules one after another.*\('resfu'\)"):
        upgrade(Looping(), "carafe", images, where="all")


def test_guides_and_places_without_effect_are_errors(images):
    net, first, second = Early(), "#0", "#1"
    for words, options in {
        r"guidance names #1, which has no guided upsampler: it guides #0": {
            "upsampler": {first: "resfu", second: "carafe"},
            "guidance": {second: "image"},
        },
        r"guidance names #1, which has no guided upsampler: it guides #0\.": {
            "upsampler": "resfu",
            "where": [first],
            "guidance": {second: "image"},
        },
        r"guidance names #0 more than once": {"upsampler": "resfu", "guidance": {first: "b", "": "image"}},
        r"guidance='image' guides nothing": {"upsampler": "carafe", "guidance": "image"},
        r"#0 is named more than once": {"upsampler": "resfu", "where": [first, ""]},
    }.items():
        with pytest.raises(ValueError, match=words):
            upgrade(net, options.pop("upsampler"), images, **options)
