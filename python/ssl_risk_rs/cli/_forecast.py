"""What --dry-run prints."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ssl_risk_rs.cli import _printing as printing

if TYPE_CHECKING:
    from ssl_risk_rs.extraction.forecast import Forecast

__all__ = ["print_forecasts"]


def print_forecasts(forecasts: "Sequence[Forecast]", form: str, *, fits: bool = False) -> None:
    """A line for each bank on stdout, what was timed on stderr. `fits`: fits would follow."""
    for timed in {(entry.encoder, entry.timed): entry for entry in forecasts if entry.timed}.values():
        corrupt = f", {timed.corrupt} of them cannot be decoded" if timed.corrupt else ""
        printing.say(
            f"{timed.encoder}: {timed.timed:,} images were timed on {timed.device} in batches of {timed.batch_size}"
            f"{corrupt}; the others wait for: {timed.bottleneck}."
        )
    printing.say(f"Nothing was written. The time for start-up{' and fits' if fits else ''} comes on top.")
    if form != "table":
        printing.print_rows([asdict(entry) for entry in forecasts], form)
        return
    printing.print_rows(
        [
            {
                "encoder": entry.encoder,
                "feature": entry.feature,
                **({} if entry.view is None else {"view": entry.view}),
                "rows": f"{entry.rows:,}",
                "missing": f"{entry.missing:,}",
                "dtype": entry.dtype,
                "MB": f"{entry.bytes / 1e6:,.1f}",
                "images/s": "" if entry.images_per_second is None else f"{entry.images_per_second:,.0f}",
                "minutes": f"{entry.seconds / 60:,.2f}",
                "memory_MB": "" if entry.memory is None else f"{entry.memory / 1e6:,.0f}",
            }
            for entry in forecasts
        ],
        form,
    )
