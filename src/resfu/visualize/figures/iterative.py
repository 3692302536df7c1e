"""One direct step against a chain of x2 steps with the same weights (Fig. 22 of arXiv 2407.02283)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resfu.upsamplers import Iterative
from resfu.visualize.figures.calls import ReSFUCall
from resfu.visualize.figures.difference import DIFFERENCE, relative_difference
from resfu.visualize.pca import fit_pca
from resfu.visualize.picture import Picture, enlarge
from resfu.visualize.sheets import Heat, Panel, Place


@dataclass(frozen=True)
class StepByStep:
    """The same features, upsampled to the target's size in one step and in several.

    Attributes:
        direct: [C, H, W], the result of the single step.
        stages: [C, h_i, w_i] after each of the several steps; the last has the target's size.
        own_guides: whether each step was guided by the network's own map of that step's resolution. Otherwise the
            target's guidance is averaged down.
        difference: [H, W], the `relative_difference` between the last stage and `direct`.
    """

    direct: Tensor
    stages: tuple[Tensor, ...]
    own_guides: bool
    difference: Tensor


@torch.no_grad()
def iterate_call(call: ReSFUCall) -> StepByStep:
    """Upsample in one step, and in steps of x2 with the same weights.

    Args:
        call: a call of a ReSFU module with a ratio of about 4 or more.

    Returns:
        Both results and their difference.

    Raises:
        ValueError: for a ratio that is a single step.
    """
    ratio = math.sqrt(call.ratio[0] * call.ratio[1])
    steps = round(math.log2(ratio))
    if steps < 2:
        raise ValueError(
            f"{call.name} upsamples by {ratio:.3g}, which is one step: choose a slot or network with x4 or more."
        )
    widths = {guide.shape[1] for guide in call.guides}
    own_guides = len(call.guides) == steps and widths == {call.module.guidance_channels}
    stages: list[Tensor] = []

    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        stages.append(output[0])

    module = call.altered().module  # a hook on the network's own would be heard elsewhere
    direct = module(call.features, call.guidance, call.size)[0]
    module.register_forward_hook(note)
    guidance = call.guides if own_guides else call.guidance
    Iterative([module] * steps)(call.features, guidance, call.size)
    difference = relative_difference(stages[-1], direct, call.features[0])
    return StepByStep(direct, tuple(stages), own_guides, difference)


def iterative_sheet(photo: Picture, call: ReSFUCall, made: StepByStep) -> list[list[Place]]:
    """The stages of the chain in one row; below bilinear interpolation, the direct step and the difference.

    Args:
        photo: uint8 [H, W, 3].
        call: the call that was given to `iterate_call`.
        made: the result of `iterate_call`.

    Returns:
        The rows of the grid.
    """
    basis = fit_pca([call.features[0]])
    rows, columns = call.frame.kept(call.size)

    def shown(features: Tensor, words: str) -> Panel:
        picture = enlarge(basis.colour(features), call.size)[:rows, :columns]
        return Panel(picture, f"{words}, {features.shape[-2]} × {features.shape[-1]}")

    low = shown(call.features[0], "features")
    chain = [shown(stage, f"step {n}") for n, stage in enumerate(made.stages, 1)]
    empty = [None] * (len(chain) - 3)
    return [
        [low, *chain],
        [
            Panel(photo, "image"),
            *empty,
            shown(call.bilinear(), "bilinear"),
            shown(made.direct, "direct"),
            Heat(made.difference[:rows, :columns], DIFFERENCE),
        ],
    ]
