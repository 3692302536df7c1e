"""Mask AP worked by hand, by two engines that share no code, and by two processes."""

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image

from resfu.evaluation.coco_results import PanopticResults, write_instance_results
from resfu.evaluation.instances import METRICS, InstanceMetrics, encode_masks
from tests.support import apart

ENGINES = ("pycocotools", "faster-coco-eval")


def square(top=40, left=40, side=20, size=100):
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask


def truth(images, categories=(3,)):
    """Ground truth of {image id: [(mask, category id, iscrowd)]}."""
    annotations = []
    for image_id, objects in images.items():
        for mask, category, crowd in objects:
            box = [
                int(mask.any(0).nonzero()[0]),
                int(mask.any(1).nonzero()[0]),
                int(mask.any(0).sum()),
                int(mask.any(1).sum()),
            ]
            annotation = {"id": len(annotations), "image_id": image_id, "category_id": category, "iscrowd": crowd}
            segmentation = encode_masks(mask[None])[0]
            annotations.append({**annotation, "bbox": box, "area": int(mask.sum()), "segmentation": segmentation})
    listed = [{"id": image_id, "height": 100, "width": 100} for image_id in images]
    return {"images": listed, "annotations": annotations, "categories": [{"id": c, "name": str(c)} for c in categories]}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_false_positive_before_the_right_mask_halves_ap(engine):
    metrics = InstanceMetrics(truth({7: [(square(), 3, 0)]}), engine)
    metrics.update(7, torch.stack([square(0, 0), square()]), torch.tensor([0.95, 0.9]), torch.tensor([1, 1]))
    result = metrics.compute()
    # Precision is 1/2 at every recall; the object has 400 pixels.
    assert [result[name] for name in ("mask_ap", "ap50", "ap75", "ap_s")] == pytest.approx([50] * 4)
    assert np.isnan([result["ap_m"], result["ap_l"]]).all()
    assert result["ap_by_class"].tolist() == pytest.approx([50])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_mask_one_column_off(engine):
    # IoU 380/420 = .905 passes 9 of the 10 thresholds; the IoU of the rings 3 wide, .714, passes 5.
    metrics = InstanceMetrics(truth({7: [(square(), 3, 0)]}), engine, boundary=True)
    metrics.update(7, square(left=41)[None], [1.0], [1])
    result = metrics.compute()
    assert result["mask_ap"] == pytest.approx(90)
    assert result["boundary_mask_ap"] == pytest.approx(50)
    assert [result["boundary_ap50"], result["boundary_ap75"]] == pytest.approx([100, 0])


