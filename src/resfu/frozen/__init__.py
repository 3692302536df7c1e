"""Features of a frozen encoder, upsampled to every pixel of an image."""

from resfu.frozen.pixel_features import PixelFeatures

__all__ = ["PixelFeatures"]
