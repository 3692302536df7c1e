"""torch.vmap over features, guidance and parameters gives what a loop over them gives, gradients too."""

import pytest
import torch
from torch.func import functional_call, vmap

import resfu

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")


@pytest.mark.parametrize("name", resfu.UPSAMPLERS)
def test_a_loop_over_maps(create, maps, name):
    up = create(name).double()
    x, y = (torch.stack([t, t.flip(0)]) for t in maps(up, dtype=torch.float64))
    x.requires_grad_()
    for function, inputs in ((up, (x, y)), (lambda x: up(x, y[0]), (x,)), (lambda y: up(x[0], y), (y,))):
        got = vmap(function)(*inputs)
        want = torch.stack([function(*each) for each in zip(*inputs, strict=True)])
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
        # JBU's distances are fp32 numbers: too coarse for fp64's tolerances.
        of = [x, *(p for key, p in up.named_parameters() if not key.endswith("deviation"))]
        got, want = (
            torch.autograd.grad(out, of, torch.linspace(-1, 1, out.numel()).view_as(out)) for out in (got, want)
        )
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in resfu.UPSAMPLERS if name not in ("nearest", "bilinear", "bicubic")])
def test_a_loop_over_each_weight(create, maps, name):
    up = create(name)
    maps = maps(up, batch=1, low=(3, 4), high=(6, 8))
    with torch.no_grad():
        for key, value in up.named_parameters():
            if value.dim() < 2:
                continue
            both = torch.stack([value, 0.9 * value])

            def run(value, key=key):
                return functional_call(up, {key: value}, maps)

            torch.testing.assert_close(vmap(run)(both), torch.stack([run(both[0]), run(both[1])]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"guided_query": False}, {"similarity": "concat"}, {"similarity": "inner_product"}, {"smoothed_key": False}],
)
def test_a_loop_over_features_of_resfus_ablations(create, maps, options):
    up = create("resfu", **options)
    x, y = maps(up, high=(11, 17))
    x = torch.stack([x, x.flip(0)])
    torch.testing.assert_close(
        vmap(lambda x: up(x, y))(x), torch.stack([up(each, y) for each in x]), rtol=1e-4, atol=1e-5
    )
