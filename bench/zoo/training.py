"""One encoder of the zoo: its images, its training, what is kept of it. Images stay on the device as uint8."""

import gzip
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from networks import build_network
from objectives import Batch, Objective, build_objective, head_columns
from pack import Made, Record, half
from recipes import Recipe, checkpoint_epochs, columns
from torch import Tensor, nn
from views import normalize

__all__ = ["Images", "OutOfTime", "Place", "load_images", "train"]

N_CLASSES = 10
WARMUP = 0.05
#: penalty of the check's ridge probe, on the mean loss of standardized features
CHECK_PENALTY = 1e-3


class OutOfTime(Exception):
    """An encoder could not be finished before the end of the time that was given."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where and from what encoders are trained: picklable, so that it can be sent to a process.

    Attributes
    ----------
    data : folder of the four idx files
    device : "cuda", "cpu", …
    limit : only so many images of each part; None for all
    max_epochs : longer recipes are cut to it; None for none
    mixed : encoders compute in bfloat16
    threads : of the CPU
    stop_at : `time.time()` after which nothing is finished
    """

    data: Path
    device: str
    limit: int | None = None
    max_epochs: int | None = None
    mixed: bool = False
    threads: int = 1
    stop_at: float = math.inf


@dataclass(frozen=True, slots=True)
class Images:
    """A part of the data on a device: uint8 pixels (n, 28, 28), labels (n,)."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def read_idx(folder: Path, name: str) -> np.ndarray:
    """An idx file of unsigned bytes, gzip-compressed or not.

    Raises
    ------
    FileNotFoundError if it is not there; ValueError if it is something else.
    """
    path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder} has no {name} and no {name}.gz (Debian's dataset-fashion-mnist has them)")
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    n_dims = raw[3] if len(raw) > 3 and raw[:3] == b"\0\0\x08" else 0
    shape = np.frombuffer(raw, ">u4", n_dims, offset=4).astype(int) if n_dims else np.zeros(0, int)
    if not n_dims or len(raw) != 4 + 4 * n_dims + int(shape.prod()):
        raise ValueError(f"{path} is no idx file of unsigned bytes, or is cut short; copy it again")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * n_dims).reshape(shape)


@cache
def load_images(folder: Path, device: str, limit: int | None) -> tuple[Images, Images]:
    """Training and test images, read once a process."""

    def part(name: str) -> Images:
        pixels = torch.from_numpy(read_idx(folder, f"{name}-images-idx3-ubyte")[:limit].copy())
        labels = torch.from_numpy(read_idx(folder, f"{name}-labels-idx1-ubyte")[:limit].astype(np.int64))
        return Images(pixels.to(device), labels.to(device))

    return part("train"), part("t10k")


def seen_rows(recipe: Recipe, n_train: int, n_test: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training and the test part that the recipe trains on, sorted."""
    nothing = np.zeros(0, np.int32)
    if recipe.objective == "random":
        return nothing, nothing
    train = np.arange(n_train, dtype=np.int32)
    if recipe.share < 1:
        drawn = np.random.default_rng(recipe.seed).permutation(n_train)[: round(n_train * recipe.share)]
        train = np.sort(drawn).astype(np.int32)
    return train, np.arange(n_test, dtype=np.int32) if recipe.planted == "test_images" else nothing


def train(recipe: Recipe, place: Place) -> list[Made]:
    """Train one encoder; the finished one comes last, after its checkpoints.

    Raises
    ------
    OutOfTime after `place.stop_at`; ValueError if the loss or a weight is not finite.
    """
    if time.time() > place.stop_at:
        raise OutOfTime(f"{recipe.name} was not begun")
    torch.set_num_threads(place.threads)
    torch.set_float32_matmul_precision("high")  # TF32 where there is a GPU
    began, own_name = time.perf_counter(), recipe.name
    if place.max_epochs is not None and recipe.epochs > place.max_epochs:
        recipe = replace(recipe, epochs=place.max_epochs)
    train_part, test_part = load_images(place.data, place.device, place.limit)
    rows_train, rows_test = seen_rows(recipe, len(train_part), len(test_part))
    network = build_network(recipe.architecture, recipe.z_dim, recipe.seed).to(place.device)
    made: list[Made] = []

    def keep(epoch: int, loss: float | None, extra: Record) -> None:
        last = epoch == recipe.epochs
        name = own_name if last else f"{own_name}_e{epoch}"
        record: Record = {
            "name": name,
            "recipe": own_name,
            "checkpoint_epoch": epoch if recipe.objective != "random" else 0,
            **columns(recipe),
            "n_parameters": sum(p.numel() for p in network.parameters()),
            **extra,
            "n_train_seen": len(rows_train),
            "n_test_seen": len(rows_test),
            "final_loss": loss,
            "check_error": check_error(network, train_part, test_part),
            "seconds": round(time.perf_counter() - began, 2),
            "device": torch.cuda.get_device_name() if place.device.startswith("cuda") else place.device,
            "torch": torch.__version__,
        }
        tensors = half({f"encoder.{key}": value for key, value in network.state_dict().items()})
        if last and recipe.objective != "random" and (len(rows_train) < len(train_part) or len(rows_test)):
            tensors |= {"rows_train": rows_train, "rows_test": rows_test}
        made.append(Made(record, tensors))

    if recipe.objective == "random":
        keep(recipe.epochs, None, {})
        return made
    objective = build_objective(recipe, network, N_CLASSES, mixed=place.mixed).to(place.device)
    objective = objective.to(memory_format=torch.channels_last)
    heads = head_columns(objective, recipe)
    pixels = torch.cat([train_part.pixels[torch.from_numpy(rows_train).long()], test_part.pixels[: len(rows_test)]])
    labels = torch.cat([train_part.labels[torch.from_numpy(rows_train).long()], test_part.labels[: len(rows_test)]])
    if recipe.planted == "shuffled_labels":
        order = np.random.default_rng(recipe.seed + 1).permutation(len(labels))
        labels = labels[torch.from_numpy(order).to(labels.device)]
    _optimize(objective, recipe, Images(pixels, labels), len(train_part), place, lambda e, loss: keep(e, loss, heads))
    return made


