"""Does an upsampler pay on real photographs? One protocol for all of them, on CamVid; see docs/evidence.md."""
