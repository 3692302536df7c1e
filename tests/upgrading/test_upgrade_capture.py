"""An upgraded network in torch.compile and torch.export."""

from tests.support import apart

# In a process of its own: the shape checks that pytest's hook adds to the package break graph capture.
CAPTURE = """
import gc
import torch
from benchmarks.upgrade_networks import YoloNeck
from resfu import upgrade
torch.set_num_threads(1)
gc.freeze()  # a search for garbage among all that is imported and captured takes a seventh of the time
gc.set_threshold(100_000, 20, 100)

def check(model, upsampler, images, **options):
    torch._dynamo.reset()
    model = upgrade(model, upsampler, images, **options).eval()
    wanted = model(images)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")(images)
    program = torch.export.export(model, (images,)).module()(images)
    for given in (compiled, program):
        torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-5)

torch.manual_seed(0)
images = torch.randn(1, 3, 32, 32)
check(YoloNeck(), "sapa", images)  # its graph is a fifth of ReSFU's, with the same guides
check(YoloNeck(), "carafe", images, start="published")
layers = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Conv2d(8, 4, 3, 2, 1)
logits = torch.nn.Sequential(*layers, torch.nn.Upsample(scale_factor=4, mode="bilinear"))
check(logits, "resfu", images)  # by way of the first layer
"""


def test_compile_and_export():
    apart.run(CAPTURE)
