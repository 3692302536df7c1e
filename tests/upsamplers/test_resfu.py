"""ReSFU against the golden numbers, its exact properties and its parameter counts."""

import json
from pathlib import Path

import pytest
import torch

import resfu
from resfu.upsamplers.official import convert_state_dict

GOLDEN = sorted((Path(__file__).parents[2].parent / "shared" / "golden").glob("resfu-*.safetensors"))
OPTIONS = {
    "gf_scale": "guided_filter_stride",
    "embedding_dim": "projection_dim",
    "groups": "groups",
    "kernel_size": "kernel_size",
}


def _random(*args, **options):
    torch.manual_seed(0)
    up = resfu.ReSFU(*args, **options).double()
    for p in up.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return up


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_golden(path, backend, dtype):
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        case = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    options = {"guided_filter_stride": 2} | {OPTIONS[k]: v for k, v in config["kwargs"].items()}
    up = resfu.ReSFU(config["channels"], config["guidance_channels"], backend=backend, **options).to(dtype).eval()

    def ours(prefix):
        found = {k.removeprefix(prefix): v for k, v in case.items() if k.startswith(prefix)}
        return convert_state_dict("resfu", found)

    up.load_state_dict(ours("param."))
    x, y = (case[name].to(dtype).clone().requires_grad_() for name in ("x", "guidance"))
    out = up(x, y)
    (out * case["grad_out"].to(dtype)).sum().backward()
    parameters = dict(up.named_parameters())
    gradients = {"x": (x.grad, case["grad_x"]), "guidance": (y.grad, case["grad_guidance"])}
    gradients |= {name: (parameters[name].grad, want) for name, want in ours("grad_param.").items()}
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    # The bias of the shared norm cancels between key and query: its exact gradient is 0, so noise is measured
    # against the norm's other gradient.
    scale = {n: gradients[n.replace("norm.bias", "norm.weight")][1].abs().max() for n in gradients}
    assert (out - case["out"]).abs().max() <= tolerance * case["out"].abs().max()
    with torch.inference_mode():
        assert (up(x, y) - case["out"]).abs().max() <= tolerance * case["out"].abs().max()
    for name, (got, want) in gradients.items():
        assert got is not None
        assert (got - want).abs().max() <= tolerance * max(want.abs().max(), scale[name]), name


def test_golden_cases_are_there_in_development():
    if not (Path(__file__).parents[2].parent / "shared").is_dir():
        pytest.skip("../shared is for development only")
    assert len(GOLDEN) >= 6


CASES = [
    ((5, 6), (10, 12), {}),
    ((5, 6), (13, 17), {}),
    ((6, 5), (96, 80), {"kernel_size": 5}),
    ((5, 5), (5, 5), {}),
    ((1, 1), (8, 8), {}),
    ((5, 6), (20, 18), {"neighbours": "coarse"}),
    ((5, 6), (20, 18), {"similarity": "concat", "groups": 8}),
    ((5, 6), (20, 18), {"similarity": "inner_product"}),
    ((5, 6), (20, 18), {"alignment": "semantic", "guided_query": False}),
    ((5, 6), (20, 18), {"alignment": "detail", "smoothed_key": False}),
    ((5, 6), (20, 18), {"guided_filter_stride": 2, "projection_dim": 16, "kernel_size": 7}),
    ((5, 6), (20, 18), {"normalize_features": False, "normalize_guidance": False}),
]


@pytest.mark.parametrize(("low", "high", "options"), CASES, ids=str)
def test_fast_equals_reference_and_keeps_constants(low, high, options):
    up = _random(16, 12, **options)
    x, y = torch.randn(2, 16, *low, dtype=torch.double), torch.randn(2, 12, *high, dtype=torch.double)
    got = up(x, y).detach()
    up.backend = "reference"
    torch.testing.assert_close(got, up(x, y).detach(), rtol=1e-10, atol=1e-10)
    up.backend = "auto"
    ones = torch.ones_like(x)
    torch.testing.assert_close(up(ones, y).detach(), torch.ones_like(got), rtol=1e-12, atol=1e-12)


