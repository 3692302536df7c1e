"""Dice and HD95 of volumes, by organ and case."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from torch import Tensor

from resfu.evaluation.dataset_metric import DatasetMetric
from resfu.evaluation.surface_distance import checked_spacing, dice, hd95, joined

Convention = Literal["transunet", "strict"]
Volume = Tensor | NDArray[np.integer[Any]]

FIELDS = 4  # numbers per case and organ: those of OrganScore


class OrganScore(NamedTuple):
    """The scores of one organ in one case.

    Args:
        dice: 0 to 1.
        hd95: in voxels, or in the unit of the spacing; NaN if it does not count.
        predicted: whether the prediction has the organ.
        labelled: whether the label has it.
    """

    dice: float
    hd95: float
    predicted: bool
    labelled: bool


class VolumeMetrics(DatasetMetric):
    """Dice (percent) and HD95 of volumes: the mean over the cases for each organ, and the mean over the organs.

    Conventions for an organ that is not in both volumes:

    * "transunet", in TransUNet and the tables that follow it: predicted only: Dice 1, HD95 0; not predicted: Dice 0,
      HD95 0, labelled or not. A missed organ thus lowers the mean HD95. Distances are in voxels.
    * "strict": in neither: Dice 1, and no HD95; in one: Dice 0, HD95 the volume's diagonal.

    A second HD95, "hd95_found", is over the organs in both volumes alone. It is the same under either convention; read
    it together with the number of missed organs.

    Cases are kept by name. The states are flat tensors, concatenated exactly across processes, by `merge_state` and in
    checkpoints.

    Args:
        num_classes: K, including the background, 0, which is not scored.
        convention: "transunet" or "strict".
        **options: torchmetrics' own, see `torchmetrics.Metric`.

    Raises:
        ValueError: for fewer than two classes or an unknown convention.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    scores: list[Tensor]
    names: list[Tensor]

    def __init__(self, num_classes: int, convention: Convention = "transunet", **options: Any) -> None:
        # merge_state does not clear torchmetrics' cache of the last result.
        super().__init__(**{"compute_with_cache": False, **options})
        if num_classes < 2:
            raise ValueError(f"num_classes includes the background and must be at least 2, got {num_classes}.")
        _check_convention(convention)
        self.num_classes = num_classes
        self.convention: Convention = convention
        # A process without a case contributes an empty vector of this dtype, so both states must have it.
        self.set_dtype(torch.float64)
        self.add_state("scores", [], dist_reduce_fx="cat", persistent=True)
        self.add_state("names", [], dist_reduce_fx="cat", persistent=True)

    def update(self, name: str, prediction: Volume, label: Volume, spacing: Sequence[float] | None = None) -> None:
        """Score a case.

        Args:
            name: the name of the case.
            prediction: [D, H, W], integer, ids 0..K-1.
            label: the same.
            spacing: size of a voxel along D, H, W; only for "strict". Default: 1.

        Raises:
            ValueError: for a name used before, or volumes that `score_volume` rejects.
        """
        if not name or "\n" in name or name in self._split_names():
            raise ValueError(f"a case needs a unique name in one line; {name!r} is not, or was scored already.")
        scores = score_volume(prediction, label, self.num_classes, self.convention, spacing)
        self.scores.append(torch.tensor(scores, dtype=torch.float64, device=self.device).flatten())
        self.names.append(torch.tensor([*name.encode(), ord("\n")], dtype=torch.float64, device=self.device))

    def compute(self) -> dict[str, Any]:
        """All metrics of the cases so far.

        Returns:
            "dice" (percent), "hd95" (of the convention) and "hd95_found" (of the cases with the organ in both volumes):
            means over the organs that have a value, NaN without data. "dice_by_class", "hd95_by_class",
            "hd95_found_by_class": the same by organ, [K-1] float64 on the CPU. "found", "missed", "spurious": how often
            an organ is in both volumes, labelled only, or predicted only; "found_by_class" and so on, [K-1] int64: in
            how many cases. "convention": its name. "cases": from each name to its "dice", "hd95" and "hd95_found" by
            organ, [K-1] each.

        Raises:
            ValueError: if joined states hold a case twice.
        """
        names = self._split_names()
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"several processes scored the case {twice[0]}: give each case to one process.")
        flat = [state.cpu() for state in _listed(self.scores)]
        table = (torch.cat(flat) if flat else torch.zeros(0)).double().view(-1, self.num_classes - 1, FIELDS)
        percent, distance = 100 * table[..., 0], table[..., 1]
        predicted, labelled = table[..., 2].bool(), table[..., 3].bool()
        found = predicted & labelled
        scores = {"dice": percent, "hd95": distance, "hd95_found": distance.masked_fill(~found, torch.nan)}
        by_organ = {key: values.nanmean(0) for key, values in scores.items()}
        counts = {"found": found, "missed": labelled & ~predicted, "spurious": predicted & ~labelled}
        return {
            **{key: values.nanmean().item() for key, values in by_organ.items()},
            **{f"{key}_by_class": values for key, values in by_organ.items()},
            **{key: int(values.sum()) for key, values in counts.items()},
            **{f"{key}_by_class": values.sum(0) for key, values in counts.items()},
            "convention": self.convention,
            "cases": {name: {key: values[i] for key, values in scores.items()} for i, name in enumerate(names)},
        }

    def _split_names(self) -> list[str]:
        codes = [int(code) for state in _listed(self.names) for code in state.tolist()]
        return bytes(codes).decode().split("\n")[:-1]


