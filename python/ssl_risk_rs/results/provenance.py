"""Where a run's numbers come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ssl_risk_rs._notes import Note

__all__ = ["BankFacts", "Host", "Provenance"]


@dataclass(frozen=True, slots=True)
class BankFacts:
    """A feature bank that was used, as its header tells, and a hash of its content.

    img_size : side of the images that the network saw, in pixels
    content_hash : of its features, `FeatureBank.content_hash`
    encoder_notes : which tensors of which copy in its file, what was left over, preprocessing that was guessed
    """

    path: str
    encoder: str | None = None
    weights_hash: str | None = None
    feature: str | None = None
    precision: str | None = None
    data: str | None = None
    data_fingerprint: str | None = None
    view: int | None = None
    dtype: str | None = None
    n_features: int | None = None
    img_size: int | None = None
    content_hash: str | None = None
    licence: str | None = None
    encoder_notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Host:
    """The machine."""

    machine: str = ""
    system: str = ""
    cpus: int | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Names as typed, facts as the banks' headers hold them.

    Attributes
    ----------
    encoder, data : what tables print; command : the line that made the run
    supervised, control : names of the twin and of the control encoder; no_control : why there is none
    pretraining_data : of the encoder, as published
    saw_training_images : whether the encoder's pretraining data hold the probe's training images; None: not known
    group : column that groups were taken from
    target : column that stood in for the labels; None for the labels themselves
    banks : role (encoder, supervised, control) → bank
    notes : on the data and the encoder
    request : hash of what was asked for, by which a sweep finds a run again; None for other runs
    data_named : False where the bundled digits stood in, because no data were named
    """

    encoder: str = "features"
    data: str = "arrays"
    command: str = ""
    supervised: str | None = None
    control: str | None = None
    no_control: str | None = None
    pretraining_data: str | None = None
    saw_training_images: bool | None = None
    group: str | None = None
    target: str | None = None
    banks: Mapping[str, BankFacts] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    request: str | None = None
    data_named: bool = True
