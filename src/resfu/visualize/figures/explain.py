"""The mechanism of ReSFU at work: queries, keys, similarity scores and kernels (Figs. 6 and 16 of arXiv 2407.02283)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.visualize.figures.calls import ReSFUCall
from resfu.visualize.figures.difference import relative_difference
from resfu.visualize.kernels import draw_kernels
from resfu.visualize.pca import fit_pca
from resfu.visualize.picture import Picture, enlarge
from resfu.visualize.sheets import Heat, Panel, Place

LETTERS = "ijklmnopqrstuvwxyz"
_SCORES = {"semantic_scores": "semantic scores $s_s$", "detail_scores": "detail scores $s_d$"}
_KERNELS = {"kernel": "kernel, softmax($s$)", "inner_product_kernel": "kernel by inner product"}


@dataclass(frozen=True)
class Explanation:
    """What happened inside one call of a ReSFU.

    Attributes:
        call: the call.
        maps: the tensors of `ReSFU.explain`, without the batch axis, and "inner_product_kernel" [K * K, H, W]: the
            kernel that results from inner products of the same queries and keys.
        departure: [H, W], the `relative_difference` between the output and bilinear interpolation. It compares outputs,
            not kernels, because in flat regions the kernel has no effect on the output.
    """

    call: ReSFUCall
    maps: dict[str, Tensor]
    departure: Tensor

    def at(self, place: tuple[int, int]) -> dict[str, Tensor]:
        """Scores and kernels of one pixel of the output, each [K, K]."""
        K = self.call.module.kernel_size
        row, column = place
        names = [name for name in (*_SCORES, *_KERNELS) if name in self.maps]
        return {name: self.maps[name][:, row, column].view(K, K) for name in names}

    def telling_pixels(self, count: int = 2) -> list[tuple[int, int]]:
        """Choose pixels of the photo whose kernels differ most from bilinear interpolation, and one that differs least.

        Args:
            count: number of pixels where the output differs most from bilinear interpolation; they lie far apart.

        Returns:
            (Y, X) of `count` + 1 pixels, the one that differs least last; fewer on a map that has no room for them.
            Pixels whose kernels reach over the border are left out where there are others.
        """
        size = self.call.size
        rows, columns = self.call.frame.kept(size)
        reach = [int(r * self.call.module.kernel_size / 2) + 1 for r in self.call.ratio]
        top, left = (r if n > 2 * r else 0 for r, n in zip(reach, (rows, columns), strict=True))
        open_to_choice = self.departure[top : rows - top, left : columns - left].clone()
        places = [divmod(int(open_to_choice.argmin()), open_to_choice.shape[1])]
        for _ in range(count):
            if open_to_choice.max() < 0:
                break
            row, column = divmod(int(open_to_choice.argmax()), open_to_choice.shape[1])
            places.insert(-1, (row, column))
            above, before = max(0, row - 2 * reach[0]), max(0, column - 2 * reach[1])
            open_to_choice[above : row + 2 * reach[0], before : column + 2 * reach[1]] = -1
        return [self.call.frame.to_photo((row + top, column + left), size) for row, column in places]


@torch.no_grad()
def explain_call(call: ReSFUCall) -> Explanation:
    """Look inside one call.

    Args:
        call: of a ReSFU.

    Returns:
        Everything that `map_sheet` and `kernel_sheet` show.
    """
    maps = call.explain()
    if call.module.similarity != "inner_product":
        maps["inner_product_kernel"] = call.altered(similarity="inner_product").explain()["kernel"]
    return Explanation(call, maps, relative_difference(maps["output"], call.bilinear(), call.features[0]))


def map_sheet(photo: Picture, explanation: Explanation, pixels: Sequence[tuple[int, int]]) -> list[list[Place]]:
    """Features, queries and keys as colours; the pictures of a row, except the first, share one colour basis.

    Args:
        photo: uint8 [H, W, 3].
        explanation: by `explain_call`.
        pixels: (Y, X) of the photo's pixels to mark.

    Returns:
        The rows of the grid; a map that does not exist in an ablation of ReSFU is None.
    """
    call, maps = explanation.call, explanation.maps
    frame, size = call.frame, call.size
    k = maps.get("k")
    sampled = None if k is None else F.interpolate(k[None], size=size, mode="bilinear", align_corners=False)[0]
    rows, columns = frame.kept(size)

    def coloured(*groups: tuple[str, Tensor | None]) -> list[Place]:
        present = [x for _, x in groups if x is not None]
        if not present:
            return [None] * len(groups)
        basis = fit_pca(present)
        return [None if x is None else Panel(frame.crop(enlarge(basis.colour(x), size)), title) for title, x in groups]

    marks = [(y, x, letter) for (y, x), letter in zip(pixels, LETTERS, strict=False)]
    departure = explanation.departure[:rows, :columns]
    return [
        [
            Panel(photo, "image and pixels", marks),
            *coloured(("features $x$", call.features[0]), (r"upsampled $\tilde{x}$", maps["output"])),
        ],
        [
            *coloured(("guidance $y$", call.guidance[0])),
            *coloured(("query $q$", maps["q"]), ("smoothed query $q_{GS}$, the detail key", maps.get("q_gs"))),
        ],
        [
            Heat(departure, r"$\tilde{x}$ against bilinear (features' spread = 1)"),
            *coloured((r"semantic key $\tilde{k}$", sampled), ("filtered query $q_{GF}$", maps.get("q_gf"))),
        ],
    ]


def kernel_sheet(photo: Picture, explanation: Explanation, pixels: Sequence[tuple[int, int]]) -> list[list[Place]]:
    """One row for each pixel: its position, both scores, the kernel, and the kernel from inner products.

    Args:
        photo: uint8 [H, W, 3].
        explanation: by `explain_call`.
        pixels: (Y, X) of the photo's pixels.

    Returns:
        The rows of the grid.

    Raises:
        ValueError: for a pixel outside the image, or more pixels than there are letters.
    """
    if len(pixels) > len(LETTERS):
        raise ValueError(f"{len(pixels)} pixels are too many for one figure: give at most {len(LETTERS)}.")
    rows: list[list[Place]] = []
    for pixel, letter in zip(pixels, LETTERS, strict=False):
        place = explanation.call.frame.to_map(pixel, explanation.call.size)
        grids = explanation.at(place)
        row: list[Place] = [Panel(_kernel_on(photo, explanation, place), f"{letter}: Y {pixel[0]}, X {pixel[1]}")]
        row += [Heat(grids[name], title, numbers=True) for name, title in _SCORES.items() if name in grids]
        row += [
            Heat(grids[name], title, numbers=True, limits=(0.0, 1.0))
            for name, title in _KERNELS.items()
            if name in grids
        ]
        rows.append(row)
    return rows


def _kernel_on(photo: Picture, explanation: Explanation, place: tuple[int, int], side: int = 200) -> Picture:
    """A pixel's kernel drawn over the part of the photo that it reaches; the picture is about `side` pixels large."""
    call, kernel = explanation.call, explanation.maps["kernel"]
    reach = [(call.module.kernel_size / 2 + 0.5) * ratio for ratio in call.ratio]
    rows, columns = (
        slice(max(0, int(p - r)), min(n, int(p + r) + 2))
        for p, r, n in zip(place, reach, call.frame.kept(call.size), strict=True)
    )
    part = kernel[:, rows, columns]
    times = -(-side // max(part.shape[-2:]))
    size = (part.shape[-2] * times, part.shape[-1] * times)
    picture = enlarge(call.frame.under(photo, (rows, columns), call.size), size)
    return draw_kernels(picture, part, call.ratio, [(place[0] - rows.start, place[1] - columns.start)])
