"""Design choices: their names, how they enter a model, and what must vary or be replaced along with them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from ssl_risk_rs.errors import ParameterError

__all__ = [
    "AUGMENTATIONS", "CHOICES", "CONFOUNDERS", "CORE", "DERIVED", "RECIPE", "Choice", "Kind", "choice_of",
    "parse_choice",
]  # fmt: skip

Kind = Literal["category", "flag", "linear", "log"]
KINDS: tuple[Kind, ...] = ("category", "flag", "linear", "log")


@dataclass(frozen=True, slots=True)
class Choice:
    """One design choice.

    Attributes
    ----------
    name : column of the table
    kind : "category", "flag" (true or false), "linear" (a number as it is) or "log" (natural logarithm)
    label : what a table prints
    replaces : confounders that say the same as this choice, and leave a model in which it is examined
    along : columns that cannot stay equal in a controlled comparison where this choice varies
    follows : those of them that follow from this choice in some tables; where they do not, a model holds them fixed
    else_from : columns that give the value where this one has none, in order
    missing : value where all of these have none; without it such rows are left out
    reference : the level that others are compared with; "" takes the most frequent one
    levels : the levels to examine, if not all; rows of others are left out
    only_some : a number that some encoders cannot have (the patch size of a ResNet). As a confounder it stands at its
        mean there, so that it makes no difference to them; where it is examined they are left out.
    """

    name: str
    kind: Kind
    label: str = ""
    replaces: tuple[str, ...] = ()
    along: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    else_from: tuple[str, ...] = ()
    missing: str | None = None
    reference: str = ""
    levels: tuple[str, ...] = ()
    only_some: bool = False


def _table(*choices: Choice) -> Mapping[str, Choice]:
    return MappingProxyType({choice.name: choice for choice in choices})


_HEADS = ("projection1_arch", "projection2_arch", "projection_same")

#: the design choices of Dubois et al. 2023, under the names of their table
CHOICES: Mapping[str, Choice] = _table(
    Choice("objective", "category", "objective", replaces=("ssl_mode",), along=("version", "year")),
    Choice(
        "ssl_mode", "category", "kind of objective", replaces=("objective",), along=("objective", "version", "year"),
    ),
    Choice("version", "linear", "version of the method", along=("year",)),
    Choice("n_negatives", "log", "negatives", along=("batch_size",)),
    Choice("n_classes", "log", "pseudo-classes"),
    Choice("is_stopgrad", "flag", "stop gradient", along=("objective", "version")),
    Choice("is_ema", "flag", "momentum encoder", along=("objective", "version")),
    Choice("pred_dim", "log", "output of the projection head", along=_HEADS),
    Choice("projection_hid_width", "log", "width of the projection head", along=_HEADS),
    Choice("projection_hid_depth", "linear", "depth of the projection head", along=_HEADS),
    Choice(
        "projection1_arch", "category", "projection head of the teacher", replaces=("projection2_arch",), along=_HEADS,
        reference="identity",
    ),
    Choice(
        "projection2_arch", "category", "projection head of the student", along=_HEADS, else_from=("projection1_arch",),
        missing="Na", reference="identity",
    ),
    Choice("projection_same", "flag", "heads share weights", along=_HEADS),
    Choice("projection_nparameters", "log", "parameters of the projection head", along=_HEADS),
    Choice(
        "architecture", "category", "architecture", replaces=("n_parameters", "family", "z_dim", "patch_size"),
        along=("patch_size", "z_dim", "z_layer", "n_parameters", "family"), follows=("z_dim",),
    ),
    Choice(
        "family", "category", "family of architectures", along=("architecture", "patch_size", "z_dim", "z_layer"),
        reference="resnet",
    ),
    Choice("patch_size", "linear", "patch size", along=("architecture",), only_some=True),
    Choice("n_parameters", "log", "parameters of the encoder", along=("architecture", "patch_size", "z_dim", "family")),
    Choice("z_dim", "log", "dimension", along=("z_layer",)),
    Choice("z_layer", "category", "layer", along=("z_dim",)),
    Choice("pretraining_data", "category", "pretraining data"),
    Choice("finetuning_data", "category", "finetuning data", along=("other",), missing="none"),
    Choice("img_size", "log", "image size"),
    Choice("nviews", "log", "views"),
    Choice("is_aug_invariant", "flag", "invariant to augmentations", along=("objective", "version")),
    Choice("n_augmentations", "linear", "augmentations", along=("other",)),
    Choice("epochs", "log", "epochs"),
    Choice("batch_size", "log", "batch size"),
    Choice("optimizer", "category", "optimizer", along=("learning_rate", "weight_decay", "scheduler")),
    Choice("learning_rate", "log", "learning rate"),
    Choice("weight_decay", "log", "weight decay"),
    Choice("scheduler", "category", "schedule of the learning rate"),
)  # fmt: skip

#: single augmentations, as flags
AUGMENTATIONS: Mapping[str, Choice] = _table(
    *(
        Choice(f"is_aug_{name}", "flag", f"augmentation: {name}", along=("n_augmentations", "other"))
        for name in (
            "anycolor", "anygeometric", "autoaug", "blur", "color", "crop", "erasing", "flip", "gray", "jigsaw",
            "masking", "normalize", "photometric", "rotate", "solarize",
        )
    )
)  # fmt: skip

#: what else a model may have to hold fixed
_OTHERS: Mapping[str, Choice] = _table(
    Choice("year", "linear", "year"),
    Choice("is_industry", "flag", "made in industry"),
    Choice("is_official", "flag", "official checkpoint"),
    Choice("source", "category", "source of the row"),
)

#: confounders of the linear model, in the authors' order
CONFOUNDERS: tuple[str, ...] = (
    "pretraining_data", "ssl_mode", "epochs", "batch_size", "nviews", "n_augmentations", "projection2_arch",
    "n_parameters", "family", "z_dim", "patch_size", "year", "is_industry", "is_official",
)  # fmt: skip

#: what is equal in a controlled comparison, but for the choice that varies
CORE: tuple[str, ...] = (
    "objective", "version", "architecture", "patch_size", "z_dim", "z_layer", "epochs", "batch_size", "optimizer",
    "learning_rate", "weight_decay", "scheduler", "pretraining_data", "img_size", "year", "nviews", "finetuning_data",
    "projection1_arch", "projection2_arch", "projection_same", "n_augmentations", "other",
)  # fmt: skip

#: quantities that follow from other choices, and need not be equal in a comparison of those
DERIVED: tuple[str, ...] = ("n_parameters", "projection_nparameters", "n_negatives", "n_classes")

#: rows that differ in nothing but these are the same design, trained by another recipe or seed
RECIPE: tuple[str, ...] = ("seed", "optimizer", "learning_rate", "weight_decay", "scheduler", "year")


def choice_of(name: str) -> Choice | None:
    """The known choice or confounder of this name."""
    return CHOICES.get(name) or AUGMENTATIONS.get(name) or _OTHERS.get(name)


def parse_choice(text: str) -> Choice:
    """`NAME`, `NAME:KIND` or `NAME:KIND:A+B`, for a column that may be unknown here.

    The columns A and B vary along with the choice: they need not be equal in a controlled comparison, and are no
    confounders of it.

    Raises
    ------
    ParameterError if the kind is none, or is left out for a name that is not known.

    >>> parse_choice("views:category:n_augmentations+nviews").along
    ('n_augmentations', 'nviews')
    """
    name, _, rest = text.partition(":")
    kind, _, others = rest.partition(":")
    along = tuple(other for other in others.split("+") if other)
    known = choice_of(name)
    if not rest:
        if known is None:
            raise ParameterError(f"{name!r} is no known design choice; say what it is: {name}:{'|'.join(KINDS)}")
        return known
    for each in KINDS:
        if kind == each:
            base = known or Choice(name, each, name)
            return replace(
                base,
                kind=each,
                missing=base.missing if each == "category" else None,
                along=(*base.along, *along),
                replaces=(*base.replaces, *along),
            )
    raise ParameterError(f"{text!r}: {kind!r} is no kind of a design choice; take one of {', '.join(KINDS)}")
