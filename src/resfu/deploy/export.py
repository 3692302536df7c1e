"""Export upsamplers and networks to files for other runtimes."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from resfu.deploy.export_program import Shapes, program_of
from resfu.deploy.export_runtimes import Runtime, runtime_of
from resfu.files.atomic import replacing
from resfu.upsamplers.options import check_choice

# Largest allowed difference from PyTorch, relative to the largest absolute value of the output.
_ALLOWED = {torch.float32: 1e-4, torch.float16: 2e-2}
_TIMES = 4  # in fp16 also this multiple of the difference between PyTorch's fp16 and fp32


def export(
    module: nn.Module,
    inputs: Tensor | Sequence[Tensor],
    path: str | Path,
    dynamic: bool | str = True,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write an upsampler, a host or an upgraded network to a file that runs without Python and this package.

    The file contains only standard operators. After writing, it is run in its runtime on the given inputs and on inputs
    of another batch size, height and width. It is kept only if the results agree with those of the module in fp32, to
    1e-4 of the largest value. In fp16 it may be 2e-2, or four times the difference of PyTorch's own fp16.

    Args:
        module: in evaluation mode; returns one tensor.
        inputs: the module's arguments, for example (features, guidance) or one batch of images [B, 3, H, W].
        path: the file; its extension chooses the runtime. ".onnx" is for ONNX Runtime and other readers of ONNX (opset
            20), ".xml" for OpenVINO (with the weights next to it in ".bin"), ".pte" for ExecuTorch (with XNNPACK where
            possible), ".pt2" for AOTInductor (compiled for this machine).
        dynamic: True makes batch, height and width dynamic; whole ratios between the sizes of the inputs stay fixed.
            "ratio" makes these ratios dynamic too, for upsamplers of any ratio; the file then needs gather operators,
            which are slower. False fixes every size.
        dtype: of weights and inputs, torch.float32 or torch.float16. Default: that of the first input.

    Returns:
        The path.

    Raises:
        ValueError: for an unknown extension, a missing package, a combination that the runtime does not support (before
            anything is written), or a file whose results differ (the message gives the largest difference).

    >>> up = resfu.ReSFU(channels=64, guidance_channels=32).eval()  # doctest: +SKIP
    >>> example = torch.randn(1, 64, 16, 16), torch.randn(1, 32, 64, 64)  # doctest: +SKIP
    >>> resfu.export(up, example, "resfu.onnx")  # doctest: +SKIP
    """
    if not isinstance(path, (str, Path)):
        raise ValueError(f"export(module, inputs, path): the path must be a str or Path, got {type(path).__name__}.")
    path = Path(path)
    runtime = runtime_of(path)
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs) if isinstance(inputs, Sequence) else ()
    _check(module, inputs, dynamic)
    dtype = dtype or next(x.dtype for x in inputs)
    if dtype not in _ALLOWED:
        raise ValueError(f"dtype must be torch.float32 or torch.float16, got {dtype}.")
    runtime.check(dtype, module)
    exact = copy.deepcopy(module).to("cpu", torch.float32)
    module = exact if dtype == torch.float32 else copy.deepcopy(exact).to(dtype)
    inputs = tuple(x.detach().to("cpu", dtype) for x in inputs)
    _result(module, inputs)
    shapes = Shapes(inputs, dynamic, runtime.times)
    program = program_of(module, shapes, runtime.largest)
    with replacing(path) as draft:
        written = runtime.write(program, draft)
        for number, example in enumerate(shapes.examples()):
            try:
                wanted = _result(module, example)
            except (RuntimeError, ValueError):
                if number == 0:
                    raise
                example = shapes.multiple()
                wanted = _result(module, example)
            full = _result(exact, tuple(x.float() for x in example)) if dtype == torch.float16 else wanted
            own = _apart(wanted, full)  # infinite where PyTorch's own fp16 overflows
            allowed = max(_ALLOWED[dtype], _TIMES * own) if math.isfinite(own) else _ALLOWED[dtype]
            _compare(runtime, draft, example, full, allowed)
        for extra in written:
            extra.replace(path.parent / extra.name)
    return path


def _check(module: nn.Module, inputs: tuple[Tensor, ...], dynamic: bool | str) -> None:
    check_choice("dynamic", dynamic, (True, False, "ratio"))
    if not isinstance(module, nn.Module):
        raise ValueError(f"module must be a torch.nn.Module, got {type(module).__name__}.")
    if module.training:
        raise ValueError("the module is in training mode: call .eval() first.")
    if not inputs or not all(isinstance(x, Tensor) and x.is_floating_point() and x.dim() == 4 for x in inputs):
        raise ValueError("inputs must be floating point maps [B, C, H, W], as the module is called with.")
    if any(x.dtype != inputs[0].dtype for x in inputs):
        raise ValueError(f"inputs must have one dtype, got {', '.join(str(x.dtype) for x in inputs)}.")
    if any(x.shape[0] != inputs[0].shape[0] for x in inputs):
        raise ValueError(f"inputs must have one batch size, got {[x.shape[0] for x in inputs]}.")
    ratios = getattr(module, "ratios", "any")
    if dynamic == "ratio" and ratios != "any":
        raise ValueError(
            f"{type(module).__name__} takes {'the ratio 2' if ratios == '2' else ratios + ' ratios'} alone: "
            "dynamic='ratio' is for upsamplers of any ratio. Use dynamic=True."
        )


@torch.no_grad()
def _result(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    found = module(*inputs)
    if not isinstance(found, Tensor):
        raise ValueError(
            f"the module must return one tensor, got {type(found).__name__}: wrap it in a module that returns the "
            "tensor that you need."
        )
    return found


def _apart(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the largest absolute value."""
    return (found.to(wanted.dtype) - wanted).abs().max().item() / (wanted.abs().max().item() or 1.0)


def _compare(runtime: Runtime, path: Path, inputs: tuple[Tensor, ...], wanted: Tensor, allowed: float) -> None:
    sizes = ", ".join("x".join(map(str, x.shape)) for x in inputs)
    try:
        found = runtime.load(path)(inputs)
    except Exception as error:  # each runtime has its own error classes
        raise ValueError(f"{runtime.name} can't run the file on {sizes}, nothing was written: {error}") from error
    if found.shape != wanted.shape:
        raise ValueError(
            f"{runtime.name} gives {list(found.shape)} on {sizes} where PyTorch gives {list(wanted.shape)}: nothing "
            "was written."
        )
    difference = _apart(found, wanted)
    if not difference <= allowed:
        raise ValueError(
            f"{runtime.name} disagrees with PyTorch on {sizes} by {difference:.1e} of the largest value, more than "
            f"{allowed:.0e}: nothing was written."
        )
