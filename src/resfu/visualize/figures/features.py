"""Features upsampled by several networks, side by side (Fig. 8 of arXiv 2407.02283)."""

from collections.abc import Mapping, Sequence

import numpy as np

from resfu.visualize.figures.calls import ReSFUCall, SlotCall
from resfu.visualize.kernels import draw_kernels, find_edges
from resfu.visualize.pca import PCABasis, align, fit_pca
from resfu.visualize.picture import Picture, enlarge
from resfu.visualize.sheets import Panel, Place

_ROWS = ("upsampled", "bilinear", "nearest", "kernels", "prediction")


def shared_colours(networks: Sequence[Sequence[SlotCall]]) -> list[PCABasis]:
    """Fit one basis per network to the features before upsampling, rotated so that networks have similar colours.

    Args:
        networks: for every network the calls of one slot, for the same images in the same order.

    Returns:
        A basis for each network.
    """
    maps = [[call.features[0] for call in calls] for calls in networks]
    bases = [fit_pca(network) for network in maps]
    same_sizes = [[m.shape[1:] for m in network] == [m.shape[1:] for m in maps[0]] for network in maps]
    return [
        align(basis, network, bases[0], maps[0]) if same else basis
        for basis, network, same in zip(bases, maps, same_sizes, strict=True)
    ]


def feature_pictures(call: SlotCall, basis: PCABasis) -> dict[str, Picture]:
    """The features of a slot as colours, brought to the output's size in three ways.

    Args:
        call: a call of the slot.
        basis: directions and ranges of the colours.

    Returns:
        "upsampled" (by the slot's own upsampler), "bilinear" and "nearest" (the input features with pixels repeated):
        uint8 [H, W, 3], cropped to the part of the map that shows the image.
    """
    pictures = {
        "upsampled": basis.colour(call.output[0]),
        "bilinear": basis.colour(call.bilinear()),
        "nearest": enlarge(basis.colour(call.features[0]), call.size),
    }
    return {name: call.frame.crop(picture) for name, picture in pictures.items()}


def kernel_picture(photo: Picture, call: ReSFUCall) -> Picture:
    """The kernels of some pixels on edges, drawn over the photo.

    Args:
        photo: uint8 [H, W, 3], of the size `call.frame.photo`.
        call: a call of a ReSFU module.

    Returns:
        uint8 [H, W, 3].
    """
    pixels = [call.frame.to_map(pixel, call.size) for pixel in find_edges(photo, 2, 3)]
    # The kernels cover the padded photo.
    height, width = photo.shape[:2]
    more = [round(covered) - own for covered, own in zip(call.frame.covered, (height, width), strict=True)]
    whole = np.pad(photo, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge")
    return draw_kernels(whole, call.explain()["kernel"], call.ratio, pixels)[:height, :width]


def feature_sheet(
    photo: Picture, networks: Mapping[str, Mapping[str, Picture]], same_features: bool, columns: int = 4
) -> list[list[Place]]:
    """Lay out the pictures of several networks in a grid.

    Args:
        photo: uint8 [H, W, 3].
        networks: `feature_pictures` by the network's title; "kernels" and "prediction" may be added to them.
        same_features: all networks upsample the same features, so that nearest and bilinear are shown once.
        columns: number of columns if `same_features`; otherwise there is one column for each network.

    Returns:
        The rows of the grid.
    """
    if not same_features:
        rows = [row for row in _ROWS if any(row in pictures for pictures in networks.values())]
        grid: list[list[Place]] = [
            [Panel(p[row], f"{title}: {row}") if row in p else None for title, p in networks.items()] for row in rows
        ]
        return [[Panel(photo, "image") if n == 0 else None, *row] for n, row in enumerate(grid)]
    first = next(iter(networks.values()))
    flat: list[Place] = [
        Panel(photo, "image"),
        Panel(first["nearest"], "nearest"),
        Panel(first["bilinear"], "bilinear"),
    ]
    for name in ("upsampled", "kernels", "prediction"):
        flat += [Panel(pictures[name], f"{title}: {name}") for title, pictures in networks.items() if name in pictures]
    return [flat[n : n + columns] for n in range(0, len(flat), columns)]
