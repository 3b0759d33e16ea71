"""Which other encoders a run of an encoder encodes: its supervised twin, and a control that cannot have memorized."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ssl_risk_rs._identity import saw
from ssl_risk_rs.decomposition.targets import Target
from ssl_risk_rs.encoders import describe_encoder
from ssl_risk_rs.errors import SslRiskError
from ssl_risk_rs.extraction.settings import Encoding
from ssl_risk_rs.workflow.question import Question

__all__ = ["Others", "choose_others"]

#: images up to which a control encoder is encoded without being asked for: seconds to a minute
CHEAP_IMAGES = 20_000
#: data whose images are small, so that a control is cheap whatever their number
CHEAP_DATA = ("digits", "idx:", "npz:", "cifar10:", "cifar100:", "svhn:")
#: the control where an encoder names none: mean pixels, which cannot have memorized anything
PIXELS = "pixels:8"


@dataclass(frozen=True, slots=True)
class Others:
    """Names of the supervised twin and of the control, None where there is none; `no_control`: why not."""

    twin: str | None
    control: str | None
    no_control: str | None

    def encoding_of_twin(self, asked: Encoding) -> Encoding:
        """How the twin sees the images of an encoder that is encoded as `asked`."""
        return asked.of_default_feature().for_encoder(self.twin or "")

    def encoding_of_control(self, asked: Encoding) -> Encoding:
        """How the control sees them."""
        return asked.of_default_feature().for_encoder(self.control or "")


def choose_others(
    spec: Mapping[str, Any],
    data: str,
    question: Question,
    *,
    data_id: str | None,
    n_images: int,
    say: Callable[[str], None],
) -> Others:
    """The twin and the control of one run.

    "auto" takes the twin that the encoder names, if it was trained on the data's labels and these are predicted, and a
    control where one is cheap.

    Parameters
    ----------
    spec : of the encoder, as its bank holds it
    data, data_id, n_images : URI, which published data these are, and how many images are encoded
    """
    twin = None if question.supervised == "none" else question.supervised
    if twin == "auto":
        twin = _twin(spec, data_id, question.target, say)
    chosen, why_not = _control(spec, data, n_images, question.control)
    return Others(twin, chosen, why_not)


def _twin(
    spec: Mapping[str, Any], data_id: str | None, target: Target | None, say: Callable[[str], None]
) -> str | None:
    """The twin that the encoder names, where it was trained on the labels that are predicted."""
    name, labels = spec.get("supervised_twin"), spec.get("twin_labels_id")
    if target is not None or not isinstance(name, str) or not isinstance(labels, str):
        return None
    if saw(labels, data_id) is not True:
        return None
    try:
        describe_encoder(name)
    except SslRiskError as error:
        say(f"No supervised twin is used: {error}")
        return None
    return name


def _control(spec: Mapping[str, Any], data: str, n_images: int, asked: str) -> tuple[str | None, str | None]:
    """The control encoder, or why there is none."""
    if asked == "none":
        return None, "none was asked for"
    if asked != "auto":
        return asked, None
    if not data.startswith(CHEAP_DATA) and n_images > CHEAP_IMAGES:
        return None, f"encoding {n_images:,} images once more takes long (--control {PIXELS} adds one)"
    random_twin = spec.get("random_twin")
    return (random_twin if isinstance(random_twin, str) and spec.get("source") == "bundled" else PIXELS), None