@pytest.mark.parametrize("engine", ENGINES)
def test_sizes_crowds_and_classes_by_hand(engine):
    large, medium = square(0, 0, 98), square(0, 0, 40)
    objects = {1: [(large, 3, 0)], 2: [(medium, 9, 0), (square(60, 60), 3, 1)], 5: []}
    metrics = InstanceMetrics(truth(objects, categories=(3, 9, 11)), engine)
    metrics.update(1, large[None], [0.5], [1])
    # The second lies in the crowd and counts nowhere; the medium object is missed.
    metrics.update(2, square(62, 62, 10)[None], [0.9], [1])
    metrics.update(5, torch.zeros(0, 100, 100, dtype=torch.bool), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    result = metrics.compute()
    assert [result["mask_ap"], result["ap_m"], result["ap_l"]] == pytest.approx([50, 0, 100])
    assert np.isnan(result["ap_s"])
    assert result["ap_by_class"].tolist() == pytest.approx([100, 0, float("nan")], nan_ok=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_results_score_0_and_no_objects_score_nothing(engine):
    metrics = InstanceMetrics(truth({1: [(square(), 3, 0)], 2: []}), engine, boundary=True)
    assert np.isnan([metrics.compute()[name] for name in METRICS]).all()
    metrics.update(2, square()[None], [0.3], [1])
    assert np.isnan([metrics.compute()[name] for name in METRICS]).all()
    metrics.reset()
    metrics.update(1, [], [], [])
    result = metrics.compute()
    assert [result["mask_ap"], result["ap_s"], result["boundary_mask_ap"]] == [0, 0, 0]


def random_case(seed=0, count=12):
    """Objects in five classes, some of them crowds; results are moved copies, doubles, and other masks."""
    rng = np.random.default_rng(seed)

    def blob(side):
        y, x = rng.integers(0, 100 - side, 2)
        mask = square(int(y), int(x), int(side))
        return mask & torch.from_numpy(rng.random((100, 100)) < 0.99)

    images, results = {}, {}
    for image_id in range(10, 10 + count):
        objects = [
            (blob(int(rng.choice([8, 20, 45, 70, 98]))), int(rng.integers(1, 6)) * 10, int(rng.random() < 0.15))
            for _ in range(6)
        ]
        masks, labels = [blob(30), blob(50)], [1, 5]
        for mask, category, _ in objects:
            for _ in range(rng.integers(0, 3)):
                masks.append(mask.roll(tuple(rng.integers(-2, 3, 2).tolist()), (0, 1)))
                labels.append(category // 10 if rng.random() < 0.8 else int(rng.integers(1, 6)))
        images[image_id] = objects
        results[image_id] = torch.stack(masks), torch.from_numpy(rng.random(len(masks))), torch.tensor(labels)
    return truth(images, categories=(10, 20, 30, 40, 50)), results


def test_the_engines_agree_and_leave_the_ground_truth_alone():
    ground_truth, results = random_case()
    before = copy.deepcopy(ground_truth)
    computed = []
    for engine in ENGINES:
        metrics = InstanceMetrics(ground_truth, engine)
        for image_id, found in results.items():
            metrics.update(image_id, *found)
        computed.append(metrics.compute())
        assert metrics.compute()["mask_ap"] == computed[-1]["mask_ap"]
    for name in METRICS:
        assert computed[0][name] == pytest.approx(computed[1][name], abs=1e-4)
    torch.testing.assert_close(computed[0]["ap_by_class"], computed[1]["ap_by_class"], atol=1e-4, rtol=0)
    assert 20 < computed[0]["mask_ap"] < 90
    assert ground_truth == before


def test_run_lengths_and_masks_are_the_same_and_an_image_counts_once():
    ground_truth, results = random_case(count=3)
    first, second = InstanceMetrics(ground_truth), InstanceMetrics(ground_truth)
    for image_id, (masks, scores, labels) in results.items():
        first.update(image_id, masks, scores, labels)
        second.update(image_id, masks.flip(0), scores, labels)
        second.update(image_id, encode_masks(masks), scores.tolist(), labels.tolist())
    assert first.results() == second.results()


def test_only_images_given_count():
    ground_truth, results = random_case(count=4)
    part = InstanceMetrics(ground_truth)
    part.update(10, *results[10])
    alone = {key: [entry for entry in value if entry.get("image_id", entry["id"]) == 10 or key == "categories"]
             for key, value in ground_truth.items()}  # fmt: skip
    other = InstanceMetrics(alone)
    other.update(10, *results[10])
    assert part.compute()["mask_ap"] == other.compute()["mask_ap"] > 0


SHARE = """
import os, sys
import torch
from resfu.evaluation.instances import InstanceMetrics
from resfu.evaluation.panoptic import PanopticMetrics
torch.set_num_threads(1)
folder = sys.argv[1]
other = os.fork()  # what is imported serves both
rank = int(other > 0)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
ground_truth, results = torch.load(f"{folder}/case.pt", weights_only=False)
metrics, panoptic = InstanceMetrics(ground_truth), PanopticMetrics(2, 0)
for number, (image_id, found) in enumerate(results.items()):
    if number % 2 == rank or number == 0:  # the first by both, as samplers do that even out
        metrics.update(image_id, *found)
ids = torch.ones(4, 4, dtype=torch.int32)
panoptic.update(ids, [{"id": 1, "category_id": rank}], ids, [{"id": 1, "category_id": 0, "iscrowd": 0}])
torch.save((metrics.compute(), metrics.results(), panoptic.compute()), f"{folder}/{rank}.pt")
if other:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
"""


def test_two_processes_measure_what_one_does(tmp_path):
    ground_truth, results = random_case(count=5)
    torch.save((ground_truth, results), tmp_path / "case.pt")
    apart.run(SHARE, str(tmp_path))
    alone = InstanceMetrics(ground_truth)
    for image_id, found in results.items():
        alone.update(image_id, *found)
    for rank in range(2):
        shared, listed, panoptic = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        expected = alone.compute()
        assert [shared[name] for name in METRICS] == pytest.approx([expected[name] for name in METRICS], nan_ok=True)
        assert len(listed) == len(alone.results())
        # Process 0: class 0 matched. Process 1: class 0 missed, class 1 spurious. RQ 1 / 1.5 and 0.
        assert panoptic["rq_by_class"].tolist() == pytest.approx([200 / 3, 0])


def test_what_makes_no_sense_is_refused():
    metrics = InstanceMetrics(truth({1: [(square(), 3, 0)]}))
    with pytest.raises(ValueError, match="no image 2"):
        metrics.update(2, square()[None], [1.0], [1])
    with pytest.raises(ValueError, match=r"labels are 1 to 1, got 0; 0 is the background"):
        metrics.update(1, square()[None], [1.0], [0])
    with pytest.raises(ValueError, match="a mask, a score and a label; got 1, 2 and 1 of them"):
        metrics.update(1, square()[None], [1.0, 0.5], [1])
    for score in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"scores rank the results and must be finite, got {score}"):
            metrics.update(1, square()[None], torch.tensor([score]), [1])
    with pytest.raises(ValueError, match=r"size \[50, 50\], but image 1 \[100, 100\]"):
        metrics.update(1, square(10, 10, 20, size=50)[None], [1.0], [1])
    with pytest.raises(ValueError, match=r"got torch.float32 \[1, 1, 100, 100\]; .* masks\[:, 0\] >= 0.5"):
        metrics.update(1, square()[None, None].float(), [1.0], [1])
    with pytest.raises(ValueError, match="engine must be"):
        InstanceMetrics(truth({}), engine="hotcoco")  # pyright: ignore[reportArgumentType]
    for key in ("area", "iscrowd", "segmentation"):
        incomplete = truth({1: [(square(), 3, 0)]})
        incomplete["annotations"][0][key] = None
        with pytest.raises(
            ValueError, match=rf"annotation 0 has no {key}: give the result of dataset.ground_truth\(\)"
        ):
            InstanceMetrics(incomplete)
    with pytest.raises(ValueError, match=r"no annotations: give the result of dataset.ground_truth\(\)"):
        InstanceMetrics({"images": [], "categories": []})


# --- result files


def test_the_file_of_results_is_what_pycocotools_loads(tmp_path, capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ground_truth, results = random_case(count=4)
    metrics = InstanceMetrics(ground_truth)
    for image_id, found in results.items():
        metrics.update(image_id, *found)
    file = write_instance_results(tmp_path / "new" / "segm.json", metrics.results())
    assert json.loads(file.read_text()) == metrics.results()
    for number, annotation in enumerate(ground_truth["annotations"], start=1):
        annotation["id"] = number
    (tmp_path / "truth.json").write_text(json.dumps(ground_truth))
    coco = COCO(tmp_path / "truth.json")
    evaluator = COCOeval(coco, coco.loadRes(str(file)), "segm")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    assert metrics.compute()["mask_ap"] == 100 * evaluator.stats[0]
    assert "Average Precision" in capsys.readouterr().out


def test_panoptic_results_are_read_back(tmp_path):
    ids = torch.tensor([[0, 1, 1], [70000, 70000, 256]], dtype=torch.int32)
    segments = [{"id": 1, "category_id": 0}, {"id": 256, "category_id": 2}, {"id": 70000, "category_id": 1}]
    results = PanopticResults(tmp_path / "panoptic_val", category_ids=[1, 90, 200])
    results.add(42, "000000000042", ids, [{**segment, "score": 0.5} for segment in segments])
    file = results.save()
    assert file == tmp_path / "panoptic_val.json"
    (annotation,) = json.loads(file.read_text())["annotations"]
    assert (annotation["image_id"], annotation["file_name"]) == (42, "000000000042.png")
    assert [segment["category_id"] for segment in annotation["segments_info"]] == [1, 200, 90]
    assert [sorted(segment) for segment in annotation["segments_info"]] == [["category_id", "id"]] * 3
    red, green, blue = np.moveaxis(np.array(Image.open(tmp_path / "panoptic_val" / annotation["file_name"])), 2, 0)
    assert np.array_equal(red.astype(int) + 256 * green.astype(int) + 65536 * blue.astype(int), ids)
    with pytest.raises(ValueError, match=r"ids must be 0 to 2\^24 - 1"):
        results.add(43, "43", np.array([[2**24]]), [])
