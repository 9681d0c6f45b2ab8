import hashlib

import pytest
import torch
from pydantic import ValidationError
from reference import resnet_by_names
from safetensors.torch import save_file

from kdsweep.errors import CheckpointError, SpecError
from kdsweep.models.resnet import Config, build
from kdsweep.types import ImageBatch, ModelInput

IMAGENET = ModelInput(num_classes=1000, image_channels=3)
EMBEDDINGS = ModelInput(num_classes=0, image_channels=3)
DEPTHS = (18, 34, 50)


def images(count=2, side=64, channels=3):
    generator = torch.Generator().manual_seed(0)
    return ImageBatch(
        images=torch.randn(count, channels, side, side, generator=generator),
        labels=torch.zeros(count, dtype=torch.long),
        sample_ids=tuple(f"{n}/0" for n in range(count)),
    )


def on_meta(model_input=IMAGENET, **options):
    with torch.device("meta"):
        return build(Config(**options), model_input)


def resnet(model_input=EMBEDDINGS, **options):
    """In eval mode, with statistics of batch normalisation that are not 0 and 1."""
    torch.manual_seed(0)
    model = build(Config(**options), model_input)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 2.0)
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, std=0.1)
    return model.eval()


@pytest.mark.parametrize(
    ("depth", "params", "entries", "gmacs"),
    [(18, 11_689_512, 122, 1.814), (34, 21_797_672, 218, 3.664), (50, 25_557_032, 320, 4.089)],
)
def test_size_and_cost_are_those_of_the_published_networks(depth, params, entries, gmacs):
    model = on_meta(depth=depth)
    assert sum(p.numel() for p in model.parameters()) == params
    backbone = sum(p.numel() for p in model.backbone.parameters())
    features = model.taps()["pooled"].channels
    assert backbone == params - 1000 * (features + 1)
    assert len(model.state_dict()) == entries  # as torchvision's, its fc included
    assert model.macs(images(1, side=224)) / 1e9 == pytest.approx(gmacs, abs=5e-4)


@pytest.mark.parametrize(
    ("depth", "name", "shape"),
    [
        (18, "conv1.weight", (64, 3, 7, 7)),
        (18, "layer1.1.bn2.running_var", (64,)),
        (34, "layer3.5.conv2.weight", (256, 256, 3, 3)),
        (18, "layer2.0.downsample.1.bias", (128,)),
        (50, "layer1.0.downsample.0.weight", (256, 64, 1, 1)),
        (50, "layer4.2.conv3.weight", (2048, 512, 1, 1)),
    ],
)
def test_weights_have_torchvisions_names_and_shapes(depth, name, shape):
    assert tuple(on_meta(depth=depth).backbone.state_dict()[name].shape) == shape


@pytest.mark.parametrize("depth", DEPTHS)
def test_feature_maps_equal_a_network_written_from_the_names(depth):
    model, batch = resnet(depth=depth, width=0.125).double(), images()
    given = model(ImageBatch(batch.images.double(), batch.labels, batch.sample_ids))
    expected = resnet_by_names.feature_maps(model.backbone.state_dict(), batch.images.double())
    for name, feature_map in expected.items():
        assert feature_map.std() > 0
        torch.testing.assert_close(given[name], feature_map, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("stem", "side", "sides"),
    [
        ("imagenet", 224, (56, 28, 14, 7)),
        ("small", 32, (32, 16, 8, 4)),
        ("imagenet", 32, (8, 4, 2, 1)),
    ],
)
def test_the_stem_decides_how_large_the_maps_are(stem, side, sides):
    model = resnet(stem=stem, width=0.05)
    given = model(images(1, side=side))
    for number, expected in enumerate(sides, start=1):
        assert given[f"layer{number}"].shape[2:] == (expected, expected)


def test_the_embedding_is_a_linear_map_of_the_pooled_feature():
    model = resnet(width=0.125, embedding_dim=5)
    given = model(images())
    torch.testing.assert_close(given["pooled"], given["layer4"].mean(dim=(2, 3)))
    torch.testing.assert_close(given["embedding"], model.head.embedding(given["pooled"]))
    assert given["embedding"].shape == (2, 5)
    assert "logits" not in given


def test_without_an_embedding_layer_the_pooled_feature_is_the_embedding():
    given = resnet(width=0.125)(images())
    assert torch.equal(given["embedding"], given["pooled"])


def test_unit_length_changes_the_embedding_and_not_the_logits():
    classes = ModelInput(num_classes=7, image_channels=3)
    plain, unit = (
        resnet(classes, width=0.125, embedding_dim=5, l2_norm=norm)(images())
        for norm in (False, True)
    )
    torch.testing.assert_close(unit["embedding"].norm(dim=1), torch.ones(2))
    torch.testing.assert_close(
        unit["embedding"], torch.nn.functional.normalize(plain["embedding"], dim=1)
    )
    assert torch.equal(unit["logits"], plain["logits"])


def test_a_task_without_images_is_refused():
    with pytest.raises(SpecError, match="'resnet' takes images"):
        on_meta(ModelInput(num_classes=20, point_features=9))