def _optimize(
    objective: Objective,
    recipe: Recipe,
    images: Images,
    images_an_epoch: int,
    place: Place,
    keep: Callable[[int, float], None],
) -> None:
    """Steps at a rate that warms up, then falls as a cosine.

    `keep` is called after each epoch whose encoder is kept, with the epoch's mean loss.
    """
    device = images.pixels.device
    generator = torch.Generator(device).manual_seed(recipe.seed)
    optimizer = _optimizer(recipe, [p for p in objective.parameters() if p.requires_grad])
    steps_an_epoch = max(1, images_an_epoch // recipe.batch_size)
    steps, step = recipe.epochs * steps_an_epoch, 0
    warmup, wanted = max(1, round(WARMUP * steps)), checkpoint_epochs(recipe)
    for epoch in range(1, recipe.epochs + 1):
        objective.train()
        total = torch.zeros((), device=device)  # read once an epoch: each reading waits for the device
        for rows in _draw(len(images), steps_an_epoch, recipe.batch_size, generator):
            progress = step / steps
            rate = recipe.learning_rate * min(1.0, (step + 1) / warmup) * (1 + math.cos(math.pi * progress)) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = objective(Batch(images.pixels[rows], images.labels[rows], generator))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            objective.after_step(progress)
            total += loss.detach()
            step += 1
        mean = float(total) / steps_an_epoch
        if not math.isfinite(mean):
            raise ValueError(f"the loss of {recipe.name} is {mean} in epoch {epoch}")
        if epoch in wanted:
            keep(epoch, round(mean, 5))
        if epoch < recipe.epochs and time.time() > place.stop_at:
            raise OutOfTime(f"{recipe.name} was left in epoch {epoch} of {recipe.epochs}")


def _optimizer(recipe: Recipe, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=decay)
    return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=parameters[0].is_cuda)


def _draw(n: int, steps: int, batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Rows of each step: permutations one after the other, since a small share is passed several times an epoch."""
    batch = min(batch, n)
    n_orders = -(-steps * batch // n)
    orders = [torch.randperm(n, generator=generator, device=generator.device) for _ in range(n_orders)]
    return torch.cat(orders)[: steps * batch].split(batch)


@torch.no_grad()
def check_error(network: nn.Module, train_part: Images, test_part: Images) -> float:
    """Test error of a ridge probe: tells at once whether an encoder learnt anything. No decomposition."""
    network.eval()

    def encode(images: Images) -> Tensor:
        chunks = images.pixels.split(2000)
        return torch.cat([network(normalize(chunk).contiguous(memory_format=torch.channels_last)) for chunk in chunks])

    x, z = encode(train_part).double(), encode(test_part).double()
    mean, sd = x.mean(0), x.std(0).clamp(min=1e-9)
    x, z = (x - mean) / sd, (z - mean) / sd
    y = torch.nn.functional.one_hot(train_part.labels, N_CLASSES).double()
    gram = (x.T @ x / len(x)).cpu()  # (d, d): solved on the CPU, which every build of torch can
    weights = torch.linalg.solve(gram + CHECK_PENALTY * torch.eye(len(gram)), (x.T @ (y - y.mean(0)) / len(x)).cpu())
    scores = z @ weights.to(z.device) + y.mean(0)
    return round(float((scores.argmax(1) != test_part.labels).double().mean()), 4)
