import pytest

from resfu.compare.folder import OutputFolder
from resfu.files.atomic import write_json, write_text

LONGER = {"trainer": {"max_steps": 5}}


def test_the_folder_is_made_with_its_parents(tmp_path, tiny):
    folder = OutputFolder(tmp_path / "a" / "b")
    folder.begin(tiny())
    assert folder.settings.is_file()
    folder.begin(tiny())  # the same again


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write to the output folder .*file.*give another --output"):
        OutputFolder(blocked / "out")
    with pytest.raises(OSError, match="cannot write"):
        OutputFolder(blocked)


def test_other_settings_need_overwrite(tmp_path, tiny):
    folder = OutputFolder(tmp_path)
    folder.begin(tiny())
    run = folder.run("resfu", 0)
    write_json(run.metrics, {})
    keep = tmp_path / "notes.txt"
    keep.write_text("not ours")
    fit = tmp_path / "runs" / "my-fit" / "last.ckpt"
    fit.parent.mkdir()
    fit.write_text("not ours")
    with pytest.raises(ValueError, match=r"trainer\.max_steps was 4 and is 5"):
        folder.begin(tiny(LONGER))
    assert run.metrics.exists()
    folder.begin(tiny(LONGER), overwrite=True)
    assert not run.path.exists()
    assert keep.read_text() == fit.read_text() == "not ours"
    folder.begin(tiny(LONGER))


def test_a_run_is_finished_when_its_metrics_are_there_which_come_last(tmp_path):
    run = OutputFolder(tmp_path).run("resfu", 3)
    assert run.path.name == "resfu-seed3"
    assert (run.finished, run.state) == (False, "begins")
    run.last.parent.mkdir(parents=True)
    run.last.touch()
    run.weights.touch()
    assert (run.finished, run.state) == (False, "goes on from its checkpoint")
    write_json(run.metrics, {})
    assert (run.finished, run.state) == (True, "finished before")


def test_a_folder_of_resfu_0_1_is_not_gone_on_with(tmp_path, tiny):
    write_json(tmp_path / "settings.json", {"upsamplers": ["bilinear"], "data": "scenes", "steps": 4})
    with pytest.raises(ValueError, match=r"holds a comparison of resfu 0\.1, which cannot be resumed: give another"):
        OutputFolder(tmp_path).begin(tiny())
    OutputFolder(tmp_path).begin(tiny(), overwrite=True)


def test_files_are_whole_or_not_there(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []
    write_text(tmp_path / "x.txt", "é")
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
    assert (tmp_path / "x.txt").read_text("utf-8") == "é"
