"""The meaning of the stored numbers in a label volume."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resfu.data.image_files import map_labels

LabelMap = Mapping[int, int]

# From stored ids to the classes of `resfu.data.Synapse`, with every valid id; 0 is the background.
SYNAPSE_LABELS: dict[str, LabelMap] = {
    "transunet": {number: number for number in range(9)},
    # 5 oesophagus, 9 vena cava, 10 portal and splenic vein, 12 and 13 adrenal glands are background.
    "btcv": {0: 0, 1: 7, 2: 4, 3: 3, 4: 2, 5: 0, 6: 5, 7: 8, 8: 1, 9: 0, 10: 0, 11: 6, 12: 0, 13: 0},
    # CASCADE's files look like TransUNet's but number the organs as BTCV does, with the pancreas at 5.
    "cascade": {0: 0, 1: 7, 2: 4, 3: 3, 4: 2, 5: 6, 6: 5, 7: 8, 8: 1},
}


def find_label_map(labels: str | LabelMap, num_classes: int) -> LabelMap:
    """Look a label map up by name, or check one of the caller's own.

    Args:
        labels: a key of `SYNAPSE_LABELS`, or a mapping from stored ids (0 to 255) to classes.
        num_classes: number of classes of the data set.

    Raises:
        ValueError: for an unknown name or an invalid mapping.
    """
    if isinstance(labels, str):
        if labels not in SYNAPSE_LABELS:
            raise ValueError(f"unknown labels {labels!r}; choose one of {', '.join(SYNAPSE_LABELS)}, or give a map.")
        labels = SYNAPSE_LABELS[labels]
    wrong = {k: v for k, v in labels.items() if k not in range(256) or v not in range(num_classes)}
    if wrong or not labels:
        raise ValueError(
            f"labels must map stored ids 0..255 to the classes 0..{num_classes - 1}; "
            f"{wrong or 'an empty map'} does not."
        )
    return labels


def to_classes(stored: NDArray[Any], labels: LabelMap, path: Path, hint: str) -> NDArray[np.uint8]:
    """Turn stored ids into classes.

    Args:
        stored: any shape; integers of any dtype: the published files hold floats.
        labels: from stored ids to classes.
        path: the file, for the message.
        hint: what to do about other ids, for the message.

    Returns:
        The same shape, uint8.

    Raises:
        ValueError: naming the file and the ids that are not in the map.
    """
    with np.errstate(invalid="ignore"):  # NaN is rejected below
        ids = stored.astype(np.uint8)
    if not np.array_equal(ids, stored):
        wrong = np.unique(stored[ids != stored])[:10].tolist()
        raise ValueError(f"{path} holds the labels {wrong}, which are not class ids. {hint}")
    table = np.full(256, -1, dtype=np.int16)
    table[list(labels)] = list(labels.values())
    return map_labels(ids, table, path, f"known are {', '.join(map(str, sorted(labels)))}. {hint}").astype(np.uint8)
