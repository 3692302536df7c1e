"""Label maps and volumes from low-resolution logits, without storing the upsampled logits."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.deploy.bands import label_box, working_bytes
from resfu.deploy.boxes import Box, boxes_within
from resfu.deploy.budget import parse_budget
from resfu.deploy.decisions import Decision, Largest, Regions, Threshold, largest_class
from resfu.deploy.linear import Taps, linear_taps, nearest_taps
from resfu.deploy.three import label_box_of_three
from resfu.ops.checks import pair, triple

Axis = Literal["linear", "nearest", "nearest-exact"]
# Up to this sum of rows and columns, PyTorch uses another kernel, which rounds differently.
_SMALL = 128
_COPIES, _PER_PIXEL = 3, 24  # copies of upsampled logits at once; bytes of a pixel's label and probability
_WHOLE = 1 << 24  # logits of an upsampled image up to which computing all of them at once is faster, on the CPU


@torch.no_grad()
def upsample_labels(
    logits: Tensor,
    size: Sequence[int],
    *,
    mode: str | Sequence[Axis] = "linear",
    budget: str | int | None = "256MB",
    threads: int | None = None,
    threshold: float | None = None,
    regions: Sequence[int] | None = None,
    return_confidence: bool = False,
    ignore_below: float | None = None,
    ignore_index: int = 255,
    out: Any = None,
) -> Any:
    """Compute `F.interpolate(logits, size, mode=...).argmax(1)` without storing the upsampled logits.

    On the CPU, for contiguous logits in fp32, bf16 and fp16, the labels equal those of this expression, including exact
    ties and NaN: each interpolated value has the same bits. On other devices, and for channels-last logits, the label
    may differ where two logits differ by less than rounding. At a few ratios PyTorch's "nearest-exact" takes another
    pixel in maps than in rows, where an output's centre lies on a border; labels follow the rows.

    A small output is computed at once. A larger one is processed in boxes, one after the other. Interpolation weights
    are not negative. So if the same class is the largest at all corners around a pixel, by more than rounding, it is
    the pixel's label, and nothing has to be interpolated. Most of the work is therefore at the borders between classes.

    Args:
        logits: [B, K, h, w] or volumes [B, K, d, h, w], floating point.
        size: (H, W) or (D, H, W), larger or smaller.
        mode: "linear" ("bilinear" and "trilinear" are the same), "nearest", "nearest-exact", or one of these for each
            axis: medical tools resample thick slices with ("nearest-exact", "linear", "linear").
        budget: limit for the memory beyond the logits and the result, in bytes or as text such as "256MB"; None for no
            limit.
        threads: number of CPU threads, each of which processes boxes of its own. Default: as many as PyTorch uses.
        threshold: for K = 1: the label is 1 where the logit is larger, else 0.
        regions: for channels that are sigmoids of overlapping regions: the label of each channel. It is written where
            the channel's logit is above 0, later channels over earlier ones; 0 elsewhere.
        return_confidence: also return the largest softmax probability of each pixel.
        ignore_below: pixels whose largest softmax probability is smaller get the label `ignore_index`.
        ignore_index: the label of pixels below `ignore_below`.
        out: a tensor, or an array such as `numpy.memmap`, into which the labels are written: [B, H, W] or [B, D, H, W],
            or without the first axis if B = 1. Default: a new tensor on the logits' device.

    Returns:
        Labels [B, *size], as uint8 if they fit, else int16; `out` itself if it was given. With `return_confidence` a
        tuple (labels, probabilities), the probabilities in fp32 [B, *size].

    Raises:
        ValueError: for logits of another rank or type, a size or mode that does not fit them, options that exclude one
            another, labels that `out` or int16 cannot hold, or a budget that is too small for one row.

    >>> resfu.upsample_labels(torch.randn(1, 21, 64, 64), (512, 512)).shape
    torch.Size([1, 512, 512])
    """
    size = _checked_size(logits, size)
    decision = _decision(logits, threshold, regions, return_confidence, ignore_below, ignore_index)
    flat = len(size) == 2 and _modes(mode, 2) == ["linear"] * 2
    three = flat and logits.shape[1] == 3 and torch.get_num_threads() == 1  # on several, PyTorch's kernel is another
    taps = _taps(logits, size, mode, torch.float32 if three else logits.dtype)
    labels, target = _target(logits, size, decision, out)
    confidence = logits.new_empty((logits.shape[0], *size), dtype=torch.float32) if return_confidence else None
    limit, kept = parse_budget(budget), isinstance(target, Tensor)
    workers = _workers(logits, threads)
    whole = flat and (sum(size) <= _SMALL or (threads is None and _at_once(logits, size, limit, workers)))
    logits, inference = logits.detach(), torch.is_inference_mode_enabled()  # no_grad does not apply in worker threads

    def work(part: tuple[int, Box]) -> None:
        with torch.inference_mode(inference):  # worker threads do not know the caller's mode, which its tensors need
            label(*part)

    def label(b: int, box: Box) -> None:
        image = logits[b]
        if whole:
            block = F.interpolate(image[None], size=size, mode="bilinear", align_corners=False).flatten(2)
            exact = torch.promote_types(block.dtype, torch.float32)
            found = (largest_class(block), None) if decision.of_corners else decision(block.to(exact))
        else:
            found = (label_box_of_three if three else label_box)(image, taps, box, decision)
        place = (b, *(slice(*span) for span in box))
        labelled = found[0].view([last - first for first, last in box]).to(labels.dtype)
        target[place] = labelled if kept else labelled.cpu().numpy()
        if confidence is not None and found[1] is not None:
            confidence[place] = found[1].view(labelled.shape)

    parts = list(_boxes(logits, size, taps, limit, whole, workers))
    if workers == 1 or len(parts) == 1:
        for part in parts:
            work(part)
    else:
        with _one_thread_each(), ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, parts))
    result = labels if out is None else out
    return result if confidence is None else (result, confidence)


def _at_once(logits: Tensor, size: tuple[int, ...], limit: float, workers: int) -> bool:
    """Whether the upsampled logits of an image fit into the budget, and boxes would take longer.

    Three channels are left to the boxes: PyTorch has a kernel of their own on one thread, and boxes have one thread.
    """
    B, K = logits.shape[:2]
    few = logits.device.type != "cpu" or K * math.prod(size) <= _WHOLE
    width = torch.promote_types(logits.dtype, torch.float32).itemsize
    return few and K != 3 and min(B, workers) * math.prod(size) * (_COPIES * width * K + _PER_PIXEL) <= limit


def _boxes(
    logits: Tensor, size: tuple[int, ...], taps: list[Taps], limit: float, whole: bool, workers: int
) -> Iterator[tuple[int, tuple[tuple[int, int], ...]]]:
    """Yield (index of the image, spans of the output along each axis)."""
    if 0 in logits.shape:
        return
    K, width = logits.shape[1], torch.promote_types(logits.dtype, torch.float32).itemsize
    for box in (
        [tuple((0, P) for P in size)] if whole else boxes_within(size, taps, working_bytes(K, width), limit, workers)
    ):
        for b in range(logits.shape[0]):
            yield b, box


def _checked_size(logits: Tensor, size: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(logits, Tensor) or logits.dim() not in (4, 5) or not logits.is_floating_point():
        what = f"{logits.dtype} {list(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"logits must be floating point [B, K, h, w] or [B, K, d, h, w], got {what}.")
    numbers = pair("size", size) if logits.dim() == 4 else triple("size", size)
    if min(numbers) < 1:
        raise ValueError(f"size must be whole numbers from 1, got {numbers}.")
    if 0 in logits.shape[1:]:
        raise ValueError(f"logits must have at least one class and one pixel, got {list(logits.shape)}.")
    return numbers


def _modes(mode: str | Sequence[Axis], axes: int) -> list[str]:
    """The mode of each axis."""
    modes = list(mode) if isinstance(mode, Sequence) and not isinstance(mode, str) else [mode] * axes
    alias = {2: "bilinear", 3: "trilinear"}[axes]
    modes = ["linear" if name == alias else name for name in modes]
    if len(modes) != axes or not all(name in get_args(Axis) for name in modes):
        raise ValueError(f"mode must be {', '.join(get_args(Axis))} or {axes} of them, one an axis, got {mode!r}.")
    return modes


def _taps(logits: Tensor, size: tuple[int, ...], mode: str | Sequence[Axis], dtype: torch.dtype) -> list[Taps]:
    device, taps = logits.device, []
    for name, P, p in zip(_modes(mode, len(size)), size, logits.shape[2:], strict=True):
        linear = name == "linear"
        taps.append(linear_taps(P, p, dtype, device) if linear else nearest_taps(P, p, name, dtype, device))
    return taps


def _decision(
    logits: Tensor,
    threshold: float | None,
    regions: Sequence[int] | None,
    return_confidence: bool,
    ignore_below: float | None,
    ignore_index: int,
) -> Decision:
    K = logits.shape[1]
    confident = return_confidence or ignore_below is not None
    if (threshold is not None) + (regions is not None) + confident > 1:
        raise ValueError("threshold, regions and the confidence of a softmax exclude one another: choose one.")
    if threshold is not None:
        if math.isnan(threshold):
            raise ValueError("threshold must be a number, got nan.")
        if K != 1:
            raise ValueError(f"threshold is for one channel, got {K}: give regions for several sigmoids.")
        return Threshold(threshold)
    if regions is not None:
        if len(regions) != K or min(regions) < 0:
            raise ValueError(f"regions must be a label from 0 for each of the {K} channels, got {list(regions)}.")
        return Regions(regions)
    if ignore_below is not None and not 0 <= ignore_below <= 1:
        raise ValueError(f"ignore_below must be a probability, got {ignore_below}.")
    if ignore_below is not None and not 0 <= ignore_index:
        raise ValueError(f"ignore_index must be a label from 0, got {ignore_index}.")
    if ignore_below is not None and ignore_index < K:
        raise ValueError(f"ignore_index = {ignore_index} is the label of a class too: choose one from {K} on.")
    return Largest(K, return_confidence, ignore_below, ignore_index)


def _target(logits: Tensor, size: tuple[int, ...], decision: Decision, out: Any) -> tuple[Tensor, Any]:
    """A tensor with the labels' dtype, and the tensor or array [B, *size] into which boxes are written."""
    dtype = torch.uint8 if decision.highest < 256 else torch.int16
    if decision.highest >= 2**15:
        raise ValueError(f"labels up to {decision.highest} do not fit int16: use fewer classes.")
    shape = (logits.shape[0], *size)
    if out is None:
        labels = logits.new_empty(shape, dtype=dtype)
        return labels, labels
    if not hasattr(out, "shape"):
        raise ValueError(f"out must be a tensor or an array {list(shape)}, got {type(out).__name__}.")
    given = tuple(out.shape)
    if given != shape and (shape[0] != 1 or given != shape[1:]):
        raise ValueError(f"out must be {list(shape)}, got {list(given)}.")
    strides = out.stride() if isinstance(out, Tensor) else getattr(out, "strides", given)
    if any(n > 1 and stride == 0 for n, stride in zip(given, strides, strict=True)):
        raise ValueError("out must have memory for each of its numbers, got an expanded one: copy it first.")
    if _highest(out) < decision.highest:
        raise ValueError(f"out holds {out.dtype}, but labels go up to {decision.highest}: use {dtype}.")
    return logits.new_empty(0, dtype=dtype), out if given == shape else out[None]


