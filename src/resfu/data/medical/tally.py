"""How much prepared cases hold: volumes, slices, classes."""

from collections.abc import Sequence

import numpy as np

from resfu.data.medical.writers import Case


class Tally:
    """Counts cases one by one.

    Args:
        classes: names of the classes, the background first.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)
        self._volumes: dict[str, list[int]] = {}  # slices of each, by split
        self._found: set[int] = set()

    def add(self, case: Case) -> None:
        """Count a case."""
        self._volumes.setdefault(case.split, []).append(len(case.label))
        self._found.update(np.unique(case.label).tolist())

    def lines(self) -> list[str]:
        """What was counted, in words: a line a split, and which classes were found."""
        lines = [
            f"{split}: {_count(len(slices), 'volume')}, {_count(sum(slices), 'slice')}"
            for split, slices in self._volumes.items()
        ]
        names = dict(enumerate(self.classes[1:], start=1))
        missing = [name for number, name in names.items() if number not in self._found]
        found = f"labelled: {len(names) - len(missing)} of {len(names)} classes"
        return [*lines, f"{found}; none has {', '.join(missing)}" if missing else found]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
