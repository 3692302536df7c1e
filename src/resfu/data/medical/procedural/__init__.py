"""Procedural CT and cardiac MRI: medical data that need no download."""

from resfu.data.medical.procedural.cardiac import cardiac_volume
from resfu.data.medical.procedural.ct import ct_volume
from resfu.data.medical.procedural.datasets import CT, Cardiac

__all__ = ["CT", "Cardiac", "cardiac_volume", "ct_volume"]
