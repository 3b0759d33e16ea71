"""Networks written as plain functions of a dictionary of weights: what files and loaders are checked against.

Nothing here comes from the package or from timm. Weights have this file's own names; `layouts` writes them to files
in the names and shapes of other libraries.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


def _draw(generator: torch.Generator, *shape: int, scale: float | None = None) -> Tensor:
    fan_in = math.prod(shape[1:]) or 1
    return torch.randn(shape, generator=generator) * (scale if scale is not None else (1.5 / fan_in) ** 0.5)


# --- ResNets, in torchvision's names ----------------------------------------------------------------

DEPTHS = (1, 1, 2, 1)
STEM = 8


def resnet_weights(seed: int = 0, *, stem: int = STEM, expand: int | None = None) -> Weights:
    """Weights of a bottleneck ResNet of a few channels, its BatchNorm statistics away from their defaults."""
    g, w = torch.Generator().manual_seed(seed), {}

    def conv(name: str, out: int, inner: int, side: int) -> None:
        w[f"{name}.weight"] = _draw(g, out, inner, side, side)

    def norm(name: str, width: int) -> None:
        w[f"{name}.weight"] = 0.5 + torch.rand(width, generator=g)
        w[f"{name}.bias"] = _draw(g, width, scale=0.2)
        w[f"{name}.running_mean"] = _draw(g, width, scale=0.2)
        w[f"{name}.running_var"] = 0.5 + torch.rand(width, generator=g)
        w[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def bottleneck(name: str, inner: int, width: int, out: int) -> None:
        conv(f"{name}.conv1", width, inner, 1)
        norm(f"{name}.bn1", width)
        conv(f"{name}.conv2", width, width, 3)
        norm(f"{name}.bn2", width)
        conv(f"{name}.conv3", out, width, 1)
        norm(f"{name}.bn3", out)

    conv("conv1", stem, 3, 7)
    norm("bn1", stem)
    inner = stem
    for stage, depth in enumerate(DEPTHS):
        width = stem * 2**stage
        for block in range(depth):
            bottleneck(f"layer{stage + 1}.{block}", inner, width, 4 * width)
            if block == 0:
                conv(f"layer{stage + 1}.0.downsample.0", 4 * width, inner, 1)
                norm(f"layer{stage + 1}.0.downsample.1", 4 * width)
            inner = 4 * width
    if expand:
        bottleneck("resizer", inner, inner // 4, expand)
    return w


def _pad_as_tensorflow(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad so that output i starts at i · stride − floor(total / 2), total such that ceil(n / stride) outputs fit."""
    for axis in (3, 2):
        n = x.shape[axis]
        outputs = math.ceil(n / stride)
        total = max(0, (outputs - 1) * stride + kernel - n)
        shape = list(x.shape)
        shape[axis] = total // 2
        before = torch.zeros(shape)
        shape[axis] = total - total // 2
        x = torch.cat([before, x, torch.zeros(shape)], axis)
    return x


