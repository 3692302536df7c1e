"""NAF and AnyUp in bands: statistics of the image encoders norm by norm, then the key, then the attention.

No map of the image is held: each pass makes the layers before its norm anew. That is what memory for large images
costs in time.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.deploy.forms.base import Form, Guide, Kind, Rows, moments
from resfu.deploy.forms.encoders import encoded, pooled, reach_of, seen_by_pool, share_of_pool
from resfu.ops.attention.axis import Axis, share, shifted
from resfu.ops.attention.rows import attend_rows
from resfu.ops.checks import check_divides
from resfu.upsamplers.anyup import AnyUp
from resfu.upsamplers.image_encoder import NORM_GROUPS
from resfu.upsamplers.naf import NAF
from resfu.upsamplers.rotation import rotate

_LAYERS = 6  # copies of a layer's map while the next one is made


class AttentionForm(Form[Kind]):
    """What both have in common: an image of any size, read by the rows that a band needs."""

    image: tuple[int, int]

    def seen(self, features: Tensor, guidance: Tensor | None) -> None:
        """The image's size, and what its encoders take for each pixel of the output."""
        assert guidance is not None
        self.image = (guidance.shape[-2], guidance.shape[-1])

    def count_work(self, dim: int, reach: int, windows: int) -> None:
        """Set `work` and `around`.

        Args:
            dim: widest map of the encoders.
            reach: rows that these see.
            windows: numbers that the windows of a row of low-resolution pixels hold.
        """
        finer = self.image[1] / self.size[1]
        self.work = math.ceil(_LAYERS * dim * max(1, finer * self.image[0] / self.size[0])) + 2 * dim
        self.around = math.ceil(2 * reach * _LAYERS * dim * finer + 3 * windows / self.size[1])

    def image_rows(self, band: Rows) -> Rows:
        """The band's share of the image: shares of all bands are the image, none twice."""
        H, Hy = self.size[0], self.image[0]
        return band[0] * Hy // H, band[1] * Hy // H

    def read(self, guide: Guide, shared: Sequence[Tensor], rows: Rows, reach: int) -> Tensor:
        """Rows of the image and `reach` around them, where the image has them."""
        top, bottom = max(0, rows[0] - reach), min(self.image[0], rows[1] + reach)
        return guide.read(top, bottom).contiguous()

    def windows(self) -> tuple[Axis, Axis]:
        """Windows along both axes."""
        raise NotImplementedError

    def window_numbers(self, width: int) -> int:
        """Numbers in the windows of a row of low-resolution pixels, of a map of some width."""
        rows, columns = self.windows()
        return rows.window.shape[1] * columns.window.numel() * width


