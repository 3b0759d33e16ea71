"""How fast each stage of an extraction was, kept beside the part that it wrote.

`NAME.rates.json` in the bank's folder has one entry for each run that added rows to part NAME. Readers of the bank
ignore it (docs/bank-format.md), and losing it loses no feature.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ssl_risk_rs._files import publish

__all__ = ["Bottleneck", "ExtractionRates", "describe_rates", "read_rates", "write_rates"]

Bottleneck = Literal["decode", "encode", "write"]


@dataclass(frozen=True, slots=True)
class ExtractionRates:
    """Seconds of each stage of one run.

    Attributes
    ----------
    images : encoded by this run
    seconds : from the first image asked for to the last feature handed over
    workers : that decoded, 0 where that was done between batches
    batch_size : at the end
    decode, transform, collate : busy seconds of all workers together: files to pixels, pixels to tensors, one tensor
    encode : seconds that the device was busy
    write : seconds that the writing thread was busy
    bytes : of features committed
    first_block : seconds until the first block was on disk; None if none was
    waited : seconds that the loop waited for each stage; the largest is the bottleneck
    """

    images: int
    seconds: float
    workers: int
    batch_size: int
    decode: float
    transform: float
    collate: float
    encode: float
    write: float
    bytes: int
    first_block: float | None
    waited: Mapping[Bottleneck, float] = field(default_factory=dict)

    @property
    def bottleneck(self) -> Bottleneck:
        """What the others waited for."""
        return max(self.waited, key=self.waited.__getitem__)

    def images_per_second(self) -> dict[str, float]:
        """Images/s of the whole, and what each stage would have given if nothing else had held it up."""
        decoding = self.decode + self.transform + self.collate
        seconds = {
            "whole": self.seconds,
            "decode": decoding / max(1, self.workers),
            "encode": self.encode,
            "write": self.write,
        }
        return {stage: self.images / took for stage, took in seconds.items() if took > 0}


def write_rates(bank: Path, part: str, rates: ExtractionRates) -> None:
    """Add a run to the part's record; a disk that has no room for it is no error of the extraction."""
    path = bank / f"{part}.rates.json"
    entry = {**asdict(rates), "bottleneck": rates.bottleneck, "images_per_second": rates.images_per_second()}
    text = json.dumps([*_entries(path), entry], indent=1)
    with suppress(OSError):
        publish(path, lambda file: file.write_text(text, encoding="utf-8"))


def read_rates(bank: Path) -> dict[str, list[dict[str, object]]]:
    """The recorded runs of each part of a bank, in the order in which they ran."""
    return {path.name.removesuffix(".rates.json"): _entries(path) for path in sorted(bank.glob("*.rates.json"))}


def describe_rates(run: Mapping[str, Any]) -> str:
    """A recorded run in a line: `955 images, 63 a second (decode 120, encode 70, write 9000), waiting for: encode`."""
    rates = run["images_per_second"]
    stages = ", ".join(f"{stage} {rate:.0f}" for stage, rate in rates.items() if stage != "whole")
    return (
        f"{run['images']:,} images, {rates.get('whole', 0):.0f} a second ({stages}), waiting for: {run['bottleneck']}"
    )


def _entries(path: Path) -> list[dict[str, object]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a record of speed is not worth an error
        return []
    wanted = {"images", "images_per_second", "bottleneck"}
    runs = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    return [run for run in runs if wanted <= run.keys() and isinstance(run["images_per_second"], dict)]
