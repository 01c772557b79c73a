import errno
import json

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from features import EncoderConfig, find_encoder, load_encoder
from tiling import (
    ConfigError,
    GridConfig,
    SlidebagError,
    open_slide,
    read_patches,
    segment_tissue,
    tile_slide,
)

TINY = "timm:test_vit"


def patches(n=2, side=160, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3)).astype(np.uint8)


def random_model(name="test_vit", seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return timm.create_model(name, num_classes=0, **options).eval()


def own_forward(model, given, card):
    """What one would write by hand for a timm model."""
    images = torch.from_numpy(given).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (card.mean, card.std))
    with torch.no_grad():
        return model((images - mean) / std).numpy()


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture
def weights(model, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(model.state_dict(), path)
    return path


def load(path, name=TINY, **options):
    exact = {"engine": "torch", "precision": "float32"}
    return load_encoder(EncoderConfig(encoder=name, weights=str(path), **exact | options))


def test_local_safetensors_are_what_is_computed_with(model, weights):
    encoder = load(weights)
    expected = own_forward(model, patches(), encoder.card)
    np.testing.assert_allclose(encoder.encode(patches()), expected, atol=1e-5)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "teacher"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_local_pth_files_are_read_as_training_scripts_write_them(model, tmp_path, wrapper, prefix):
    state = {prefix + name: value for name, value in model.state_dict().items()}
    torch.save({wrapper: state, "epoch": 9} if wrapper else state, tmp_path / "a.pth")
    encoder = load(tmp_path / "a.pth")
    np.testing.assert_allclose(
        encoder.encode(patches()), own_forward(model, patches(), encoder.card), atol=1e-5
    )


@pytest.mark.parametrize("names", [["x.pth"], ["model.safetensors", "pytorch_model.bin"], ["b.safetensors"]])
def test_a_folder_with_one_weight_file_or_the_hubs_names_will_do(model, tmp_path, names):
    (tmp_path / "config.json").write_text("{}")
    for name in names:
        save = save_file if name.endswith(".safetensors") else torch.save
        save(model.state_dict(), tmp_path / name)
    expected = own_forward(model, patches(), load(tmp_path).card)
    np.testing.assert_allclose(load(tmp_path).encode(patches()), expected, atol=1e-5)


def test_a_checkpoint_in_several_files_is_read_by_its_index(model, tmp_path):
    state = model.state_dict()
    halves = [dict(list(state.items())[k::2]) for k in range(2)]
    where = {}
    for k, half in enumerate(halves):
        save_file(half, tmp_path / f"model-{k}.safetensors")
        where |= dict.fromkeys(half, f"model-{k}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    for given in (tmp_path, index):
        expected = own_forward(model, patches(), load(given).card)
        np.testing.assert_allclose(load(given).encode(patches()), expected, atol=1e-5)
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"index\.json cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("names", "told"), [([], "found none"), (["a.pth", "b.pth"], r"found a\.pth, b\.pth")]
)
def test_a_folder_that_does_not_say_which_file_is_refused(tmp_path, names, told):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ConfigError, match=told):
        load(tmp_path)


def test_a_classifier_in_the_file_is_left_out(tmp_path):
    whole = timm.create_model("test_vit", num_classes=7)
    save_file(whole.state_dict(), tmp_path / "a.safetensors")
    assert load(tmp_path / "a.safetensors").encode(patches()).shape == (2, 64)


def test_other_patch_sizes_fit_a_vision_transformer(weights):
    encoder = load(weights)
    for side in (64, 160, 224):
        encoder.card.check_patch(side, 0.5)
        assert encoder.encode(patches(side=side)).shape == (2, 64)
    with pytest.raises(ConfigError, match=r"170 px.*multiple of 16"):
        encoder.card.check_patch(170, 0.5)


def test_a_cnn_takes_its_own_patch_size_only():
    card = find_encoder("timm:test_resnet").card
    card.check_patch(160, 0.5)
    with pytest.raises(ConfigError, match=r"224 px.*wants 160 px.*--tile-px 160"):
        card.check_patch(224, 0.5)


