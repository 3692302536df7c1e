"""ReSFU: the refreshed similarity-based upsampler."""

from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops import gaussian_filter, guided_filter, inner_product_scores, reassemble, window_softmax
from resfu.ops.backends import BACKENDS, which_backend
from resfu.ops.checks import check_int, check_odd
from resfu.ops.reassembly.softmax import plus_centre, softmax_change
from resfu.ops.similarity import SIMILARITIES, without_outside
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.normalization import group_norm
from resfu.upsamplers.options import check_choice, check_flags, check_number
from resfu.upsamplers.plain import is_plain
from resfu.upsamplers.projection import project
from resfu.upsamplers.similarity import SimilarityBlock
from resfu.upsamplers.starts import BILINEAR, PUBLISHED, at_zero, check_start, interpolated

_ALIGNMENTS = ("both", "semantic", "detail")


class ReSFU(Upsampler):
    """Direct upsampling at any real ratio, by similarity of an aligned query and key (arXiv 2407.02283).

    The guidance gives a query q [B, D, H, W], the features a key k [B, D, h, w]. They are compared twice: in a semantic
    space, where a guided filter makes the query follow k, and in a detail space, where the key is q smoothed by a
    Gaussian. Each output pixel is a weighted sum of features sampled at K x K positions around it, one low-resolution
    pixel apart. The weights are the softmax of the sum of both scores. Positions outside the image get weight 0, so
    constants stay constant.

    Args:
        channels: C, width of the features.
        guidance_channels: c, width of the guidance.
        kernel_size: K, odd.
        projection_dim: D, width of query and key; a multiple of 8 and of `groups`.
        groups: number of groups of the paired central difference convolution and of the compressor (the grouped 1 x 1
            convolution after it); divides D and `hidden_channels`.
        hidden_channels: M, width inside the similarity blocks; a multiple of 8.
        guided_filter_radius: in pixels of the output.
        guided_filter_eps: ridge of the guided filter, above 0.
        guided_filter_stride: 1 (what the published costs count) or 2 (the published code's default).
        alignment: "both" spaces, or one of "semantic" and "detail" (Table V).
        guided_query: False leaves the semantic query unfiltered (Table V b).
        smoothed_key: False leaves the detail key unsmoothed (Table V d).
        similarity: "pcdc", "concat" or "inner_product" (Table VI).
        neighbours: "fine", or "coarse" for low-resolution pixels as they stand (Table VII).
        normalize_features: GroupNorm before the key's projection.
        normalize_guidance: GroupNorm before the query's projection.
        backend: of the operations, as in `resfu.ops.reassemble`.
        dilation: distance between neighbours in pixels of the output, for the scores and the mask at the border. The
            published code has this argument; its SegFormer uses 2 at the ratios 2, 4 and 8. The features that are
            summed stay one low-resolution pixel apart. Only for "pcdc" and "fine"; runs in plain PyTorch operators.
            Default: the ratio, whole or not.
        start: "published", or an interpolation that the untrained upsampler equals ("bilinear", "nearest", see
            `resfu.upsamplers.starts`). "bilinear" with "fine" neighbours costs nothing extra: the centre neighbour is
            the bilinear value. Not for "inner_product".

    Raises:
        ValueError: for an even kernel, widths that `groups` does not divide, or an unknown choice.

    >>> up = resfu.ReSFU(channels=64, guidance_channels=32)
    >>> features, guidance = torch.randn(1, 64, 16, 16), torch.randn(1, 32, 32, 32)
    >>> up(features, guidance).shape
    torch.Size([1, 64, 32, 32])
    >>> up(features, guidance, size=(30, 41)).shape  # any real ratio; the guidance is brought to the size
    torch.Size([1, 64, 30, 41])
    """

    guided = True
    paper = "2407.02283"
    compiled = True
    startable = True

    def __init__(
        self,
        channels: int,
        guidance_channels: int,
        kernel_size: int = 3,
        projection_dim: int = 32,
        groups: int = 4,
        hidden_channels: int = 128,
        guided_filter_radius: int = 8,
        guided_filter_eps: float = 1e-3,
        guided_filter_stride: int = 1,
        alignment: str = "both",
        guided_query: bool = True,
        smoothed_key: bool = True,
        similarity: str = "pcdc",
        neighbours: str = "fine",
        normalize_features: bool = True,
        normalize_guidance: bool = True,
        backend: str = "auto",
        dilation: int | None = None,
        start: str = PUBLISHED,
    ) -> None:
        super().__init__(channels, guidance_channels)
        check_choice("alignment", alignment, _ALIGNMENTS)
        check_choice("similarity", similarity, SIMILARITIES)
        check_choice("neighbours", neighbours, ("fine", "coarse"))
        check_int("guided_filter_stride", guided_filter_stride)
        check_choice("guided_filter_stride", guided_filter_stride, (1, 2))
        check_choice("backend", backend, BACKENDS)
        check_odd("kernel_size", kernel_size)
        check_int("groups", groups)
        for name, width in (("projection_dim", projection_dim), ("hidden_channels", hidden_channels)):
            check_int(name, width)
            if width % groups or width % 8:
                raise ValueError(f"{name} = {width} must be a multiple of groups = {groups} and of 8.")
        check_int("guided_filter_radius", guided_filter_radius, least=0)
        check_number("guided_filter_eps", guided_filter_eps, least=0)
        if guided_filter_eps == 0:
            raise ValueError("guided_filter_eps must be above 0: without a ridge, flat regions follow rounding errors.")
        check_flags(
            guided_query=guided_query,
            smoothed_key=smoothed_key,
            normalize_features=normalize_features,
            normalize_guidance=normalize_guidance,
        )
        if dilation is not None:
            check_int("dilation", dilation)
            if similarity != "pcdc" or neighbours != "fine":
                raise ValueError(
                    f"dilation = {dilation} is for similarity='pcdc' and neighbours='fine', got {similarity!r} and "
                    f"{neighbours!r}: leave it out."
                )
        check_start(start)
        if start != PUBLISHED and similarity == "inner_product":
            raise ValueError(
                f"start = {start!r} needs a learned similarity ('pcdc' or 'concat'): an inner product has no last "
                "layer to begin at 0."
            )
        self.kernel_size = kernel_size
        self.guided_filter_radius = guided_filter_radius
        self.guided_filter_eps = guided_filter_eps
        self.guided_filter_stride = guided_filter_stride
        self.alignment = alignment
        self.guided_query = guided_query
        self.smoothed_key = smoothed_key
        self.similarity = similarity
        self.neighbours = neighbours
        self.backend = backend
        self.dilation = dilation
        self.start = start

        self.guidance_norm = group_norm(guidance_channels) if normalize_guidance else nn.Identity()
        self.query = nn.Conv2d(guidance_channels, projection_dim, 1)
        blocks = (projection_dim, kernel_size, groups, hidden_channels, similarity)
        if alignment != "detail":
            self.features_norm = group_norm(channels) if normalize_features else nn.Identity()
            self.key = nn.Conv2d(channels, projection_dim, 1)
            if similarity != "inner_product":
                self.semantic_similarity = SimilarityBlock(*blocks)
        if alignment != "semantic" and similarity != "inner_product":
            self.detail_similarity = SimilarityBlock(*blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if start != PUBLISHED:
            at_zero(*(module.score for module in self.children() if isinstance(module, SimilarityBlock)))

    def upsample(
        self,
        features: Float[Tensor, "B C h w"],
        guidance: Tensor | None,
        size: tuple[int, int],
        out: Tensor | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """Weigh each pixel's neighbours by the softmax of the summed scores."""
        return self.carry(features, features, guidance, size, out)

    def carry(
        self,
        features: Tensor,
        values: Tensor,
        guidance: Tensor | None,
        size: tuple[int, int],
        out: Tensor | None = None,
    ) -> Tensor:
        """See `Upsampler.carry`."""
        return self._reassemble(values, self.scores(features, guidance), size, out)

    def scores(self, features: Tensor, guidance: Tensor | None) -> Float[Tensor, "B KK H W"]:
        """The summed scores [B, K * K, H, W], from which the softmax computes the weights."""
        return _total(self._scores(features, guidance))

    def explain(self, features: Tensor, guidance: Tensor, size: tuple[int, int] | None = None) -> dict[str, Tensor]:
        """The intermediates of a forward pass, for pictures and tests.

        Args:
            features: [B, C, h, w].
            guidance: [B, c, H, W].
            size: (H, W) as in `forward`.

        Returns:
            "q" [B, D, H, W] and "k" [B, D, h, w]; "q_gf" (the filtered semantic query) and "q_gs" (the smoothed detail
            key) [B, D, H, W]; "semantic_scores", "detail_scores" and "kernel" [B, K * K, H, W]; "output" [B, C, H, W].
            Intermediates that an ablation does not compute are absent.

        Raises:
            ValueError: as `forward`.
        """
        resized, target = self.prepared(features, guidance, size)
        named = self._scores(features, resized, explain=True)
        total = _total(named)
        low = (features.shape[-2], features.shape[-1])
        named["kernel"] = self._kernel(total, low)
        named["output"] = self._reassemble(features, total, target)
        return named

    def _reassemble(self, features: Tensor, scores: Tensor, size: tuple[int, int], out: Tensor | None = None) -> Tensor:
        padding = "replicate"  # any padding would do: values beyond the border have weight 0
        if self.dilation is None and (self.start == PUBLISHED or self._starts_at_centre):
            return reassemble(
                features, scores, size, self.neighbours, padding, backend=self.backend, softmax=True, mask=True,
                from_centre=self._starts_at_centre, out=out,
            )  # fmt: skip
        kernel = self._kernel(scores, (features.shape[-2], features.shape[-1]))
        if self.start == PUBLISHED or self._starts_at_centre:
            return reassemble(features, kernel, size, self.neighbours, padding, backend=self.backend, out=out)
        learned = reassemble(features, kernel, size, self.neighbours, padding, backend=self.backend, out=out)
        first = interpolated(features, size, self.start)
        return first + learned if out is None else out.add_(first)

    @property
    def _starts_at_centre(self) -> bool:
        return self.start == BILINEAR and self.neighbours == "fine"

    def _kernel(self, scores: Tensor, low: tuple[int, int]) -> Tensor:
        """Weights of the neighbours, [B, K * K, H, W]."""

        def published(values: Tensor) -> Tensor:
            if self.dilation is None:
                return window_softmax(values, low=low)
            return window_softmax(without_outside(values, self.dilation))

        if self.start == PUBLISHED:
            return published(scores)
        kernel = softmax_change(scores, published)
        return plus_centre(kernel) if self._starts_at_centre else kernel

    def _scores(self, features: Tensor, guidance: Tensor | None, explain: bool = False) -> dict[str, Tensor]:
        """The scores and their intermediates by name; `explain` asks for those that kernels would skip."""
        assert guidance is not None
        step = (features.shape[-2], features.shape[-1])
        planar = which_backend(guidance, self.backend) == "numba"  # Numba's kernels read rows of pixels
        q = project(self.query, guidance, self.guidance_norm, self.backend, planar)
        named = {"q": q}
        if self.alignment != "detail":
            k = named["k"] = project(self.key, features, self.features_norm, self.backend, planar)
            query = q
            if self.guided_query:
                query = named["q_gf"] = guided_filter(
                    q,
                    k,
                    self.guided_filter_radius,
                    self.guided_filter_eps,
                    self.guided_filter_stride,
                    self.backend,
                )
            named["semantic_scores"] = self._compare("semantic_similarity", k, query, step)
        if self.alignment != "semantic":
            key = q
            if self.smoothed_key and (explain or not self._smooths_itself):
                key = named["q_gs"] = gaussian_filter(q)
            elif self.smoothed_key:
                key = None
            named["detail_scores"] = self._compare("detail_similarity", key, q, step)
        return named

    @property
    def _smooths_itself(self) -> bool:
        """Whether the detail block may smooth the query itself: it is plain, so no hook has to see the smoothed key."""
        return self.similarity == "pcdc" and is_plain(self.detail_similarity, SimilarityBlock)

    def _compare(self, block: str, key: Tensor | None, query: Tensor, step: tuple[int, int]) -> Tensor:
        neighbours = self.neighbours
        if key is None:
            return self.detail_similarity(None, query, step, neighbours, self.backend, self.dilation)
        if tuple(key.shape[-2:]) == step == tuple(query.shape[-2:]):
            neighbours = "fine"  # at ratio 1 "fine" and "coarse" are the same
        if self.similarity == "inner_product":
            return inner_product_scores(key, query, self.kernel_size, step, neighbours, self.backend)
        return getattr(self, block)(key, query, step, neighbours, self.backend, self.dilation)


def _total(named: dict[str, Tensor]) -> Tensor:
    """The sum of the semantic and the detail scores, or the one that is present."""
    scores = [named[name] for name in ("semantic_scores", "detail_scores") if name in named]
    return scores[0] if len(scores) == 1 else scores[0] + scores[1]
