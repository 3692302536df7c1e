"""Methods that sample the features at given positions: a band is the rows of these positions."""

from collections.abc import Sequence

from torch import Tensor

from resfu.deploy.forms.base import Form, Guide, Rows
from resfu.deploy.forms.starts import interpolated_rows
from resfu.deploy.linear import interpolate_axis, linear_taps
from resfu.ops.grid import containing_cell, lr_position
from resfu.ops.nearest import repeated
from resfu.ops.precision import at_least_fp32
from resfu.ops.sampling import sample
from resfu.upsamplers.dysample import DySample
from resfu.upsamplers.fixed import Bicubic, Bilinear, Nearest
from resfu.upsamplers.starts import BILINEAR, PUBLISHED

_CUBIC = -0.75


class NearestForm(Form[Nearest]):
    """Nearest-neighbour rows and columns, by index."""

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        row = containing_cell(self.size[0], self.low[0], features.device)[slice(*band)]
        return repeated(features.index_select(2, row), (len(row), self.size[1]))


class BilinearForm(Form[Bilinear]):
    """Linear interpolation along both axes, with PyTorch's rounding."""

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        rows, columns = (
            linear_taps(P, p, features.dtype, features.device) for P, p in zip(self.size, self.low, strict=True)
        )
        rows = rows.part(*band)
        top, bottom = rows.span()
        x = interpolate_axis(at_least_fp32(features[:, :, top:bottom]), columns, 3)
        return interpolate_axis(x, rows.shifted(top), 2).to(features.dtype)


class BicubicForm(Form[Bicubic]):
    """Cubic interpolation from four rows, then from four columns."""

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        (H, W), (h, w) = self.size, self.low
        x = at_least_fp32(features)
        position = lr_position(H, h, x.device)[slice(*band)]
        x = _cubic_axis(x, position, 2)
        return _cubic_axis(x, lr_position(W, w, x.device), 3).to(features.dtype)


def _cubic_axis(x: Tensor, position: Tensor, dim: int) -> Tensor:
    """Cubic interpolation (a = -0.75) along an axis, with repeated borders."""
    below = position.floor()
    fraction = (position - below).to(x.dtype)
    shape = [1] * x.dim()
    shape[dim] = -1
    total: Tensor | None = None
    for tap in range(-1, 3):
        distance = (fraction - tap).abs()
        near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance * distance + 1
        far = ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC
        weight = (near if tap in (0, 1) else far).view(shape)
        value = x.index_select(dim, (below.long() + tap).clamp(0, x.shape[dim] - 1)) * weight
        total = value if total is None else total + value
    assert total is not None
    return total


class DySampleForm(Form[DySample]):
    """The offsets depend on the band's low-resolution rows; the positions may lie anywhere in the whole map."""

    work = 32

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """See `Form`."""
        up, (h, w), (H, W) = self.up, self.low, self.size
        first, last = band[0] // up.ratio, -(-band[1] // up.ratio)
        offsets = up.offsets(features[:, :, first:last])
        offsets = offsets[:, :, :, band[0] - first * up.ratio : band[1] - first * up.ratio]
        x = at_least_fp32(features)
        columns = lr_position(W, w, x.device, x.dtype) + offsets[:, 0]
        rows = lr_position(H, h, x.device, x.dtype)[slice(*band), None] + offsets[:, 1]
        out = sample(x, columns, rows)
        if up.start not in (PUBLISHED, BILINEAR):  # with zero offsets it already is bilinear
            first, plain = (interpolated_rows(x, band, self.size, start) for start in (up.start, BILINEAR))
            out = out + first - plain
        return out.to(features.dtype)
