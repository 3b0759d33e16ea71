"""What is asked of an encoder on data, as one value, and the key by which a finished answer is found again."""

import hashlib
import json
from dataclasses import dataclass, field

from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.targets import Target
from ssl_risk_rs.extraction.settings import Encoding

__all__ = ["Question"]


@dataclass(frozen=True, slots=True)
class Question:
    """What `evaluate` is asked but model, data and where things are.

    Attributes
    ----------
    probes : "logistic", "ridge"; settings : of each, whatever probe they name
    group : column of groups; target : column that is predicted instead of the labels
    drop_unlabelled : leave rows without a value of the target out instead of refusing them
    supervised, control : "auto", "none" or an encoder's name
    encoding : which features of which images, and how
    """

    probes: tuple[str, ...] = ("logistic",)
    settings: Settings = field(default_factory=Settings)
    group: str | None = None
    target: Target | None = None
    drop_unlabelled: bool = False
    supervised: str = "auto"
    control: str = "auto"
    encoding: Encoding = field(default_factory=Encoding)

    def content(self) -> dict[str, object]:
        """What changes the numbers of an answer, JSON-ready; not which features, which a bank's key says."""
        content: dict[str, object] = {
            "probes": sorted(self.probes),
            "settings": self.settings.asked(),
            "group": self.group,
            "target": None if self.target is None else [self.target.column, self.target.kind],
            "supervised": self.supervised,
            "control": self.control,
        }
        return content | ({"drop_unlabelled": True} if self.drop_unlabelled else {})  # keys of older answers stay

    def key(self, *more: object) -> str:
        """A short hash of `content` and whatever else tells questions apart."""
        text = json.dumps([self.content(), *more], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
