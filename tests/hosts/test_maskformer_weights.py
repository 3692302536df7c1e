"""MaskFormer's weights: of the encoder or of the whole network, and what is said when they do not fit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    DetrConfig,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    SwinConfig,
    SwinForImageClassification,
)

from resfu.hosts.maskformer import MaskFormer
from resfu.hosts.swin import SwinVariant
from tests.support import apart

TINY = SwinVariant(8, (1, 1, 1, 1), (1, 1, 2, 2), window_size=4)
SWIN = SwinConfig(image_size=384, embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4)


def build(upsampler: str = "nearest", **options: object) -> MaskFormer:
    options = {"num_classes": 4, "channels": 32, "num_queries": 6, "decoder_layers": 1} | options
    return MaskFormer(TINY, upsampler, **options)


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `microsoft/swin-*` is published: published names, a classifier, no output norms."""
    folder = tmp_path_factory.mktemp("swin")
    torch.manual_seed(3)
    SwinForImageClassification(SWIN).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def network_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `facebook/maskformer-swin-*` is published."""
    folder = tmp_path_factory.mktemp("maskformer")
    torch.manual_seed(3)
    decoder = DetrConfig(
        use_timm_backbone=False, encoder_layers=0, decoder_layers=1, d_model=32, decoder_ffn_dim=256, num_queries=6
    )
    config = MaskFormerConfig(
        backbone_config=SWIN, decoder_config=decoder, fpn_feature_size=32, mask_feature_size=32, num_labels=4
    )
    MaskFormerForInstanceSegmentation(config).save_pretrained(folder)
    return folder


def check_encoder(host: MaskFormer, published: dict[str, Tensor], prefix: str) -> None:
    block, published_block = "encoder.layers.2.blocks.0.", f"{prefix}encoder.layers.2.blocks.0."
    own = host.encoder.backbone.swin.state_dict()
    for name, other in (
        ("attention.q_proj.weight", "attention.self.query.weight"),
        ("attention.o_proj.weight", "attention.output.dense.weight"),
        ("mlp.fc2.weight", "output.dense.weight"),
        ("layernorm_after.weight", "layernorm_after.weight"),
    ):
        assert torch.equal(own[block + name], published[published_block + other])


def test_encoder_weights_in_their_published_names(encoder_folder: Path) -> None:
    published = load_file(encoder_folder / "model.safetensors")
    assert "swin.encoder.layers.0.blocks.0.attention.self.query.weight" in published
    for path in (encoder_folder, encoder_folder / "model.safetensors"):
        host = build(pretrained=str(path))
        check_encoder(host, published, "swin.")
        for norm in host.encoder.backbone.hidden_states_norms.values():  # as new
            assert (norm.weight == 1).all()


def test_encoder_weights_in_the_names_of_a_host(tmp_path: Path) -> None:
    torch.manual_seed(5)
    donor = build().encoder.backbone
    for norm in donor.hidden_states_norms.values():
        torch.nn.init.normal_(norm.weight)
    torch.save(donor.state_dict(), tmp_path / "weights.pt")
    loaded = build(pretrained=tmp_path / "weights.pt").encoder.backbone.state_dict()
    assert set(loaded) == set(donor.state_dict())
    for name, value in donor.state_dict().items():
        assert torch.equal(loaded[name], value), name


def test_encoder_weights_that_do_not_fit_are_named(encoder_folder: Path, tmp_path: Path) -> None:
    weights = load_file(encoder_folder / "model.safetensors")
    gone, strange = "swin.encoder.layers.1.blocks.0.layernorm_after.bias", "swin.embeddings.norm.weight"
    del weights[gone]
    path = tmp_path / "weights.pt"
    torch.save(weights | {"swin.extra": torch.zeros(1), strange: torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=f"missing: {gone}; unexpected: swin.extra; misshapen: .*{strange}"):
        build(pretrained=path)


def test_a_whole_network_and_its_missing_upsamplers(network_folder: Path) -> None:
    published = load_file(network_folder / "model.safetensors")
    assert "model.transformer_module.decoder.layers.0.self_attn.out_proj.weight" in published
    with pytest.warns(UserWarning, match=r"no weights for its upsamplers .*pixel_decoder\.slots\.c4.* untrained"):
        host = build("resfu", pretrained=network_folder)
    check_encoder(host, published, "model.pixel_level_module.encoder.model.")
    head = host.head.state_dict()
    for name, other in (
        ("pixel_decoder.fpn.layers.1.block.0.weight", "model.pixel_level_module.decoder.fpn.layers.1.block.0.weight"),
        (
            "transformer.decoder.layers.0.encoder_attn.o_proj.weight",
            "model.transformer_module.decoder.layers.0.encoder_attn.out_proj.weight",
        ),
        ("transformer.decoder.layers.0.mlp.fc1.weight", "model.transformer_module.decoder.layers.0.fc1.weight"),
        ("mask_embedder.2.0.weight", "mask_embedder.2.0.weight"),
    ):
        assert torch.equal(head[name], published[other])
    norm = published["model.pixel_level_module.encoder.hidden_states_norms.3.weight"]
    assert torch.equal(host.encoder.backbone.hidden_states_norms["stage4"].weight, norm)


def test_a_whole_network_of_other_classes_is_refused(network_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"misshapen: class_predictor\.weight, class_predictor\.bias"):
        build(num_classes=7, pretrained=network_folder)


def test_a_size_of_your_own_has_no_published_weights() -> None:
    with pytest.raises(ValueError, match="no published weights: give a path"):
        build(pretrained=True)
    with pytest.raises(ValueError, match="unknown Swin variant 't'; choose one of b, l"):
        MaskFormer("t")


def test_by_name_without_a_network_says_what_to_do() -> None:
    script = (
        "from resfu.hosts.swin import *; name = VARIANTS['b'].weights;"
        "SwinEncoder(SwinVariant(8, (1, 1, 1, 1), (1, 1, 2, 2), weights=name)).fetch()"
    )
    last = apart.run(script, check=False).strip().splitlines()[-1]
    assert last.startswith("ValueError: the weights microsoft/swin-base-patch4-window12-384-in22k could not be"), last
    assert "give the path" in last
