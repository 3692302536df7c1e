"""Mathematics on tensors: torch only."""
