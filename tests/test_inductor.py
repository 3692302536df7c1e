"""torch.compile as users call it: what inductor generates, at two sizes, forward and backward.

Whole networks take minutes of a C++ compiler: those tests are marked slow, and `pytest -m slow` runs them. Lowering of
every upsampler with symbolic sizes is in `upsamplers/test_graph_capture.py`. All in processes of their own, for the
reason that is given there.
"""

import json

import pytest

import resfu
from tests.support import apart

HEAD = """
import gc, json, sys
from functools import partial
import torch
from torch import nn
import resfu
torch.set_num_threads(1)
gc.freeze()  # a search for garbage among all that is imported and captured takes a seventh of the time
gc.set_threshold(100_000, 20, 100)
torch.manual_seed(0)

def both(module, sizes, width, **options):
    # Values and every gradient at each size, compiled and not.
    compiled = torch.compile(module, **options)
    for size in sizes:
        inputs = [torch.randn(2, c, *s, requires_grad=True) for c, s in zip(width, size)]
        results = []
        for call in (module, compiled):
            out = call(*inputs)
            grad = torch.linspace(-1, 1, out.numel()).view(out.shape)
            wanted = [*inputs[:1], *(p for p in module.parameters() if p.requires_grad)]
            results.append((out, *torch.autograd.grad(out, wanted, grad, allow_unused=True)))
        yield results
"""

GUIDANCE = """
from tests.support.inductor import without_kernels
from resfu.hosts.base import SegmentationHost
from resfu.hosts.blocks import ImageGuidance
without_kernels()

class Head(nn.Module):
    def forward(self, features, images):
        return features

host = SegmentationHost(nn.Conv2d(3, 2, 1), Head(), 2, 1, multiple=4)
for module in (ImageGuidance(4, 8), host):
    for (out, *_), (got, *_) in both(module, [[(9, 14)]], width=[3], dynamic=False):
        assert got.shape == out.shape

# The sizes of maps behind strided layers stay short formulas of the image's.
from timm.layers import Conv2dSame
from resfu.hosts.same_padding import take_same_layers

def remembered(graph, inputs):
    values = [node.meta.get("example_value") for node in graph.graph.nodes]
    lengths.extend(len(str(size)) for each in values if isinstance(each, torch.Tensor) for size in each.shape)
    return graph.forward

encoder, lengths = nn.Sequential(*(Conv2dSame(3, 3, 3, stride=2) for _ in range(4))), []
take_same_layers(encoder)
host = SegmentationHost(encoder, Head(), 3, 1, multiple=16, minimum=32)
images = torch.randn(1, 3, 48, 64)
with torch.no_grad():
    got = torch.compile(host, backend=remembered, dynamic=True, fullgraph=True)(images)
    torch.testing.assert_close(got, host(images))
assert max(lengths) < 40, max(lengths)
"""

WINDOWS = """
def nodes(K, **options):
    torch._dynamo.reset()
    counts = []
    def count(gm, _):
        counts.append(len(gm.graph.nodes))
        return gm.forward
    options |= {"channels": 8, "guidance_channels": 8, "kernel_size": K, "backend": "cpu"}  # kernels would be one node
    up = resfu.create_upsampler("resfu", **options).eval()
    x, y = torch.randn(1, 8, 5, 6), torch.randn(1, 8, 11, 13)
    with torch.no_grad():
        got = torch.compile(up, backend=count, dynamic=True, fullgraph=True)(x, y)
        torch.testing.assert_close(got, up(x, y), rtol=1e-4, atol=1e-5)
    return counts[0]

print(json.dumps([[nodes(K, similarity=s) for K in (3, 7)] for s in ("pcdc", "inner_product")]))
"""

UPSAMPLER = """
name = sys.argv[1]
width = [32, 3 if resfu.UPSAMPLERS[name].image_guided else 32]
up = resfu.create_upsampler(name, channels=32, guidance_channels=width[1], scale_factor=2)
for module in up.modules():
    if isinstance(module, nn.Dropout2d):
        module.eval()  # two calls drop different channels
up.rope_rescale = 1.0  # NAF in training: two calls draw different factors
for want, got in both(up, [[(8, 10), (16, 20)], [(9, 7), (18, 14)]], width):
    for a, b in zip(got, want):
        assert a is b is None or torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3) is None
"""