def resnet_features(w: Weights, x: Tensor, padding: str = "both") -> Tensor:
    """Global average pool (b, d) of the last stage, or of the expanding block behind it."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = w[f"{name}.weight"]
        kernel = weight.shape[-1]
        if padding == "same":
            return F.conv2d(_pad_as_tensorflow(x, kernel, stride), weight, stride=stride)
        return F.conv2d(x, weight, stride=stride, padding=kernel // 2)

    def norm(x: Tensor, name: str) -> Tensor:
        scale = w[f"{name}.weight"] / torch.sqrt(w[f"{name}.running_var"] + 1e-5)
        shift = w[f"{name}.bias"] - w[f"{name}.running_mean"] * scale
        return x * scale[:, None, None] + shift[:, None, None]

    def middle(x: Tensor, name: str, stride: int) -> Tensor:
        y = norm(conv(x, f"{name}.conv1"), f"{name}.bn1").clamp(min=0)
        y = norm(conv(y, f"{name}.conv2", stride), f"{name}.bn2").clamp(min=0)
        return norm(conv(y, f"{name}.conv3"), f"{name}.bn3")

    x = norm(conv(x, "conv1", 2), "bn1").clamp(min=0)
    x = F.max_pool2d(_pad_as_tensorflow(x, 3, 2), 3, 2) if padding == "same" else F.max_pool2d(x, 3, 2, 1)
    for stage, depth in enumerate(DEPTHS):
        for block in range(depth):
            name = f"layer{stage + 1}.{block}"
            stride = 2 if stage and not block else 1
            shortcut = x
            if block == 0:
                shortcut = norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = (middle(x, name, stride) + shortcut).clamp(min=0)
    if "resizer.conv1.weight" in w:
        wide = middle(x, "resizer", 1)
        x = (wide + torch.cat([x] * (wide.shape[1] // x.shape[1]), 1)).clamp(min=0)
    return x.mean((2, 3))


# --- ViTs -------------------------------------------------------------------------------------------

DIM, HEADS, BLOCKS, PATCH, SIDE = 24, 3, 5, 16, 64


def vit_weights(
    seed: int = 0,
    *,
    side: int = SIDE,
    registers: int = 0,
    layer_scale: bool = False,
    clip: bool = False,
    beit: bool = False,
    projection: int | None = None,
    patch: int = PATCH,
) -> Weights:
    """Weights of a small ViT: q, k, v apart, linear maps as (out, in)."""
    g, w = torch.Generator().manual_seed(seed), {}
    n = (side // patch) ** 2
    w["patch.weight"] = _draw(g, DIM, 3, patch, patch)
    if not clip:
        w["patch.bias"] = _draw(g, DIM, scale=0.2)
    w["cls"] = _draw(g, DIM, scale=0.5)
    if registers:
        w["registers"] = _draw(g, registers, DIM, scale=0.5)
    if not beit:
        w["pos"] = _draw(g, 1 + n, DIM, scale=0.5)
    else:
        w["relative"] = _draw(g, (2 * (side // patch) - 1) ** 2 + 3, HEADS, scale=0.5)
    norms = ["norm", *(["pre"] if clip else [])]
    for i in range(BLOCKS):
        norms += [f"{i}.norm1", f"{i}.norm2"]
        for part in ("q", "k", "v", "out"):
            w[f"{i}.{part}.weight"] = _draw(g, DIM, DIM)
            if not (beit and part == "k"):
                w[f"{i}.{part}.bias"] = _draw(g, DIM, scale=0.2)
        w[f"{i}.fc1.weight"], w[f"{i}.fc1.bias"] = _draw(g, 4 * DIM, DIM), _draw(g, 4 * DIM, scale=0.2)
        w[f"{i}.fc2.weight"], w[f"{i}.fc2.bias"] = _draw(g, DIM, 4 * DIM), _draw(g, DIM, scale=0.2)
        if layer_scale or beit:
            w[f"{i}.scale1"], w[f"{i}.scale2"] = _draw(g, DIM, scale=0.5), _draw(g, DIM, scale=0.5)
    for name in norms:
        w[f"{name}.weight"], w[f"{name}.bias"] = 0.5 + torch.rand(DIM, generator=g), _draw(g, DIM, scale=0.2)
    if projection:
        w["projection.weight"] = _draw(g, projection, DIM)
    return w


def _relative_bias(table: Tensor, side: int) -> Tensor:
    """(heads, 1 + n, 1 + n) from a table of offsets; its last three rows are of the class token."""
    n = side * side
    index = torch.zeros(1 + n, 1 + n, dtype=torch.long)
    for a in range(n):
        for b in range(n):
            rows, columns = a // side - b // side + side - 1, a % side - b % side + side - 1
            index[1 + a, 1 + b] = rows * (2 * side - 1) + columns
    last = len(table)
    index[0, :], index[:, 0], index[0, 0] = last - 3, last - 2, last - 1
    return table[index].permute(2, 0, 1)


def vit_tokens(w: Weights, x: Tensor, *, heads: int = HEADS, quick: bool = False, eps: float = 1e-6) -> list[Tensor]:
    """Tokens (b, 1 + registers + n, d) of each block, behind the final LayerNorm."""

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (x.shape[-1],), w[f"{name}.weight"], w[f"{name}.bias"], eps)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

    patch = w["patch.weight"].shape[-1]
    maps = F.conv2d(x, w["patch.weight"], w.get("patch.bias"), stride=patch)
    x = maps.flatten(2).transpose(1, 2)
    x = torch.cat([w["cls"].expand(len(x), 1, -1), x], 1)
    if "pos" in w:
        x = x + w["pos"]
    if "registers" in w:
        x = torch.cat([x[:, :1], w["registers"].expand(len(x), -1, -1), x[:, 1:]], 1)
    if "pre.weight" in w:
        x = norm(x, "pre")
    bias = _relative_bias(w["relative"], maps.shape[-1]) if "relative" in w else 0.0
    out = []
    for i in range(BLOCKS):
        y = norm(x, f"{i}.norm1")
        b, n, d = y.shape
        q, k, v = (linear(y, f"{i}.{part}").reshape(b, n, heads, d // heads).transpose(1, 2) for part in "qkv")
        attention = (q @ k.transpose(-2, -1) / math.sqrt(d // heads) + bias).softmax(-1)
        y = linear((attention @ v).transpose(1, 2).reshape(b, n, d), f"{i}.out")
        x = x + y * w.get(f"{i}.scale1", torch.ones(()))
        y = linear(norm(x, f"{i}.norm2"), f"{i}.fc1")
        y = y * torch.sigmoid(1.702 * y) if quick else F.gelu(y)
        x = x + linear(y, f"{i}.fc2") * w.get(f"{i}.scale2", torch.ones(()))
        out.append(norm(x, "norm"))
    return out


# --- ConvNeXt, in the names of its authors' code -----------------------------------------------------

CONV_DEPTHS, CONV_DIMS = (1, 1, 2, 1), (8, 16, 24, 32)


def convnext_weights(seed: int = 0, *, gamma: bool = True) -> Weights:
    """Weights of a small ConvNeXt."""
    g, w = torch.Generator().manual_seed(seed), {}

    def norm(name: str, width: int) -> None:
        w[f"{name}.weight"], w[f"{name}.bias"] = 0.5 + torch.rand(width, generator=g), _draw(g, width, scale=0.2)

    def layer(name: str, *shape: int) -> None:
        w[f"{name}.weight"], w[f"{name}.bias"] = _draw(g, *shape), _draw(g, shape[0], scale=0.2)

    layer("downsample_layers.0.0", CONV_DIMS[0], 3, 4, 4)
    norm("downsample_layers.0.1", CONV_DIMS[0])
    for i, (depth, dim) in enumerate(zip(CONV_DEPTHS, CONV_DIMS, strict=True)):
        if i:
            norm(f"downsample_layers.{i}.0", CONV_DIMS[i - 1])
            layer(f"downsample_layers.{i}.1", dim, CONV_DIMS[i - 1], 2, 2)
        for j in range(depth):
            layer(f"stages.{i}.{j}.dwconv", dim, 1, 7, 7)
            norm(f"stages.{i}.{j}.norm", dim)
            layer(f"stages.{i}.{j}.pwconv1", 4 * dim, dim)
            layer(f"stages.{i}.{j}.pwconv2", dim, 4 * dim)
            if gamma:
                w[f"stages.{i}.{j}.gamma"] = _draw(g, dim, scale=0.5)
    norm("norm", CONV_DIMS[-1])
    return w


def convnext_features(w: Weights, x: Tensor, *, norm_first: bool) -> Tensor:
    """The pooled representation; VICRegL normalizes each position before the mean, ConvNeXt the mean."""

    def norm(x: Tensor, name: str) -> Tensor:  # (b, …, c)
        return F.layer_norm(x, (x.shape[-1],), w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    def norm_map(x: Tensor, name: str) -> Tensor:  # (b, c, h, w)
        return norm(x.permute(0, 2, 3, 1), name).permute(0, 3, 1, 2)

    x = F.conv2d(x, w["downsample_layers.0.0.weight"], w["downsample_layers.0.0.bias"], stride=4)
    x = norm_map(x, "downsample_layers.0.1")
    for i, depth in enumerate(CONV_DEPTHS):
        if i:
            x = norm_map(x, f"downsample_layers.{i}.0")
            x = F.conv2d(x, w[f"downsample_layers.{i}.1.weight"], w[f"downsample_layers.{i}.1.bias"], stride=2)
        for j in range(depth):
            name = f"stages.{i}.{j}"
            y = F.conv2d(x, w[f"{name}.dwconv.weight"], w[f"{name}.dwconv.bias"], padding=3, groups=x.shape[1])
            y = norm(y.permute(0, 2, 3, 1), f"{name}.norm")
            y = F.gelu(F.linear(y, w[f"{name}.pwconv1.weight"], w[f"{name}.pwconv1.bias"]))
            y = F.linear(y, w[f"{name}.pwconv2.weight"], w[f"{name}.pwconv2.bias"])
            y = y * w.get(f"{name}.gamma", torch.ones(()))
            x = x + y.permute(0, 3, 1, 2)
    tokens = x.flatten(2).transpose(1, 2)
    return norm(tokens, "norm").mean(1) if norm_first else norm(tokens.mean(1), "norm")


# --- CLIP's ResNet, in OpenAI's names ----------------------------------------------------------------


def clip_resnet_features(w: Weights, x: Tensor, depths: tuple[int, ...], heads: int) -> Tensor:
    """The attention pool's output before the projection (b, d): its query is the mean position."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = w[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(x: Tensor, name: str) -> Tensor:
        return F.batch_norm(
            x, w[f"{name}.running_mean"], w[f"{name}.running_var"], w[f"{name}.weight"], w[f"{name}.bias"]
        )

    for i, stride in ((1, 2), (2, 1), (3, 1)):
        x = norm(conv(x, f"conv{i}", stride), f"bn{i}").relu()
    x = F.avg_pool2d(x, 2)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            y = norm(conv(x, f"{name}.conv1"), f"{name}.bn1").relu()
            y = norm(conv(y, f"{name}.conv2"), f"{name}.bn2").relu()
            y = F.avg_pool2d(y, stride) if stride > 1 else y
            y = norm(conv(y, f"{name}.conv3"), f"{name}.bn3")
            if f"{name}.downsample.0.weight" in w:
                x = F.avg_pool2d(x, stride) if stride > 1 else x
                x = norm(conv(x, f"{name}.downsample.0"), f"{name}.downsample.1")
            x = (x + y).relu()
    tokens = x.flatten(2).transpose(1, 2)
    tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + w["attnpool.positional_embedding"]

    def part(x: Tensor, letter: str) -> Tensor:
        y = F.linear(x, w[f"attnpool.{letter}_proj.weight"], w[f"attnpool.{letter}_proj.bias"])
        return y.reshape(*x.shape[:2], heads, -1).transpose(1, 2)

    q, k, v = part(tokens[:, :1], "q"), part(tokens, "k"), part(tokens, "v")
    out = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1) @ v
    return out.transpose(1, 2).flatten(1)
