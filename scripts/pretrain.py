"""Pretrain the small encoders of the demo and of the Fashion-MNIST study: SSL, supervised twin, random twin.

    python scripts/pretrain.py --data digits --objective ssl --out demo_ssl.safetensors
    python scripts/pretrain.py --data idx:/data/fashion-mnist --objective supervised --out twin.safetensors

`ssl` is VICReg (Bardes et al. 2022) on two random views of the training images; no label is read.
`supervised` trains the same network with the training labels and the same views; its head is dropped.
`random` writes the weights both start from. Test images are only used for the printed probe check.

The file holds the encoder's tensors and, as text, how they were made. Same command, versions, CPU and
thread count: same weights.
"""

import argparse
import gzip
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from ssl_risk_rs.encoders.networks.build import build_architecture
from torch import Tensor, nn
from torch.nn import functional as F


def read_idx(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, h, w) and labels (n,), uint8, of an MNIST-style folder; files may be gzipped."""

    def read(kind: str) -> np.ndarray:
        path = next(iter(sorted(folder.glob(f"{split}-{kind}-ubyte*"))), None)
        if path is None:
            raise SystemExit(f"{folder} has no {split}-{kind}-ubyte or .gz")
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        shape = np.frombuffer(raw, ">u4", raw[3], offset=4).astype(int)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)

    return read("images-idx3"), read("labels-idx1")


def read_digits() -> tuple[np.ndarray, ...]:
    """scikit-learn's 8×8 digits as uint8; within each class every fifth image is a test image."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = np.rint(images.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    rank = np.zeros(len(labels), int)  # position of each image within its class
    for label in np.unique(labels):
        rank[labels == label] = np.arange((labels == label).sum())
    test = rank % 5 == 4
    return images[~test], labels[~test], images[test], labels[test]


def random_views(x: Tensor, recipe: dict, generator: torch.Generator) -> Tensor:
    """One random view of each image (b, 1, h, w): affine map, mirror, contrast, noise, erased square."""
    b, _, height, width = x.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) * (high - low) + low

    angle = uniform(-recipe["rotation"], recipe["rotation"], b)
    scale = uniform(*recipe["scale"], b)  # below 1: zooms in
    mirror = torch.where(torch.rand(b, generator=generator) < recipe["mirror"], -1.0, 1.0)
    shear = uniform(-recipe["shear"], recipe["shear"], b)
    room = recipe["shift"] + (1 - scale).clamp(min=0)  # a zoomed view may lie anywhere in the image
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0] = scale * mirror * torch.cos(angle)
    theta[:, 0, 1] = scale * (shear - torch.sin(angle))
    theta[:, 1, 0] = scale * mirror * torch.sin(angle)
    theta[:, 1, 1] = scale * torch.cos(angle)
    theta[:, 0, 2] = uniform(-1, 1, b) * room
    theta[:, 1, 2] = uniform(-1, 1, b) * room
    view = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
    view = view * uniform(1 - recipe["contrast"], 1 + recipe["contrast"], b, 1, 1, 1)
    view = view + recipe["noise"] * torch.randn(view.shape, generator=generator)
    side = recipe["erase"]
    if side:
        top = torch.randint(0, height - side + 1, (b, 1, 1, 1), generator=generator)
        left = torch.randint(0, width - side + 1, (b, 1, 1, 1), generator=generator)
        rows, columns = torch.arange(height).view(1, 1, -1, 1), torch.arange(width).view(1, 1, 1, -1)
        inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
        erased = torch.rand(b, 1, 1, 1, generator=generator) < 0.5
        view = view.masked_fill(inside & erased, 0.0)
    return view


