"""Every module with parameters is called where a user has hooked, parametrized, pruned or wrapped it."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import resfu
from resfu.upsamplers import plain
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.jbu import StackJBU

LEARNED = [name for name in resfu.UPSAMPLERS if name not in ("nearest", "bilinear", "bicubic")]
FORMS = [(name, {}) for name in LEARNED] + [
    ("resfu", {"similarity": "concat", "neighbours": "coarse"}),
    ("resfu", {"similarity": "inner_product"}),
    ("fade", {"gated": True}),
    ("fade", {"lite": True}),
    ("sapa", {"norm": "layer"}),
    ("dysample", {"style": "pl"}),
]


@pytest.fixture(params=FORMS, ids=lambda form: "-".join([form[0], *map(str, form[1])]))
def up(request: pytest.FixtureRequest, create: Callable[..., Upsampler]) -> Upsampler:
    name, options = request.param
    return create(name, **options).double()


@pytest.fixture
def run(up: Upsampler, maps: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[nn.Module], Tensor]:
    x, y = maps(up, dtype=torch.double)
    x.requires_grad_()
    y.requires_grad_()
    return lambda module: module(x, y)


def parts(up: nn.Module) -> dict[str, nn.Module]:
    """The modules that hold parameters of their own, the upsampler aside."""
    return {name: m for name, m in up.named_modules() if name and m._parameters}


def layers(up: nn.Module) -> dict[str, nn.Module]:
    """Those that are convolutions."""
    return {name: m for name, m in parts(up).items() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))}


def same(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_every_hook_fires_and_changes_nothing(up, run):
    want = run(up)
    seen = {kind: [] for kind in ("before", "after", "backward")}
    outputs = []
    for name, module in parts(up).items():
        module.register_forward_pre_hook(lambda m, args, name=name: seen["before"].append(name))
        module.register_forward_hook(lambda m, args, out, name=name: seen["after"].append(name))
        module.register_forward_hook(lambda m, args, out: outputs.append((out, out.detach().clone())))
        module.register_full_backward_hook(lambda m, grads, outs, name=name: seen["backward"].append(name))
    got = run(up)
    same(got, want)
    got.sum().backward()
    for names in seen.values():
        assert set(names) == set(parts(up))
    assert all(torch.equal(out, then) for out, then in outputs)  # nobody writes on what a hook was shown
    with torch.no_grad():
        seen["after"].clear()
        same(run(up), want)
    assert set(seen["after"]) == set(parts(up))


def test_what_a_hook_returns_counts(up, run):
    want = run(up)
    for name, module in parts(up).items():
        handle = module.register_forward_hook(
            lambda m, args, out: out * torch.linspace(1.5, 2, out.numel()).view_as(out)
        )
        assert not torch.allclose(run(up), want), name
        handle.remove()
    same(run(up), want)


@pytest.mark.parametrize("form", ["hooks", "parametrization"])
def test_weight_norm_trains(up, run, form):
    want = run(up)
    for module in layers(up).values():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            (nn.utils.weight_norm if form == "hooks" else nn.utils.parametrizations.weight_norm)(module)
    same(run(up), want)
    _train(up, run)


def test_pruned_weights_stay_pruned_and_train(up, run):
    for module in layers(up).values():
        prune.random_unstructured(module, "weight", amount=0.5)
    _train(up, run)
    want = run(up)
    for module in layers(up).values():
        prune.remove(module, "weight")
        zeros = (module.weight == 0).sum().item()
        assert zeros == round(module.weight.numel() / 2)
    same(run(up), want)


def _train(up, run):
    optimiser = torch.optim.SGD(up.parameters(), lr=1e-3)
    for _ in range(2):
        optimiser.zero_grad()
        run(up).square().mean().backward()
        assert all(p.grad is not None for p in up.parameters())
        optimiser.step()


class LowRank(nn.Module):
    """What LoRA puts round a convolution."""

    def __init__(self, base_layer: nn.Conv2d) -> None:
        super().__init__()
        self.base_layer = base_layer.requires_grad_(False)
        options = {"bias": False, "dtype": base_layer.weight.dtype}
        self.down = nn.Conv2d(base_layer.in_channels, 2, 1, **options)
        self.up = nn.Conv2d(2, base_layer.out_channels, 1, **options)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor, *args: object, **options: object) -> Tensor:
        out = self.base_layer(x, *args, **options)
        change = self.up(self.down(x))
        if change.shape != out.shape:
            change = nn.functional.interpolate(change, size=out.shape[-2:])
        return out + change


def test_low_rank_adaptation_trains(up, run):
    want = run(up)
    wrapped = {}
    for name, layer in layers(up).items():
        parent, _, child = name.rpartition(".")
        wrapped[name] = LowRank(layer)
        setattr(up.get_submodule(parent), child, wrapped[name])
    same(run(up), want)
    run(up).square().mean().backward()
    for name, module in wrapped.items():
        assert module.up.weight.grad.abs().max() > 0, name


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups")
def test_adapters_of_peft_train(up, run):
    peft = pytest.importorskip("peft", reason="peft is in the dev group")
    want = run(up)
    convolutions = {name: layer for name, layer in layers(up).items() if isinstance(layer, nn.Conv2d)}
    if not convolutions:
        return  # peft has no adapter for transposed convolutions
    config = peft.LoraConfig(
        target_modules=list(convolutions),
        rank_pattern={name: 2 * layer.groups for name, layer in convolutions.items()},  # peft: a multiple of the groups
    )
    peft.inject_adapter_in_model(config, up)
    up.double()
    same(run(up), want)
    run(up).square().mean().backward()
    adapted = {name: p for name, p in up.named_parameters() if "lora_B" in name}
    assert len(adapted) == len(convolutions)
    for name, parameter in adapted.items():
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("dtype", [torch.double, torch.float], ids=str)  # compiled kernels run in fp32
def test_a_norm_of_another_class_is_called(create, maps, dtype):
    up = create("resfu").to(dtype)
    x, y = maps(up, dtype=dtype)
    norm = up.semantic_similarity.norm
    nn.init.normal_(norm.weight)  # not the same when it is done twice
    want = up(x, y)
    other = nn.GroupNorm(norm.num_groups, norm.num_channels).to(dtype)
    other.load_state_dict(norm.state_dict())
    up.semantic_similarity.norm = other
    tolerance = 1e-9 if dtype == torch.double else 1e-5
    torch.testing.assert_close(up(x, y), want, rtol=tolerance, atol=tolerance)  # of the upsampled key
    up.semantic_similarity.norm = nn.Identity()
    assert not torch.allclose(up(x, y), want, rtol=1e-3, atol=1e-3)


def test_dropout_that_is_on_by_itself_drops(create, maps):
    up = create("stack-jbu", scale_factor=2)
    assert isinstance(up, StackJBU)
    x, y = maps(up)
    want = up(x, y)
    up.dropout.train()
    assert not torch.equal(up(x, y), want)


def test_quantised_weights_are_called_not_folded():
    quantization = pytest.importorskip("torchao.quantization", reason="needs torchao")
    torch.manual_seed(0)
    up = resfu.create_upsampler("anyup", channels=16).eval()
    x, image = torch.randn(1, 16, 6, 7), torch.rand(1, 3, 12, 14)
    with torch.no_grad():
        expected = up(x, image)
        quantization.quantize_(up, quantization.Int8WeightOnlyConfig())
        assert (up(x, image) - expected).abs().max() < 0.05 * expected.abs().max()


def test_only_what_is_plain_counts_as_plain():
    convolution = nn.Conv2d(4, 4, 1)
    assert plain.is_plain_convolution(convolution)
    assert not plain.is_plain_convolution(nn.Conv2d(4, 4, 3, padding=1))
    assert not plain.is_plain_convolution(nn.Conv2d(4, 4, 1, stride=2))
    assert not plain.is_plain_convolution(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)))
    assert not plain.is_plain_group_norm(nn.GroupNorm(2, 4, affine=False))
    handle = convolution.register_forward_hook(lambda *_: None)
    assert not plain.is_plain_convolution(convolution)
    handle.remove()
    assert plain.is_plain_convolution(convolution)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert not plain.is_plain_convolution(convolution)
    handle.remove()
    convolution.forward = convolution.forward
    assert not plain.is_plain_convolution(convolution)
