"""On the CPU half precision is computed in fp32 by the compiled kernels, and rounded once, at the end."""

import copy

import pytest
import torch

import resfu
from resfu.ops import backends
from resfu.upsamplers.half_precision import in_fp32

pytestmark = pytest.mark.skipif(not backends._NUMBA_INSTALLED, reason="needs the extra fast (numba)")
COMPILED = [name for name, method in resfu.UPSAMPLERS.items() if method.compiled]


def test_which_methods_have_compiled_kernels():
    assert set(COMPILED) == {"stack-jbu", "carafe", "fade", "sapa", "dysample", "resfu", "resfu-image", "naf", "anyup"}


def with_gradients(up, given, autocast=False, dtype=torch.float32):
    inputs = [t.detach().clone().requires_grad_() for t in given]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = up(*inputs)
    cotangent = torch.linspace(-1, 1, out.numel()).view_as(out).to(dtype).to(out.dtype)
    used = [t for t, needed in zip(inputs, (True, up.guided), strict=True) if needed]
    return [out, *torch.autograd.grad(out, [*used, *up.parameters()], cotangent)]


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_is_the_result_of_fp32_rounded(create, maps, name, dtype):
    up = create(name).to(dtype)
    given = maps(up, low=(6, 20), high=(12, 40), dtype=dtype)
    got = with_gradients(up, given, dtype=dtype)
    want = with_gradients(copy.deepcopy(up).float(), [t.float() for t in given], dtype=dtype)
    for ours, exact in zip(got, want, strict=True):
        assert torch.equal(ours, exact.to(dtype))
    assert {parameter.dtype for parameter in up.parameters()} == {dtype}


@pytest.mark.parametrize("name", COMPILED)
def test_autocast_changes_nothing(create, maps, name):
    up = create(name)
    given = maps(up, low=(6, 20), high=(12, 40))
    for ours, exact in zip(with_gradients(up, given, autocast=True), with_gradients(up, given), strict=True):
        assert torch.equal(ours, exact)


@torch.no_grad()
def test_it_is_written_into_a_given_map(create, maps):
    up = create("resfu").bfloat16()
    x, y = maps(up, dtype=torch.bfloat16)
    out = torch.empty(2, 32, 10, 12, dtype=torch.bfloat16)
    assert up(x, y, out=out) is out
    assert torch.equal(out, up(x, y))


def test_where_it_is_not_for(create, maps):
    up = create("resfu")
    x, y = maps(up, dtype=torch.bfloat16)
    half = copy.deepcopy(up).bfloat16()
    assert in_fp32(half, x, y) is not None
    assert in_fp32(up, x.float(), y.float()) is None  # fp32 already
    assert in_fp32(up, x.double(), y.double()) is None
    assert in_fp32(create("resfu", backend="cpu").bfloat16(), x, y) is None  # asked for PyTorch's operators
    assert in_fp32(create("deconv").bfloat16(), x, None) is None  # PyTorch's convolution alone
    assert in_fp32(create("carafe", dims=3).bfloat16(), x[:, :, None], None) is None
    half.query.register_forward_hook(lambda module, args, output: output)
    assert in_fp32(half, x, y) is None  # what is hooked sees its own dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert in_fp32(up, x.float(), y.float()) is not None
        assert in_fp32(up, x.double(), y.double()) is None
