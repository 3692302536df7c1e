"""AnyUp's feature-agnostic layer, which turns features of any number of channels into a map of a fixed number."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops.backends import which_backend
from resfu.ops.grid import row_bands
from resfu.upsamplers.bands import on_cpu_without_graph

_ROWS = 4  # rows computed at once, without gradients


class Unify(nn.Module):
    """Correlate every channel with every filter, apply a softmax, and average over the channels (arXiv 2510.12764).

    At each pixel, x is divided by its norm over the channels. y[i, j] is channel i correlated with filter j, with zeros
    beyond the border, divided by the number of taps inside the map.

    The released code lays y out with the channels first, at index i M + j, and then reads it as M rows of C numbers:
    f[a] = mean over b of (softmax over a of y[a C + b]). This depends on the order of the channels. The paper's form,
    f[j] = mean over i of (softmax over j of y[i, j]), does not. In both forms the M values sum to 1.

    Args:
        filters: M, number of filters.
        kernel_size: k, size of the filters.
        any_order: use the paper's form.
    """

    def __init__(self, filters: int, kernel_size: int, any_order: bool = False) -> None:
        super().__init__()
        self.any_order = any_order
        self.basis = nn.Parameter(torch.randn(filters, 1, kernel_size, kernel_size))

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B M h w"]:
        """Compute M values for each pixel, whatever C is."""
        reach = self.basis.shape[-1] // 2
        features = F.normalize(features, dim=1)
        if not self.any_order and on_cpu_without_graph(features, self.basis) and which_backend(features) == "numba":
            from resfu.ops.layers.unify import unify

            return unify(features, self.basis)
        x = F.pad(features.flatten(0, 1)[:, None], (reach,) * 4)  # [B C, 1, h + .., w + ..]
        inside = F.pad(torch.ones_like(features[:1, :1]), (reach,) * 4)
        parts = row_bands(features, _ROWS)
        maps = [self._rows(x, inside, features.shape[0], first, last + 2 * reach) for first, last in parts]
        return maps[0] if len(maps) == 1 else torch.cat(maps, 2)

    def _rows(self, x: Tensor, inside: Tensor, images: int, first: int, last: int) -> Float[Tensor, "B M rows w"]:
        """Compute the values of some rows; intermediates take C M numbers for each pixel."""
        M = self.basis.shape[0]
        taps = F.conv2d(inside[:, :, first:last], torch.ones_like(self.basis[:1]))
        y = (F.conv2d(x[:, :, first:last], self.basis) / taps).unflatten(0, (images, -1))
        if self.any_order:
            return y.softmax(2).mean(1)
        return y.flatten(1, 2).unflatten(1, (M, -1)).softmax(1).mean(2)
