"""Procedural scenes: a dataset that needs no download."""

from resfu.data.scenes.dataset import Scenes, Segment

__all__ = ["Scenes", "Segment"]
