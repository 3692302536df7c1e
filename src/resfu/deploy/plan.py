"""Split an upsampler's call into bands of rows, and run the passes over them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from resfu.deploy.forms import Form, Guide, form_of
from resfu.deploy.forms.base import Rows
from resfu.deploy.forms.starts import interpolated_rows
from resfu.ops.grid import integer_ratio
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.odd_sizes import covering
from resfu.upsamplers.starts import PUBLISHED

# Working memory of a band in bytes. Higher bands repeat less work at their borders; lower ones need less memory.
_LEAST, _MOST, _BANDS = 6 * 2**20, 150 * 2**20, 16
_MOST_AROUND = 224 * 2**20  # limit if the rows around a band take half of `_MOST`, so that bands get more than one row
_COPIES = 3  # copies of a band in memory while it is computed


@dataclass
class Plan:
    """The bands of an upsampler's output.

    They depend only on the sizes, so results are the same under every memory budget.

    Attributes:
        form: the form of the upsampler that computes bands, see `deploy.forms`.
        size: (H, W) of the output.
        bands: rows (first, one past the last) of each band.
        least: bytes that a band takes.
    """

    form: Form
    size: tuple[int, int]
    bands: list[Rows]
    least: float

    @classmethod
    def of(
        cls,
        up: Upsampler,
        features: Tensor,
        guidance: Tensor | None,
        size: tuple[int, int],
        whole: tuple[int, int],
    ) -> "Plan":
        """The plan for features [B, C, h, w] and an output of `size`; the upsampler runs at the size `whole`."""
        low = (features.shape[-2], features.shape[-1])
        form = form_of(up, low, whole)
        form.seen(features, guidance)
        ratio = (integer_ratio(whole[0], low[0]) or 1) if form.whole_cells else 1
        images = max(1, features.shape[0])
        column = images * whole[1] * max(4, features.element_size())
        row, around = column * (form.work + _COPIES * features.shape[1]), column * form.around
        most = max(_MOST - around, min(around, _MOST_AROUND - around))
        wanted = min(max(row * whole[0] / _BANDS, _LEAST - around), most)
        rows = min(max(1, int(wanted / row) // ratio) * ratio, whole[0])
        bands = [(first, min(first + rows, whole[0])) for first in range(0, whole[0], rows)]
        bands = [band for band in bands if band[0] < size[0]]
        form.planned(rows, row * rows / column)
        return cls(form, size, bands, row * rows + around)

    def totals(self, features: Tensor, guide: Guide, shared: Sequence[Tensor]) -> list[Tensor]:
        """The sums of each level over all rows."""
        found: list[Tensor] = []
        for level in range(self.form.levels):
            total: Tensor | None = None
            for band in self.all_bands(self.form.tall):
                part = self.form.sums(level, band, features, guide, shared, found)
                if part is not None:
                    total = part if total is None else total + part
            assert total is not None
            found.append(total)
        return found

    def all_bands(self, tall: int = 0) -> Iterator[Rows]:
        """The bands of the whole size, including rows that are cropped later: the statistics count these too.

        Args:
            tall: least number of rows in a band.
        """
        rows = self.bands[0][1] - self.bands[0][0]
        rows *= -(-max(rows, tall) // rows)
        for first in range(0, self.form.size[0], rows):
            yield first, min(first + rows, self.form.size[0])

    def band(
        self, rows: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """Rows of the output [B, C, rows, W], cropped to its size."""
        (H, W), whole = self.size, self.form.size
        out = self.form.rows(rows, features, guide, shared, totals)[:, :, : H - rows[0], :W]
        start = getattr(self.form.up, "start", PUBLISHED)
        if start != PUBLISHED and whole != self.size:  # as `started_at`
            ran = interpolated_rows(features, rows, whole, start)[:, :, : H - rows[0], :W]
            out = (out - ran) + interpolated_rows(features, (rows[0], min(rows[1], H)), self.size, start)
        return out.to(features.dtype)


def make_plan(
    up: Upsampler, features: Tensor, guidance: Tensor | None, size: tuple[int, int]
) -> tuple[Plan, Tensor | None]:
    """The plan of a call with checked input, and the guidance, extended to the whole size if it is an image."""
    whole = up.whole_size(features, size)
    plan = Plan.of(up, features, guidance, size, whole)
    if guidance is not None and up.image_guided and whole != size:
        guidance = covering(guidance, size, whole)
    return plan, guidance
