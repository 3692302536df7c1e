"""Count the volumes, slices and classes of prepared cases."""

from collections.abc import Sequence

import numpy as np

from resfu.data.medical.writers import Case


class Tally:
    """Counts cases, given the names of the classes, the background first."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)
        self._volumes: dict[str, list[int]] = {}  # by split, the number of slices of each volume
        self._found: set[int] = set()

    def add(self, case: Case) -> None:
        """Count a case."""
        self._volumes.setdefault(case.split, []).append(len(case.label))
        self._found.update(np.unique(case.label).tolist())

    def lines(self) -> list[str]:
        """The counts in words: a line per split, and the classes found."""
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
