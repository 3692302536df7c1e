import json

import pytest

from resfu.compare.settings import check_same


def test_settings_survive_json(tiny):
    settings = tiny()
    assert json.loads(json.dumps(settings.to_dict())) == settings.to_dict()
    assert settings.to_dict()["crop"] == [64, 64]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"upsamplers": ("bilinear", "cubist")}, "unknown upsampler 'cubist'; choose from .*resfu"),
        ({"data": "moon"}, "unknown data set 'moon'; choose from .*scenes"),
        ({"host": "none"}, "unknown host 'none'; choose from .*segformer-mit-b0"),
        ({"upsamplers": ()}, "upsamplers must be given"),
        ({"upsamplers": ("resfu", "resfu")}, "each only once"),
        ({"seeds": (1, 1)}, "seeds must be given and each only once"),
        ({"seeds": (-1,)}, "must not be negative"),
        ({"steps": 0}, "steps must be above 0, got 0"),
        ({"learning_rate": float("nan")}, "lr must be above 0"),
        ({"augment": "some"}, "augment must be 'flip' or 'full'"),
        ({"crop": None}, "label maps need a crop, got None"),
        ({"convention": "strict"}, "label maps have no use for a convention of Dice and HD95, got 'strict'"),
        ({"host_options": {"min_size": 64}}, "host options are for hosts that find objects, got .* efficientnet-lite0"),
        ({"data": "coco"}, "coco labels objects, which efficientnet-lite0 does not find: choose a host from mask-rcnn"),
        ({"host": "mask-rcnn-resnet50", "data": "camvid"}, "finds objects, which camvid does not label: choose data"),
        ({"host": "mask-rcnn-resnet50"}, r"instances have no use for a crop, got \(64, 64\)"),
    ],
)
def test_bad_settings_are_refused(tiny, changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_every_differing_setting_is_named(tiny):
    before, now = tiny(), tiny(steps=9, size=(32, 32))
    with pytest.raises(ValueError, match=r"out holds .* steps was 4 and is 9; size was \[64, 64\] and is \[32, 32\]"):
        check_same(before.to_dict(), now.to_dict(), "out")


def test_upsamplers_and_seeds_may_be_added(tiny):
    check_same(tiny().to_dict(), tiny(upsamplers=("nearest", "resfu"), seeds=(0, 1)).to_dict(), "out")
