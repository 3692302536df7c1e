"""Layers of image encoders as compiled kernels: GroupNorm's affine, SiLU and a convolution in one pass over the map."""
