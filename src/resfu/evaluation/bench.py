"""Upsamplers side by side on one workload: time, peak memory, multiply-accumulates, parameters."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from resfu.evaluation.cost import Latency, count_parameters, multiply_accumulates, peak_memory, rounds
from resfu.upsamplers import UPSAMPLERS, Iterative, create_upsampler
from resfu.upsamplers.base import Upsampler

YARDSTICK = "bilinear"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Workload:
    """The input of every upsampler: features, a guidance of the output's size, and the output's size.

    Args:
        channels: C of the features.
        guidance_channels: channels of the guidance; upsamplers guided by the image get 3 channels instead.
        low: (h, w) of the features.
        ratio: of the output's size to the features', at least 1; the output's size is rounded to whole pixels.
        batch: number of images.
        dtype: a key of `DTYPES`, of inputs and parameters.
        device: "cpu" or "cuda", optionally with a number.
        channels_last: whether inputs and parameters are channels-last in memory.

    Raises:
        ValueError: for a count below 1, a ratio below 1, an unknown dtype, or a missing device.
    """

    channels: int = 256
    guidance_channels: int = 64
    low: tuple[int, int] = (64, 64)
    ratio: float = 2
    batch: int = 1
    dtype: str = "float32"
    device: str = "cpu"
    channels_last: bool = False

    def __post_init__(self) -> None:
        if min(self.channels, self.guidance_channels, *self.low, self.batch) < 1:
            raise ValueError(f"channels, sizes and batch must be at least 1, got {self}.")
        if not 1 <= self.ratio < float("inf"):
            raise ValueError(f"ratio must be a number of at least 1, got {self.ratio}.")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}.")
        kind, _, number = self.device.partition(":")
        if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
            raise ValueError(f"device must be cpu or cuda, got {self.device!r}.")
        if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
            raise ValueError(f"there is no device {self.device!r}: PyTorch sees {torch.cuda.device_count()} GPUs.")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the output."""
        return round(self.low[0] * self.ratio), round(self.low[1] * self.ratio)

    def random_map(self, channels: int, size: tuple[int, int]) -> Tensor:
        """Normally distributed numbers [batch, channels, *size] of this dtype, device and memory format."""
        return self.placed(torch.randn(self.batch, channels, *size))

    def placed(self, value: Any) -> Any:
        """A tensor or module in this dtype, device and memory format."""
        memory_format = torch.channels_last if self.channels_last else torch.preserve_format
        return value.to(self.device, DTYPES[self.dtype]).to(memory_format=memory_format)


@dataclass(frozen=True)
class Pass:
    """The measurement of one kind of call.

    Args:
        latency: median and quartiles.
        rounds_ms: the time of every measured round.
        over_bilinear: the median, divided by that of bilinear interpolation; None if that could not run.
        peak_bytes: from `resfu.evaluation.cost.peak_memory`.
        peak_over_output: the same, divided by the size of the output.
    """

    latency: Latency
    rounds_ms: list[float]
    over_bilinear: float | None
    peak_bytes: int
    peak_over_output: float


@dataclass(frozen=True)
class Row:
    """The measurements of one upsampler.

    Args:
        steps: 1, or the number of x2 steps to the ratio.
        parameters: their number, over all steps.
        multiply_accumulates: of one forward call.
        forward: inference mode, evaluation mode.
        forward_backward: training mode; gradients of features, guidance and parameters.
    """

    steps: int
    parameters: int
    multiply_accumulates: int
    forward: Pass
    forward_backward: Pass


def build(name: str, workload: Workload) -> nn.Module:
    """An upsampler for the workload's ratio: in one step if it can, else a chain of x2 steps.

    Args:
        name: a key of `resfu.UPSAMPLERS`.
        workload: widths, ratio, dtype and device.

    Returns:
        The upsampler, or an `Iterative` if it supports the ratio 2 alone and the workload's is a higher power of two.

    Raises:
        ValueError: for an unknown name, or widths or a ratio that the upsampler does not support.
    """
    method = UPSAMPLERS.get(name)
    whole = workload.ratio == int(workload.ratio)
    if method is not None and method.ratios == "fixed" and not whole:
        raise ValueError(f"{method.__name__} needs an integer ratio, got {workload.ratio}.")
    ratio = int(workload.ratio) if whole else workload.ratio

    def create(ratio: int | float) -> Upsampler:
        guidance_channels = 3 if method is not None and method.image_guided else workload.guidance_channels
        return create_upsampler(
            name, channels=workload.channels, guidance_channels=guidance_channels, scale_factor=ratio
        )

    doublings = int(math.log2(ratio))
    if method is not None and method.ratios == "2" and doublings > 1 and ratio == 2**doublings:
        return workload.placed(Iterative(create(2) for _ in range(doublings)))
    return workload.placed(create(ratio))


