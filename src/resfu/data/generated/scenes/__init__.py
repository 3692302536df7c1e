"""Procedural scenes: a dataset that needs no download."""

from resfu.data.generated.scenes.dataset import Scenes, Segment

__all__ = ["Scenes", "Segment"]
