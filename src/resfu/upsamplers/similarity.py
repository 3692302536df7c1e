"""The learned similarity of ReSFU: normalisation, paired central difference convolution, compressor."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops.similarity import Compressor, dilated_scores, similarity_scores, upsampled_group_norm
from resfu.upsamplers.normalization import GroupNorm

_NORM_GROUPS = 8


class SimilarityBlock(nn.Module):
    """Scores of a query against the K x K neighbours in a key (ReSFU, arXiv 2407.02283, Sec. III-C, Eq. 11).

    One GroupNorm with shared affine normalises key and query apart; a convolution of their paired central difference
    widens to `hidden_channels`; ReLU, grouped 1 x 1 convolution, ReLU, GroupNorm and 1 x 1 convolution give the scores.

    Args:
        dim: width D of key and query.
        kernel_size: K, odd.
        groups: of the convolution and of the compressor's first layer.
        hidden_channels: M.
        similarity: "pcdc", or "concat" for a convolution of both maps side by side (Table VI b).
    """

    def __init__(self, dim: int, kernel_size: int, groups: int, hidden_channels: int, similarity: str = "pcdc") -> None:
        super().__init__()
        self.similarity = similarity
        width = dim // groups * (2 if similarity == "concat" else 1)
        self.norm = GroupNorm(_NORM_GROUPS, dim)
        self.weight = nn.Parameter(torch.empty(hidden_channels, width, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(hidden_channels))
        self.reduce = nn.Conv2d(hidden_channels, hidden_channels, 1, groups=groups)
        self.reduce_norm = GroupNorm(_NORM_GROUPS, hidden_channels)
        self.score = nn.Conv2d(hidden_channels, kernel_size**2, 1)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self,
        key: Float[Tensor, "B D h1 w1"],
        query: Float[Tensor, "B D H W"],
        step: tuple[int, int],
        neighbours: str = "fine",
        backend: str = "auto",
        dilation: int | None = None,
    ) -> Float[Tensor, "B KK H W"]:
        """Scores; a key on the LR map (of size `step`) counts as upsampled to the query's size.

        Neighbours are one LR pixel apart, or with `dilation` that many of the query's.
        """
        size = (query.shape[-2], query.shape[-1])
        if dilation is not None and key.shape[-2:] != size:
            key = F.interpolate(key, size=size, mode="bilinear", align_corners=False)
        norm, reduce_norm = self.norm, self.reduce_norm
        if key.shape[-2:] == size:
            key = norm(key)
        else:
            key = upsampled_group_norm(key, size, _NORM_GROUPS, norm.weight, norm.bias, norm.eps, neighbours, backend)
        query = norm(query)
        compressor = Compressor(
            self.reduce.weight,
            self.reduce.bias,  # pyright: ignore[reportArgumentType]
            reduce_norm.weight,
            reduce_norm.bias,
            self.score.weight,
            self.score.bias,  # pyright: ignore[reportArgumentType]
            _NORM_GROUPS,
            reduce_norm.eps,
        )
        if dilation is not None:
            return dilated_scores(key, query, self.weight, self.bias, compressor, dilation)
        return similarity_scores(
            key, query, self.weight, self.bias, compressor, step, self.similarity, neighbours, backend
        )
