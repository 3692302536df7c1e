"""Procedural CT and cardiac MRI: medical data that need no download."""

from resfu.data.generated.volumes.cardiac import cardiac_volume
from resfu.data.generated.volumes.ct import ct_volume
from resfu.data.generated.volumes.datasets import CT, Cardiac

__all__ = ["CT", "Cardiac", "cardiac_volume", "ct_volume"]