HOST = """
from resfu.hosts.maskformer import MaskFormer
from resfu.hosts.pspnet import PSPNet
from resfu.hosts.segmenter import Segmenter
from resfu.hosts.swin import SwinVariant
from resfu.hosts.transunet import TransUNet
small = {
    "efficientnet-lite0": resfu.HOSTS["efficientnet-lite0"],
    "segmenter-vit-s": partial(Segmenter, "s", image_size=64, depth=1, drop_path_rate=0.0),
    "segformer-mit-b0": resfu.HOSTS["segformer-mit-b0"],
    "pspnet": partial(PSPNet, depth=14, channels=64),
    "transunet": partial(TransUNet, layers=(1, 1, 1), width=64, depth=1, image_size=64, channels=(64, 32, 32, 16)),
}
host = small[sys.argv[1]](upsampler="resfu", num_classes=5)
for module in host.modules():
    if isinstance(module, nn.BatchNorm2d) or "Drop" in type(module).__name__:
        module.eval()  # two calls drop different channels, and different branches
# Inductor can't order the symbolic strides of views of tokens that transformers' encoder keeps (seen with 2.14).
strict = {"options": {"strict_output_strides": True}} if sys.argv[1] == "segformer-mit-b0" else {}
for want, got in both(host, [[(64, 96)], [(96, 64)]], [3], **strict):
    torch.testing.assert_close(got[0], want[0], rtol=1e-3, atol=1e-3)
    for a, b in zip(got[1:], want[1:]):
        assert (a is None) == (b is None)
        if a is not None:
            assert (a - b).norm() <= 1e-2 * b.norm() + 1e-4
"""

KERNELS = """
import re
from torch._dynamo.backends.debugging import aot_eager

up = resfu.create_upsampler("resfu", channels=8, guidance_channels=8)

def compiled(backend):
    # And the names of the package's operators in the graph.
    found = []
    def remembered(graph, inputs):
        found[:] = [each for n in graph.graph.nodes for each in re.findall("resfu(?:::|[.])([a-z_]+)", str(n.target))]
        return backend(graph, inputs)
    torch._dynamo.reset()
    return torch.compile(up, backend=remembered, fullgraph=True), found

call, whole = compiled(aot_eager)
x, y = (torch.randn(2, 8, *size, requires_grad=True) for size in ((6, 5), (12, 20)))
want, got = up(x, y), call(x, y)
wanted = [x, y, *up.parameters()]
grad = torch.linspace(-1, 1, want.numel()).view_as(want)
for a, b in zip((got, *torch.autograd.grad(got, wanted, grad)), (want, *torch.autograd.grad(want, wanted, grad))):
    assert (a - b).norm() <= 1e-5 * b.norm() + 1e-5  # the gradient of a bias before a difference is 0
call, real = compiled(lambda graph, inputs: graph.forward)
with torch.no_grad():
    torch.testing.assert_close(call(x, y[:, :, :11]), up(x, y[:, :, :11]), rtol=1e-4, atol=1e-5)
print(json.dumps([whole, real]))
"""


def run(script: str, *arguments: str) -> str:
    """Its standard output."""
    return apart.run(HEAD + script, *arguments)


def test_borders_are_continued_as_inductor_expects():
    run(GUIDANCE)


def test_the_graph_does_not_grow_with_the_window():
    for small, large in json.loads(run(WINDOWS)):
        assert large <= 1.5 * small


def test_graphs_call_the_compiled_kernels_and_agree_with_them():
    pytest.importorskip("numba", reason="the extra fast is not installed")
    whole, real = json.loads(run(KERNELS))
    assert whole == ["compiled_guided_filter", *2 * ["normalised_scores"], "compiled_softmax_window_sum"]
    assert sorted(real) == sorted(whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(resfu.UPSAMPLERS))
def test_an_upsampler_trains_at_two_sizes(name):
    run(UPSAMPLER, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-lite0", "segmenter-vit-s", "segformer-mit-b0", "pspnet", "transunet"])
def test_a_network_trains_at_two_sizes(name):
    run(HOST, name)
