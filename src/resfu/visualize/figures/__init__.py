"""The figures of arXiv 2407.02283 for any image and network. They are drawn by `resfu.visualize.save_sheet`."""

from resfu.visualize.figures.calls import ReSFUCall, SlotCall, choose_call, resfu_calls, slot_calls
from resfu.visualize.figures.explain import Explanation, explain_call, kernel_sheet, map_sheet
from resfu.visualize.figures.features import feature_pictures, feature_sheet, kernel_picture, shared_colours
from resfu.visualize.figures.frame import Frame
from resfu.visualize.figures.iterative import StepByStep, iterate_call, iterative_sheet
from resfu.visualize.figures.neighbours import compare_neighbours, neighbour_sheet

__all__ = [
    "Explanation",
    "Frame",
    "ReSFUCall",
    "SlotCall",
    "StepByStep",
    "choose_call",
    "compare_neighbours",
    "explain_call",
    "feature_pictures",
    "feature_sheet",
    "iterate_call",
    "iterative_sheet",
    "kernel_picture",
    "kernel_sheet",
    "map_sheet",
    "neighbour_sheet",
    "resfu_calls",
    "shared_colours",
    "slot_calls",
]