def weights_file(path, model, *, digest="", extra=None, drop=()):
    """A file in torchvision's layout, under a name that ends with its digest."""
    state = (
        model.backbone.state_dict()
        | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
        | (extra or {})
    )
    torch.save({name: t for name, t in state.items() if not name.endswith(drop)}, path)
    return named_by_digest(path, digest)


def named_by_digest(path, digest=""):
    digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return path.rename(path.with_name(f"{path.stem}-{digest}{path.suffix}"))


@pytest.fixture(scope="module")
def source():
    return resnet(depth=18)


def test_pretrained_weights_are_loaded_and_the_head_is_our_own(tmp_path, source):
    path = weights_file(tmp_path / "resnet18.pth", source)
    torch.manual_seed(1)
    model = build(Config(embedding_dim=4, pretrained=str(path)), EMBEDDINGS)
    head = model.head.embedding.weight.clone()
    assert not torch.equal(model.backbone.conv1.weight, source.backbone.conv1.weight)
    model.load_pretrained()
    for name, tensor in source.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], tensor), name
    assert torch.equal(model.head.embedding.weight, head)


def test_building_needs_no_file(tmp_path):
    # an exported student is built from its configuration wherever it is loaded
    on_meta(pretrained=str(tmp_path / "gone-01234567.pth"))


def test_weights_from_before_batch_counters_fit(tmp_path, source):
    path = weights_file(tmp_path / "old.pth", source, drop=("num_batches_tracked",))
    model = build(Config(pretrained=str(path)), EMBEDDINGS)
    model.load_pretrained()
    assert torch.equal(model.backbone.bn1.running_var, source.backbone.bn1.running_var)


def test_safetensors_are_loaded_alike(tmp_path, source):
    save_file(source.backbone.state_dict(), tmp_path / "net.safetensors")
    path = named_by_digest(tmp_path / "net.safetensors")
    model = build(Config(pretrained=str(path)), EMBEDDINGS)
    model.load_pretrained()
    assert torch.equal(model.backbone.conv1.weight, source.backbone.conv1.weight)


@pytest.mark.parametrize(
    ("options", "damage", "message"),
    [
        ({"depth": 34}, {}, r"layer1\.2\.conv1\.weight is missing.* more\. Check depth"),
        ({}, {"drop": ("layer4.1.bn2.bias",)}, r"layer4\.1\.bn2\.bias is missing\. Check"),
        ({}, {"extra": {"layer5.weight": torch.zeros(1)}}, r"layer5\.weight is unknown"),
        (
            {},
            {"extra": {"conv1.weight": torch.zeros(64, 1, 7, 7)}},
            r"conv1\.weight is \(64, 1, 7, 7\), expected \(64, 3, 7, 7\)",
        ),
        ({}, {"digest": "0123abcd"}, r"damaged or not what the name says: .* begins with [0-9a-f]"),
    ],
    ids=["another depth", "missing", "unknown", "shape", "digest"],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, source, options, damage, message):
    path = weights_file(tmp_path / "net.pth", source, **damage)
    model = build(Config(pretrained=str(path), **options), EMBEDDINGS)
    before = model.backbone.conv1.weight.clone()
    with pytest.raises(CheckpointError, match=message):
        model.load_pretrained()
    assert torch.equal(model.backbone.conv1.weight, before)


class Bomb:
    def __reduce__(self):
        return (open, ("bomb.txt", "w"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conv1.weight": Bomb()}, "cannot be read as a file of tensors"),
        ([torch.zeros(1)], "no mapping of names to tensors"),
        ({"state_dict": {}, "epoch": 3}, "no mapping of names to tensors"),
    ],
    ids=["code", "list", "whole checkpoint"],
)
def test_a_file_that_is_no_plain_state_is_refused_and_runs_nothing(
    tmp_path, monkeypatch, content, message
):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "net.pth")
    path = named_by_digest(tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=message):
        build(Config(pretrained=str(path)), EMBEDDINGS).load_pretrained()
    assert not (tmp_path / "bomb.txt").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_no_weights_is_refused(tmp_path, suffix):
    (tmp_path / f"net{suffix}").write_bytes(b"<html>not found</html>")
    path = named_by_digest(tmp_path / f"net{suffix}")
    with pytest.raises(CheckpointError, match="cannot be read as a file of tensors"):
        build(Config(pretrained=str(path)), EMBEDDINGS).load_pretrained()


def test_a_missing_file_is_named(tmp_path):
    model = build(Config(width=1.0, pretrained=str(tmp_path / "gone-01234567.pth")), EMBEDDINGS)
    with pytest.raises(CheckpointError, match=r"gone-01234567\.pth: No such file"):
        model.load_pretrained()


@pytest.mark.parametrize("options", [{"width": 0.5}, {"stem": "small"}])
def test_pretrained_weights_of_another_size_are_refused_at_once(options):
    with pytest.raises(ValidationError, match=r"have width 1\.0 and stem 'imagenet'"):
        Config(pretrained="net-01234567.pth", **options)


def test_without_a_file_nothing_is_loaded():
    model = build(Config(width=0.125), EMBEDDINGS)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_pretrained()
    assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())
