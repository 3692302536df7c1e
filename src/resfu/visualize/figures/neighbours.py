"""What fine neighbour selection does: the same weights with fine and with coarse neighbours (Fig. 17, Table VII)."""

import torch
from torch import Tensor

from resfu.visualize.figures.calls import ReSFUCall
from resfu.visualize.figures.difference import DIFFERENCE, busiest_window, relative_difference
from resfu.visualize.pca import fit_pca
from resfu.visualize.picture import Picture
from resfu.visualize.sheets import Heat, Panel, Place


@torch.no_grad()
def compare_neighbours(call: ReSFUCall) -> dict[str, Tensor]:
    """Upsample the same features with fine and with coarse neighbours.

    Args:
        call: a call of a ReSFU module; the module is not changed.

    Returns:
        "fine" and "coarse" [C, H, W], and their "difference" [H, W], see `relative_difference`.
    """
    outputs = {
        name: call.altered(neighbours=name).module(call.features, call.guidance, call.size)[0]
        for name in ("coarse", "fine")
    }
    return {**outputs, "difference": relative_difference(outputs["fine"], outputs["coarse"], call.features[0])}


def neighbour_sheet(photo: Picture, call: ReSFUCall, compared: dict[str, Tensor]) -> list[list[Place]]:
    """Both outputs and their difference; the row below enlarges the part where they differ most.

    Args:
        photo: uint8 [H, W, 3].
        call: the call that was given to `compare_neighbours`.
        compared: the result of `compare_neighbours`.

    Returns:
        The rows of the grid.
    """
    basis = fit_pca([call.features[0]])
    rows, columns = call.frame.kept(call.size)
    difference = compared["difference"][:rows, :columns]
    without, fine = (basis.colour(compared[name][:, :rows, :columns]) for name in ("coarse", "fine"))
    part = busiest_window(difference)
    limits = (0.0, float(difference.max()))
    return [
        [
            Panel(photo, "image"),
            Panel(without, "without FNS: coarse neighbours"),
            Panel(fine, "with FNS: fine neighbours"),
            Heat(difference, DIFFERENCE, limits=limits),
        ],
        [
            Panel(call.frame.under(photo, part, call.size), "where they differ most"),
            Panel(without[part], "without FNS"),
            Panel(fine[part], "with FNS"),
            Heat(difference[part], DIFFERENCE, limits=limits),
        ],
    ]
