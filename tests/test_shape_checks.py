"""The checks that all other tests run under: a wrong shape or type inside the package is noticed."""

import jaxtyping
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation

from resfu.ops.filters.reference import window_mean
from resfu.ops.layout import memory_format


def test_a_wrong_shape_is_noticed():
    with pytest.raises(jaxtyping.TypeCheckError, match=r"window_mean"):
        window_mean(torch.zeros(2, 3, 4), 1)


def test_a_wrong_type_is_noticed():
    with pytest.raises(BeartypeCallHintViolation, match=r"memory_format"):
        memory_format("x")  # pyright: ignore[reportArgumentType]


def test_both_can_be_left_off(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TypeError, match="is_batchedtensor"):
        memory_format("x")  # pyright: ignore[reportArgumentType]
