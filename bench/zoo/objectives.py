"""What the zoo's encoders are trained for: one class an objective, losses and heads from lightly.

Each class holds the encoder and its heads, makes its own views of a batch of pixels, and gives a loss. What is used of
an objective afterwards is `encoder` alone.
"""

import copy
import math
from dataclasses import dataclass

import torch
from recipes import VIEWS, Recipe, ViewSettings
from torch import Tensor, nn
from torch.nn import functional as F
from views import random_views, rotate

__all__ = ["Batch", "Objective", "build_objective", "head_columns"]

HIDDEN = 256
#: of the projections that are compared: the invariance losses decorrelate as many directions as they are given
OUTPUT = {"simclr": 128, "vicreg": 256, "barlow": 256, "simsiam": 256, "byol": 128, "dino": 512}
SIMCLR_TEMPERATURE = 0.2
EMA_START = 0.99  # for some 2,000 steps: half as long a memory as an epoch
MASKED_SHARE = 0.6
PATCH = 4


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of a step: uint8 pixels (b, 28, 28), labels (b,), and the generator of all that is drawn."""

    pixels: Tensor
    labels: Tensor
    generator: torch.Generator


class Objective(nn.Module):
    """An encoder, its heads, and a loss of a batch.

    Parameters
    ----------
    encoder : images (b, 1, 28, 28) → (b, z_dim)
    views : what random views look like
    mixed : the encoder computes in bfloat16; heads and losses stay in float32
    """

    def __init__(self, encoder: nn.Module, views: ViewSettings, *, mixed: bool) -> None:
        super().__init__()
        self.encoder, self.views, self.mixed = encoder, views, mixed

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """What follows a step of the optimizer; `progress` goes from 0 to 1."""

    def encode(self, images: Tensor, encoder: nn.Module | None = None) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.mixed):
            out: Tensor = (encoder or self.encoder)(images.contiguous(memory_format=torch.channels_last))
        return out.float()

    def view(self, batch: Batch) -> Tensor:
        return random_views(batch.pixels, self.views, batch.generator)

    def both(self, batch: Batch) -> Tensor:
        """Two views of each image, one after the other: (2b, 1, h, w)."""
        return random_views(batch.pixels.repeat(2, 1, 1), self.views, batch.generator)


class Joint(Objective):
    """Two views, one network, a symmetric loss of the two projections: SimCLR, VICReg, Barlow Twins."""

    def __init__(self, encoder: nn.Module, views: ViewSettings, head: nn.Module, loss: nn.Module, *, mixed: bool):
        super().__init__(encoder, views, mixed=mixed)
        self.head, self.criterion = head, loss

    def forward(self, batch: Batch) -> Tensor:
        a, b = self.head(self.encode(self.both(batch))).chunk(2)
        loss: Tensor = self.criterion(a, b)
        return loss


class SimSiam(Objective):
    """A predictor on one view, no gradient through the other. Chen & He 2021."""

    def __init__(self, encoder: nn.Module, views: ViewSettings, head: nn.Module, predictor: nn.Module, *, mixed: bool):
        from lightly.loss import NegativeCosineSimilarity

        super().__init__(encoder, views, mixed=mixed)
        self.head, self.predictor, self.criterion = head, predictor, NegativeCosineSimilarity()

    def forward(self, batch: Batch) -> Tensor:
        z = self.head(self.encode(self.both(batch)))
        (z0, z1), (p0, p1) = z.detach().chunk(2), self.predictor(z).chunk(2)
        loss: Tensor = (self.criterion(p0, z1) + self.criterion(p1, z0)) / 2
        return loss


class Collapsing(Objective):
    """Two views are to agree, and nothing keeps images apart: SimSiam without predictor and stop-gradient.

    The squared distance stands in for the cosine, which a probe that scales its features would not see.
    """

    def forward(self, batch: Batch) -> Tensor:
        a, b = self.encode(self.both(batch)).chunk(2)
        return (a - b).square().sum(1).mean()


class Distilled(Objective):
    """A student and the moving average of it: what BYOL and DINO share."""

    def __init__(self, encoder: nn.Module, views: ViewSettings, head: nn.Module, teacher: nn.Module, *, mixed: bool):
        from lightly.models.utils import deactivate_requires_grad

        super().__init__(encoder, views, mixed=mixed)
        self.head, self.teacher_encoder, self.teacher_head = head, copy.deepcopy(encoder), teacher
        self.teacher_head.load_state_dict(head.state_dict())
        deactivate_requires_grad(self.teacher_encoder)
        deactivate_requires_grad(self.teacher_head)

    @torch.no_grad()
    def teach(self, images: Tensor) -> Tensor:
        out: Tensor = self.teacher_head(self.encode(images, self.teacher_encoder))
        return out

    def after_step(self, progress: float) -> None:
        from lightly.models.utils import update_momentum

        momentum = 1 - (1 - EMA_START) * (math.cos(math.pi * progress) + 1) / 2
        update_momentum(self.encoder, self.teacher_encoder, m=momentum)
        update_momentum(self.head, self.teacher_head, m=momentum)


class BYOL(Distilled):
    """The student predicts the teacher's projection of the other view. Grill et al. 2020."""

    def __init__(
        self,
        encoder: nn.Module,
        views: ViewSettings,
        head: nn.Module,
        teacher: nn.Module,
        predictor: nn.Module,
        *,
        mixed: bool,
    ):
        from lightly.loss import NegativeCosineSimilarity

        super().__init__(encoder, views, head, teacher, mixed=mixed)
        self.predictor, self.criterion = predictor, NegativeCosineSimilarity()

    def forward(self, batch: Batch) -> Tensor:
        images = self.both(batch)
        p0, p1 = self.predictor(self.head(self.encode(images))).chunk(2)
        t0, t1 = self.teach(images).chunk(2)
        loss: Tensor = (self.criterion(p0, t1) + self.criterion(p1, t0)) / 2
        return loss


