"""The learned similarity of ReSFU: normalisation, paired central difference convolution, compressor."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops.filters import gaussian_filter
from resfu.ops.grid import key_position, sample
from resfu.ops.similarity import Compressor, dilated_differences, neighbour_convolution, similarity_scores
from resfu.ops.similarity.normalised import normalised_scores, takes
from resfu.upsamplers.normalization import GroupNorm, UpsampledGroupNorm
from resfu.upsamplers.plain import is_plain_convolution, is_plain_group_norm

_NORM_GROUPS = 8


class SimilarityBlock(nn.Module):
    """Scores of a query against the K x K neighbours in a key (ReSFU, arXiv 2407.02283, Sec. III-C, Eq. 11).

    A GroupNorm, with the same weight and bias for both, normalises key and query separately. A convolution of their
    paired central difference gives `hidden_channels` channels. From these a compressor computes the scores: ReLU,
    grouped 1 x 1 convolution, ReLU, GroupNorm and 1 x 1 convolution.

    Args:
        dim: D, width of key and query.
        kernel_size: K, odd.
        groups: of the convolution and of the compressor's first layer.
        hidden_channels: M, width of the compressor.
        similarity: "pcdc", or "concat" for a convolution of the concatenated key and query (Table VI b).
    """

    def __init__(self, dim: int, kernel_size: int, groups: int, hidden_channels: int, similarity: str = "pcdc") -> None:
        super().__init__()
        self.similarity = similarity
        width = dim // groups * (2 if similarity == "concat" else 1)
        self.norm = UpsampledGroupNorm(_NORM_GROUPS, dim)
        self.weight = nn.Parameter(torch.empty(hidden_channels, width, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(hidden_channels))
        self.reduce = nn.Conv2d(hidden_channels, hidden_channels, 1, groups=groups)
        self.reduce_norm = GroupNorm(_NORM_GROUPS, hidden_channels)
        self.score = nn.Conv2d(hidden_channels, kernel_size**2, 1)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self,
        key: Float[Tensor, "B D h1 w1"] | None,
        query: Float[Tensor, "B D H W"],
        step: tuple[int, int],
        neighbours: str = "fine",
        backend: str = "auto",
        dilation: int | None = None,
    ) -> Float[Tensor, "B KK H W"]:
        """Compute the scores; a key at low resolution (of size `step`) is treated as upsampled to the query's size.

        If `key` is None, the query smoothed by a Gaussian is the key. Neighbours are one low-resolution pixel apart or,
        with `dilation`, this many pixels of the query.
        """
        size = (query.shape[-2], query.shape[-1])
        compressor = self._compressor() if dilation is None else None
        if compressor is not None and self._is_compiled(key, query, compressor, step, backend):
            return self._compiled(key, query, compressor, step, neighbours, backend)
        key = gaussian_filter(query) if key is None else key
        if dilation is not None and key.shape[-2:] != size:
            key = F.interpolate(key, size=size, mode="bilinear", align_corners=False)
        key = self._normalised(key, size, neighbours, backend)
        maps = (key, self.norm(query), self.weight, self.bias)
        if dilation is not None:
            hidden = dilated_differences(*maps, dilation)
        else:
            options = (step, self.similarity, neighbours, backend)
            if compressor is not None:
                return similarity_scores(*maps, compressor, *options)
            hidden = neighbour_convolution(*maps, *options)
        return self.score(self.reduce_norm(self.reduce(hidden.relu_()).relu()))

    def _is_compiled(
        self, key: Tensor | None, query: Tensor, compressor: Compressor, step: tuple[int, int], backend: str
    ) -> bool:
        """Whether compiled kernels can smooth, normalise and compare in one go."""
        counts = isinstance(self.norm, UpsampledGroupNorm)  # other norms must be called
        if self.similarity != "pcdc" or not counts or not is_plain_group_norm(self.norm):
            return False
        affine = self.norm.weight, self.norm.bias
        return takes(key, query, affine, self.weight, self.bias, compressor, step, backend)

    def _compiled(
        self,
        key: Tensor | None,
        query: Tensor,
        compressor: Compressor,
        step: tuple[int, int],
        neighbours: str,
        backend: str,
    ) -> Tensor:
        norm = (self.norm.weight, self.norm.bias), self.norm.num_groups, self.norm.eps
        return normalised_scores(key, query, *norm, self.weight, self.bias, compressor, step, neighbours, backend)

    def _normalised(self, key: Tensor, size: tuple[int, int], neighbours: str, backend: str) -> Tensor:
        """The normalised key: still at low resolution, or upsampled if the norm is of another class.

        An upsampled key is read between its pixels if the ratio is not whole.
        """
        if isinstance(self.norm, UpsampledGroupNorm):
            return self.norm(key, size, neighbours, backend)
        if tuple(key.shape[-2:]) != size:
            key = sample(
                key, *(key_position(P, p, neighbours, key.device) for P, p in zip(size, key.shape[-2:], strict=True))
            )
        return self.norm(key)

    def _compressor(self) -> Compressor | None:
        """The parameters of the layers after the convolution, or None if these layers have to be called."""
        reduce, norm, score = self.reduce, self.reduce_norm, self.score
        if not (is_plain_convolution(reduce) and is_plain_group_norm(norm) and is_plain_convolution(score)):
            return None
        if reduce.bias is None or score.bias is None or score.groups > 1:
            return None
        return Compressor(
            reduce.weight, reduce.bias, norm.weight, norm.bias, score.weight, score.bias, norm.num_groups, norm.eps
        )
