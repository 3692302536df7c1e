"""SAPA and A2U in bands; their kernels depend on the key or on statistics of the whole guidance."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.deploy.forms.base import Form, Guide, Rows, mean_and_scale, moments, normalised, statistics
from resfu.deploy.forms.starts import interpolated_rows
from resfu.ops import window_softmax
from resfu.ops.precision import at_least_fp32
from resfu.ops.reassembly.rows import correlate_rows, reassemble_rows
from resfu.ops.reassembly.softmax import softmax_change
from resfu.upsamplers.a2u import A2U
from resfu.upsamplers.projection import project
from resfu.upsamplers.sapa import SAPA
from resfu.upsamplers.starts import PUBLISHED

_FILTER = 6


class SAPAForm(Form[SAPA]):
    """The key and the guidance's statistics are shared; queries and kernels are computed for each band."""

    called, work = ("query.", "key.", "features_norm."), 128

    def prepare(self, features: Tensor, guidance: Guide) -> list[Tensor]:
        """The key [B, D, h, w]; also mean and scale of the guidance, if it is normalised over the image."""
        up = self.up
        key = project(up.key, features, up.features_norm)
        if not isinstance(up.guidance_norm, nn.GroupNorm):
            return [key]
        return [key, *guide_statistics(guidance, up.guidance_norm)]

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        up, (key, *known) = self.up, shared
        x = guide.rows(*band)
        norm = up.guidance_norm
        x = normalised(x, norm, *known) if isinstance(norm, nn.GroupNorm) else norm(x)
        query = at_least_fp32(project(up.query, x))
        scores = correlate_rows(query, key, up.kernel_size, band, self.size[0], "coarse", "zero")
        if up.start == PUBLISHED:
            return reassemble_rows(features, window_softmax(scores), band, self.size[0], "coarse", "zero")
        learned = reassemble_rows(features, softmax_change(scores), band, self.size[0], "coarse", "zero")
        return interpolated_rows(features, band, self.size, up.start) + learned


def guide_statistics(guide: Guide, norm: nn.GroupNorm) -> list[Tensor]:
    """Mean and scale of the guidance, including the rows and columns that are repeated."""
    assert guide.guidance is not None
    whole = tuple(guide.guidance.shape[-2:]) == guide.whole
    return statistics(guide.guidance if whole else guide.rows(0, guide.whole[0]), norm)


class A2UForm(Form[A2U]):
    """The two filters depend on the whole guidance, and so do the statistics of the filtered maps."""

    called = ("first_filter.", "second_filter.", "spread.")
    levels, work = 1, 16

    def prepare(self, features: Tensor, guidance: Guide) -> list[Tensor]:
        """The two filters of each image, and its 36 predicted numbers."""
        up = self.up
        whole = guidance.rows(0, guidance.whole[0])
        pooled = F.adaptive_avg_pool2d(whole, _FILTER)
        filters = torch.cat([up.first_filter(pooled), up.second_filter(pooled)], 1).flatten(0, 1)[:, None]
        return [filters, up.spread(whole.mean((2, 3), keepdim=True))]

    def sums(
        self, level: int, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        groups = self.up.first_norm.num_groups
        return torch.stack([moments(x, groups) for x in self._filtered(band, guide, shared[0])])

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        up, both = self.up, []
        norms = (up.first_norm, up.second_norm)
        for n, (x, norm) in enumerate(zip(self._filtered(band, guide, shared[0]), norms, strict=True)):
            count = self.low[0] * self.low[1] * x.shape[1] // norm.num_groups
            both.append(F.leaky_relu(normalised(x, norm, *mean_and_scale(totals[0][n], count, norm.eps)), 0.01))
        affinity = (at_least_fp32(both[0]) * both[1]).sum(1, keepdim=True) / both[0].shape[1] ** 0.5
        scores = F.pixel_shuffle(at_least_fp32(shared[1]) * affinity, 2)
        return reassemble_rows(features, window_softmax(scores.sigmoid()), band, self.size[0], "coarse", "zero")

    def _filtered(self, band: Rows, guide: Guide, filters: Tensor) -> tuple[Tensor, Tensor]:
        """The band's rows by each of the two filters, [B, c, rows / 2, w], at stride 2 with zeros beyond the image."""
        top, bottom = max(0, band[0] - 2), min(self.size[0], band[1] + 2)
        x = F.pad(guide.rows(top, bottom), (2, 2, top - band[0] + 2, band[1] + 2 - bottom))
        images = x.shape[0]
        both = F.conv2d(x.transpose(0, 1), filters, stride=2, groups=images)
        first, second = both.unflatten(1, (images, 2)).movedim((2, 1), (0, 1))
        return first, second