def test_gradcheck():
    up = _random(8, 8, projection_dim=8, groups=1, hidden_channels=8, guided_filter_radius=2)
    x = torch.randn(1, 8, 2, 3, dtype=torch.double, requires_grad=True)
    y = torch.randn(1, 8, 5, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: up(x, y), (x, y))


def test_kernel_is_nearly_uniform_at_initialisation_and_zero_outside():
    up = resfu.ReSFU(8, 8)
    kernel = up.explain(torch.randn(1, 8, 6, 6), torch.randn(1, 8, 24, 24))["kernel"]
    assert kernel.max() < 0.5  # a corner pixel with four neighbours would have 1/4 each
    torch.testing.assert_close(kernel[0, :, 4:-4, 4:-4].mean((1, 2)), torch.full((9,), 1 / 9), atol=0.08, rtol=0)
    torch.testing.assert_close(kernel.sum(1), torch.ones(1, 24, 24))
    assert kernel[0, :3, 0].abs().max() == 0  # nothing above the first row
    assert kernel[0, 2::3, :, -1].abs().max() == 0


def test_explain_names_every_intermediate():
    up = resfu.ReSFU(8, 16)
    x, y = torch.randn(2, 8, 4, 5), torch.randn(2, 16, 16, 20)
    named = up.explain(x, y)
    shapes = {name: tuple(t.shape[1:]) for name, t in named.items()}
    maps = dict.fromkeys(("q", "q_gf", "q_gs"), (32, 16, 20))
    scores = dict.fromkeys(("semantic_scores", "detail_scores", "kernel"), (9, 16, 20))
    assert shapes == {**maps, "k": (32, 4, 5), **scores, "output": (8, 16, 20)}
    torch.testing.assert_close(named["output"], up(x, y))


@pytest.mark.parametrize(
    ("channels", "guidance", "options", "count"),
    [
        (256, 256, {}, 47_570),
        (512, 64, {}, 49_746),
        (384, 32, {}, 44_306),
        (1024, 32, {}, 66_066),
        (384, 32, {"kernel_size": 5}, 101_586 - 20_384),
        (384, 32, {"kernel_size": 7}, 156_930 - 20_384),
        (384, 32, {"projection_dim": 16}, 48_722 - 20_384),
        (384, 32, {"projection_dim": 64}, 96_626 - 20_384),
        (384, 32, {"groups": 1}, 144_562 - 20_384),
        (384, 32, {"groups": 2}, 91_314 - 20_384),
        (384, 32, {"groups": 8}, 51_378 - 20_384),
        (384, 32, {"alignment": "semantic"}, 49_641 - 20_384),
        (384, 32, {"alignment": "detail"}, 36_553 - 20_384),
        (384, 32, {"similarity": "inner_product"}, 34_592 - 20_384),
        (384, 32, {"similarity": "concat"}, 83_122 - 20_384),
    ],
)
def test_published_parameter_counts(channels, guidance, options, count):
    up = resfu.ReSFU(channels, guidance, **options)
    assert sum(p.numel() for p in up.parameters()) == count


def test_published_initialisation():
    torch.manual_seed(0)
    up = resfu.ReSFU(256, 256)
    assert up.semantic_similarity.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.05)
    for conv in (up.query, up.key, up.detail_similarity.reduce):
        assert conv.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert conv.bias.abs().max() == 0
    assert up.semantic_similarity.bias.abs().max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "must be odd"),
        ({"groups": 3}, "multiple of groups = 3"),
        ({"projection_dim": 12}, "projection_dim = 12"),
        ({"alignment": "all"}, "both, semantic, detail"),
        ({"similarity": "cosine"}, "pcdc, concat, inner_product"),
        ({"neighbours": "dense"}, "fine, coarse"),
        ({"guided_filter_stride": 4}, "one of 1, 2"),
        ({"channels": 0}, "channels must be at least 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        resfu.create_upsampler("resfu", **{"channels": 8, "guidance_channels": 8} | options)


def test_convert_refuses_unknown_names():
    with pytest.raises(ValueError, match="not a parameter of the published resfu"):
        convert_state_dict("resfu", {"weights": torch.zeros(1)})
    with pytest.raises(ValueError, match="known: resfu"):
        convert_state_dict("unknown", {})
