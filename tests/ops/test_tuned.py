"""The table of tiles that a GPU run fills in: what it holds is taken, what it does not is chosen by the rules."""

import json

import pytest

pytest.importorskip("triton")

from benchmarks import tune
from resfu.ops import tuned
from resfu.ops.reassembly.triton_tiles import shapes, tiling

CASE = (128, 128, 32, 32, 4, "fine", False, 2)
KEY = (4, "fine", "first", 2)


def test_nothing_is_measured_without_a_gpu(monkeypatch):
    monkeypatch.setattr(tuned.torch.cuda, "is_available", lambda: False)
    assert tuned.tuned("window_sum", *KEY) == {}


def test_the_table_of_this_architecture_is_taken(monkeypatch):
    monkeypatch.setattr(tuned.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(tuned.torch.cuda, "get_device_capability", lambda: (9, 0))
    table = {"sm_90": {"window_sum": {tuned.name_of(*KEY): {"rows": 8, "columns": 16}}}}
    monkeypatch.setattr(tuned, "_table", lambda: table)
    assert (tiling(*CASE).rows, tiling(*CASE).columns) == (8, 16)
    monkeypatch.setattr(tuned.torch.cuda, "get_device_capability", lambda: (8, 6))
    assert (tiling(*CASE).rows, tiling(*CASE).columns) != (8, 16)


def test_a_choice_is_forced_for_its_key_alone():
    with tuned.forced("window_sum", KEY, {"rows": 1, "columns": 16}):
        assert tiling(*CASE).rows == 1
        assert tiling(*CASE[:-1], 4).rows == tiling(*CASE[:-1], 4).rows != 0
        assert tuned.tuned("window_sum", 5, "coarse", "first", 2) == {}
    assert (tiling(*CASE).rows, tiling(*CASE).columns) in shapes(False)


def test_what_is_in_the_package_can_be_taken():
    for architecture, kernels in json.loads(tune.TARGET.read_text("utf-8")).items():
        assert architecture.startswith("sm_")
        for choices in (kernels.get("window_sum", {}), kernels.get("similarity", {})):
            for choice in choices.values():
                assert all(n & (n - 1) == 0 for n in choice.values())  # powers of two


def test_the_fastest_is_chosen_and_what_does_not_run_left_out(monkeypatch, capsys):
    def call():
        choice = tuned.tuned("kernel", "key")
        if choice["rows"] == 4:
            raise MemoryError

    times = {json.dumps({"rows": 1}): [3.0], json.dumps({"rows": 2}): [2.0]}
    monkeypatch.setattr(tune, "rounds", lambda contenders, *_, **__: {name: times[name] for name in contenders})
    case = tune.Case("kernel", ("key",), [{"rows": n} for n in (1, 2, 4)], call)
    assert tune.fastest(case, 1)[0] == {"rows": 2}
    assert "MemoryError" in capsys.readouterr().out