def vicreg_loss(a: Tensor, b: Tensor, weights: tuple[float, float, float]) -> tuple[Tensor, dict[str, float]]:
    """Invariance + variance + covariance of two batches of projections (b, d)."""
    invariance = F.mse_loss(a, b)
    variance = torch.stack([F.relu(1 - torch.sqrt(z.var(0) + 1e-4)).mean() for z in (a, b)]).mean()
    covariance = torch.zeros(())
    for z in (a, b):
        z = z - z.mean(0)
        cov = z.T @ z / (len(z) - 1)
        covariance = covariance + (cov.square().sum() - cov.diagonal().square().sum()) / z.shape[1]
    loss = weights[0] * invariance + weights[1] * variance + weights[2] * covariance
    i, v, c = invariance.item(), variance.item(), covariance.item()
    return loss, {"invariance": i, "variance": v, "covariance": c}


RECIPES = {
    "digits": {
        "architecture": "tiny_convnet", "mean": 0.306, "std": 0.376,
        "epochs": {"ssl": 20, "supervised": 100, "random": 0}, "batch": 256, "lr": 2e-3,
        "weight_decay": 1e-4, "projector": 256, "loss_weights": (25.0, 25.0, 1.0),
        "views": {"rotation": 0.2, "scale": (0.85, 1.15), "shift": 0.15, "shear": 0.2, "mirror": 0.0,
                  "contrast": 0.3, "noise": 0.1, "erase": 2},
    },
    "idx": {
        "architecture": "small_convnet", "mean": 0.286, "std": 0.353,
        "epochs": {"ssl": 10, "supervised": 15, "random": 0}, "batch": 512, "lr": 2e-3,
        "weight_decay": 1e-4, "projector": 512, "loss_weights": (25.0, 25.0, 1.0),
        "views": {"rotation": 0.15, "scale": (0.55, 1.05), "shift": 0.05, "shear": 0.1, "mirror": 0.5,
                  "contrast": 0.4, "noise": 0.05, "erase": 8},
        "supervised_views": {"rotation": 0.05, "scale": (0.9, 1.05), "shear": 0.05, "contrast": 0.1,
                             "noise": 0.0, "erase": 0},
    },
}  # fmt: skip


