"""ReSFU in bands: statistics of the query, sums of the hidden channels, then scores, kernels and the weighted sum.

Level 0 sums the query in its three forms (unchanged, filtered, smoothed), because GroupNorm normalises each of them
over the image. Level 1 sums the hidden channels of both similarity blocks. Each level computes the bands again: storing
the query alone would take half the memory of an output of 64 channels.

With many features, bands are low, and the filters need more rows around a band than the band has. So sums and scores
are computed for taller blocks of rows, and hidden channels for a few of a block's rows at a time.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.deploy.forms.base import Form, Guide, Rows, channel_moments, mean_and_scale, moments, normalised
from resfu.deploy.forms.paired import SemanticRows, detail_rows, semantic_map
from resfu.deploy.forms.resfu_compiled import CompiledBands, blocks_of, compiles
from resfu.deploy.forms.similar import guide_statistics
from resfu.deploy.forms.starts import interpolated_rows
from resfu.deploy.linear import interpolate_axis, linear_taps
from resfu.ops import gaussian_filter, guided_filter, upsampled_group_norm, window_softmax
from resfu.ops.backends import operators_are_recorded, which_backend
from resfu.ops.grid import neighbour_in_image
from resfu.ops.precision import at_least_fp32
from resfu.ops.reassembly import operators
from resfu.ops.reassembly.rows import reassemble_rows
from resfu.ops.reassembly.softmax import plus_centre, softmax_change
from resfu.upsamplers.projection import project
from resfu.upsamplers.resfu import ReSFU
from resfu.upsamplers.similarity import SimilarityBlock
from resfu.upsamplers.starts import BILINEAR, PUBLISHED


class ReSFUForm(Form[ReSFU]):
    """The band form of ReSFU; see the module's docstring."""

    called = ("query.", "key.", "features_norm.", "semantic_similarity.reduce.", "detail_similarity.reduce.")
    levels = 2
    hidden = 0  # the part of `work` that is needed for only `part` rows at a time, without gradients
    part = 1
    _known: tuple[Rows, Tensor] | None = None  # scores of a block, [B, K K, rows, W]

    def __init__(self, up: ReSFU, low: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__(up, low, size)
        unlike = {"similarity": "pcdc", "neighbours": "fine", "guided_filter_stride": 1, "dilation": None}
        for name, value in unlike.items():
            if getattr(up, name) != value:
                raise ValueError(
                    f"ReSFU in bands has {name}={value!r} alone, got {getattr(up, name)!r}: call the upsampler itself."
                )
        self.reach = max(2 * up.guided_filter_radius, size[0] // low[0] + 1)
        self.compiled: CompiledBands | None = None
        self.blocks = blocks_of(up)

    def seen(self, features: Tensor, guidance: Tensor | None) -> None:
        """Estimate the memory: the query, the scores with planes or hidden channels, and the query around a band."""
        up, D = self.up, self.up.query.out_channels
        with torch.no_grad():
            planes = compiles(up, features, guidance, self.low, self.size)
        self.hidden = 0 if planes else 6 * self.blocks[0].reduce.out_channels
        self.work = 5 * D + (4 * up.kernel_size**2 if planes else self.hidden)
        self.around = 2 * self.reach * 3 * D

    def planned(self, rows: int, numbers: float) -> None:
        """See `Form`; blocks need no memory for features."""
        self.share(rows, numbers, self.work)

    def share(self, rows: int, numbers: float, work: int) -> None:
        """Set `part` and `tall` for bands of `rows` rows, memory of `numbers` for a column and `work` for a pixel."""
        self.part = max(1, rows // 2)
        blocks = int((numbers - self.part * self.hidden) / ((work - self.hidden) * rows))
        self.tall = rows * max(1, blocks)

    def prepare(self, features: Tensor, guidance: Guide) -> list[Tensor]:
        """The guidance's mean and scale, the key, and the key's convolution in the semantic block."""
        self.choose(features, guidance)
        norm = self.up.guidance_norm
        known = guide_statistics(guidance, norm) if isinstance(norm, nn.GroupNorm) else []
        return known + self.of_features(features)

    def choose(self, features: Tensor, guidance: Guide) -> None:
        """Decide whether compiled kernels run, and set `compiled` if they do."""
        if compiles(self.up, features, guidance.guidance, self.low, self.size):
            self.compiled = CompiledBands(self.up, self.low, self.size, self.room)

    def of_features(self, features: Tensor) -> list[Tensor]:
        """The key, and the key's convolution in the semantic block."""
        up = self.up
        if up.alignment == "detail":
            return []
        norm = up.semantic_similarity.norm
        key = project(up.key, features, up.features_norm)
        normal = upsampled_group_norm(key, self.size, norm.num_groups, norm.weight, norm.bias, norm.eps)
        return [key, semantic_map(normal, up.semantic_similarity.weight)]

    def sums(
        self, level: int, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        if self.compiled is not None and level == 0:
            return self.compiled.map_moments(band, guide, shared)
        if self.compiled is not None:
            return self.compiled.hidden_moments(band, guide, shared, totals[0])
        if level == 0:
            margin = 0
            groups = self.blocks[0].norm.num_groups
            maps = self._maps(band, margin, guide, shared)
            return torch.stack([moments(x, groups) for x in maps])
        parts = self._hidden(band, guide, shared, totals[0])
        return sum(torch.stack([channel_moments(x) for x in hidden]) for hidden in parts)  # pyright: ignore

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        scores = self._scores(band, guide, shared, totals)
        if self._sums_by_kernels(features, scores):
            from resfu.ops.reassembly import numba

            return numba.softmax_window_sum_of_rows(features, scores, band, self.size[0], self.up.start == BILINEAR)
        kernel = self._kernel(at_least_fp32(scores), band)
        out = reassemble_rows(features, kernel, band, self.size[0], "fine", "replicate")
        if self.up.start in (PUBLISHED, BILINEAR):
            return out
        return out + interpolated_rows(features, band, self.size, self.up.start)

    def finish(self) -> None:
        """See `Form`."""
        self.compiled = self._known = None

    def _sums_by_kernels(self, features: Tensor, scores: Tensor) -> bool:
        if torch.is_grad_enabled() or operators_are_recorded(features, scores):
            return False
        if self.up.start not in (PUBLISHED, BILINEAR):
            return False
        fits = operators.fits(features, scores, self.up.kernel_size, "fine", 1)
        return fits and which_backend(features, self.up.backend) == "numba"

    def _scores(self, band: Rows, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]) -> Tensor:
        """The scores of a band, [B, K K, rows, W]; without gradients those of its block are computed and kept."""
        if torch.is_grad_enabled():
            return self._made_scores(band, guide, shared, totals)
        first = band[0] // self.tall * self.tall
        block = first, min(first + self.tall, self.size[0])
        if self._known is None or self._known[0] != block:
            made = self._made_scores if self.compiled is None else self.compiled.made_scores
            self._known = block, made(block, guide, shared, totals)
        return self._known[1][:, :, band[0] - first : band[1] - first]

    def _made_scores(self, rows: Rows, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]) -> Tensor:
        parts = []
        for hidden in self._hidden(rows, guide, shared, totals[0]):
            scores: list[Tensor] = []
            for n, (block, x) in enumerate(zip(self.blocks, hidden, strict=True)):
                norm = block.reduce_norm
                by_group = totals[1][n].unflatten(2, (norm.num_groups, -1)).sum(3)
                count = self.size[0] * self.size[1] * x.shape[1] // norm.num_groups
                scores.append(_normalised_scores(x, block, *mean_and_scale(by_group, count, norm.eps)))
            parts.append(scores[0] if len(scores) == 1 else scores[0] + scores[1])
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)

    def _kernel(self, scores: Tensor, band: Rows) -> Tensor:
        """Weights by the softmax over neighbours inside the image; with a start, the weights that are added to it."""
        K, (H, W), (h, w) = self.up.kernel_size, self.size, self.low
        rows = neighbour_in_image(H, h, K, scores.device)[:, slice(*band)]
        columns = neighbour_in_image(W, w, K, scores.device)
        inside = (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)

        def published(values: Tensor) -> Tensor:
            return window_softmax(values.masked_fill(~inside, float("-inf")))

        if self.up.start == PUBLISHED:
            return published(scores)
        kernel = softmax_change(scores, published)
        return plus_centre(kernel) if self.up.start == BILINEAR else kernel

    def _query(self, top: int, bottom: int, guide: Guide, shared: Sequence[Tensor]) -> Tensor:
        x, norm = guide.rows(top, bottom), self.up.guidance_norm
        x = normalised(x, norm, shared[0], shared[1]) if isinstance(norm, nn.GroupNorm) else x
        return project(self.up.query, x)

    def _maps(self, band: Rows, margin: int, guide: Guide, shared: Sequence[Tensor]) -> list[Tensor]:
        """The query of a band, for the semantic block and for the detail block, and the detail block's key.

        The key has `margin` more rows above and below, as far as they lie inside the image.
        """
        up, H = self.up, self.size[0]
        reach = 2 * up.guided_filter_radius if up.alignment != "detail" and up.guided_query else 0
        reach = max(reach, margin + 1)
        top, bottom = max(0, band[0] - reach), min(H, band[1] + reach)
        q = self._query(top, bottom, guide, shared)
        inner = slice(band[0] - top, band[1] - top)
        maps = []
        if up.alignment != "detail":
            query = q
            if up.guided_query:
                key = at_least_fp32(shared[-2])
                taps = [linear_taps(P, p, key.dtype, q.device) for P, p in zip(self.size, self.low, strict=True)]
                rows = taps[0].part(top, bottom)
                span = rows.span()
                key = key[:, :, slice(*span)]
                key = interpolate_axis(interpolate_axis(key, taps[1], 3), rows.shifted(span[0]), 2)
                query = guided_filter(q, key.to(q.dtype), up.guided_filter_radius, up.guided_filter_eps)
            maps.append(query[:, :, inner])
        if up.alignment != "semantic":
            key = gaussian_filter(q) if up.smoothed_key else q
            first, last = max(0, band[0] - margin), min(H, band[1] + margin)
            maps += [q[:, :, inner], key[:, :, first - top : last - top]]
        return maps

    def _hidden(
        self, band: Rows, guide: Guide, shared: Sequence[Tensor], total: Tensor
    ) -> Iterator[tuple[Tensor, ...]]:
        """Yield the hidden channels of each similarity block, [B, M, rows, W], a few rows at a time."""
        margin = self.up.kernel_size // 2 * self.size[0] // self.low[0] + 1
        maps = self._maps(band, margin, guide, shared)
        low = None if self.up.alignment == "detail" else SemanticRows(shared[-1], band, self.size, self.low)
        step = band[1] - band[0] if torch.is_grad_enabled() else self.part
        for first in range(band[0], band[1], step):
            rows = first, min(first + step, band[1])
            yield tuple(self._hidden_of(block, rows, maps, band[0], margin, low, total) for block in self.blocks)

    def _hidden_of(
        self, block: SimilarityBlock, rows: Rows, maps: Sequence[Tensor], top: int, margin: int,
        low: SemanticRows | None, total: Tensor,
    ) -> Tensor:  # fmt: skip
        """The hidden channels of one block and some rows; the maps begin at row `top`."""
        up, norm = self.up, block.norm
        count = self.size[0] * self.size[1] * norm.num_channels // norm.num_groups
        key = low if up.alignment != "detail" and block is up.semantic_similarity else None
        start = 0 if key is not None or up.alignment == "detail" else 1
        query = maps[start][:, :, rows[0] - top : rows[1] - top]
        query = normalised(query, norm, *mean_and_scale(total[start], count, norm.eps))
        groups = query.shape[1] // block.weight.shape[1]
        v = F.conv2d(query, -block.weight.sum((2, 3), keepdim=True), block.bias, groups=groups)
        if key is not None:
            v = v + key.of(rows)
        else:
            first, last = max(0, rows[0] - margin), min(self.size[0], rows[1] + margin)
            origin = max(0, top - margin)
            smooth = maps[-1][:, :, first - origin : last - origin]
            smooth = normalised(smooth, norm, *mean_and_scale(total[-1], count, norm.eps))
            v = v + detail_rows(smooth, first, rows, block.weight, self.size, self.low)
        return block.reduce(v.relu()).relu()


def _normalised_scores(hidden: Tensor, block: SimilarityBlock, mean: Tensor, scale: Tensor) -> Tensor:
    """GroupNorm with the given statistics and the last convolution, as one convolution for each image."""
    norm, score = block.reduce_norm, block.score
    scale = (scale[:, :, None] * norm.weight.double().view(norm.num_groups, -1)).flatten(1)
    shift = norm.bias.double() - mean.repeat_interleave(hidden.shape[1] // norm.num_groups, 1) * scale
    matrix = score.weight.flatten(1).double()
    assert score.bias is not None
    images = []
    for b, image in enumerate(hidden.split(1)):
        weight, bias = matrix * scale[b], score.bias.double() + matrix @ shift[b]
        images.append(F.conv2d(image, weight[:, :, None, None].to(image.dtype), bias.to(image.dtype)))
    return torch.cat(images)
