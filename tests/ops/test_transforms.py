"""torch.func: derivatives that custom operators have no rules for are refused, and right where none runs."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import resfu
from resfu.ops import box_filter, correlate, gaussian_filter, guided_filter, reassemble
from resfu.ops.similarity import Compressor, operators

# PyTorch scripts some formulas of its own when the first dual number is made.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")

X = torch.randn(1, 2, 3, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
QUERY = torch.randn(1, 2, 6, 8, dtype=torch.double, generator=torch.Generator().manual_seed(1))
WEIGHTS = torch.randn(1, 9, 6, 8, dtype=torch.double, generator=torch.Generator().manual_seed(2))


def scores(weight):
    norm = torch.ones(8, dtype=torch.double)
    compressor = Compressor(torch.ones(8, 8, 1, 1), norm, norm, norm, torch.ones(9, 8, 1, 1), torch.ones(9))
    return operators.paired_scores(X, QUERY, weight, norm, compressor, (3, 4), "fine")


OPERATIONS = {
    "reassemble": (lambda x: reassemble(x, WEIGHTS), X),
    "reassemble weights": (lambda a: reassemble(X, a), WEIGHTS),
    "reassemble softmax": (lambda a: reassemble(X, a, softmax=True), WEIGHTS),
    "correlate": (lambda x: correlate(QUERY, x, 3), X),
    "box_filter": (lambda x: box_filter(x, 1), X),
    "guided_filter": (lambda x: guided_filter(QUERY, x, 1), X),
    "similarity_scores": (scores, torch.randn(8, 2, 3, 3, dtype=torch.double)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_tangent_is_refused(name):
    function, x = OPERATIONS[name]
    message = f"{name.split()[0]} has no forward-mode derivative"
    with pytest.raises(ValueError, match=message):
        jvp(function, (x,), (torch.ones_like(x),))
    with pytest.raises(ValueError, match=message):
        jacfwd(function)(x)
    with forward_ad.dual_level(), pytest.raises(ValueError, match=message):
        function(forward_ad.make_dual(x, torch.ones_like(x)))


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_derivative_by_torch_func_is_refused(name):
    function, x = OPERATIONS[name]
    calls = {
        "grad": lambda: grad(lambda t: function(t).sum())(x),
        "vjp": lambda: vjp(function, x),
        "jacrev": lambda: jacrev(function)(x),
        "of a batch": lambda: grad(lambda t: vmap(function)(t[None]).sum())(x),
        "for a batch": lambda: vmap(grad(lambda t: function(t).sum()))(x[None]),
    }
    for call in calls.values():
        with pytest.raises(ValueError, match=f"{name.split()[0]} can't be differentiated by torch.func"):
            call()


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize(
    "function",
    [
        lambda x: reassemble(x, WEIGHTS),
        lambda x: reassemble(x, WEIGHTS, softmax=True, backend="reference"),
        lambda x: correlate(QUERY, x, 3),
        lambda x: box_filter(x, 1),
        lambda x: guided_filter(QUERY, x, 1, stride=2),
        gaussian_filter,
    ],
)
def test_vmap_is_a_loop(function):
    x = torch.randn(3, 1, 2, 3, 4, dtype=torch.double)
    want = torch.stack([function(t) for t in x])
    torch.testing.assert_close(vmap(function)(x), want, rtol=1e-12, atol=1e-12)
    last = x.permute(1, 3, 4, 0, 2).contiguous().permute(3, 0, 4, 1, 2)
    torch.testing.assert_close(vmap(function)(last), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("similarity", ["pcdc", "inner_product"])
@pytest.mark.parametrize("stride", [1, 2])
def test_resfus_reference_has_every_derivative(similarity, stride):
    """Of features, guidance and parameters; the fast form's by two reverse passes are the same."""
    torch.manual_seed(0)
    options = {"projection_dim": 8, "groups": 1, "hidden_channels": 8, "guided_filter_radius": 2}
    up = resfu.ReSFU(2, 2, guided_filter_stride=stride, similarity=similarity, backend="reference", **options).double()
    parameters = {name: torch.randn_like(p) for name, p in up.named_parameters()}
    names, values = list(parameters), list(parameters.values())

    def run(x, y, *values):
        return functional_call(up, dict(zip(names, values, strict=True)), (x, y))

    inputs = (X, QUERY, *values)
    tangents = tuple(torch.randn_like(t) for t in inputs)
    _, want = jvp(run, inputs, tangents)
    up.backend = "auto"
    _, got = torch.autograd.functional.jvp(run, inputs, tangents)
    assert want.abs().max() > 0.1
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="has no forward-mode derivative"):
        jvp(run, inputs, tangents)
    up.backend = "reference"

    def loss(x):
        return run(x, QUERY, *values).square().sum()

    each = vmap(grad(loss))(torch.cat([X, 2 * X])[:, None])
    torch.testing.assert_close(each[1], grad(loss)(2 * X), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(hessian(loss)(X), torch.autograd.functional.hessian(loss, X), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("operation", [reassemble, correlate])
def test_the_reference_has_them_and_two_reverse_passes_make_the_same(operation):
    first, second = (X, WEIGHTS) if operation is reassemble else (QUERY, X)
    rest = () if operation is reassemble else (3,)
    tangent = torch.randn_like(first)
    _, want = jvp(lambda t: operation(t, second, *rest, backend="reference"), (first,), (tangent,))
    _, got = torch.autograd.functional.jvp(lambda t: operation(t, second, *rest), first, tangent)
    assert want.abs().max() > 0.1
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
