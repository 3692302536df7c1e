"""NAF and AnyUp in bands: statistics of the image encoders norm by norm, then the key, then the attention.

No encoded map of the whole image is stored. Each pass computes the layers before its norm again, which trades time for
memory. The encoders run on nearly square tiles, because for a single row they would also need many rows around it. The
query is computed for several rows at once and kept until their bands are done.
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.deploy.forms.base import Form, Guide, Kind, Rows, moments
from resfu.deploy.forms.encoders import Box, around, encoded, pooled, reach_of, seen_by_pool, share_of_pool
from resfu.ops.attention.axis import Axis, share, shifted
from resfu.ops.attention.rows import attend_rows
from resfu.ops.checks import check_divides
from resfu.upsamplers.anyup import AnyUp
from resfu.upsamplers.image_encoder import NORM_GROUPS, check_mirrored
from resfu.upsamplers.naf import NAF
from resfu.upsamplers.rotation import rotate

_LAYERS = 4  # copies of a layer's map in memory while the next one is computed
_TILE = 128 * 128  # pixels of the image in a tile of the encoder
_KEPT = 32  # rows of the query that are computed at once


class AttentionForm(Form[Kind]):
    """The common part of NAF and AnyUp: an image of any size, which is encoded tile by tile.

    Attributes:
        image: (Hy, Wy), the size of the image as the encoders get it.
        reach: how many pixels of the image around a pixel the encoders need.
    """

    image: tuple[int, int]
    reach: int
    called = ()
    whole_cells = False
    _kept: tuple[Rows, Tensor] | None = None

    def seen(self, features: Tensor, guidance: Tensor | None) -> None:
        """Set the image's size; subclasses also estimate the memory of the encoders."""
        assert guidance is not None
        self.image = (guidance.shape[-2], guidance.shape[-1])

    def count_work(self, dim: int, width: int, windows: int) -> None:
        """Set `work`, `around` and `tall`.

        Args:
            dim: largest number of channels in the encoders.
            width: D, channels of the query.
            windows: number of values in the windows of a row of low-resolution pixels.
        """
        H, W = self.size
        seen = min(_TILE, self.image[0] * self.image[1])
        self.tall = math.isqrt(_TILE) - 2 * self.reach
        self.work = 3 * width
        self.around = math.ceil((_LAYERS * dim * seen + 3 * windows) / W) + width * min(_KEPT, H)

    def tiles(self, rows: Rows) -> Iterator[Box]:
        """Split some rows of the output into tiles for which the encoders need at most about `_TILE` pixels.

        With gradients, which are computed for one band at a time, all columns are one tile.
        """
        W = self.size[1]
        columns = W
        if not torch.is_grad_enabled():
            top, bottom = seen_by_pool(rows, self.image[0], self.size[0])
            seen = max(4 * self.reach, _TILE // (bottom - top + 2 * self.reach)) - 2 * self.reach
            columns = max(1, seen * W // self.image[1])
        for first in range(0, W, columns):
            yield rows, (first, min(first + columns, W))

    def share_of_image(self, box: Box) -> Box:
        """The part of the image that belongs to a box of the output; these parts cover the image without overlap."""
        rows, columns = ((b[0] * P // p, b[1] * P // p) for b, P, p in zip(box, self.image, self.size, strict=True))
        return rows, columns

    def pooled_from(self, box: Box) -> Box:
        """The box of the image over which average pooling gives a box of the output."""
        rows, columns = (seen_by_pool(b, P, p) for b, P, p in zip(box, self.image, self.size, strict=True))
        return rows, columns

    def query_rows(self, band: Rows, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]) -> Tensor:
        """Rows of the query, [B, D, rows, W]; without gradients some more rows are computed at once and kept."""
        if torch.is_grad_enabled():
            return self.query((band, (0, self.size[1])), guide, shared, totals)
        if self._kept is None or not self._kept[0][0] <= band[0] <= band[1] <= self._kept[0][1]:
            self._kept = None
            rows, kept = (band[0], min(self.size[0], max(band[1], band[0] + _KEPT))), None
            for box in self.tiles(rows):
                part = self.query(box, guide, shared, totals)
                if kept is None:
                    shape = (*part.shape[:3], self.size[1])
                    kept = torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)
                kept[..., slice(*box[1])] = part
            assert kept is not None
            self._kept = rows, kept
        (first, _), query = self._kept
        return query[:, :, band[0] - first : band[1] - first]

    def finish(self) -> None:
        """See `Form`."""
        self._kept = None

    def read(self, guide: Guide, shared: Sequence[Tensor], box: Box, reach: int) -> Tensor:
        """A box of the image and `reach` pixels around it, as far as they lie inside the image."""
        rows, columns = around(box, reach, self.image)
        return guide.read(*rows)[..., slice(*columns)].contiguous()

    def query(self, box: Box, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]) -> Tensor:
        """A box of the query, [B, D, rows, columns]."""
        raise NotImplementedError

    def windows(self) -> tuple[Axis, Axis]:
        """Windows along both axes."""
        raise NotImplementedError

    def window_numbers(self, width: int) -> int:
        """Number of values in the windows of a row of low-resolution pixels, for a map of `width` channels."""
        rows, columns = self.windows()
        return rows.window.shape[1] * columns.window.numel() * width


class NAFForm(AttentionForm[NAF]):
    """NAF in bands; the levels are one for each norm (of both stacks together), then one for the key."""

    def __init__(self, up: NAF, low: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__(up, low, size)
        self._stacks = (up.pixel_encoder, up.context_encoder)
        self._norms = 2 * (len(up.pixel_encoder) - 1)
        self.levels = self._norms + 1
        self.reach = reach_of(up.context_encoder)
        self._angles: list[Tensor] | None = None

    def seen(self, features: Tensor, guidance: Tensor | None) -> None:
        """See `AttentionForm`."""
        super().seen(features, guidance)
        check_divides("heads", self.up.heads, "the features' width", features.shape[1])
        (Hy, Wy), (H, W) = self.image, self.size
        self.image = min(Hy, 4 * H), min(Wy, 4 * W)  # as `NAF.reduced`
        self.count_work(self.up.dim // 2, self.up.dim, self.window_numbers(features.shape[1]))

    def prepare(self, features: Tensor, guidance: Guide) -> list[Tensor]:
        """The reduced image, if the image is finer than the encoders need."""
        image = guidance.guidance
        assert image is not None
        reduced = self.up.reduced(image, self.size)
        self.image = (reduced.shape[-2], reduced.shape[-1])
        if self._angles is None:  # random in training, so drawn once for forward and backward
            self._angles = self.up.angles(self.up.dim // 2 * 2, self.size, features.device)
        return [] if reduced.shape == image.shape else [reduced]

    def read(self, guide: Guide, shared: Sequence[Tensor], box: Box, reach: int) -> Tensor:
        """See `AttentionForm`."""
        return super().read(Guide(shared[0], self.size) if len(shared) else guide, shared, box, reach)

    def sums(
        self, level: int, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        found: list[Tensor] = []
        for box in self.tiles(band):
            if level < self._norms:
                maps = self._encoded(self.share_of_image(box), guide, shared, totals)
                found.append(torch.stack([moments(x, NORM_GROUPS) for x in maps]))
            else:
                found.append(share_of_pool(self.query(box, guide, shared, totals), box, self.size, self.low))
        return sum(found[1:], found[0])

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        query = self.query_rows(band, guide, shared, totals)
        query = query / math.sqrt(query.shape[1] // self.up.heads)
        return attend_rows(query, totals[-1], features, self.up.heads, self.windows(), band[0])

    def windows(self) -> tuple[Axis, Axis]:
        """See `AttentionForm`."""
        (H, W), (h, w), K = self.size, self.low, self.up.kernel_size
        return shifted(H, h, K), shifted(W, w, K)

    def query(self, box: Box, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]) -> Tensor:
        """See `AttentionForm`."""
        assert self._angles is not None
        seen = self.pooled_from(box)
        x = torch.cat(self._encoded(seen, guide, shared, totals), 1)
        x = pooled(x, seen, box, self.image, self.size)
        rows, columns = (angles[:, slice(*span)] for angles, span in zip(self._angles, box, strict=True))
        return rotate(x, self.up.rope_heads, rows, columns)

    def _encoded(self, box: Box, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]) -> list[Tensor]:
        found = []
        for n, stack in enumerate(self._stacks):
            x = self.read(guide, shared, box, reach_of(stack))
            found.append(encoded(stack, x, box, self.image, [total[n] for total in totals[: self._norms]]))
        return found


class AnyUpForm(AttentionForm[AnyUp]):
    """AnyUp in bands.

    Levels: one for each norm of the image encoder, one for each norm of the query and key encoders (together), one for
    the image's part of the key, and one for the key.
    """

    def __init__(self, up: AnyUp, low: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__(up, low, size)
        self._first = 2 * (len(up.image_encoder) - 1)
        self._norms = self._first + 2 * (len(up.query_encoder) - 1)
        self.levels = self._norms + 2
        self.reach = reach_of(up.image_encoder) + 1

    def seen(self, features: Tensor, guidance: Tensor | None) -> None:
        """See `AttentionForm`."""
        super().seen(features, guidance)
        for name, sizes in (("the image", self.image), ("the features", self.low)):
            check_mirrored(name, sizes)
        dim = self.up.frequencies.shape[1]
        self.count_work(dim, dim, self.window_numbers(features.shape[1] + dim))
        self.work += self.window_numbers(3 * self.up.heads) // self.low[1]

    def sums(
        self, level: int, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor | None:
        """See `Form`."""
        if level == self._norms + 1:  # computed once for the whole map
            return self.up.key(totals[-1].to(features.dtype), features) if band[0] == 0 else None
        found: list[Tensor] = []
        for box in self.tiles(band):
            part = self.share_of_image(box)
            if level < self._first:
                found.append(moments(self._image(part, guide, shared, totals), NORM_GROUPS))
            elif level < self._norms:
                x = self._placed(part, guide, shared, totals)
                maps = [self._encoded(n, x, part, totals) for n in range(2)]
                found.append(torch.stack([moments(x, NORM_GROUPS) for x in maps]))
            else:
                x = self._encoded(1, self._placed(part, guide, shared, totals), part, totals)
                found.append(share_of_pool(x, part, self.image, self.low))
        return sum(found[1:], found[0])

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        query = self.query_rows(band, guide, shared, totals)
        query = query / math.sqrt(query.shape[1] // self.up.heads)
        return attend_rows(query, totals[-1], features, self.up.heads, self.windows(), band[0], mean=True)

    def query(self, box: Box, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]) -> Tensor:
        """See `AttentionForm`."""
        wider, ((top, bottom), (left, right)), (H, W) = around(box, 1, self.size), box, self.size
        seen = self.pooled_from(wider)
        x = self._encoded(0, self._placed(seen, guide, shared, totals), seen, totals)
        x = pooled(x, seen, wider, self.image, self.size).to(x.dtype)
        x = F.pad(x, (int(left == 0), int(right == W), int(top == 0), int(bottom == H)))
        x = F.conv2d(x, self.up.query_convolution.weight)
        return self.up.projected(x, "query").movedim(-1, 1)

    def windows(self) -> tuple[Axis, Axis]:
        """See `AttentionForm`."""
        (H, W), (h, w), ratio = self.size, self.low, self.up.window_ratio
        return share(H, h, ratio), share(W, w, ratio)

    def _image(self, box: Box, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]) -> Tensor:
        x = self.read(guide, shared, box, reach_of(self.up.image_encoder))
        return encoded(self.up.image_encoder, x, box, self.image, totals[: self._first])

    def _placed(self, box: Box, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]) -> Tensor:
        return self.up.placed(self._image(box, guide, shared, totals), (box[0][0], box[1][0]), self.image)

    def _encoded(self, n: int, x: Tensor, box: Box, totals: Sequence[Tensor]) -> Tensor:
        stack: nn.Sequential = (self.up.query_encoder, self.up.key_encoder)[n]
        return encoded(stack, x, box, self.image, [total[n] for total in totals[self._first : self._norms]])