def _highest(out: Any) -> int:
    """The largest label that the dtype of a tensor or array can hold."""
    if isinstance(out, Tensor):
        kind = out.dtype
        if kind == torch.bool or kind.is_complex:
            return 1 if kind == torch.bool else 0
        # floating point holds every integer up to 2 / eps
        return int(2 / torch.finfo(kind).eps) if kind.is_floating_point else torch.iinfo(kind).max
    kind, bits = out.dtype.kind, 8 * out.dtype.itemsize
    known = {"b": 1, "u": 2**bits - 1, "i": 2 ** (bits - 1) - 1, "f": 2 ** {16: 11, 32: 24}.get(bits, 53)}
    return known.get(kind, 0)


def _workers(logits: Tensor, threads: int | None) -> int:
    """Number of boxes processed in parallel."""
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be a number from 1, got {threads}.")
    return 1 if logits.device.type != "cpu" else threads or torch.get_num_threads()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Run each operator on one thread: blocks are too small for parallel operators.

    PyTorch has a single number of threads for all threads that begin. If several calls run at the same time, the first
    one saves the number, and each call restores it.
    """
    with _threads.lock:
        if _threads.calls == 0:
            _threads.number = torch.get_num_threads()
        _threads.calls += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _threads.lock:
            _threads.calls -= 1
            torch.set_num_threads(_threads.number)


class _Threads:
    """State that all running calls of a process share."""

    def __init__(self) -> None:
        self.lock, self.calls, self.number = Lock(), 0, 1


_threads = _Threads()
