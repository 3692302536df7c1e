"""What every test shares: one thread, few objects to search for garbage, and the longest files first.

One thread, because small tensors gain nothing from two, and results do not depend on the machine's load.
"""

import gc

import pytest
import torch

from tests.support import shape_checks
from tests.support.order import place

shape_checks.install()


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: place(item.nodeid.partition("::")[0]))


@pytest.fixture(autouse=True, scope="module")
def _few_objects_to_search():
    """Modules and classes stay for good: a search for garbage among a million of them takes half a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