class NAFForm(AttentionForm[NAF]):
    """Levels: one for each norm, of both stacks together; then the key."""

    def __init__(self, up: NAF, low: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__(up, low, size)
        self._stacks = (up.pixel_encoder, up.context_encoder)
        self._norms = 2 * (len(up.pixel_encoder) - 1)
        self.levels = self._norms + 1
        self._angles: list[Tensor] | None = None

    def seen(self, features: Tensor, guidance: Tensor | None) -> None:
        """See `AttentionForm`."""
        super().seen(features, guidance)
        check_divides("heads", self.up.heads, "the features' width", features.shape[1])
        (Hy, Wy), (H, W) = self.image, self.size
        self.image = min(Hy, 4 * H), min(Wy, 4 * W)  # as `NAF.reduced`
        self.count_work(self.up.dim // 2, reach_of(self.up.context_encoder), self.window_numbers(features.shape[1]))
        self.work += 3 * self.up.dim

    def prepare(self, features: Tensor, guidance: Guide) -> list[Tensor]:
        """The image, where it is finer than the encoders look at."""
        image = guidance.guidance
        assert image is not None
        reduced = self.up.reduced(image, self.size)
        self.image = (reduced.shape[-2], reduced.shape[-1])
        if self._angles is None:  # in training they are drawn: once for forward and backward
            self._angles = self.up.angles(self.up.dim // 2 * 2, self.size, features.device)
        return [] if reduced.shape == image.shape else [reduced]

    def read(self, guide: Guide, shared: Sequence[Tensor], rows: Rows, reach: int) -> Tensor:
        """See `AttentionForm`."""
        return super().read(Guide(shared[0], self.size) if len(shared) else guide, shared, rows, reach)

    def sums(
        self, level: int, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        if level < self._norms:
            maps = self._encoded(self.image_rows(band), guide, shared, totals)
            return torch.stack([moments(x, NORM_GROUPS) for x in maps])
        return share_of_pool(self._query(band, guide, shared, totals), band, self.size, self.low)

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        query = self._query(band, guide, shared, totals)
        query = query / math.sqrt(query.shape[1] // self.up.heads)
        return attend_rows(query, totals[-1], features, self.up.heads, self.windows(), band[0])

    def windows(self) -> tuple[Axis, Axis]:
        """See `AttentionForm`."""
        (H, W), (h, w), K = self.size, self.low, self.up.kernel_size
        return shifted(H, h, K), shifted(W, w, K)

    def _encoded(self, span: Rows, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]) -> list[Tensor]:
        found = []
        for n, stack in enumerate(self._stacks):
            x = self.read(guide, shared, span, reach_of(stack))
            found.append(encoded(stack, x, span, self.image, [total[n] for total in totals[: self._norms]]))
        return found

    def _query(self, band: Rows, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]) -> Tensor:
        """Rows of `NAF.query`."""
        assert self._angles is not None
        span = seen_by_pool(band, self.image[0], self.size[0])
        x = torch.cat(self._encoded(span, guide, shared, totals), 1)
        rows, columns = self._angles
        x = pooled(x, span, band, self.image, self.size)
        return rotate(x, self.up.rope_heads, rows[:, slice(*band)], columns)


class AnyUpForm(AttentionForm[AnyUp]):
    """Levels: each norm of the image's encoder, then of those of query and key; the key's image part; the key."""

    def __init__(self, up: AnyUp, low: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__(up, low, size)
        self._first = 2 * (len(up.image_encoder) - 1)
        self._norms = self._first + 2 * (len(up.query_encoder) - 1)
        self.levels = self._norms + 2

    def seen(self, features: Tensor, guidance: Tensor | None) -> None:
        """See `AttentionForm`."""
        super().seen(features, guidance)
        for name, sizes in (("the image", self.image), ("the features", self.low)):
            if min(sizes) < 2:
                raise ValueError(f"{name} must have at least 2 rows and columns, got {list(sizes)}: borders mirror.")
        dim = self.up.frequencies.shape[1]
        windows = self.window_numbers(features.shape[1] + dim)
        self.count_work(dim, reach_of(self.up.image_encoder) + 1, windows)
        self.work += self.window_numbers(3 * self.up.heads) // self.low[1]

    def sums(
        self, level: int, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor | None:
        """See `Form`."""
        up, span = self.up, self.image_rows(band)
        if level < self._first:
            return moments(self._image(span, guide, shared, totals), NORM_GROUPS)
        if level < self._norms:
            x = self._placed(span, guide, shared, totals)
            maps = [self._encoded(n, x, span, totals) for n in range(2)]
            return torch.stack([moments(x, NORM_GROUPS) for x in maps])
        if level == self._norms:
            x = self._encoded(1, self._placed(span, guide, shared, totals), span, totals)
            return share_of_pool(x, span, self.image, self.low)
        return up.key(totals[-1].to(features.dtype), features) if band[0] == 0 else None  # of the whole, once

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        up = self.up
        rows = max(0, band[0] - 1), min(self.size[0], band[1] + 1)
        span = seen_by_pool(rows, self.image[0], self.size[0])
        x = self._encoded(0, self._placed(span, guide, shared, totals), span, totals)
        x = pooled(x, span, rows, self.image, self.size).to(x.dtype)
        x = F.pad(x, (1, 1, int(band[0] == 0), int(band[1] == self.size[0])))
        query = F.conv2d(x, up.query_convolution.weight)
        query = up.projected(query, "query").movedim(-1, 1)
        query = query / math.sqrt(query.shape[1] // up.heads)
        return attend_rows(query, totals[-1], features, up.heads, self.windows(), band[0], mean=True)

    def windows(self) -> tuple[Axis, Axis]:
        """See `AttentionForm`."""
        (H, W), (h, w), ratio = self.size, self.low, self.up.window_ratio
        return share(H, h, ratio), share(W, w, ratio)

    def _image(self, span: Rows, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]) -> Tensor:
        x = self.read(guide, shared, span, reach_of(self.up.image_encoder))
        return encoded(self.up.image_encoder, x, span, self.image, totals[: self._first])

    def _placed(self, span: Rows, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]) -> Tensor:
        return self.up.placed(self._image(span, guide, shared, totals), span[0], self.image[0])

    def _encoded(self, n: int, x: Tensor, span: Rows, totals: Sequence[Tensor]) -> Tensor:
        stack: nn.Sequential = (self.up.query_encoder, self.up.key_encoder)[n]
        return encoded(stack, x, span, self.image, [total[n] for total in totals[self._first : self._norms]])