class DINO(Distilled):
    """The student finds the teacher's soft clusters of the other view. Caron et al. 2021."""

    def __init__(self, encoder: nn.Module, views: ViewSettings, head: nn.Module, teacher: nn.Module, *, mixed: bool):
        from lightly.loss import DINOLoss

        super().__init__(encoder, views, head, teacher, mixed=mixed)
        self.criterion = DINOLoss(OUTPUT["dino"])

    def forward(self, batch: Batch) -> Tensor:
        images = self.both(batch)
        student = self.head(self.encode(images)).chunk(2)
        loss: Tensor = self.criterion(list(self.teach(images).chunk(2)), list(student))
        return loss


class Rotation(Objective):
    """By how many right angles was the view turned? Gidaris et al. 2018."""

    def __init__(self, encoder: nn.Module, views: ViewSettings, z_dim: int, *, mixed: bool) -> None:
        super().__init__(encoder, views, mixed=mixed)
        self.head = nn.Linear(z_dim, 4)

    def forward(self, batch: Batch) -> Tensor:
        images = self.view(batch)
        turns = torch.randint(0, 4, (len(images),), generator=batch.generator, device=images.device)
        return F.cross_entropy(self.head(self.encode(rotate(images, turns))), turns)


class MaskedAutoencoder(Objective):
    """Blank patches are drawn anew from the representation; the loss counts them alone. After He et al. 2022.

    One vector has to carry the image, whatever the architecture: a decoder of tokens would let the encoder leave
    to it what a linear probe looks for.
    """

    def __init__(self, encoder: nn.Module, views: ViewSettings, z_dim: int, *, mixed: bool) -> None:
        super().__init__(encoder, views, mixed=mixed)
        self.decoder = nn.Sequential(
            nn.Linear(z_dim, 32 * 7 * 7),
            nn.Unflatten(1, (32, 7, 7)),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
        )

    def forward(self, batch: Batch) -> Tensor:
        images = self.view(batch)
        b, _, height, width = images.shape
        draws = torch.rand(b, 1, height // PATCH, width // PATCH, generator=batch.generator, device=images.device)
        masked = F.interpolate((draws < MASKED_SHARE).float(), scale_factor=PATCH)
        drawn = self.decoder(self.encode(images * (1 - masked)))
        return ((drawn - images).square() * masked).sum() / masked.sum().clamp(min=1)


class Supervised(Objective):
    """Cross-entropy of the labels."""

    def __init__(self, encoder: nn.Module, views: ViewSettings, z_dim: int, n_classes: int, *, mixed: bool) -> None:
        super().__init__(encoder, views, mixed=mixed)
        self.head = nn.Linear(z_dim, n_classes)

    def forward(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.head(self.encode(self.view(batch))), batch.labels)


def projection_head(kind: str, z_dim: int, output: int) -> nn.Module:
    """The head between representation and loss."""
    from lightly.models.modules.heads import ProjectionHead

    if kind == "identity":
        return nn.Identity()
    if kind == "linear":
        return ProjectionHead([(z_dim, output, None, None)])
    return ProjectionHead([(z_dim, HIDDEN, nn.BatchNorm1d(HIDDEN), nn.ReLU()), (HIDDEN, output, None, None)])


def build_objective(recipe: Recipe, encoder: nn.Module, n_classes: int, *, mixed: bool) -> Objective:
    """The objective of a recipe around an encoder; heads are drawn from the recipe's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + 1)
        return _build(recipe, encoder, n_classes, mixed=mixed)


def _build(recipe: Recipe, encoder: nn.Module, n_classes: int, *, mixed: bool) -> Objective:
    views, z_dim, name = VIEWS[recipe.augmentations], recipe.z_dim, recipe.objective
    if recipe.planted == "collapsed":
        return Collapsing(encoder, views, mixed=mixed)
    if name == "rotation":
        return Rotation(encoder, views, z_dim, mixed=mixed)
    if name == "mae":
        return MaskedAutoencoder(encoder, views, z_dim, mixed=mixed)
    if name == "supervised":
        return Supervised(encoder, views, z_dim, n_classes, mixed=mixed)
    from lightly.loss import BarlowTwinsLoss, NTXentLoss, VICRegLoss
    from lightly.models.modules import heads

    output = OUTPUT[name]
    if name == "simsiam":
        head = heads.SimSiamProjectionHead(z_dim, HIDDEN, output)
        return SimSiam(encoder, views, head, heads.SimSiamPredictionHead(output, HIDDEN // 4, output), mixed=mixed)
    if name == "byol":
        head, teacher = (heads.BYOLProjectionHead(z_dim, HIDDEN, output) for _ in range(2))
        predictor = heads.BYOLPredictionHead(output, HIDDEN, output)
        return BYOL(encoder, views, head, teacher, predictor, mixed=mixed)
    if name == "dino":
        head, teacher = (heads.DINOProjectionHead(z_dim, HIDDEN, 64, output, batch_norm=True) for _ in range(2))
        return DINO(encoder, views, head, teacher, mixed=mixed)
    losses: dict[str, nn.Module] = {
        "simclr": NTXentLoss(SIMCLR_TEMPERATURE), "vicreg": VICRegLoss(), "barlow": BarlowTwinsLoss(),
    }  # fmt: skip
    return Joint(encoder, views, projection_head(recipe.projection, z_dim, output), losses[name], mixed=mixed)


def head_columns(objective: Objective, recipe: Recipe) -> dict[str, object]:
    """Sizes of the head under the published table's names; None where there is no projection."""
    head = getattr(objective, "head", None)
    if head is None or not recipe.has_projection:
        return {"pred_dim": None, "projection_nparameters": None}
    size = sum(p.numel() for p in head.parameters())
    return {"pred_dim": OUTPUT[recipe.objective] if size else recipe.z_dim, "projection_nparameters": size}
