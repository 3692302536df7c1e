"""The examples in the docstrings run."""

import doctest

import pytest

import resfu.hosts
import resfu.hosts.slot


@pytest.mark.parametrize("module", [resfu.hosts, resfu.hosts.slot])
def test_examples(module) -> None:
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0
