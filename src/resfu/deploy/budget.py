"""Parse amounts of memory."""

import re
from numbers import Real

_UNITS = {"": 1, "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}


def parse_budget(budget: str | int | float | None) -> float:
    """Bytes of a budget.

    Args:
        budget: bytes, or a number with KB, MB or GB (1024 each), such as "256MB"; None: no limit.

    Raises:
        ValueError: for anything else, or less than one byte.

    >>> parse_budget("64MB")
    67108864.0
    """
    if budget is None:
        return float("inf")
    if isinstance(budget, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?)i?(B?)\s*", budget, re.IGNORECASE)
        amount = float(found[1]) * _UNITS[(found[2] + "B").upper()] if found else 0.0
    else:
        amount = float(budget) if isinstance(budget, Real) and not isinstance(budget, bool) else 0.0
    if not amount >= 1:
        raise ValueError(f'budget must be bytes from 1, or text such as "256MB" or "2GB", got {budget!r}.')
    return amount
