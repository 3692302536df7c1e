"""Layers of image encoders as compiled kernels: GroupNorm, SiLU and a convolution in one pass over the map."""
