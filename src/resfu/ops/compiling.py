"""Whether torch.compile is running, for operations that Inductor needs in another form."""

import torch


def in_torch_compile() -> bool:
    """Whether torch.compile traces the call; torch.export does not count: its programs compute what the module does."""
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting()
