"""Comparisons that time each network once: no test looks at how long a pass took."""

from functools import partial

import pytest

from resfu.compare.measure import measure_cost


@pytest.fixture(autouse=True)
def timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`resfu.compare` measures its costs with one timed pass in place of ten."""
    monkeypatch.setattr("resfu.compare.run.measure_cost", partial(measure_cost, repeats=1))
