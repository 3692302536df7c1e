"""Features of a frozen encoder at every pixel of an image."""

from resfu.frozen.pixel_features import PixelFeatures

__all__ = ["PixelFeatures"]
