"""`Upsampler`, the base class with the call signature and the checks that all upsamplers share."""

import inspect
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.ops.checks import check_dense, check_int, pair, triple
from resfu.ops.destination import check_destination
from resfu.ops.empty import connected
from resfu.ops.layout import memory_format
from resfu.ops.portable import is_portable, known
from resfu.ops.precision import autocast_dtype, is_autocast, surrounding_autocast
from resfu.upsamplers.half_precision import in_fp32
from resfu.upsamplers.odd_sizes import covering, whole_size
from resfu.upsamplers.options import check_number
from resfu.upsamplers.pretrained import Shareable
from resfu.upsamplers.starts import PUBLISHED, started_at

Size = Any  # (H, W); for upsamplers of volumes (built with dims=3) it is (D, H, W)


class Upsampler(Shareable):
    """Base class of all upsamplers: it checks the input, determines the output size and calls `upsample`.

    A subclass sets the class attributes, passes its widths to `__init__` and implements
    `upsample(features, guidance, size)`, with a fourth argument `out` if its last step can write into a given tensor.

    Attributes:
        guided: whether the method needs a guidance.
        image_guided: whether the guidance is the image itself rather than a feature map.
        ratios: the supported ratios of output size to feature size: "any" (real numbers from 1), "integer", "fixed"
            (the `scale_factor` it was built for) or "2".
        paper: arXiv identifier of the paper; "" for textbook methods.
        arguments: the constructor's arguments by name, including defaults.
        startable: whether the constructor takes a `start`: an interpolation that the untrained upsampler equals.
        compiled: whether compiled fp32 kernels do most of the work on the CPU (half precision is converted to fp32).

    Args:
        channels: number of channels of the features; None accepts any.
        guidance_channels: number of channels of the guidance; None for methods without guidance.
        scale_factor: ratio of output size to feature size, used when neither `size` nor a guidance is given.

    Raises:
        ValueError: for a number of channels that is not an integer from 1, or a ratio that is not a number from 1.

    >>> class Own(resfu.Upsampler):
    ...     def upsample(self, features, guidance, size):
    ...         return torch.nn.functional.interpolate(features, size)
    >>> Own(scale_factor=3)(torch.randn(1, 8, 4, 4)).shape
    torch.Size([1, 8, 12, 12])
    """

    guided: ClassVar[bool] = False
    image_guided: ClassVar[bool] = False
    ratios: ClassVar[str] = "any"
    paper: ClassVar[str] = ""
    dims: int = 2  # 3 for the methods that were asked for volumes [B, C, D, H, W]
    startable: ClassVar[bool] = False
    compiled: ClassVar[bool] = False
    arguments: dict[str, Any]

    def __new__(cls, *arguments: Any, **options: Any) -> "Upsampler":
        """Record the constructor's arguments, whatever the subclass does with them."""
        module = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(module, *arguments, **options)
        except TypeError:  # wrong arguments (__init__ will raise for them), or a copy, which gets its attributes later
            return module
        bound.apply_defaults()
        module.__dict__["arguments"] = dict(list(bound.arguments.items())[1:])  # without self
        return module

    def __init__(
        self, channels: int | None = None, guidance_channels: int | None = None, scale_factor: int | float | None = None
    ) -> None:
        super().__init__()
        if channels is not None:
            check_int("channels", channels)
        if guidance_channels is not None or self.guided:
            check_int("guidance_channels", guidance_channels)
        if scale_factor is not None:
            check_number("scale_factor", scale_factor, least=1)
        self.channels = channels
        self.guidance_channels = guidance_channels
        self.scale_factor = scale_factor

    def forward(
        self,
        features: Tensor,
        guidance: Tensor | None = None,
        size: Size = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """Bring features to high resolution.

        Args:
            features: [B, C, h, w], floating point: the low-resolution map. Upsamplers built with `dims=3` take volumes
                [B, C, d, h, w], and all sizes have a depth.
            guidance: [B, c, H, W], the map that steers the upsampling. Unguided upsamplers only use its size.
            size: (H, W) of the output. Default: the guidance's size, else the features' times `scale_factor`. A
                guidance of another size is resampled to it bilinearly. A method of whole ratios r also gives up to
                r - 1 rows or columns less: it repeats the guidance's last row and column, upsamples to the whole size
                and crops the result at the bottom and right.
            out: [B, C, H, W] in the features' dtype: the result is written into it, which saves the page faults of
                new memory. Only without gradients.

        Returns:
            [B, C, H, W] in the features' dtype, under autocast too.

        Raises:
            ValueError: for input of the wrong rank, width, batch size or dtype, a missing guidance, an output smaller
                than the features, or a ratio that the method does not support.
        """
        guidance, size = self.prepared(features, guidance, size)
        upsample = in_fp32(self, features, guidance)
        if out is not None:
            check_destination(out, (*features.shape[:2], *size), features, guidance, *self.parameters())
            if upsample is not None or not self._writes_into(features, size):
                return out.copy_(self.forward(features, guidance, size))
            return self.upsample(features, guidance, size, out=out)  # pyright: ignore[reportCallIssue]
        if features.shape[0] == 0:
            return connected(features.new_empty((0, features.shape[1], *size)), features, guidance, *self.parameters())
        whole = self.whole_size(features, size)
        with surrounding_autocast(features):
            if _always_equal(whole, size):
                return (upsample or self.upsample)(features, guidance, size).to(features.dtype)
            guidance = guidance if guidance is None else covering(guidance, size, whole)
            out = (upsample or self.upsample)(features, guidance, whole)
            for axis, n in enumerate(size, 2):
                out = out.narrow(axis, 0, n)  # an export omits a slice (out[:, :n]) if its example input loses nothing
            start = getattr(self, "start", PUBLISHED)
            if start != PUBLISHED:
                out = self._started_at(size, out, features, whole)
            layout = memory_format(features) if self.dims == 2 else torch.contiguous_format
            return out.to(features.dtype).contiguous(memory_format=layout)

    def _started_at(self, size: Size, out: Tensor, features: Tensor, whole: Size) -> Tensor:
        return started_at(size, out, features, whole, self.start)  # pyright: ignore[reportArgumentType]

    def upsample(self, features: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> Tensor:
        """The method itself, on checked input: features [B, C, h, w], guidance [B, c, H, W] -> [B, C, H, W]."""
        raise NotImplementedError(f"{type(self).__name__} does not define upsample().")

    def _writes_into(self, features: Tensor, size: Size) -> bool:
        """Whether `upsample` can be given `out` for these features and this size, and writes into it as last step."""
        direct = self.dims == 2 and "out" in inspect.signature(self.upsample).parameters and features.shape[0] > 0
        return direct and self.whole_size(features, size) == size

    def carry(self, features: Tensor, values: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> Tensor:
        """Upsample `values` with the weights computed for `features`, for methods that are linear in the values.

        Args:
            features: [B, C, h, w], checked; the weights are computed from them.
            values: [B, K, h, w]. If groups of channels have weights of their own, K is a multiple of their number.
            guidance: [B, c, H, W].
            size: (H, W).

        Returns:
            [B, K, H, W]. For `values = features` this equals `upsample`.

        Raises:
            ValueError: if the method has no weights that apply to other values.
        """
        raise ValueError(f"{type(self).__name__} has no weights that could carry other values than its features.")

    def prepared(self, features: Tensor, guidance: Tensor | None, size: Size) -> tuple[Tensor | None, Size]:
        """Check the arguments of `forward`; return the guidance as `upsample` takes it, and the output size."""
        check_map("features", features, "[B, C, h, w]" if self.dims == 2 else "[B, C, d, h, w]", self.channels)
        if guidance is not None:
            self._check_guidance(guidance, features)
        elif self.guided:
            raise ValueError(f"{type(self).__name__} needs a guidance [B, {self.guidance_channels}, H, W]; got none.")
        size = self._output_size(features, guidance, size)
        self.whole_size(features, size)
        check_dtype("features", features, self)
        if guidance is None or not self.guided:
            return None, size
        same = _always_equal(tuple(guidance.shape[2:]), size)
        return (guidance if same else self._resized(guidance, size)), size

    def _resized(self, guidance: Tensor, size: Size) -> Tensor:
        """Resample a guidance of another size to the output size."""
        return F.interpolate(guidance, size=size, mode="bilinear", align_corners=False)

    def extra_repr(self) -> str:
        """What `print(module)` shows of the configuration."""
        known = {name: getattr(self, name) for name in ("channels", "guidance_channels", "scale_factor")}
        return ", ".join(f"{name}={value}" for name, value in known.items() if value is not None)

    def _check_guidance(self, guidance: Tensor, features: Tensor) -> None:
        layout = "[B, c, H, W]" if self.dims == 2 else "[B, c, D, H, W]"
        check_map("guidance", guidance, layout, self.guidance_channels if self.guided else None)
        if guidance.shape[0] != features.shape[0]:
            raise ValueError(
                f"features and guidance must hold the same images, got a batch of {features.shape[0]} "
                f"and of {guidance.shape[0]}."
            )
        if self.guided and guidance.device != features.device:
            raise ValueError(f"features are on {features.device} and guidance on {guidance.device}: move one of them.")
        if self.guided and autocast_dtype(guidance) != autocast_dtype(features):
            raise ValueError(
                f"features are {features.dtype} and guidance is {guidance.dtype}: convert one, or use autocast."
            )

    def _output_size(self, features: Tensor, guidance: Tensor | None, size: Size) -> Size:
        low = tuple(features.shape[2:])
        if size is not None:
            wanted = pair("size", size) if self.dims == 2 else triple("size", size)
            source = "size"
        elif guidance is not None:
            wanted = tuple(guidance.shape[2:])
            source = "the guidance"
        elif self.scale_factor is not None:
            ratio = self.scale_factor
            wanted = tuple(n * ratio if isinstance(ratio, int) else int(n * ratio) for n in low)
            source = "scale_factor"
        else:
            axes = "(H, W)" if self.dims == 2 else "(D, H, W)"
            raise ValueError(f"{type(self).__name__} needs size={axes}, a guidance or a scale_factor to know its size.")
        if any(P < p for P, p in zip(wanted, low, strict=True)):
            raise ValueError(
                f"the output must be at least as large as the features ({' x '.join(map(str, low))}), but {source} "
                f"asks for {' x '.join(map(str, wanted))}."
            )
        return wanted

    def whole_size(self, features: Tensor, size: Size) -> Size:
        """The size at which `upsample` runs to give an output of `size`; ValueError for an unsupported ratio."""
        ratio = 2 if self.ratios == "2" else int(self.scale_factor or 1)
        name, low = type(self).__name__, tuple(features.shape[2:])
        if self.dims == 2:
            return whole_size(name, self.ratios, ratio, (low[0], low[1]), size)
        # The depth is an axis like the others, and every axis is checked by itself.
        rows = whole_size(name, self.ratios, ratio, (low[0], low[1]), size[:2])
        columns = whole_size(name, self.ratios, ratio, (low[1], low[2]), size[1:])
        return (*rows, columns[1])


def _always_equal(a: Size, b: Size) -> bool:
    """Whether two sizes are equal; in a program exported for other runtimes, whether they are equal for every input."""
    if is_portable():
        return all(known(n == m) for n, m in zip(a, b, strict=True))
    return a == b


def check_dtype(name: str, x: Tensor, module: nn.Module) -> None:
    """Refuse a map whose dtype no weight of the module has, except under autocast.

    Raises:
        ValueError: with both dtypes.
    """
    is_own = any(parameter.dtype == x.dtype for parameter in module.parameters())  # the first's, as a rule
    weights = set() if is_own else {p.dtype for p in module.parameters() if p.is_floating_point()}
    if weights and not is_autocast(x):
        raise ValueError(
            f"{name} are {x.dtype} and the weights of {type(module).__name__} are {' and '.join(map(str, weights))}: "
            "convert one of them (.to), or use autocast."
        )


def check_map(name: str, tensor: Tensor, layout: str, channels: int | None) -> None:
    """Refuse anything but a floating point map of the given width.

    Raises:
        ValueError: with what was given and what was expected.
    """
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} must be a tensor {layout}, got {type(tensor).__name__}.")
    check_dense(name, tensor)
    if tensor.dim() != layout.count(",") + 1:
        raise ValueError(f"{name} must be {layout}, got the shape {list(tensor.shape)}.")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {tensor.dtype}: call .float() first.")
    if any(n < 1 for n in tensor.shape[2:]):
        raise ValueError(f"{name} must have at least one pixel, got {list(tensor.shape)}.")
    if channels is not None and tensor.shape[1] != channels:
        raise ValueError(f"the channels of {name} must be {channels}, got {tensor.shape[1]}: {list(tensor.shape)}.")
