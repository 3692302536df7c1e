"""What every test shares: one thread, few objects to search for garbage, and the longest files first.

One thread, because small tensors gain nothing from two, and results do not depend on the machine's load.
"""

import gc
from pathlib import Path

import pytest
import torch

# Each takes more than about 20 seconds, most of them in processes of their own. Two workers end together where these
# come first.
LONGEST = (
    "deploy/test_export.py",
    "upsamplers/test_graph_capture.py",
    "cli/test_reproduce.py",
    "tasks/test_contract.py",
    "evaluation/test_bench.py",
    "cli/test_bench.py",
    "upsamplers/test_not_finite.py",
    "upsamplers/test_export.py",
    "recipes/test_coco.py",
    "compare/test_volumes.py",
    "ops/test_triton.py",
    "ops/test_filters_triton.py",
    "ops/test_similarity_triton.py",
    "ops/test_reassemble.py",
    "test_inductor.py",
    "tasks/test_distillation.py",
    "cli/test_compare.py",
    "upgrading/test_upgrade.py",
    "upsamplers/test_contract.py",
    "test_wheel.py",
)
_PLACES = {name: place for place, name in enumerate(LONGEST)}


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    items.sort(key=lambda item: _PLACES.get(item.path.relative_to(here).as_posix(), len(_PLACES)))


@pytest.fixture(autouse=True, scope="module")
def _few_objects_to_search():
    """Modules and classes stay: without them a search for garbage takes a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