def measure(
    names: Sequence[str],
    workload: Workload,
    repeats: int = 9,
    progress: Callable[[int, int, str], Any] | None = None,
) -> tuple[dict[str, Row], dict[str, str]]:
    """Measure upsamplers side by side: every round runs each in turn; bilinear interpolation always takes part.

    Args:
        names: keys of `resfu.UPSAMPLERS`.
        workload: their input.
        repeats: measured rounds, after one warm-up round.
        progress: called with the turns done, their total number and a description.

    Returns:
        The rows by name (bilinear first, unless `names` has it elsewhere), and the reasons why others could not run.

    Raises:
        ValueError: for an unknown name or fewer than one round.
    """
    unknown = [name for name in names if name not in UPSAMPLERS]
    if unknown:
        raise ValueError(f"unknown upsampler {unknown[0]!r}; choose from {', '.join(UPSAMPLERS)}.")
    if repeats < 1:
        raise ValueError(f"there must be at least one round, got {repeats}.")
    names = list(dict.fromkeys(names if YARDSTICK in names else [YARDSTICK, *names]))
    done, total = 0, len(names) * (1 + 2 * (1 + repeats))

    def report(step: str) -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total, step)

    contenders, left_out = {}, {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inputs = _Inputs(workload)
        for name in names:
            try:
                contenders[name] = _Contender(name, workload, inputs)
            except (ValueError, RuntimeError) as error:  # RuntimeError: out of memory, a dtype without kernels
                left_out[name] = next(iter(str(error).splitlines()), type(error).__name__)
                total -= 2 * (1 + repeats)
            report(f"memory of {name}")
        times = {}
        for training, kind in ((False, "forward"), (True, "forward and backward")):
            for contender in contenders.values():
                contender.module.train(training)
            calls = {name: each.train if training else each.infer for name, each in contenders.items()}
            times[training] = rounds(calls, repeats, on_turn=lambda name, kind=kind: report(f"{kind} of {name}"))
    return {name: contender.row(name, times) for name, contender in contenders.items()}, left_out


class _Inputs:
    """The tensors of a workload, shared by all upsamplers."""

    def __init__(self, workload: Workload) -> None:
        self.features = workload.random_map(workload.channels, workload.low).requires_grad_()
        self.guidance = workload.random_map(workload.guidance_channels, workload.size).requires_grad_()
        self.image = workload.random_map(3, workload.size).requires_grad_()
        self.gradient = workload.random_map(workload.channels, workload.size)


class _Contender:
    """An upsampler with its inputs; the constructor runs it a few times to count operations and memory."""

    def __init__(self, name: str, workload: Workload, inputs: _Inputs) -> None:
        method = UPSAMPLERS[name]
        self.size = workload.size
        self.module = build(name, workload)
        self.features, self.gradient = inputs.features, inputs.gradient
        self.guidance = None if not method.guided else inputs.image if method.image_guided else inputs.guidance
        self.module.eval()
        self.multiply_accumulates = self._count()
        self.peaks = {False: peak_memory(self.infer, self.features)}
        self.module.train()
        self.peaks[True] = peak_memory(self.train, self.features, grad=True)

    def infer(self, *_: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.module(self.features, self.guidance, size=self.size)

    def train(self, *_: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            output = self.module(self.features, self.guidance, size=self.size)
            inputs = [tensor for tensor in (self.features, self.guidance) if tensor is not None]
            return torch.autograd.grad(output, [*inputs, *self.module.parameters()], self.gradient, allow_unused=True)

    def row(self, name: str, times: Mapping[bool, Mapping[str, list[float]]]) -> Row:
        return Row(
            steps=len(self.module.steps) if isinstance(self.module, Iterative) else 1,
            parameters=count_parameters(self.module),
            multiply_accumulates=self.multiply_accumulates,
            forward=self._pass(name, times[False], self.peaks[False]),
            forward_backward=self._pass(name, times[True], self.peaks[True]),
        )

    def _pass(self, name: str, times: Mapping[str, list[float]], peak: int) -> Pass:
        latency = Latency.of(times[name])
        base = Latency.of(times[YARDSTICK]).median_ms if YARDSTICK in times else None
        output_bytes = self.gradient.numel() * self.gradient.element_size()
        over = latency.median_ms / base if base else None
        return Pass(latency, times[name], over, peak, peak / output_bytes)

    def _count(self) -> int:
        """Count on the CPU, where the counter sees all kernels, and in fp32, which every operation supports."""
        module = deepcopy(self.module).to("cpu", torch.float32)
        maps = (self.features, self.guidance)
        inputs = [None if tensor is None else tensor.detach().to("cpu", torch.float32) for tensor in maps]
        return multiply_accumulates(module, *inputs, size=self.size)
