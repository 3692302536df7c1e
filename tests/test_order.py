from pathlib import Path

from tests.support.order import LONGEST, place


def test_the_longest_files_are_there_and_come_first():
    assert [name for name in LONGEST if not (Path(__file__).parent / name).is_file()] == []
    assert len(set(LONGEST)) == len(LONGEST)
    assert place("tests/test_wheel.py") < place("tests/test_order.py") == len(LONGEST)
