"""The softmax and the window sum in one compiled kernel, in fp32 on the CPU."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.compiled.threads import flat, past_the_cache, run, scratch
from resfu.ops.compiled.tile import PIXELS, ROWS
from resfu.ops.grid import lr_cell, neighbour_in_image
from resfu.ops.kept import kept
from resfu.ops.layout import pad
from resfu.ops.reassembly import numba_kernels as kernels
from resfu.ops.reassembly import operators
from resfu.ops.reassembly.softmax import softmax_from_centre, window_softmax

_BORDER = 2  # rows and columns that features are padded by
_CHUNKS = 4  # of an image, at most, whatever the number of threads


class Axes(NamedTuple):
    """Where the windows of an H x W image lie in an h x w map with a border of two pixels.

    Attributes:
        cells: [n + 1] the first rows of pixels of each row of cells, and H.
        rows: [H] the first row of a pixel's window.
        fy: [H] its way to the next one.
        row_mask: [H] bit ky: whether the neighbours in that row lie inside the image.
        columns: [T] the first column of a tile's windows.
        shares: [T, 3, J, 32] how much of the weight of a pixel's neighbours in a column each column of the tile takes.
        inside: [T, 3, 32] 0 where the neighbours of a column lie inside the image, else minus infinity.
        J: columns of a tile.
    """

    cells: Tensor
    rows: Tensor
    fy: Tensor
    row_mask: Tensor
    columns: Tensor
    shares: Tensor
    inside: Tensor
    J: int


@kept()
def axes(H: int, W: int, h: int, w: int, mask: bool) -> Axes:
    """Of an image over a map; without `mask` all neighbours count."""
    K = kernels.K
    (rows, fy), (column, fx) = lr_cell(H, h, "cpu", torch.float32), lr_cell(W, w, "cpu", torch.float32)
    rows, column = rows + 1, column + 1
    cells = [0] + [y for y in range(1, H) if rows[y] != rows[y - 1]] + [H]
    tiles = -(-W // PIXELS)
    column = F.pad(column[None].float(), (0, tiles * PIXELS - W), mode="replicate")[0].long().view(tiles, PIXELS)
    start = column[:, 0].clone()
    J = int((column[:, -1] - start).max()) + kernels.M
    J += J % 2  # M J is a multiple of 8
    seen_rows, seen_columns = (neighbour_in_image(P, p, K, torch.device("cpu")) for P, p in ((H, h), (W, w)))
    if not mask:
        seen_rows, seen_columns = torch.ones_like(seen_rows), torch.ones_like(seen_columns)
    bits = (seen_rows.long() << torch.arange(K, device="cpu")[:, None]).sum(0)
    inside = torch.zeros(K, W, dtype=torch.float32, device="cpu").masked_fill_(~seen_columns, float("-inf"))
    inside = F.pad(inside, (0, tiles * PIXELS - W)).view(K, tiles, PIXELS).transpose(0, 1).contiguous()
    fx = F.pad(fx, (0, tiles * PIXELS - W)).view(tiles, 1, 1, PIXELS)
    first = (column - start[:, None])[:, None, None] + torch.arange(K, device="cpu")[:, None, None]  # [T, 3, 1, 32]
    place = torch.arange(J, device="cpu")[:, None]
    shares = (place == first) * (1 - fx) + (place == first + 1) * fx
    return Axes(torch.tensor(cells, device="cpu"), rows, fy, bits, start, shares, inside, J)


def part_of(whole: Axes, first: int, last: int) -> tuple[Axes, int]:
    """Some rows of an image, over the rows of the padded map from the second result on."""
    rows = whole.rows[first:last]
    top = int(rows[0])
    cells = F.pad(rows.diff().nonzero()[:, 0] + 1, (1, 0))
    cells = F.pad(cells, (0, 1), value=last - first)
    return whole._replace(
        cells=cells, rows=rows - top, fy=whole.fy[first:last], row_mask=whole.row_mask[first:last]
    ), top


def softmax_window_sum_of_rows(
    features: Tensor, scores: Tensor, rows: tuple[int, int], height: int, from_centre: bool
) -> Tensor:
    """Rows (first, one past the last) of an image of `height` rows, from their scores [B, 9, rows, W]; masked.

    Args:
        features: [B, C, h, w], whose border is repeated.
        scores: of these rows alone.
        rows: which ones.
        height: H.
    """
    h, w = features.shape[-2:]
    part, top = part_of(axes(height, scores.shape[3], h, w, True), *rows)
    bottom = top + int(part.rows[-1]) + kernels.M
    place = torch.arange(top, bottom, device="cpu") - _BORDER
    padded = pad(features.index_select(2, place.clamp(0, h - 1)), 0, _BORDER, "replicate")
    return _forward(padded, scores, part, from_centre)


def softmax_window_sum(
    padded: Tensor, scores: Tensor, h: int, w: int, mask: bool, from_centre: bool, out: Tensor | None = None
) -> Tensor:
    """[B, C, h + 4, w + 4], scores [B, 9, H, W] -> [B, C, H, W]: "fine", K = 3. Differentiable without out."""
    if out is not None:
        return _forward(padded, scores, axes(*scores.shape[-2:], h, w, mask), from_centre, out)
    return _SoftmaxWindowSum.apply(padded, scores, h, w, mask, from_centre)  # pyright: ignore[reportReturnType]


class _SoftmaxWindowSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, padded: Tensor, scores: Tensor, h: int, w: int, mask: bool, from_centre: bool) -> Tensor:
        ctx.save_for_backward(padded, scores)
        ctx.low, ctx.mask, ctx.from_centre = (h, w), mask, from_centre
        return _forward(padded, scores, axes(*scores.shape[-2:], h, w, mask), from_centre)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (padded, scores), (h, w) = ctx.saved_tensors, ctx.low
        if not torch.is_grad_enabled():
            whole = axes(*scores.shape[-2:], h, w, ctx.mask)
            return *_backward(padded, scores, whole, ctx.from_centre, grads[0]), None, None, None, None
        padded, scores = (t.view_as(t) for t in (padded, scores))  # for derivatives of the derivatives, which stop here
        low = ctx.low if ctx.mask else None
        weights = softmax_from_centre(scores, 1, low) if ctx.from_centre else window_softmax(scores, 1, low)
        out = operators.reassemble(padded, weights, ctx.low, "fine", 1)
        wanted = [t for t, needed in zip((padded, scores), ctx.needs_input_grad[:2], strict=True) if needed]
        found = iter(torch.autograd.grad(out, wanted, grads[0], create_graph=True))
        return *(next(found) if needed else None for needed in ctx.needs_input_grad[:2]), None, None, None, None


class _Call:
    """What both kernels are given."""

    def __init__(self, padded: Tensor, scores: Tensor, axes: Axes, from_centre: bool) -> None:
        (self.B, self.C, self.h1, self.w1), (self.H, self.W) = padded.shape, scores.shape[-2:]
        self.C8 = -(-self.C // ROWS) * ROWS
        low = F.pad(padded.detach().permute(0, 2, 3, 1), (0, self.C8 - self.C)).contiguous()
        self.axes = axes
        self.cells = len(self.axes.cells) - 1
        a = self.axes
        self.before = (self.cells, a.cells.numpy(), self.H, self.W, flat(low), self.h1, self.w1, self.C, self.C8)
        tables = (a.rows, a.fy, a.row_mask, a.columns, a.shares, a.inside)
        self.after = (flat(scores), *(t.view(-1).numpy() for t in tables), a.J, from_centre)
        self.table = _table(a.J)


@kept()
def _table(J: int) -> Any:
    """Where the columns of a tile follow each other, then where their shares of the neighbours do."""
    K = kernels.K
    return torch.tensor([PIXELS * j for j in range(J)] + [PIXELS * J * x for x in range(K)], device="cpu").numpy()


def _forward(padded: Tensor, scores: Tensor, axes: Axes, from_centre: bool, out: Tensor | None = None) -> Tensor:
    call = _Call(padded, scores, axes, from_centre)
    out = padded.new_empty((call.B, call.C, call.H, call.W)) if out is None else out
    J = call.axes.J
    size = (2 * kernels.COUNT + 2 + kernels.M * (J + kernels.K) + ROWS) * PIXELS + kernels.M * J * call.C8
    space, target, streaming = scratch(size), flat(out), past_the_cache(out)

    given = *call.before, *call.after, target, streaming, space, size, call.table
    run(kernels.softmax_window_sum, call.B * call.cells, *given)
    return out


def _backward(padded: Tensor, scores: Tensor, axes: Axes, from_centre: bool, grad: Tensor) -> tuple[Tensor, Tensor]:
    call = _Call(padded, scores, axes, from_centre)
    number = max(1, min(_CHUNKS, call.cells // 4))
    d_low = grad.new_zeros((call.B, number, call.h1, call.w1, call.C8))
    d_scores = scores.new_empty(scores.shape)
    J = call.axes.J
    taps = -(-kernels.M * J // PIXELS) * PIXELS
    size = ((3 if from_centre else 2) * kernels.COUNT + 3 + 3 * taps + kernels.M * kernels.K + call.C8) * PIXELS
    size += (kernels.M * J + taps) * call.C8
    space, given, results = scratch(size), flat(grad), (flat(d_low), flat(d_scores))

    arguments = number, *call.before, *call.after, given, *results, space, size, call.table
    run(kernels.softmax_window_sum_gradients, call.B * number, *arguments)
    return d_low.sum(1)[..., : call.C].permute(0, 3, 1, 2).contiguous(), d_scores