def test_fingerprint_follows_weights_and_precision(weights, tmp_path):
    other = tmp_path / "b.safetensors"
    save_file(random_model(seed=1).state_dict(), other)
    again = tmp_path / "c.pth"
    torch.save(load_file(weights), again)
    told = [
        load(weights).fingerprint,
        load(other).fingerprint,
        load(weights, precision="bfloat16").fingerprint,
    ]
    assert len(set(told)) == 3
    assert load(again).fingerprint == told[0]  # the same numbers in another file


def test_wrong_weights_are_refused_by_their_first_tensor(weights, tmp_path):
    state = load_file(weights)
    for change, named in [
        ({k: v for k, v in state.items() if k != "cls_token"}, "cls_token"),
        (state | {"blocks.9.extra": torch.zeros(1)}, "blocks.9.extra"),
        (state | {"norm.weight": torch.zeros(65)}, "norm.weight"),
    ]:
        save_file(change, tmp_path / "b.safetensors")
        with pytest.raises(ConfigError, match=rf"b\.safetensors do not fit.*{named}"):
            load(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    "name", ["timm:test_resnet", "timm:test_convnext", "timm:test_vit2", "timm:test_efficientnet"]
)
def test_another_models_weights_are_refused(weights, name):
    with pytest.raises(ConfigError, match="do not fit"):
        load(weights, name=name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.safetensors", b""),
        ("a.safetensors", b"\x00" * 64),
        ("a.pth", b""),
        ("a.pth", b"PK\x03\x04" + b"\x00" * 99),
        ("a.pth", b"just some text"),
    ],
)
def test_damaged_weights_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{name} cannot be read"):
        load(tmp_path / name)


def test_cut_weights_are_refused(weights, tmp_path):
    torch.save(load_file(weights), tmp_path / "b.pth")
    for path in (weights, tmp_path / "b.pth"):
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(ConfigError, match="cannot be read"):
            load(path)


