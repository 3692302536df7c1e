"""Record one forward pass: every call that changes a resolution, and every map that could guide it."""

import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode, handle_torch_function
from torch.utils.weak import WeakIdKeyDictionary

from resfu.upgrading.calls import changes_resolution, described, input_of
from resfu.upgrading.flow import IMAGE, Flow, tensors_in
from resfu.upgrading.places import Guide, Place, Spot
from resfu.upgrading.running import synchronize
from resfu.upsamplers import Upsampler

_MODULE_FILE = nn.Module.__call__.__code__.co_filename
# Files that are left out of chains: those through which a checkpointed function is called, because the forward that
# uses the checkpoint names the function itself, and those of redirected calls.
_TORCH = tuple(str(Path(torch.__file__).parent / name) for name in ("utils/checkpoint.py", "_compile.py", "_dynamo"))
_BETWEEN = (*_TORCH, *(str(Path(__file__).parent / name) for name in ("network.py", "owner.py")))
_DISPATCH = frozenset(
    function.__code__
    for function in (handle_torch_function, F.interpolate, F.upsample, F.upsample_nearest, F.upsample_bilinear)
)


class Recorder(TorchFunctionMode):
    """Records a forward pass of a network, by hooks on its modules and by intercepting PyTorch's functions."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.paths = {module: name for name, module in model.named_modules()}
        self.root = model
        self.flow = Flow()
        self.places: list[Place] = []
        self.inputs: list[Tensor] = []  # the input of each place
        self.sources: list[Guide] = []
        self.same: list[int] = []  # for every source, the first one that is the same tensor
        self.batches: list[int] = []  # the number of maps in every source
        self.of_tensor = WeakIdKeyDictionary()  # tensor -> numbers of its sources
        self.image: Guide | None = None
        self.images = 0  # in its batch
        self._stack: list[nn.Module] = []
        self._inside = 0  # number of resfu's upsamplers that are running; what they do inside is theirs
        self._counts: dict[str, int] = {}
        self._runs: dict[str, int] = {}  # number of runs of each module, by its path
        self._hooks: list[Any] = []

    def __enter__(self) -> "Recorder":
        # Scripted modules support no hooks of their own, and calls inside them cannot be intercepted.
        self._hooks.append(register_module_forward_hook(self._scripted))
        for module in self.paths:
            if isinstance(module, torch.jit.ScriptModule):
                continue
            self._hooks += [
                module.register_forward_pre_hook(self._before, with_kwargs=True),
                module.register_forward_hook(self._after, with_kwargs=True),
            ]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Run a PyTorch function and record it."""
        kwargs = kwargs or {}
        if not self._stack or self._inside or not changes_resolution(func, args, kwargs):
            output = func(*args, **kwargs)
            self.flow.step(func, args, kwargs, output, self.of_tensor)
            return output
        synchronize(args)
        began = time.perf_counter()
        output = func(*args, **kwargs)
        synchronize(args)
        spent = time.perf_counter() - began
        self.flow.step(func, args, kwargs, output, self.of_tensor)
        owner = self.paths[self._stack[-1]]
        number = self._counts.get(owner, 0)
        self._counts[owner] = number + 1
        self.flow.placed(len(self.places), output)
        call = described(func, args, kwargs, output)
        chain, site, checkpointed = spot_of(sys._getframe(1))
        before = len(self.sources)
        place = Place(
            owner, number, call, milliseconds=1e3 * spent,
            chain=chain, site=site, checkpointed=checkpointed, before=before,
        )  # fmt: skip
        self.places.append(place)
        self.inputs.append(input_of(args, kwargs))
        return output

    def _before(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if not self._stack:
            self.flow.begin((args, kwargs))
        self._stack.append(module)
        self._inside += isinstance(module, Upsampler)
        if self.image is None and module is not self.root:
            for keys, tensor in tensors_in(args):
                if tensor.dim() == 4 and tensor.is_floating_point() and self.flow.origin_of(tensor) == IMAGE:
                    path = self.paths[module]
                    size = tuple(tensor.shape[2:])
                    self.image = Guide(path, "input", keys, tensor.shape[1], size, "image", self._runs.get(path, 0))
                    self.images = tensor.shape[0]
                    break

    def _scripted(self, module: nn.Module, args: tuple, output: Any) -> None:
        if isinstance(module, torch.jit.ScriptModule) and module in self.paths:
            self.flow.finished(module, args, [tensor for _, tensor in tensors_in(output)])

    def _after(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        self._stack.pop()
        self._inside -= isinstance(module, Upsampler)
        found = list(tensors_in(output))
        self.flow.finished(module, (args, kwargs), [tensor for _, tensor in found])
        if not self._stack or self._inside:
            return
        path = self.paths[module]
        run = self._runs.get(path, 0)
        self._runs[path] = run + 1
        for keys, tensor in found:
            if tensor.dim() == 4 and tensor.is_floating_point() and tensor.numel():  # some encoders return empty maps
                numbers: list[int] = self.of_tensor.get(tensor) or []
                self.of_tensor[tensor] = numbers
                numbers.append(len(self.sources))
                self.same.append(numbers[0])
                self.batches.append(tensor.shape[0])
                self.sources.append(Guide(path, "output", keys, tensor.shape[1], tuple(tensor.shape[2:]), call=run))


def spot_of(frame: FrameType | None) -> Spot:
    """Where in the code of the innermost module the call stands that a frame makes."""
    names, site, checkpointed = [], [], False
    for each in frames_inside(frame):
        checkpointed |= each.f_code.co_filename.startswith(_TORCH)
        if each.f_code not in _DISPATCH and not each.f_code.co_filename.startswith(_BETWEEN):
            names.append(each.f_code.co_qualname)
            site.append(_position(each))
    return tuple(reversed(names)), tuple(reversed(site)), checkpointed


def frames_inside(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and those that called it, up to the forward of the innermost module."""
    while frame is not None and frame.f_code.co_filename != _MODULE_FILE:
        yield frame
        frame = frame.f_back


def _position(frame: FrameType) -> tuple[int | None, ...]:
    """Line and column of what a frame runs: the offset of the instruction would depend on what is called."""
    return next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
