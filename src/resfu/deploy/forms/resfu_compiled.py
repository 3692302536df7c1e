"""ReSFU's bands by compiled kernels: in fp32 on the CPU, without gradients, at whole ratios.

All intermediates of a band lie in memory that is allocated once. The filtered query is the map that takes longest to
compute. It is kept from pass to pass for as many bands as the memory allows, so that it is computed once instead of
three times.
"""

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from resfu.deploy.forms.base import Guide, Rows, channel_moments, mean_and_scale, normalised
from resfu.deploy.linear import interpolate_axis, linear_taps
from resfu.ops import gaussian_filter, guided_filter
from resfu.ops.backends import which_backend
from resfu.ops.reassembly.workspace import Workspace
from resfu.ops.similarity import operators
from resfu.upsamplers.normalised_projection import FAR
from resfu.upsamplers.plain import all_plain, is_plain_group_norm
from resfu.upsamplers.resfu import ReSFU
from resfu.upsamplers.similarity import SimilarityBlock

_AT_ONCE = 8  # channels that are filtered together; GroupNorm's groups must not be larger here


def compiles(up: ReSFU, features: Tensor, guidance: Tensor | None, low: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether the compiled kernels can compute this call."""
    if guidance is None or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    if not all_plain(up):
        return False
    if any(t.dtype != torch.float32 for t in (guidance, *up.parameters())):
        return False
    if up.kernel_size != 3 or which_backend(features, up.backend) != "numba":
        return False
    D = up.query.out_channels
    like = features.new_empty(1, D, 1, 1).expand(1, D, *low), features.new_empty(1, D, 1, 1).expand(1, D, *size)
    for block in blocks_of(up):
        compressor = block._compressor()
        if compressor is None or not is_plain_group_norm(block.norm) or D // block.norm.num_groups > _AT_ONCE:
            return False
        if not operators.compiles(*like, block.weight, block.bias, compressor):
            return False
    return True


class CompiledBands:
    """The passes of `ReSFUForm` by compiled kernels.

    Args:
        up: the upsampler.
        low: (h, w).
        size: (H, W).
        room: bytes of memory for filtered queries that are kept.
    """

    def __init__(self, up: ReSFU, low: tuple[int, int], size: tuple[int, int], room: float) -> None:
        from resfu.ops.similarity.numba_rows import RowScores

        self.up, self.low, self.size, self.room = up, low, size, room
        self.space = Workspace(torch.empty(0, dtype=torch.float32, device="cpu"))
        self.kept: dict[Rows, Tensor] = {}
        self.scores, self.blocks = {}, blocks_of(up)
        for block in self.blocks:
            compressor = block._compressor()
            assert compressor is not None
            is_low = up.alignment != "detail" and block is up.semantic_similarity
            self.scores[block] = RowScores(
                block.weight, block.bias, compressor, size, low, up.query.out_channels, is_low
            )

    def map_moments(self, band: Rows, guide: Guide, shared: Sequence[Tensor]) -> Tensor:
        """Moments of the band's maps, [maps, 2, B, groups]: filtered query, query, smoothed query."""
        up, (first, last) = self.up, band
        q, top = self._query(band, guide, shared)
        inner, found = slice(first - top, last - top), []
        if up.alignment != "detail":
            found.append(channel_moments(self._filtered(band, q, top, shared)))
        if up.alignment != "semantic":
            found.append(torch.cat([channel_moments(q[:, c, inner]) for c in _chunks(q)], 2))
            if up.smoothed_key:
                parts = [channel_moments(gaussian_filter(q[:, c])[:, :, inner]) for c in _chunks(q)]
                found.append(torch.cat(parts, 2))
            else:
                found.append(found[-1])
        groups = self.blocks[0].norm.num_groups
        return torch.stack(found).unflatten(3, (groups, -1)).sum(4)

    def hidden_moments(self, band: Rows, guide: Guide, shared: Sequence[Tensor], total: Tensor) -> Tensor:
        """Moments of the hidden channels of each block, by GroupNorm's groups, [blocks, 2, B, norm groups]."""
        found = []
        for block, planes, key in self._planes(band, guide, shared, total):
            found.append(self.scores[block].moments(planes, band, key, self.space))
        return torch.stack(found)

    def made_scores(self, rows: Rows, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]) -> Tensor:
        """The scores of some rows, [B, 9, rows, W], valid until the next call."""
        (first, last), W = rows, self.size[1]
        found = self._planes(rows, guide, shared, totals[0])
        scores = self.space.take("scores", (len(found[0][1]), 9, last - first, W)).zero_()
        for n, (block, planes, key) in enumerate(found):
            self.scores[block].scores(planes, rows, key, totals[1][n], self.space, scores)
        return scores

    def _query(self, band: Rows, guide: Guide, shared: Sequence[Tensor]) -> tuple[Tensor, int]:
        """The query [B, D, rows, W] of the band and of the rows around it that its filters need; and its first row."""
        up, (H, W) = self.up, self.size
        top, bottom = max(0, band[0] - self.reach), min(H, band[1] + self.reach)
        x = guide.rows(top, bottom)
        weight, bias = up.query.weight.flatten(1), cast("Tensor", up.query.bias)
        q = self.space.take("query", (len(x), weight.shape[0], bottom - top, W))
        norm = up.guidance_norm
        for b in range(len(x)):
            image, matrix, shift = x[b].flatten(1), weight, bias
            if isinstance(norm, nn.GroupNorm) and (shared[0][b] * shared[1][b]).abs().max() > FAR:
                image = normalised(x[b : b + 1], norm, shared[0][b : b + 1], shared[1][b : b + 1])[0].flatten(1)
            elif isinstance(norm, nn.GroupNorm):
                scale, offset = _affine(norm, shared[0][b], shared[1][b])
                matrix, shift = weight * scale, torch.addmv(bias, weight, offset)
            torch.addmm(shift[:, None], matrix, image, out=q[b].flatten(1))
        return q, top

    @property
    def reach(self) -> int:
        """Number of rows of the query that are needed above and below a band."""
        up = self.up
        filtered = 2 * up.guided_filter_radius if up.alignment != "detail" and up.guided_query else 0
        smoothed = -(-self.size[0] // self.low[0]) + 1  # one neighbour, and one more row for the Gaussian
        return max(filtered, smoothed if up.alignment != "semantic" else 0)

    def _filtered(self, band: Rows, q: Tensor, top: int, shared: Sequence[Tensor]) -> Tensor:
        """The semantic query of the band, [B, D, rows, W], valid until the next call."""
        up, (first, last) = self.up, band
        inner = slice(first - top, last - top)
        if not up.guided_query:
            return q[:, :, inner]
        if band in self.kept:
            return self.kept[band]
        size = (len(q), q.shape[1], last - first, q.shape[3])
        bytes_of = 4 * size[0] * size[1] * size[2] * size[3]
        if self.room >= bytes_of:
            self.room -= bytes_of
            out = self.kept[band] = q.new_empty(size)
        else:
            out = self.space.take("filtered", size)
        taps = [linear_taps(P, p, q.dtype, q.device) for P, p in zip(self.size, self.low, strict=True)]
        rows = taps[0].part(top, top + q.shape[2])
        span = rows.span()
        for c in _chunks(q):
            key = interpolate_axis(shared[-2][:, c, slice(*span)], taps[1], 3)
            key = interpolate_axis(key, rows.shifted(span[0]), 2)
            found = guided_filter(q[:, c], key, up.guided_filter_radius, up.guided_filter_eps, 1, up.backend)
            out[:, c] = found[:, :, inner]
        return out

    def _planes(
        self, band: Rows, guide: Guide, shared: Sequence[Tensor], total: Tensor
    ) -> list[tuple[SimilarityBlock, Tensor, Tensor | None]]:
        """For each block: the block, its normalised maps in the kernels' layout, and the convolved LR key or None."""
        up, (first, last) = self.up, band
        q, top = self._query(band, guide, shared)
        found = []
        for block in self.blocks:
            scores = self.scores[block]
            is_low = up.alignment != "detail" and block is up.semantic_similarity
            name = "semantic" if is_low else "detail"
            planes, columns = scores.room(self.space, name, len(q), last - first)
            if is_low:
                self._normalise(self._filtered(band, q, top, shared), block, total[0], columns)
                found.append((block, planes, self._convolved(shared)))
                continue
            D, reach = q.shape[1], scores.reach[0]
            inner = slice(first - top, last - top)
            self._normalise(q[:, :, inner], block, total[-2], columns[:, D:, reach : reach + last - first])
            above, below = min(reach, first), min(reach, self.size[0] - last)
            have = slice(reach - above, reach + last - first + below)
            for c in _chunks(q):
                key = gaussian_filter(q[:, c]) if up.smoothed_key else q[:, c]
                key = key[:, :, first - above - top : last + below - top]
                self._normalise(key, block, total[-1], columns[:, c, have], c)
            keys = columns[:, :D]
            keys[:, :, : have.start] = keys[:, :, have.start : have.start + 1]
            keys[:, :, have.stop :] = keys[:, :, have.stop - 1 : have.stop]
            left, right = scores.reach[1], scores.reach[1] + self.size[1]
            planes[:, :D, :, :left] = keys[..., :1]
            planes[:, :D, :, right:] = keys[..., -1:]
            found.append((block, planes, None))
        return found

    def _normalise(
        self, x: Tensor, block: SimilarityBlock, total: Tensor, out: Tensor, channels: slice | None = None
    ) -> None:
        """Apply GroupNorm with the statistics of the whole image to some channels, and write the result to `out`."""
        norm = block.norm
        count = self.size[0] * self.size[1] * norm.num_channels // norm.num_groups
        mean, scale = mean_and_scale(total, count, norm.eps)
        for b in range(len(x)):
            factor, offset = (t[channels or slice(None), None, None] for t in _affine(norm, mean[b], scale[b]))
            torch.addcmul(offset, x[b], factor, out=out[b])

    def _convolved(self, shared: Sequence[Tensor]) -> Tensor:
        """The convolved key [B, h + 2, M, w + 2], computed once."""
        if not hasattr(self, "_low"):
            self._low = shared[-1].permute(0, 2, 1, 3).contiguous()
        return self._low


def blocks_of(up: ReSFU) -> list[SimilarityBlock]:
    """The similarity blocks; if one module is both, its second place is a copy that shares its parameters."""
    names = {"both": ("semantic", "detail"), "semantic": ("semantic",), "detail": ("detail",)}[up.alignment]
    blocks = [getattr(up, f"{name}_similarity") for name in names]
    return [block if block not in blocks[:n] else copy.copy(block) for n, block in enumerate(blocks)]


def _chunks(x: Tensor) -> list[slice]:
    return [slice(c, c + _AT_ONCE) for c in range(0, x.shape[1], _AT_ONCE)]


def _affine(norm: nn.GroupNorm, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """GroupNorm of an image as a factor and an offset for each channel, in fp32."""
    each = norm.num_channels // norm.num_groups
    factor = norm.weight.double() * scale.double().repeat_interleave(each)
    offset = norm.bias.double() - mean.double().repeat_interleave(each) * factor
    return factor.float(), offset.float()
