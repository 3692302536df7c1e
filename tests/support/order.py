"""In which order files run."""

# Each takes more than about ten seconds, many of them in processes of their own. Two workers end together where these
# come first.
LONGEST = (
    "upsamplers/test_graph_capture.py",
    "hosts/test_contract.py",
    "deploy/test_export.py",
    "tasks/test_contract.py",
    "recipes/test_coco.py",
    "tasks/test_objects_distributed.py",
    "test_inductor.py",
    "ops/test_triton.py",
    "upsamplers/test_not_finite.py",
    "upsamplers/test_export.py",
    "ops/test_filters_triton.py",
    "ops/test_reassemble.py",
    "deploy/test_export_hosts.py",
    "upgrading/test_upgrade_capture.py",
    "upgrading/test_upgrade.py",
    "upsamplers/test_contract.py",
    "upsamplers/test_low_precision.py",
    "hosts/test_mask_rcnn.py",
    "cli/test_reproduce.py",
    "cli/test_fit.py",
    "tasks/test_distributed.py",
    "evaluation/test_cost_tables.py",
    "evaluation/test_instances.py",
    "compare/test_run.py",
    "compare/test_volumes.py",
    "cli/test_figure.py",
    "cli/test_cost.py",
    "cli/test_bench.py",
    "ops/test_similarity_triton.py",
    "test_wheel.py",
)
_PLACES = {f"tests/{name}": place for place, name in enumerate(LONGEST)}


def place(file: str) -> int:
    """Of a file, by its path from the root of the repository: the longest first, then the others as they come."""
    return _PLACES.get(file, len(_PLACES))
