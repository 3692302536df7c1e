"""How much pixel features say: a linear classifier on them, and their fidelity."""
