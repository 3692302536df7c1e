"""The quality of pixel features: a linear classifier on them, and their fidelity."""
