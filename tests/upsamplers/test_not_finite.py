"""No number that a user passes ends the process: NaN and infinity in maps and parameters, forward and backward.

In a process of their own, which may be ended.
"""

import json

import pytest

import resfu
from tests.support import apart

SCRIPT = """
import json, sys
import torch, resfu
torch.set_num_threads(1)
NARROW = {"naf": {"dim": 64}, "anyup": {"dim": 32}}  # their many layers are drawn anew for every parameter

def run(name, place, value, dtype=torch.float32, **options):
    torch.manual_seed(0)
    width = 3 if resfu.UPSAMPLERS[name].image_guided else 32
    options = NARROW.get(name, {}) | options
    up = resfu.create_upsampler(name, channels=32, guidance_channels=width, scale_factor=2, **options).to(dtype)
    up.eval()  # BatchNorm mixes the images of a batch in training
    inputs = {"features": torch.randn(2, 32, 5, 6, dtype=dtype), "guidance": torch.randn(2, width, 10, 12, dtype=dtype)}
    with torch.no_grad():
        (inputs | dict(up.named_parameters()))[place].view(-1)[0] = value
    x, y = (t.requires_grad_() for t in inputs.values())
    with torch.no_grad():
        up(x, y)
    out = up(x, y)
    out.float().sum().backward()
    tensors = [x, *up.parameters(), *([y] if up.guided else [])]
    grads = [t.grad for t in tensors]
    return not bool(out[0].isfinite().all()), bool(out[1].isfinite().all()), not all(g.isfinite().all() for g in grads)

for name in sys.argv[1:]:
    up = resfu.create_upsampler(name, channels=32, guidance_channels=32, scale_factor=2)
    places = ["features", *(["guidance"] if up.guided else []), *(key for key, _ in up.named_parameters())]
    cases = [(place, value, torch.float32, {}) for place in places for value in (float("nan"), float("inf"))]
    cases.append(("features", float("nan"), torch.bfloat16, {}))
    if name == "dysample":
        cases += [("features", float("nan"), torch.float32, o) for o in ({"style": "pl"}, {"dynamic_scope": False})]
    for place, value, dtype, options in cases:
        print(json.dumps([name, place, str(value), *run(name, place, value, dtype, **options)]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes():
    """(name, place, value, not finite there, finite in the other image, a gradient not finite) of every case."""
    return [tuple(json.loads(line)) for line in apart.run(SCRIPT, *resfu.UPSAMPLERS).splitlines()]


@pytest.mark.parametrize("name", resfu.UPSAMPLERS)
def test_nan_comes_out_as_nan(name, outcomes):
    cases = [case for case in outcomes if case[0] == name and case[2] == "nan"]
    assert len(cases) >= 2
    for _, place, _, found, other, in_gradients in cases:
        assert found, place
        assert other or place not in ("features", "guidance")
        assert in_gradients or place != "features" or name in ("nearest", "bilinear", "bicubic")
