"""Procedural scenes: a dataset that needs no download."""

from resfu.data.generated.scenes.dataset import Scenes, SceneSegment

__all__ = ["SceneSegment", "Scenes"]
