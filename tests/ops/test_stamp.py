"""Compiled kernels on the disk are compiled again when anything changes that they are made of, and not otherwise."""

import importlib
import sys

import pytest
import torch

pytest.importorskip("numba", reason="needs the extra fast (numba)")

from resfu.ops.compiled import stamp

HELPER = """
from resfu.ops.compiled.kernel import kernel
FACTOR = {factor}

@kernel
def scaled(x):
    return {formula}
"""
USER = """
from helper_of_kernels import FACTOR, scaled
from resfu.ops.compiled.kernel import kernel

@kernel
def filled(out):
    out[0] = scaled(out[1]) + FACTOR
"""


@pytest.fixture
def result(tmp_path, monkeypatch):
    """A function (factor, formula) -> the kernel's result, and whether it was found on the disk."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # of a file that is written twice in a second
    (tmp_path / "user_of_kernels.py").write_text(USER)

    def result(factor, formula):
        (tmp_path / "helper_of_kernels.py").write_text(HELPER.format(factor=factor, formula=formula))
        stamp._hash.cache_clear()
        for name in ("helper_of_kernels", "user_of_kernels"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        filled = importlib.import_module("user_of_kernels").filled
        out = torch.tensor([0.0, 3.0]).numpy()
        filled(out)
        return out[0], sum(filled.stats.cache_hits.values()) == 1

    yield result
    stamp._hash.cache_clear()
    for name in ("helper_of_kernels", "user_of_kernels"):
        sys.modules.pop(name, None)


def test_a_change_of_what_a_kernel_calls_or_of_a_number_compiles_it_again(result):
    assert result(10, "x * 1") == (13, False)
    assert result(10, "x * 1") == (13, True)
    assert result(10, "x * 2") == (16, False)
    assert result(20, "x * 2") == (26, False)
    assert result(20, "x * 2") == (26, True)
