"""torch.compile and torch.export see every upsampler as one graph for all sizes, and inductor can lower it, backward
included.

In a process of their own: the shape checks that pytest's hook adds to the package break graph capture, and users do not
have them. Inductor gets those whose own operations keep maps for backward, and stops before it generates code, which
takes most of its minutes; `tests/test_inductor.py` has the rest.
"""

import json

import pytest

import resfu
from tests.support import apart

SCRIPT = """
import gc, json, sys, traceback
import torch
import resfu
from torch._dynamo.backends.debugging import aot_eager
from torch._inductor.compile_fx import compile_fx
from tests.support.inductor import stop_after_lowering
torch.set_num_threads(1)
gc.freeze()  # a search for garbage among all that is imported and captured takes a seventh of the time
gc.set_threshold(100_000, 20, 100)
stop_after_lowering()
torch._dynamo.config.error_on_recompile = True
LOWERED = ("carafe", "fade", "sapa", "a2u", "resfu")

def symbols(graph_inputs):
    # The sizes that the graph leaves open.
    sizes = [s for value in graph_inputs for s in (value.shape if isinstance(value, torch.Tensor) else [value])]
    return set().union(*(s.node.expr.free_symbols for s in sizes if isinstance(s, torch.SymInt)))

def capture(name):
    torch._dynamo.reset()
    torch.manual_seed(0)
    image = resfu.UPSAMPLERS[name].image_guided
    up = resfu.create_upsampler(name, channels=32, guidance_channels=3 if image else 32, scale_factor=2).eval()
    free = 4 if up.ratios in ("any", "integer") else 2

    def backend(graph, inputs):
        assert len(symbols(inputs)) == free, symbols(inputs)
        return (compile_fx if name in LOWERED else aot_eager)(graph, inputs)

    sizes = [((5, 6), (10, 12)), ((4, 7), (16, 21) if free == 4 else (8, 14))]
    compiled = torch.compile(up, fullgraph=True, backend=backend)
    for low, high in sizes[: 1 if name in LOWERED else 2]:  # inductor fixes the size of a convolution's gradient
        x = torch.randn(2, 32, *low, requires_grad=True)
        y = torch.randn(2, 3 if image else 32, *high)
        for each in (x, y):
            torch._dynamo.maybe_mark_dynamic(each, (2, 3))
        want, got = up(x, y), compiled(x, y)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        g = torch.randn_like(want)
        torch.testing.assert_close(*(torch.autograd.grad(o, x, g)[0] for o in (got, want)), rtol=1e-3, atol=1e-5)
    # A program for any batch and size, used with others; nearest's keeps the ratio, a float.
    auto = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    exported = torch.export.export(up, (x, y), dynamic_shapes=(auto, auto)).module()
    torch.testing.assert_close(exported(x, y), want, rtol=1e-4, atol=1e-5)
    high = (12, 10) if up.ratios != "any" else (24, 15) if name == "nearest" else (18, 20)
    x, y = torch.randn(3, 32, 6, 5), torch.randn(3, 3 if image else 32, *high)
    torch.testing.assert_close(exported(x, y), up(x, y), rtol=1e-4, atol=1e-5)
    errors = []
    for bad in ({"features": "x"}, {"size": 12}):
        try:
            up(**({"features": x, "guidance": y} | bad))
        except ValueError as error:
            errors.append(str(error))
    return errors

for name in sys.argv[1:]:
    try:
        print(json.dumps({name: capture(name)}), flush=True)
    except Exception:
        print(json.dumps({name: traceback.format_exc()}), flush=True)
"""


@pytest.fixture(scope="module")
def captured():
    """For each upsampler the messages of its `ValueError`s, or the traceback of what went wrong before them."""
    lines = apart.run(SCRIPT, *resfu.UPSAMPLERS).splitlines()
    return {name: value for line in lines for name, value in json.loads(line).items()}


@pytest.mark.parametrize("name", list(resfu.UPSAMPLERS))
def test_compiles_and_exports_as_one_graph(captured, name):
    assert captured[name] == [
        "features must be a tensor [B, C, h, w], got str.",
        "size must be (H, W), got 12.",
    ], captured[name]


REPEATED = """
import torch
import resfu
torch.set_num_threads(1)
torch.manual_seed(0)
for name in ("nearest", "fade"):
    up = resfu.create_upsampler(name, channels=32, guidance_channels=32).eval()
    for low, high in (((1, 1), (2, 2)), ((1, 3), (4, 3)), ((3, 3), (3, 3))):
        torch._dynamo.reset()
        x, y = torch.randn(1, 32, *low), torch.randn(1, 32, *high)
        before = x.clone()
        with torch.no_grad():
            got = torch.compile(up, backend="aot_eager", dynamic=False)(x, y, size=high)
            torch.testing.assert_close(got, up(x, y, size=high), rtol=1e-5, atol=1e-6)
            want = got + 1
            assert torch.equal(got.add_(1), want) and torch.equal(x, before), (name, low)
print("sound")
"""


def test_repetition_has_memory_of_its_own_when_compiled():
    """Where one pixel is repeated, or each once, `reshape` of an expanded map does not copy."""
    assert apart.run(REPEATED).split() == ["sound"]


INTO_OUT = """
import torch
import resfu
up, x, y, out = resfu.SAPA(8, 8).eval(), torch.randn(1, 8, 4, 4), torch.randn(1, 8, 8, 8), torch.empty(1, 8, 8, 8)
with torch.no_grad():
    compiled = torch.compile(lambda x, y, out: up(x, y, out=out), backend="aot_eager", fullgraph=True)
    assert compiled(x, y, out).data_ptr() == out.data_ptr()
    torch.testing.assert_close(out, up(x, y))
print("written")
"""


def test_a_compiled_call_writes_into_out():
    """While a graph is captured, tensors have no memory of which `out` could have a part."""
    assert apart.run(INTO_OUT).split() == ["written"]
