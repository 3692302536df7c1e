"""One thread for every test: small tensors gain nothing from two, and results do not depend on the machine's load."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
