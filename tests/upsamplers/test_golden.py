"""Every upsampler against the golden numbers: outputs and all gradients of the published definitions."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import resfu
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.official import convert_state_dict

SHARED = Path(__file__).parents[2].parent / "shared"
# The published rule of NAF at ratios that are not whole is another one (frozen.md 1.4): ours is that of the cells.
GOLDEN = [
    path
    for folder in ("golden", "golden-frozen")
    for path in sorted((SHARED / folder).glob("*.safetensors"))
    if not path.stem.endswith("-published")
]

# Published constructor arguments -> ours.
OPTIONS = {
    "carafe": {
        "up_kernel": "kernel_size",
        "up_group": "groups",
        "encoder_kernel": "encoder_kernel_size",
        "encoder_dilation": "encoder_dilation",
        "compressed_channels": "compressed_channels",
    },
    "dysample": {"style": "style", "groups": "groups", "dyscope": "dynamic_scope"},
    "fade": {"up_kernel": "kernel_size", "embedding_dim": "compressed_channels", "gating": "gated"},
    "fade-lite": {"up_kernel": "kernel_size", "gating": "gated"},
    "indexnet": {"use_nonlinear": "nonlinear", "use_context": "context"},
    "jbu": {"key_dim": "key_dim", "radius": "radius"},
    "sapa": {
        "up_kernel_size": "kernel_size",
        "embedding_dim": "projection_dim",
        "qkv_bias": "projection_bias",
    },
    "resfu": {
        "gf_scale": "guided_filter_stride",
        "embedding_dim": "projection_dim",
        "groups": "groups",
        "kernel_size": "kernel_size",
    },
    "naf": {
        "dim": "dim",
        "heads_attn": "heads",
        "heads_rope": "rope_heads",
        "kernel_size": "kernel_size",
        "img_layers": "layers",
        "rope_base": "rope_base",
        "rope_rescale": "rope_rescale",
    },
    "anyup": {
        "input_dim": "guidance_channels",
        "qk_dim": "dim",
        "kernel_size": "kernel_size",
        "kernel_size_lfu": "feature_kernel_size",
        "window_ratio": "window_ratio",
        "num_heads": "heads",
        "lfu_dim": "feature_dim",
    },
}
# Where the published default is not ours.
DEFAULTS = {"dysample": {"dynamic_scope": False}, "resfu": {"guided_filter_stride": 2}, "fade-lite": {"lite": True}}


def build(config: dict[str, Any], **options: object) -> Upsampler:
    kind = config["kind"]
    options |= DEFAULTS.get(kind, {}) | {OPTIONS[kind][name]: value for name, value in config["kwargs"].items()}
    if kind == "jbu":
        return resfu.JBU(config["guidance_channels"], **options)
    return resfu.create_upsampler(
        kind.removesuffix("-lite"),
        channels=config["channels"],
        guidance_channels=config["guidance_channels"] or None,
        scale_factor=config["scale_factor"],
        **options,
    )


def backends(path: Path) -> list[str]:
    return ["reference", "cpu"] if path.stem.startswith("resfu") else [""]


def relative_error(got: Tensor, want: Tensor, scale: Tensor | float = 0.0) -> float:
    return float((got.detach() - want).abs().max()) / max(float(scale), float(want.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("path", "backend"), [(p, b) for p in GOLDEN for b in backends(p)], ids=lambda v: getattr(v, "stem", v)
)
def test_golden(path: Path, backend: str, dtype: torch.dtype) -> None:
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        case = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    up = build(config, **({"backend": backend} if backend else {})).to(dtype).eval()

    def ours(prefix: str) -> dict[str, Tensor]:
        found = {key.removeprefix(prefix): value for key, value in case.items() if key.startswith(prefix)}
        return convert_state_dict(config["kind"], found)

    up.load_state_dict(ours("param."))
    maps = {name: case[name].to(dtype).clone().requires_grad_() for name in ("x", "guidance") if name in case}
    out = up(*maps.values(), size=tuple(case["out"].shape[-2:]))
    (out * case["grad_out"].to(dtype)).sum().backward()
    parameters = dict(up.named_parameters())
    wanted = ours("grad_param.")
    assert wanted.keys() == parameters.keys()
    gradients = {name: (x.grad, case[f"grad_{name}"]) for name, x in maps.items()}
    gradients |= {name: (parameters[name].grad, want) for name, want in wanted.items()}

    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    # The softmax ignores what shifts all scores of a pixel. Some biases do little else: their gradient is what is left
    # of large sums that cancel, so its noise is measured against the gradient of the layer's weight.
    scale = {name: gradients[re.sub(r"(norm|key)\.bias$", r"\1.weight", name)][1].abs().max() for name in gradients}
    assert relative_error(out, case["out"]) <= tolerance
    with torch.inference_mode():
        again = up(*(case[name].to(dtype) for name in maps), size=tuple(out.shape[-2:]))
        assert relative_error(again, case["out"]) <= tolerance
    for name, (got, want) in gradients.items():
        assert got is not None, name
        # In fp32 the published AnyUp's own parameters' gradients are 2.3e-5 off (the README of the cases).
        of_anyup = config["kind"] == "anyup" and name in parameters and dtype == torch.float32
        assert relative_error(got, want, scale[name]) <= (1e-4 if of_anyup else tolerance), name


def test_golden_cases_are_there_in_development() -> None:
    if not SHARED.is_dir():
        pytest.skip("../shared is for development only")
    assert all(any(path.stem.startswith(kind) for path in GOLDEN) for kind in OPTIONS)
