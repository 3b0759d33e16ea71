"""The zoo's recipes: a base, one design choice varied at a time, twins, controls, and planted truths.

Every recipe has a name that is a Python identifier, `OBJECTIVE[_what differs from the base]_sSEED`; a checkpoint
taken along training adds `_eEPOCH`. The columns of a recipe are those of the published results table, so that one
analysis reads both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["CHECKPOINTS", "VIEWS", "Recipe", "ViewSettings", "checkpoint_epochs", "columns", "recipes"]

Objective = Literal[
    "simclr", "vicreg", "barlow", "simsiam", "byol", "dino", "rotation", "mae", "supervised", "random"
]  # fmt: skip
Architecture = Literal["convnet", "resnet", "vit"]
Projection = Literal["identity", "linear", "mlp"]
#: a truth that the decomposition must find
Planted = Literal["", "test_images", "tenth", "collapsed", "shuffled_labels"]

#: checkpoints kept of a run that has them, the last one being the finished encoder
CHECKPOINTS = 10

SSL_MODES: dict[Objective, str | None] = {
    "simclr": "contrastive", "vicreg": "siamese", "barlow": "siamese", "simsiam": "siamese", "byol": "siamese",
    "dino": "clustering", "rotation": "transform", "mae": "generative", "supervised": None, "random": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """Random views of 28×28 images: shares of the area, ranges of factors, chances.

    Attributes
    ----------
    area : least and greatest share of the image's area that a crop has
    ratio : greatest ratio of a crop's sides, either way
    flip : chance of a mirrored view
    jitter : brightness and contrast are multiplied by 1 ± jitter
    blur : chance that a 3×3 Gaussian is mixed in
    """

    area: tuple[float, float]
    ratio: float
    flip: float
    jitter: float
    blur: float

    def names(self) -> list[str]:
        """The augmentations that are on, as the published table calls them."""
        on = {"crop": self.area[0] < 1, "flip": self.flip, "photometric": self.jitter, "blur": self.blur}
        return [name for name, used in on.items() if used] + ["normalize"]


VIEWS: dict[str, ViewSettings] = {
    "strong": ViewSettings(area=(0.25, 1.0), ratio=4 / 3, flip=0.5, jitter=0.4, blur=0.5),
    "weak": ViewSettings(area=(0.7, 1.0), ratio=1.1, flip=0.5, jitter=0.0, blur=0.0),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one encoder is made.

    Attributes
    ----------
    epochs : of as many images as the training part has, whatever the share, so that a share changes no computation
    share : of the training images, drawn by the seed
    planted : which truth the recipe plants; "tenth" is a share of 0.1 of an encoder that is meant to overfit
    checkpoints : whether encoders along training are kept too
    """

    objective: Objective
    architecture: Architecture = "convnet"
    z_dim: int = 128
    projection: Projection = "mlp"
    epochs: int = 20
    augmentations: Literal["weak", "strong"] = "strong"
    share: float = 1.0
    seed: int = 0
    planted: Planted = ""
    checkpoints: bool = False
    batch_size: int = 512
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4

    @property
    def name(self) -> str:
        """Objective, what differs from the base, seed."""
        base = Recipe(self.objective)
        parts: list[str] = [self.objective]
        if self.architecture != base.architecture:
            parts.append(self.architecture)
        if self.z_dim != base.z_dim:
            parts.append(f"d{self.z_dim}")
        if self.projection != base.projection and self.has_projection and self.planted != "collapsed":
            parts.append(self.projection)
        if self.epochs != base.epochs and self.objective != "random":
            parts.append(f"ep{self.epochs}")
        if self.augmentations != base.augmentations:
            parts.append(self.augmentations)
        if self.planted:
            parts.append(self.planted)
        elif self.share != base.share:
            parts.append(f"share{round(100 * self.share)}")
        return "_".join([*parts, f"s{self.seed}"])

    @property
    def has_projection(self) -> bool:
        """Whether the objective leaves its projection head open; the others bring their own, or none."""
        return self.objective in ("simclr", "vicreg", "barlow", "simsiam", "byol", "dino")

    @property
    def n_views(self) -> int:
        """Views of each image that a step encodes."""
        return 0 if self.objective == "random" else 2 if self.has_projection else 1

    @property
    def cost(self) -> float:
        """Relative time: epochs, views, and what an architecture takes against the convnet."""
        return self.epochs * self.n_views * {"convnet": 1.0, "resnet": 2.0, "vit": 3.0}[self.architecture]