def score_volume(
    prediction: Volume,
    label: Volume,
    num_classes: int,
    convention: Convention = "transunet",
    spacing: Sequence[float] | None = None,
) -> list[OrganScore]:
    """Score the organs of a case.

    Args:
        prediction: [D, H, W], integer, ids 0..K-1.
        label: the same.
        num_classes: K, including the background.
        convention: for an organ that is not in both volumes, see `VolumeMetrics`.
        spacing: size of a voxel along D, H, W; only for "strict". Default: 1.

    Returns:
        The scores of the classes 1 to K - 1.

    Raises:
        ValueError: unless both are integer volumes of the same shape with known ids; for an unknown convention, or a
            spacing with "transunet", which measures in voxels.
    """
    _check_convention(convention)
    if convention == "transunet" and spacing is not None:
        raise ValueError("the convention 'transunet' measures in voxels: leave spacing out, or choose 'strict'.")
    predicted, labelled = _checked("prediction", prediction, num_classes), _checked("label", label, num_classes)
    if predicted.shape != labelled.shape:
        raise ValueError(
            f"prediction and label must have the same shape, got {predicted.shape} and {labelled.shape}: resize the "
            "prediction to the label's size (predict_volume does)."
        )
    steps = checked_spacing(spacing, 3)
    diagonal = math.hypot(*(size * step for size, step in zip(labelled.shape, steps, strict=True)))
    boxes = zip(find_objects(predicted, num_classes - 1), find_objects(labelled, num_classes - 1), strict=True)
    scores = []
    for organ, (found, true) in enumerate(boxes, start=1):
        if found is not None and true is not None:
            box = joined(found, true)
            masks = predicted[box] == organ, labelled[box] == organ
            scores.append(OrganScore(dice(*masks), hd95(*masks, steps), True, True))
        else:
            one_sided = _score_absent(found is not None, true is not None, convention, diagonal)
            scores.append(OrganScore(*one_sided, found is not None, true is not None))
    return scores


def _score_absent(predicted: bool, labelled: bool, convention: Convention, diagonal: float) -> tuple[float, float]:
    """Dice and HD95 of an organ that is not in both volumes."""
    if convention == "transunet":
        return float(predicted), 0.0
    if predicted or labelled:
        return 0.0, diagonal
    return 1.0, float("nan")


def _check_convention(convention: str) -> None:
    if convention not in ("transunet", "strict"):
        raise ValueError(f"convention must be 'transunet' or 'strict', got {convention!r}.")


def _checked(name: str, volume: Volume, num_classes: int) -> NDArray[np.integer[Any]]:
    array = volume.detach().cpu().numpy() if isinstance(volume, Tensor) else np.asarray(volume)
    if array.ndim != 3 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be [D, H, W] of integer class ids, got {array.shape} of {array.dtype}.")
    if array.size and (array.min() < 0 or array.max() >= num_classes):
        wrong = np.unique(array[(array < 0) | (array >= num_classes)]).tolist()
        raise ValueError(
            f"{name} holds class ids out of range: {wrong[:10]}; expected 0..{num_classes - 1}. Check num_classes "
            "and the mapping of the labels."
        )
    return array


def _listed(state: list[Tensor] | Tensor) -> list[Tensor]:
    """A state as a list: the reduction over processes turns it into one tensor."""
    return [state] if isinstance(state, Tensor) else state
