"""Forward-mode derivatives: refused where a custom operator would make them 0, right where none runs."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import jacfwd, jvp

from resfu.ops import box_filter, correlate, guided_filter, reassemble
from resfu.ops.similarity import Compressor, fused

# PyTorch scripts some formulas of its own when the first dual number is made.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")

X = torch.randn(1, 2, 3, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
QUERY = torch.randn(1, 2, 6, 8, dtype=torch.double, generator=torch.Generator().manual_seed(1))
WEIGHTS = torch.randn(1, 9, 6, 8, dtype=torch.double, generator=torch.Generator().manual_seed(2))


def scores(weight):
    norm = torch.ones(8, dtype=torch.double)
    compressor = Compressor(torch.ones(8, 8, 1, 1), norm, norm, norm, torch.ones(9, 8, 1, 1), torch.ones(9))
    return fused.paired_scores(X, QUERY, weight, norm, compressor, (3, 4), "fine")


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


@pytest.mark.parametrize("operation", [reassemble, correlate])
def test_the_reference_has_them_and_two_reverse_passes_make_the_same(operation):
    first, second = (X, WEIGHTS) if operation is reassemble else (QUERY, X)
    rest = () if operation is reassemble else (3,)
    tangent = torch.randn_like(first)
    _, want = jvp(lambda t: operation(t, second, *rest, backend="reference"), (first,), (tangent,))
    _, got = torch.autograd.functional.jvp(lambda t: operation(t, second, *rest), first, tangent)
    assert want.abs().max() > 0.1
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
