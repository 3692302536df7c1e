"""`resfu compare`: the same network trained once per upsampler, and what came of it."""
