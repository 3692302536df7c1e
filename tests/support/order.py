"""In which order files run."""

# Each takes more than about nine seconds, many of them in processes of their own. Two workers end together where these
# come first. They get every other file at first: one of them compiles Numba's kernels into their cache meanwhile, and
# the other runs Triton's in its interpreter, since two at once would compile each kernel twice.
LONGEST = (
    "deploy/test_export.py",
    "ops/test_filters_triton.py",
    "deploy/test_stream.py",
    "ops/test_triton.py",
    "upsamplers/test_graph_capture.py",
    "hosts/test_contract.py",
    "tasks/test_contract.py",
    "deploy/test_export_hosts.py",
    "recipes/test_coco.py",
    "test_inductor.py",
    "recipes/test_ade20k.py",
    "upsamplers/test_export.py",
    "upsamplers/test_contract.py",
    "upsamplers/test_not_finite.py",
    "upsamplers/test_low_precision.py",
    "hosts/test_mask_rcnn.py",
    "cli/test_fit.py",
    "test_wheel.py",
    "ops/test_similarity_triton.py",
    "cli/test_reproduce.py",
    "evaluation/test_cost_tables.py",
    "cli/test_fit_files.py",
    "cli/test_cost.py",
    "recipes/test_medical.py",
    "deploy/test_labels.py",
    "ops/test_reassemble.py",
    "cli/test_figure.py",
    "hosts/test_transunet.py",
    "compare/test_objects.py",
    "tasks/test_objects_distributed.py",
    "upsamplers/test_resfu.py",
    "upsamplers/test_hooked.py",
    "upgrading/test_upgrade_capture.py",
    "tasks/test_scan_orientation.py",
    "hosts/test_lazy_import.py",
    "compare/test_run.py",
    "hosts/test_pspnet.py",
)
_PLACES = {f"tests/{name}": place for place, name in enumerate(LONGEST)}


def place(file: str) -> int:
    """Of a file, by its path from the root of the repository: the longest first, then the others as they come."""
    return _PLACES.get(file, len(_PLACES))
