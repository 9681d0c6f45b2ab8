"""A ResNet in eval mode written from the names of its weights alone, apart from the package."""

import torch.nn.functional as F


def feature_maps(state, images):
    """Output of each stage of an ImageNet ResNet, given its weights under torchvision's names."""
    x = F.conv2d(images, state["conv1.weight"], stride=2, padding=3)
    x = F.max_pool2d(_normalised(state, "bn1", x).relu(), 3, stride=2, padding=1)
    maps = {}
    for stage in range(1, 5):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in state:
            x = _block(state, f"layer{stage}.{block}", x, stride=2 if stage > 1 > block else 1)
            block += 1
        maps[f"layer{stage}"] = x
    return maps


def _block(state, name, x, stride):
    convolutions = 3 if f"{name}.conv3.weight" in state else 2
    strided = 2 if convolutions == 3 else 1  # torchvision strides the 3x3 of a bottleneck
    shortcut, out = x, x
    for number in range(1, convolutions + 1):
        weight = state[f"{name}.conv{number}.weight"]
        step = stride if number == strided else 1
        out = F.conv2d(out, weight, stride=step, padding=weight.shape[-1] // 2)
        out = _normalised(state, f"{name}.bn{number}", out)
        out = out.relu() if number < convolutions else out
    if f"{name}.downsample.0.weight" in state:
        shortcut = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
        shortcut = _normalised(state, f"{name}.downsample.1", shortcut)
    return (out + shortcut).relu()


def _normalised(state, name, x):
    def column(kind):
        return state[f"{name}.{kind}"][:, None, None]

    deviation = (column("running_var") + 1e-5).sqrt()
    return (x - column("running_mean")) / deviation * column("weight") + column("bias")