def train(net: nn.Module, x: Tensor, y: Tensor | None, recipe: dict, seed: int) -> list[dict[str, float]]:
    """Train `net` in place, with VICReg if `y` is None, else by cross-entropy; one record for each epoch."""
    generator = torch.Generator().manual_seed(seed)
    d, p = net.num_features, recipe["projector"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        head: nn.Module = (
            nn.Sequential(nn.Linear(d, p), nn.BatchNorm1d(p), nn.ReLU(), nn.Linear(p, p))
            if y is None
            else nn.Linear(d, int(y.max()) + 1)
        )
    parameters = [*net.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, recipe["lr"], weight_decay=recipe["weight_decay"])
    steps = recipe["epochs"] * (len(x) // recipe["batch"])
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1.0, (s + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, s / steps)))
    )
    net.train()
    head.train()
    history = []
    for epoch in range(recipe["epochs"]):
        started, parts, total = time.perf_counter(), {}, 0.0
        order = torch.randperm(len(x), generator=generator)
        batches = order[: len(x) // recipe["batch"] * recipe["batch"]].split(recipe["batch"])
        for rows in batches:
            if y is None:
                both = torch.cat([random_views(x[rows], recipe["views"], generator) for _ in "ab"])
                loss, parts = vicreg_loss(*head(net(both)).chunk(2), recipe["loss_weights"])
            else:
                loss = F.cross_entropy(head(net(random_views(x[rows], recipe["views"], generator))), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        history.append({"loss": round(total / len(batches), 5), **{k: round(v, 5) for k, v in parts.items()}})
        if epoch % max(1, recipe["epochs"] // 20) == 0 or epoch == recipe["epochs"] - 1:
            print(f"epoch {epoch + 1:4d}  {history[-1]}  {time.perf_counter() - started:.2f} s", flush=True)
    return history


@torch.no_grad()
def encode(net: nn.Module, x: Tensor) -> np.ndarray:
    net.eval()
    return torch.cat([net(rows) for rows in x.split(1000)]).numpy()


def probe_errors(net: nn.Module, x: Tensor, y: np.ndarray, x_test: Tensor, y_test: np.ndarray) -> dict[str, float]:
    """0-1 errors of a logistic probe at C = 1 on standardized features: a check, not the decomposition."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    take = np.random.default_rng(0).permutation(len(x))[:10_000]  # enough to judge by, and quick
    features = encode(net, x[take])
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features, y[take])
    errors = {
        "train": 1 - probe.score(features, y[take]),
        "test": 1 - probe.score(encode(net, x_test), y_test),
    }
    return {name: round(value, 4) for name, value in errors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, or idx:FOLDER of an MNIST-style data set")
    parser.add_argument("--objective", choices=["ssl", "supervised", "random"], required=True)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--supervised-twin", help="file name of the twin, recorded in the SSL encoder's file")
    parser.add_argument("--random-twin", help="file name of the random twin, recorded likewise")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="change a number of the recipe")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    kind, _, folder = arguments.data.partition(":")
    if kind not in RECIPES or (kind == "idx") != bool(folder):
        parser.error(f"--data is digits or idx:FOLDER, not {arguments.data}")
    recipe = json.loads(json.dumps(RECIPES[kind]))
    milder = recipe.pop("supervised_views", {})  # strong views teach invariance; labels need no such help
    if arguments.objective == "supervised":
        recipe["views"] |= milder
    recipe["epochs"] = arguments.epochs or recipe["epochs"][arguments.objective]
    for setting in arguments.set:
        key, _, value = setting.partition("=")
        target = recipe["views"] if key in recipe["views"] else recipe
        if key not in target:
            parser.error(f"the recipe has no {key}: {', '.join([*recipe, *recipe['views']])}")
        target[key] = json.loads(value)

    if kind == "digits":
        images, labels, test_images, test_labels = read_digits()
    else:
        images, labels = read_idx(Path(folder), "train")
        test_images, test_labels = read_idx(Path(folder), "t10k")

    def prepare(pixels: np.ndarray) -> Tensor:
        return (torch.from_numpy(pixels.astype(np.float32) / 255)[:, None] - recipe["mean"]) / recipe["std"]

    x, x_test = prepare(images), prepare(test_images)
    net = build_architecture(recipe["architecture"], arguments.seed)
    net = net.to(memory_format=torch.channels_last)  # twice as fast on a CPU
    started, history = time.perf_counter(), []
    if arguments.objective != "random":
        y = torch.from_numpy(labels.astype(np.int64)) if arguments.objective == "supervised" else None
        history = train(net, x, y, recipe, arguments.seed)
    seconds = time.perf_counter() - started
    errors = probe_errors(net, x, labels, x_test, test_labels)
    print(f"{arguments.objective}: probe errors {errors}, {seconds:.0f} s of training")

    from safetensors.torch import save_file

    dataset = Path(folder).name or "digits"
    facts = {
        "architecture": recipe["architecture"],
        "objective": {"ssl": "vicreg", "supervised": "supervised", "random": "none"}[arguments.objective],
        "pretraining_data": "none" if arguments.objective == "random" else dataset,
        "epochs": str(len(history)), "batch_size": str(recipe["batch"]),
        "channels": "1", "img_size": str(x.shape[-1]), "mean": str(recipe["mean"]), "std": str(recipe["std"]),
        "seed": str(arguments.seed), "threads": str(arguments.threads), "torch": torch.__version__,
        "seconds": f"{seconds:.0f}", "probe_errors": json.dumps(errors), "recipe": json.dumps(recipe),
        "last_epoch": json.dumps(history[-1] if history else {}), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    for key in ("supervised_twin", "random_twin"):
        if getattr(arguments, key):
            facts[key] = getattr(arguments, key)
    if arguments.supervised_twin:
        facts["twin_labels"] = dataset
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in net.state_dict().items()}, arguments.out, facts)


if __name__ == "__main__":
    main()
