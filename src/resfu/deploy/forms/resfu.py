"""ReSFU in bands: statistics of the query, sums of the hidden channels, then scores, kernels and the weighted sum.

Level 0 sums the query in its three guises (as it is, filtered, smoothed), which GroupNorm normalises over the image.
Level 1 sums the hidden channels of both similarity blocks. Each level computes the bands anew: the query alone is half
an output of 64 channels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.deploy.forms.base import Form, Guide, Rows, channel_moments, mean_and_scale, moments, normalised
from resfu.deploy.forms.paired import detail_rows, semantic_map, semantic_rows
from resfu.deploy.forms.resfu_compiled import CompiledBands, compiles
from resfu.deploy.forms.similar import guide_statistics
from resfu.deploy.forms.starts import interpolated_rows
from resfu.deploy.linear import interpolate_axis, linear_taps
from resfu.ops import gaussian_filter, guided_filter, upsampled_group_norm, window_softmax
from resfu.ops.grid import neighbour_in_image
from resfu.ops.precision import at_least_fp32
from resfu.ops.reassembly.rows import reassemble_rows
from resfu.upsamplers.projection import project
from resfu.upsamplers.resfu import ReSFU
from resfu.upsamplers.similarity import SimilarityBlock
from resfu.upsamplers.starts import BILINEAR, PUBLISHED, learned_change


class ReSFUForm(Form[ReSFU]):
    """See the module."""

    levels = 2

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
        self.blocks: list[SimilarityBlock] = []
        if up.alignment != "detail":
            self.blocks.append(up.semantic_similarity)
        if up.alignment != "semantic":
            self.blocks.append(up.detail_similarity)

    def seen(self, features: Tensor, guidance: Tensor | None) -> None:
        """Planes of both blocks, the query and the scores, or hidden channels; and the query around a band."""
        up, D = self.up, self.up.query.out_channels
        with torch.no_grad():
            planes = compiles(up, features, guidance, self.low, self.size)
        self.work = 5 * D + 4 * up.kernel_size**2 if planes else 5 * D + 6 * self.blocks[0].reduce.out_channels
        self.around = 2 * self.reach * 3 * D

    def prepare(self, features: Tensor, guidance: Guide) -> list[Tensor]:
        """The guidance's mean and scale; the key, and its convolution by the semantic block."""
        self.choose(features, guidance)
        norm = self.up.guidance_norm
        known = guide_statistics(guidance, norm) if isinstance(norm, nn.GroupNorm) else []
        return known + self.of_features(features)

    def choose(self, features: Tensor, guidance: Guide) -> None:
        """Whether compiled kernels run."""
        if compiles(self.up, features, guidance.guidance, self.low, self.size):
            self.compiled = CompiledBands(self.up, self.low, self.size, self.room)

    def of_features(self, features: Tensor) -> list[Tensor]:
        """The key, and its convolution by the semantic block."""
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
        return torch.stack([channel_moments(hidden) for hidden in self._hidden(band, guide, shared, totals[0])])

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        if self.compiled is not None:
            return self.compiled.rows(band, features, guide, shared, totals)
        scores: Tensor | None = None
        for n, hidden in enumerate(self._hidden(band, guide, shared, totals[0])):
            block = self.blocks[n]
            norm = block.reduce_norm
            by_group = totals[1][n].unflatten(2, (norm.num_groups, -1)).sum(3)
            count = self.size[0] * self.size[1] * hidden.shape[1] // norm.num_groups
            part = _normalised_scores(hidden, block, *mean_and_scale(by_group, count, norm.eps))
            scores = part if scores is None else scores + part
        assert scores is not None
        kernel = self._kernel(at_least_fp32(scores), band)
        out = reassemble_rows(features, kernel, band, self.size[0], "fine", "replicate")
        if self.up.start in (PUBLISHED, BILINEAR):
            return out
        return out + interpolated_rows(features, band, self.size, self.up.start)

    def finish(self) -> None:
        """See `Form`."""
        self.compiled = None

    def _kernel(self, scores: Tensor, band: Rows) -> Tensor:
        """Softmax over the neighbours inside the image; with a start, what is added to it."""
        K, (H, W), (h, w) = self.up.kernel_size, self.size, self.low
        rows = neighbour_in_image(H, h, K, scores.device)[:, slice(*band)]
        columns = neighbour_in_image(W, w, K, scores.device)
        inside = (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)

        def published(values: Tensor) -> Tensor:
            return window_softmax(values.masked_fill(~inside, float("-inf")))

        if self.up.start == PUBLISHED:
            return published(scores)
        kernel = learned_change(scores, published)
        if self.up.start != BILINEAR:
            return kernel
        centre = torch.arange(K * K, device=kernel.device) == K * K // 2  # whose value is the bilinear one
        return kernel + centre.to(kernel.dtype)[:, None, None]

    def _query(self, top: int, bottom: int, guide: Guide, shared: Sequence[Tensor]) -> Tensor:
        x, norm = guide.rows(top, bottom), self.up.guidance_norm
        x = normalised(x, norm, shared[0], shared[1]) if isinstance(norm, nn.GroupNorm) else x
        return project(self.up.query, x)

    def _maps(self, band: Rows, margin: int, guide: Guide, shared: Sequence[Tensor]) -> list[Tensor]:
        """The query of a band, for the semantic block and for the detail block, and the detail block's key.

        The key has `margin` more rows above and below, of those that the image has.
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

    def _hidden(self, band: Rows, guide: Guide, shared: Sequence[Tensor], total: Tensor) -> list[Tensor]:
        """The hidden channels of each block, [B, M, rows, W]."""
        up, (H, W), (h, _) = self.up, self.size, self.low
        K = up.kernel_size
        margin = K // 2 * H // h + 1
        maps = self._maps(band, margin, guide, shared)
        hidden = []
        for block in self.blocks:
            norm = block.norm
            count = H * W * maps[0].shape[1] // norm.num_groups
            semantic = up.alignment != "detail" and block is up.semantic_similarity
            start = 0 if semantic or up.alignment == "detail" else 1
            query = normalised(maps[start], norm, *mean_and_scale(total[start], count, norm.eps))
            groups = query.shape[1] // block.weight.shape[1]
            v = F.conv2d(query, -block.weight.sum((2, 3), keepdim=True), block.bias, groups=groups)
            if semantic:
                v = v + semantic_rows(shared[-1], band, self.size, self.low)
            else:
                key = normalised(maps[-1], norm, *mean_and_scale(total[-1], count, norm.eps))
                first = max(0, band[0] - margin)
                v = v + detail_rows(key, first, band, block.weight, self.size, self.low)
            hidden.append(block.reduce(v.relu()).relu())
        return hidden


def _normalised_scores(hidden: Tensor, block: SimilarityBlock, mean: Tensor, scale: Tensor) -> Tensor:
    """GroupNorm with the given statistics and the last convolution, as one convolution an image."""
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
