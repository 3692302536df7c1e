"""Output sizes that are not a whole multiple of the features' size, because a stride in the network has rounded up.

A stride of 2 turns 21 columns into 11, and upsampling by 2 turns these into 22. Upsamplers of whole ratios then run at
22 and crop the surplus at the bottom and right, where the stride had to look beyond the image.
"""

from torch import Tensor

from resfu.ops.layout import extended


def whole_size(name: str, ratios: str, ratio: int, low: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The size at which an upsampler runs to give the wanted output size: equal, or larger by less than the ratio.

    Args:
        name: of the upsampler, for the error.
        ratios: as `Upsampler.ratios`.
        ratio: the ratio that a "fixed" upsampler is built for, or 2.
        low: (h, w) of the features.
        size: (H, W) of the output.

    Raises:
        ValueError: for an unsupported ratio; the message lists the possible sizes.
    """
    (h, w), (H, W) = low, size
    if ratios == "any" or (ratios == "integer" and H % h == 0 and W % w == 0):
        return size
    if ratios == "integer":
        rows, columns = -(-H // h), -(-W // w)  # each axis has a ratio of its own
        whole = (h * rows, w * columns)
        if whole[0] - H < rows and whole[1] - W < columns:
            return whole
        raise ValueError(
            f"{name} takes integer ratios: features of {h} x {w} give a multiple of {h} x a multiple of {w}, "
            f"not {H} x {W}. At the ratio r up to r - 1 rows and columns less are cropped."
        )
    whole, least = (h * ratio, w * ratio), (h * ratio - ratio + 1, w * ratio - ratio + 1)
    if least[0] <= H <= whole[0] and least[1] <= W <= whole[1]:  # not `size == whole`: an export would rely on it
        return whole
    raise ValueError(
        f"{name} {'was built for' if ratios == 'fixed' else 'has'} the ratio {ratio}: features of {h} x {w} give "
        f"{whole[0]} x {whole[1]}, not {H} x {W}. Sizes from {least[0]} x {least[1]} are cropped from it."
    )


def covering(guidance: Tensor, size: tuple[int, int], whole: tuple[int, int]) -> Tensor:
    """Repeat the last row and column of a guidance for an output of `size` so that it covers the output size `whole`.

    A guidance that is larger than the output, such as an image, is extended in proportion.
    """
    missing = (-(-n * (b - a) // a) for n, a, b in zip(guidance.shape[-2:], size, whole, strict=True))
    return extended(guidance, *missing)