class Trap:
    """Runs a command when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_code_in_a_weight_file_is_not_run(tmp_path):
    torch.save({"model": Trap(tmp_path / "ran")}, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[torch.zeros(2)], torch.zeros(3), {"state_dict": [1, 2]}, 7])
def test_what_is_no_table_of_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=r"a\.pth"):
        load(tmp_path / "a.pth")


def test_bfloat16_is_close_and_comes_back_as_float32(weights):
    exact, fast = load(weights).encode(patches()), load(weights, precision="bfloat16").encode(patches())
    assert fast.dtype == np.float32
    cosine = (exact * fast).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(fast, axis=1)
    assert cosine.min() > 0.999
    assert np.abs(exact - fast).max() > 0


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("dinov9", "choose from .*dinov2-vits14"),
        ("timm:", "unknown encoder"),
        ("torch:resnet18", "unknown encoder"),
        ("timm:vit_small_patch14_dinov7", "did you mean .*vit_small_patch14_dinov2"),
        ("timm:qqqq", "no model 'qqqq'"),
        ("timm:resnet18.nonsense", "resnet18.nonsense.*choose from resnet18"),
    ],
)
def test_unknown_names_are_refused_with_what_there_is(name, told):
    with pytest.raises(ConfigError, match=told):
        find_encoder(name)


@pytest.mark.parametrize(
    "wrong",
    [{"precision": "float8"}, {"weights": "no/such/file.pth"}, {"engine": "steam"}, {"token_side": -1}],
)
def test_a_config_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match=str(next(iter(wrong.values())))):
        EncoderConfig(**wrong)


def test_without_a_network_the_way_out_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SlidebagError) as caught:
        load_encoder(EncoderConfig(encoder="dino-vits16"))
    told = str(caught.value)
    assert all(part in told for part in ("dino-vits16", "vit_small_patch16_224.dino", "--weights"))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("reset"),
        TimeoutError("slow"),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("No pretrained weights exist"),
        LocalEntryNotFoundError("offline"),
    ],
)
def test_whatever_keeps_the_weights_away_is_told(monkeypatch, error):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(SlidebagError, match=rf"dinov2-vits14.*{type(error).__name__}.*--weights"):
        load_encoder(EncoderConfig(encoder="dinov2-vits14"))


def test_a_folder_in_timms_layout_is_an_encoder(model, tmp_path):
    config = {"architecture": "test_vit", "num_classes": 0, "num_features": 64}
    config["pretrained_cfg"] = {"mean": [0.7, 0.6, 0.7], "std": [0.2, 0.3, 0.2]}
    config["pretrained_cfg"] |= {"input_size": [3, 160, 160], "fixed_input_size": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    name = f"timm:local-dir:{tmp_path}"
    encoder = load_encoder(EncoderConfig(encoder=name, engine="torch", precision="float32"))
    assert encoder.card.mean == (0.7, 0.6, 0.7)
    expected = own_forward(model, patches(), encoder.card)
    np.testing.assert_allclose(encoder.encode(patches()), expected, atol=1e-5)


def test_a_hub_repository_is_asked_for_its_model(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        SlidebagError, match=r"timm:hf-hub:some/model: no weights from some/model.*HF_HUB_OFFLINE"
    ):
        find_encoder("timm:hf-hub:some/model")


@pytest.fixture(scope="module")
def tissue(phantom):
    with open_slide(phantom.path) as slide:
        grid = tile_slide(slide, segment_tissue(slide), GridConfig(min_tissue=0.7))
        return next(read_patches(slide, grid, batch=3)).pixels


@pytest.fixture
def dinov2(data_dir):
    return data_dir / "weights" / "dinov2_vits14.safetensors"


@pytest.mark.data
class TestRealWeights:
    def test_it_computes_what_timm_computes(self, dinov2, tissue, tmp_path):
        encoder = load(dinov2, name="dinov2-vits14")
        # built for 224 px at once: timm itself fits the position embedding to the patch, on loading
        # and in the file's own precision, hence float32
        save_file({k: v.float() for k, v in load_file(dinov2).items()}, tmp_path / "float32.safetensors")
        by_hand = timm.create_model(
            "vit_small_patch14_dinov2",
            num_classes=0,
            img_size=224,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(tmp_path / "float32.safetensors")},
        )
        expected = own_forward(by_hand.eval(), tissue, encoder.card)
        assert encoder.encode(tissue).shape == (3, 384)
        np.testing.assert_allclose(encoder.encode(tissue), expected, atol=1e-4)

    def test_its_tokens_are_timms_own(self, dinov2, tissue):
        encoder = load(dinov2, name="dinov2-vits14", token_side=16)
        by_hand = timm.create_model("vit_small_patch14_dinov2", num_classes=0, dynamic_img_size=True).eval()
        by_hand.load_state_dict({k: v.float() for k, v in load_file(dinov2).items() if k != "mask_token"})
        images = torch.from_numpy(tissue).permute(0, 3, 1, 2) / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in (encoder.card.mean, encoder.card.std))
        with torch.no_grad():
            expected = by_hand.forward_features((images - mean) / std).numpy()
        features, tokens = encoder.encode_tokens(tissue)
        np.testing.assert_allclose(features, expected[:, 0], atol=1e-4)
        np.testing.assert_allclose(tokens.reshape(3, 256, 384), expected[:, 1:], atol=1e-4)
        coarse = load(dinov2, name="dinov2-vits14", token_side=4).encode_tokens(tissue)[1]
        blocks = expected[:, 1:].reshape(3, 4, 4, 4, 4, 384).mean(axis=(2, 4))
        np.testing.assert_allclose(coarse, blocks, atol=1e-4)

    def test_bfloat16_points_the_same_way(self, dinov2, tissue):
        exact = load(dinov2, name="dinov2-vits14").encode(tissue)
        fast = load(dinov2, name="dinov2-vits14", precision="bfloat16").encode(tissue)
        cosine = (exact * fast).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(fast, axis=1)
        assert cosine.min() > 0.999

    def test_they_are_refused_by_another_model(self, dinov2):
        with pytest.raises(ConfigError, match="do not fit"):
            load(dinov2, name="dino-vits16")
