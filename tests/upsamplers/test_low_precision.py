"""Gradients in half precision against fp64, at every ratio that networks use.

The maps are wide enough for the vector units: oneDNN has kernels of its own for long rows.
"""

import pytest
import torch

import resfu

LOW = {2: (6, 20), 3: (5, 12), 4: (4, 10), 8: (3, 6), 16: (2, 3)}  # by ratio: h, w
# Norm of a gradient's error relative to the gradient's, or to 1/20 of the largest one's: as in test_contract.py.
TOLERANCES = {"bf16": (torch.bfloat16, 0.1), "fp16": (torch.float16, 0.01), "autocast": (torch.bfloat16, 0.1)}
# Where ReLU's arguments round to the other side of 0, whole terms of ReSFU's gradients come or go.
RESFU = {"bf16": 0.2, "fp16": 0.1, "autocast": 0.2}
# AnyUp's scores lie behind fifteen layers: over five seeds the worst gradient is 0.27 off in bf16 and 0.037 in fp16,
# all of them together 0.12 and 0.015, which an error in a large one breaks.
ANYUP = {"bf16": 0.4, "fp16": 0.055, "autocast": 0.4}
ANYUP_TOGETHER = {"bf16": 0.2, "fp16": 0.025, "autocast": 0.2}
# Other forms with convolutions of their own.
OPTIONS = [
    ("resfu", 4, {"kernel_size": 5}),
    ("resfu", 4, {"similarity": "concat"}),
    ("resfu", 4, {"groups": 1}),
    ("resfu", 4, {"neighbours": "coarse"}),
    ("carafe", 4, {"encoder_dilation": 2}),
    ("fade", 4, {"lite": True}),
    ("fade", 4, {"gated": True}),
    ("dysample", 4, {"style": "pl"}),
]


def takes(name, ratio):
    method = resfu.UPSAMPLERS[name]
    return ratio == 2 or not (method.ratios == "2" or (name == "stack-jbu" and ratio == 3))


def gradients(up, x, y, autocast):
    inputs = [t.clone().requires_grad_() for t in ((x, y) if up.guided else (x,))]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = up(*inputs, size=y.shape[-2:])
    cotangent = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).to(out.dtype).view_as(out)
    return torch.autograd.grad(out, [*inputs, *up.parameters()], cotangent)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(
    ("name", "ratio", "options"),
    [(name, ratio, {}) for name in resfu.UPSAMPLERS for ratio in LOW if takes(name, ratio)] + OPTIONS,
)
def test_every_gradient_agrees_with_fp64(create, maps, name, ratio, options, precision):
    dtype, tolerance = TOLERANCES[precision]
    tolerance = {"resfu": RESFU, "resfu-image": RESFU, "anyup": ANYUP}.get(name, {precision: tolerance})[precision]
    up, autocast = create(name, scale_factor=ratio, **options).to(dtype), precision == "autocast"
    h, w = LOW[ratio]
    x, y = maps(up, batch=1, low=(h, w), high=(ratio * h, ratio * w), dtype=dtype)
    if autocast:
        up, x, y = up.float(), x.float(), y.float()
    low = gradients(up, x, y, autocast)
    exact = gradients(up.double(), x.double(), y.double(), False)  # of the same numbers, rounded already
    norms = torch.stack([g.norm() for g in exact])
    errors = torch.stack([(got.double() - g).norm() for got, g in zip(low, exact, strict=True)])
    assert (errors <= tolerance * norms.clamp(min=norms.max() / 20)).all(), errors / norms
    if name == "anyup":
        assert errors.norm() <= ANYUP_TOGETHER[precision] * norms.norm(), errors.norm() / norms.norm()
