"""Pictures of features, masks and kernels. Needs numpy, Pillow and, to draw sheets, matplotlib (the `viz` extra)."""

from resfu.visualize.kernels import draw_kernels, find_edges
from resfu.visualize.masks import colour_labels, error_map, overlay
from resfu.visualize.pca import PCABasis, align, fit_pca
from resfu.visualize.picture import Picture, enlarge, from_normalised
from resfu.visualize.sheets import Heat, Panel, save_sheet

__all__ = [
    "Heat",
    "PCABasis",
    "Panel",
    "Picture",
    "align",
    "colour_labels",
    "draw_kernels",
    "enlarge",
    "error_map",
    "find_edges",
    "fit_pca",
    "from_normalised",
    "overlay",
    "save_sheet",
]
