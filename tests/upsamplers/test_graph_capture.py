"""torch.compile and torch.export see every upsampler as one graph.

In a process of its own: the shape checks that pytest's hook adds to the package break graph capture, and users do not
have them.
"""

import subprocess
import sys

import pytest

import resfu

SCRIPT = """
import sys
import torch
import resfu
torch.set_num_threads(1)
torch.manual_seed(0)
up = resfu.create_upsampler(sys.argv[1], channels=16, guidance_channels=8).eval()
compiled = torch.compile(up, fullgraph=True, backend="aot_eager", dynamic=True)
for low, high in (((5, 6), (10, 12)), ((4, 7), (16, 21))):
    x = torch.randn(2, 16, *low, requires_grad=True)
    y = torch.randn(2, 8, *high)
    want, got = up(x, y), compiled(x, y)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    g = torch.randn_like(want)
    torch.testing.assert_close(*(torch.autograd.grad(o, x, g)[0] for o in (got, want)), rtol=1e-3, atol=1e-5)
exported = torch.export.export(up, (x, y)).module()
torch.testing.assert_close(exported(x, y), want, rtol=1e-4, atol=1e-5)
for bad in ({"features": "x"}, {"size": 12}):
    try:
        up(**({"features": x, "guidance": y} | bad))
    except ValueError as error:
        print(error)
"""


@pytest.mark.parametrize("name", list(resfu.UPSAMPLERS))
def test_compiles_and_exports_as_one_graph(name):
    run = subprocess.run([sys.executable, "-c", SCRIPT, name], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "features must be a tensor [B, C, h, w], got str" in run.stdout
    assert "size must be (H, W), got 12" in run.stdout
