"""ReSFU guided by the image, in bands: the guidance is computed in rows, with two levels of statistics of its own."""

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor

from resfu.deploy.forms.base import Form, Guide, Rows, mean_and_scale, moments, normalised
from resfu.deploy.forms.resfu import ReSFUForm
from resfu.upsamplers.resfu import ReSFU
from resfu.upsamplers.resfu_image import ReSFUImage

_MADE = 4  # copies of the guidance, and of the map before it, in memory


class _MadeGuide(Guide):
    """A guidance whose rows are computed from the image's rows."""

    def __init__(self, up: ReSFUImage, guide: Guide, total: Tensor | None) -> None:
        super().__init__(guide.guidance, guide.whole)
        self._up, self._guide, self._total = up, guide, total

    def rows(self, first: int, last: int) -> Tensor:
        """See `Guide`."""
        x = self.hidden(max(0, first - 1), min(self.whole[0], last + 1))
        norm, (H, W) = self._up.norm, self.whole
        assert self._total is not None
        x = F.relu(normalised(x, norm, *mean_and_scale(self._total, H * W * x.shape[1], norm.eps)))
        return self._up.conv2(_bordered(x, first == 0, last == H))

    def hidden(self, first: int, last: int) -> Tensor:
        """Rows of the first convolution's result."""
        x = self._guide.rows(max(0, first - 1), min(self.whole[0], last + 1))
        return self._up.conv1(_bordered(x, first == 0, last == self.whole[0]))


class ReSFUImageForm(Form[ReSFUImage]):
    """Statistics of the norm between the convolutions (level 0), of the guidance (level 1), then those of ReSFU."""

    called = ("conv1.", "conv2.", *(f"resfu.{name}" for name in ReSFUForm.called))
    levels = 2 + ReSFUForm.levels

    def __init__(self, up: ReSFUImage, low: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__(up, low, size)
        self._inner = ReSFUForm(cast("ReSFU", up.resfu), low, size)

    def seen(self, features: Tensor, guidance: Tensor | None) -> None:
        """See `ReSFUForm`; adds the memory for the guidance."""
        self._inner.seen(features, guidance)
        made = _MADE * (self.up.conv1.out_channels + self.up.conv2.out_channels)
        self.work, self.around = self._inner.work + made, self._inner.around + self._inner.reach * made

    def planned(self, rows: int, numbers: float) -> None:
        """See `ReSFUForm`."""
        self._inner.share(rows, numbers, self.work)
        self.tall = self._inner.tall

    def prepare(self, features: Tensor, guidance: Guide) -> list[Tensor]:
        """The tensors that ReSFU computes from the features."""
        self._inner.room = self.room
        self._inner.choose(features, guidance)
        return self._inner.of_features(features)

    def sums(
        self, level: int, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        made = _MadeGuide(self.up, guide, totals[0] if level else None)
        if level == 0:
            return moments(made.hidden(*band), 1)
        if level == 1:
            return moments(made.rows(*band), self.up.resfu.guidance_norm.num_groups)  # pyright: ignore
        return self._inner.sums(level - 2, band, features, made, self._all(shared, totals), totals[2:])

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        made = _MadeGuide(self.up, guide, totals[0])
        return self._inner.rows(band, features, made, self._all(shared, totals), totals[2:])

    def finish(self) -> None:
        """See `Form`."""
        self._inner.finish()

    def _all(self, shared: Sequence[Tensor], totals: Sequence[Tensor]) -> list[Tensor]:
        """The tensors that ReSFU's bands share, with the guidance's statistics."""
        norm = self.up.resfu.guidance_norm
        count = self.size[0] * self.size[1] * self.up.conv2.out_channels // norm.num_groups  # pyright: ignore
        return [*mean_and_scale(totals[1], count, norm.eps), *shared]  # pyright: ignore


def _bordered(x: Tensor, top: bool, bottom: bool) -> Tensor:
    """Pad by one column on both sides, and by one row where the image ends."""
    return F.pad(x, (1, 1, int(top), int(bottom)), mode="replicate")
