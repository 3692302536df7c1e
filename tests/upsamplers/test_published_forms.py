"""Every upsampler with a published algorithm against that in plain PyTorch: outputs and all gradients, in fp64.

`benchmarks/plain.py` and `benchmarks/published.py` are those that the speed tables stand on.
"""

import pytest
import torch

from benchmarks import plain, published
from resfu import CARAFE, FADE, SAPA, DySample, ReSFU, StackJBU

# upsampler, its plain form, ratio
CASES = {
    "resfu x2": (lambda: ReSFU(8, 4, projection_dim=32, groups=2), published.resfu, 2),
    "resfu x4": (lambda: ReSFU(8, 4, projection_dim=32, groups=4), published.resfu, 4),
    "resfu x3, 5 x 5": (lambda: ReSFU(8, 4, projection_dim=32, kernel_size=5), published.resfu, 3),
    "carafe": (lambda: CARAFE(8), plain.carafe, 2),
    "fade": (lambda: FADE(8, 6), plain.fade, 2),
    "sapa x2": (lambda: SAPA(8, 6, projection_dim=4), plain.sapa, 2),
    "sapa x4": (lambda: SAPA(8, 6, projection_dim=4, kernel_size=3), plain.sapa, 4),
    "stack-jbu": (lambda: StackJBU(8, steps=1), plain.stack_jbu, 2),
    "dysample lp": (lambda: DySample(8, style="lp"), plain.dysample, 2),
    "dysample pl": (lambda: DySample(8, style="pl"), plain.dysample, 2),
}


BOTH = [(name, unfolded) for name in CASES for unfolded in ([None] if "dysample" in name else [True, False])]


@pytest.mark.parametrize(("name", "unfolded"), BOTH)
def test_published_form(name, unfolded):
    build, form, ratio = CASES[name]
    options = {} if unfolded is None else {"unfolded": unfolded}
    torch.manual_seed(0)
    up = build().double().eval()
    with torch.no_grad():
        for parameter in up.parameters():
            parameter += 0.2 * torch.randn_like(parameter)  # kernels as made are near uniform, which would prove little
    inputs = [torch.randn(2, 8, 7, 9, dtype=torch.double, requires_grad=True)]
    if up.guidance_channels:
        inputs.append(
            torch.randn(2, up.guidance_channels, 7 * ratio, 9 * ratio, dtype=torch.double, requires_grad=True)
        )
    got, want = up(*inputs, size=(7 * ratio, 9 * ratio)), form(up, *inputs, **options)
    grad, leaves = torch.randn_like(want), [*inputs, *up.parameters()]
    pairs = zip(*(torch.autograd.grad(out, leaves, grad, allow_unused=True) for out in (got, want)), strict=True)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
