"""Methods whose pixels depend only on nearby rows: a band is computed by the upsampler itself on a crop of the inputs.

The crop is larger than the band by the rows on which the band's pixels depend. The extra rows are then cut off.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from resfu.deploy.forms.base import Form, Guide, Kind, Rows
from resfu.deploy.forms.starts import interpolated_rows
from resfu.upsamplers.carafe import CARAFE
from resfu.upsamplers.fade import FADE
from resfu.upsamplers.fixed import Deconv, PixelShuffle
from resfu.upsamplers.indexnet import IndexNet
from resfu.upsamplers.jbu import FIXUP, StackJBU
from resfu.upsamplers.starts import PUBLISHED, interpolated

_WINDOW, _CUBIC = 3, 2  # rows beyond a row that a step of Stack-JBU needs: of its output, and of its input


class Cropped(Form[Kind]):
    """A method of a whole ratio that needs `halo` low-resolution rows beyond a band."""

    halo = 0

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        h, ratio = self.low[0], self.size[0] // self.low[0]
        first, last = band[0] // ratio, -(-band[1] // ratio)
        top, bottom = max(0, first - self.halo), min(h, last + self.halo)
        part = features[:, :, top:bottom]
        out = self.crop(part, (top, bottom), ratio, guide, shared)
        start = getattr(self.up, "start", PUBLISHED)
        if start != PUBLISHED:  # the learned part depends on a window, the interpolation perhaps on the image's size
            out = out - interpolated(part, (out.shape[-2], out.shape[-1]), start).to(out.dtype)
        out = out[:, :, band[0] - top * ratio : band[1] - top * ratio]
        return out if start == PUBLISHED else out + interpolated_rows(features, band, self.size, start).to(out.dtype)

    def crop(self, features: Tensor, low: Rows, ratio: int, guide: Guide, shared: Sequence[Tensor]) -> Tensor:
        """Run the upsampler on some rows of the features."""
        rows = (low[0] * ratio, low[1] * ratio)
        guidance = guide.rows(*rows) if self.up.guided else None
        return self.up.upsample(features, guidance, (rows[1] - rows[0], self.size[1]))


class DeconvForm(Cropped[Deconv]):
    """Each pixel depends on one low-resolution pixel."""


class PixelShuffleForm(Cropped[PixelShuffle]):
    """Each pixel depends on the convolution's window."""

    def __init__(self, up: PixelShuffle, low: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__(up, low, size)
        self.halo = up.convolution.kernel_size[0] // 2


class CARAFEForm(Cropped[CARAFE]):
    """Each pixel depends on the reassembly's window, and on the window of the convolution that predicts its weights."""

    def __init__(self, up: CARAFE, low: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__(up, low, size)
        window = round((up.encoder.out_channels // up.groups) ** 0.5) // up.ratio
        self.halo = max(window // 2, int(up.encoder.padding[0]))
        self.work = 3 * up.groups * window**2


class FADEForm(Cropped[FADE]):
    """Each pixel depends on the reassembly's window, and on the convolution's window in features and guidance."""

    def __init__(self, up: FADE, low: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__(up, low, size)
        scores = up.encoder.out_channels
        self.halo = max(round(scores**0.5) // 2, int(up.encoder.padding[0]))
        self.work = 2 * up.encoder.in_channels + 3 * scores


class IndexNetForm(Cropped[IndexNet]):
    """Each pixel depends on a window of the guidance that reaches one row beyond its low-resolution pixel."""

    halo, work = 1, 16


class StackJBUForm(Form[StackJBU]):
    """Steps by 2, each on the rows that the next one needs: 3 more rows of a step's output and 2 more of its input."""

    work = 360

    def __init__(self, up: StackJBU, low: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__(up, low, size)
        self.around = 2 * (_WINDOW + 2 * _CUBIC + 1) * (self.work + 2 * up.fixup.in_channels)

    def prepare(self, features: Tensor, guidance: Guide) -> list[Tensor]:
        """The image, average-pooled to the size of each step."""
        image = guidance.guidance
        assert image is not None
        h, w = self.low
        sizes = [(h * 2**n, w * 2**n) for n in range(1, len(self.up.stages) + 1)]
        return [image if image.shape[-2:] == s else F.adaptive_avg_pool2d(image, s) for s in sizes]

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        parts = self._parts(band)
        x = features[:, :, slice(*parts[0])]
        for n, (stage, image) in enumerate(zip(self.up.stages.values(), shared, strict=True)):
            top, bottom = 2 * parts[n][0], 2 * parts[n][1]
            x = stage(x, image[:, :, top:bottom])[:, :, parts[n + 1][0] - top : parts[n + 1][1] - top]
        return x + (FIXUP * self.up.fixup(x)).to(x.dtype)

    def _parts(self, band: Rows) -> list[Rows]:
        """The rows of each map that a band needs: of the features, then of each step's result."""
        parts = [band]
        for n in reversed(range(len(self.up.stages))):
            (first, last), height = parts[0], self.low[0] * 2**n
            top, bottom = (first - _WINDOW) // 2 - _CUBIC, -((-last - _WINDOW) // 2) + _CUBIC
            parts.insert(0, (max(0, top), min(height, bottom)))
        return parts
