"""An upgraded network in torch.compile and torch.export."""

from tests.support import apart

# In a process of its own: the shape checks that pytest's hook adds to the package break graph capture.
CAPTURE = """
import gc
import torch
import torch.utils.checkpoint
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

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x):
        a = self.a(x)
        b = torch.nn.functional.interpolate(self.b(a), size=a.shape[-2:], mode="bilinear")
        return torch.nn.functional.interpolate(a + b, size=x.shape[-2:], mode="bilinear")

model = upgrade(Two().eval(), "bilinear", images, start="published")
multiple = {2: 4 * torch.export.Dim("h", min=4, max=64), 3: 4 * torch.export.Dim("w", min=4, max=64)}
program = torch.export.export(model, (images,), dynamic_shapes=(multiple,)).module()  # of the size that upgrade saw
traced = torch.jit.trace(model, images, check_trace=False)
other = torch.randn(1, 3, 40, 24)
for given in (program, traced):
    torch.testing.assert_close(given(other), model(other), rtol=1e-5, atol=1e-6)

class Helped(Two):  # in training mode with another output, before the others
    def forward(self, x):
        a = self.a(x)
        helper = torch.nn.functional.interpolate(a, scale_factor=4) if self.training else None
        b = torch.nn.functional.interpolate(self.b(a), size=a.shape[-2:], mode="bilinear")
        out = torch.nn.functional.interpolate(a + b, size=x.shape[-2:], mode="bilinear")
        return (out, helper) if self.training else out

class Saving(Two):  # a place in a checkpointed block
    def up(self, a):
        return torch.nn.functional.interpolate(self.b(a), scale_factor=2, mode="bilinear")

    def forward(self, x):
        a = self.a(x)
        return a + torch.utils.checkpoint.checkpoint(self.up, a, use_reentrant=False)

torch._dynamo.reset()
model = upgrade(Saving(), "carafe", images).train()
torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(images), model(images))

torch._dynamo.reset()
model = upgrade(Helped(), "bilinear", images, start="published")
compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
torch.testing.assert_close(compiled(images), model(images), rtol=1e-5, atol=1e-6)
torch.testing.assert_close(compiled.eval()(images), model(images), rtol=1e-5, atol=1e-6)

class Early(Two):  # skips its first place on request: in a graph only the order of the calls is known
    def forward(self, x, deep=True):
        a = self.a(x)
        if deep:
            a = a + torch.nn.functional.interpolate(self.b(a), size=a.shape[-2:], mode="bilinear")
        return torch.nn.functional.interpolate(a, scale_factor=2, mode="bilinear")

torch._dynamo.reset()
model = upgrade(Early().eval(), "carafe", images, start="published", where=["#0", "#1"])
compiled = torch.compile(model, backend="eager")
torch.testing.assert_close(compiled(images), model(images))
model(images, deep=False)
try:
    compiled(images, deep=False)
except ValueError as error:
    assert "the network resampled 1 of the 2 maps that resfu.upgrade saw" in str(error)
else:
    raise AssertionError("the second place had the upsampler of the first")
torch.testing.assert_close(compiled(images), model(images))  # and the next pass is not disturbed
"""


def test_compile_and_export():
    apart.run(CAPTURE)


ALL_SIZES_OPEN = """
import signal
import torch
from torch.nn import functional as F
from resfu import upgrade
torch.set_num_threads(1)
signal.alarm(120)  # PyTorch began again without end

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x):
        a = self.a(x)
        return F.interpolate(self.b(a.relu()), size=a.shape[2:], mode="bilinear") + a

torch.manual_seed(0)
model = upgrade(Net().eval(), "sapa", torch.rand(2, 3, 32, 48), start="published")
compiled = torch.compile(model, backend="aot_eager", dynamic=True)
with torch.no_grad():
    for size in ((2, 3, 32, 48), (1, 3, 40, 56)):
        images = torch.rand(size)
        torch.testing.assert_close(compiled(images), model(images), rtol=1e-4, atol=1e-5)
"""


def test_compile_with_all_sizes_open():
    apart.run(ALL_SIZES_OPEN)
