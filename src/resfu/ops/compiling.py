"""What is being compiled, for the operations that inductor needs in another form."""

import torch


def in_torch_compile() -> bool:
    """Whether torch.compile traces the call. torch.export does not count: its programs compute what modules do."""
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting()
