"""`resfu doctor`."""

import json

import pytest
import torch

from resfu.cli import doctor, main
from resfu.ops import which_backend


def test_it_shows_what_runs_and_why_not(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"{torch.get_num_threads()} of" in text
    assert torch.__version__.partition("+")[0] in text
    assert "right, within" in text
    assert "WRONG" not in text
    if not torch.cuda.is_available():
        assert "it runs on CUDA tensors" in text


def test_json(tmp_path):
    assert main(["doctor", "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    checks = {(check["device"], check["backend"]): check for check in found["checks"]}
    assert checks["cpu", "auto"]["runs"] == which_backend(torch.zeros(1))
    assert checks["cpu", "reference"]["right"] is True
    assert checks["cpu", "triton"]["right"] is None
    assert found["packages"]["(always)"]["torch"] is not None


@pytest.mark.parametrize("broken", ["wrong", "raises"])
def test_a_wrong_backend_is_told(broken, capsys, monkeypatch):
    right = doctor.reassemble

    def reassemble(features, *arguments, backend, **options):
        out = right(features, *arguments, backend=backend, **options)
        if backend != "cpu":
            return out
        if broken == "raises":
            raise RuntimeError("no such instruction")
        return out * 1.001

    monkeypatch.setattr(doctor, "reassemble", reassemble)
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["doctor"]) == 1
    assert ("WRONG" if broken == "wrong" else "no such instruction") in capsys.readouterr().out


def test_a_missing_package_is_told_with_its_extra(capsys, monkeypatch):
    monkeypatch.setitem(doctor._EXTRAS, "hub", ("a-package-of-nobody",))
    monkeypatch.setenv("COLUMNS", "200")
    main(["doctor"])
    assert 'pip install "resfu[hub]"' in capsys.readouterr().out
