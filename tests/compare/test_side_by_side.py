import pytest
from rich.console import Console

from resfu.compare.reproduce.side_by_side import Measured, records, table
from resfu.compare.summary import Spread
from resfu.evaluation.published import published_rows
from resfu.tasks import TASKS


def test_gains_are_taken_seed_by_seed(capsys):
    seeds = {"bilinear": (10.0, 20.0), "fade": (12.0, 21.0), "resfu": (13.0,)}

    keys = [score.key for score in TASKS["label maps"].scores]

    def measured(row):
        values = seeds.get(row.label)
        return None if values is None else Measured(dict.fromkeys(keys, Spread(values)), 13_720_000)

    rows = published_rows([3], host="segformer-mit-b1")
    found = {record["label"]: record for record in records(rows, measured)}
    # Gains of 2 and 1: their deviation is sqrt(1/2), while those of the values themselves are about 7.
    assert found["fade"]["gain"]["measured"]["miou"] == {"mean": 1.5, "std": pytest.approx(0.5**0.5), "n": 2}
    assert found["fade"]["gain"]["published"]["biou"] == pytest.approx(28.33 - 24.89)
    assert found["resfu"]["gain"]["measured"]["macc"] == {"mean": 3.0, "std": None, "n": 1}
    assert found["sapa"]["measured"] is found["sapa"]["gain"]["measured"] is None

    Console(width=140).print(table(list(found.values()), "Table 3"))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    begins = {line.partition(" ")[0]: place for place, line in reversed(list(enumerate(lines)))}
    assert lines[begins["bilinear"]] == "bilinear published 40.97 51.73 24.89 13.72"
    assert lines[begins["fade"] + 1].startswith("measured 16.50 ± 6.36 (+1.50 ± 0.71) 16.50 ± 6.36")
    assert lines[begins["sapa"] + 1].startswith("dysample")  # no line for what is not measured
