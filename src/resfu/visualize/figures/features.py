"""Features upsampled by several networks, side by side (Fig. 8 of arXiv 2407.02283)."""

from collections.abc import Mapping

from resfu.visualize.figures.calls import SlotCall
from resfu.visualize.figures.drawing import Place, Shown
from resfu.visualize.pca import PCABasis
from resfu.visualize.picture import Picture, enlarge

_ROWS = ("upsampled", "bilinear", "nearest", "prediction")


def feature_pictures(call: SlotCall, basis: PCABasis) -> dict[str, Picture]:
    """The features of a slot as colours, by three ways to bring them to the output's size.

    Args:
        call: of the slot.
        basis: directions and ranges of the colours.

    Returns:
        "upsampled" (by the slot's own upsampler), "bilinear" and "nearest" (the features as they come, with pixels
        repeated): uint8 [H, W, 3], the image's own part of the map.
    """
    pictures = {
        "upsampled": basis.colour(call.output[0]),
        "bilinear": basis.colour(call.bilinear()),
        "nearest": enlarge(basis.colour(call.features[0]), call.size),
    }
    return {name: call.frame.crop(picture) for name, picture in pictures.items()}


def feature_sheet(
    photo: Picture, networks: Mapping[str, Mapping[str, Picture]], same_features: bool, columns: int = 4
) -> list[list[Place]]:
    """Lay the pictures out.

    Args:
        photo: uint8 [H, W, 3].
        networks: `feature_pictures` by the network's title; "prediction" may be added to them.
        same_features: all networks upsample the same features, so that nearest and bilinear are shown once.
        columns: of the grid in that case; else there is one column a network.

    Returns:
        The rows of the grid.
    """
    if not same_features:
        rows = [row for row in _ROWS if any(row in pictures for pictures in networks.values())]
        grid: list[list[Place]] = [
            [Shown(p[row], f"{title}: {row}") if row in p else None for title, p in networks.items()] for row in rows
        ]
        return [[Shown(photo, "image") if n == 0 else None, *row] for n, row in enumerate(grid)]
    first = next(iter(networks.values()))
    flat: list[Place] = [
        Shown(photo, "image"),
        Shown(first["nearest"], "nearest"),
        Shown(first["bilinear"], "bilinear"),
    ]
    for name in ("upsampled", "prediction"):
        flat += [Shown(pictures[name], f"{title}: {name}") for title, pictures in networks.items() if name in pictures]
    return [flat[n : n + columns] for n in range(0, len(flat), columns)]