def checkpoint_epochs(recipe: Recipe) -> list[int]:
    """Epochs after which an encoder is kept, evenly spaced in the logarithm; the last is the end of training."""
    if not recipe.checkpoints:
        return [recipe.epochs]
    ratio = recipe.epochs ** (1 / (CHECKPOINTS - 1))
    epochs: list[int] = []
    for index in range(CHECKPOINTS):  # early ones collide when rounded: each then takes the next free epoch
        epochs.append(max(round(ratio**index), epochs[-1] + 1 if epochs else 1))
    return sorted({min(epoch, recipe.epochs) for epoch in epochs})


def _one_seed() -> Iterator[Recipe]:
    for objective in ("simclr", "vicreg"):  # each design choice, around two bases
        base = Recipe(objective)
        yield base
        yield from (replace(base, z_dim=d) for d in (32, 512))
        yield from (replace(base, projection=p) for p in ("identity", "linear"))
        yield replace(base, epochs=5)
        yield replace(base, epochs=60, checkpoints=True)
        yield replace(base, augmentations="weak")
        yield from (replace(base, architecture=a) for a in ("resnet", "vit"))
        yield replace(base, share=0.1)
    for objective in ("barlow", "simsiam", "byol", "dino", "rotation", "mae", "supervised", "random"):
        yield Recipe(objective)
    yield from (Recipe(objective, architecture="vit") for objective in ("dino", "mae"))
    yield from (Recipe("random", z_dim=d) for d in (32, 512))
    yield from (Recipe("random", architecture=a) for a in ("resnet", "vit"))
    # the twins are to fit their training labels: milder views, longer
    twin = Recipe("supervised", epochs=60, augmentations="weak")
    yield replace(twin, checkpoints=True)
    yield from (replace(twin, z_dim=d) for d in (32, 512))
    yield from (replace(twin, architecture=a) for a in ("resnet", "vit"))
    yield Recipe("simclr", planted="test_images")
    yield replace(twin, planted="test_images")
    yield replace(twin, planted="tenth", share=0.1)
    yield replace(twin, planted="shuffled_labels")
    # long plain steps: every output dies within an epoch. Adam's, or short ones, leave a rest that a probe scales up
    yield Recipe("simsiam", planted="collapsed", projection="identity", optimizer="sgd", learning_rate=10.0)


def recipes(seeds: tuple[int, ...] = (0, 1)) -> list[Recipe]:
    """All recipes, the first seed's before the second's and the longest first among them.

    Only the first seed's runs keep checkpoints.
    """
    found: list[Recipe] = []
    for seed in seeds:
        keeps = seed == seeds[0]
        tier = [replace(r, seed=seed, checkpoints=r.checkpoints and keeps) for r in _one_seed()]
        tier = [replace(r, learning_rate=1e-3) if r.architecture == "vit" else r for r in tier]
        found += sorted(tier, key=lambda recipe: -recipe.cost)
    return found


def columns(recipe: Recipe) -> dict[str, object]:
    """The hyper-parameters of a recipe under the published table's names; None where one does not apply."""
    views = VIEWS[recipe.augmentations]
    trained = recipe.objective != "random"
    extra = {"mae": ["masking"], "rotation": ["rotate"]}.get(recipe.objective, [])
    augmentations = [*views.names(), *extra] if trained else []
    own_projection = {"rotation": "linear", "supervised": "linear"}.get(recipe.objective)
    projection = recipe.projection if recipe.has_projection else own_projection
    percent = round(100 * recipe.share)
    data = "Fashion-MNIST" if percent == 100 else f"{percent}% Fashion-MNIST"
    return {
        "objective": recipe.objective,
        "ssl_mode": SSL_MODES[recipe.objective],
        "is_stopgrad": recipe.objective in ("simsiam", "byol", "dino") and recipe.planted != "collapsed",
        "is_ema": recipe.objective in ("byol", "dino"),
        "architecture": recipe.architecture,
        "family": recipe.architecture,
        "patch_size": 4 if recipe.architecture == "vit" else None,
        "z_dim": recipe.z_dim,
        "z_layer": "proj" if recipe.architecture == "vit" else "avgpool",
        "projection2_arch": projection,
        "epochs": recipe.epochs if trained else 0,
        "batch_size": recipe.batch_size if trained else None,
        "optimizer": recipe.optimizer if trained else None,
        "learning_rate": recipe.learning_rate if trained else None,
        "weight_decay": recipe.weight_decay if trained else None,
        "scheduler": "cosine" if trained else None,
        "pretraining_data": data if trained else None,
        "pretraining_share": recipe.share if trained else 0.0,
        "img_size": 28,
        "nviews": recipe.n_views if trained else None,
        "is_aug_invariant": recipe.has_projection,
        "augmentation_strength": recipe.augmentations if trained else None,
        "augmentations": ",".join(augmentations) if trained else None,
        "n_augmentations": len(augmentations) if trained else None,
        "seed": recipe.seed,
        "planted": recipe.planted or None,
    }
