"""`ssl-risk-rs doctor model`."""

from typing import Any

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing

#: images of each class that half precision is measured on: enough for an interval of a few points
LIMIT = "50/class"


@click.command()
@click.argument("name")
@opt.one_option("-d", "--data", help="Half precision is measured on these images; without them it is not.")
@click.option(
    "--limit", type=opt.LIMIT, metavar="N|N/class", default=LIMIT, show_default=True, help="Fewer images of each split."
)
@opt.img_size_option
@opt.store_option
@opt.device_option
@opt.offline_option
@opt.format_option
def model(name: str, data: str | None, store: str | None, form: str, **options: Any) -> None:
    """Examine an encoder: eval mode, determinism, independence of the batch, transform, precision, golden vectors.

    Eight images made by code go through it, in several orders and batches. Their features are kept in the cache at
    the first call and compared ever after. With data, it is measured by how many points of risk half precision moves
    a probe.

    \b
    ssl-risk-rs doctor model demo_ssl -d digits
    """
    from ssl_risk_rs.cli._findings import finish, print_findings
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.extraction.settings import Encoding, ExtractionSettings
    from ssl_risk_rs.workflow.doctor_model import examine_model

    if data is None:
        opt.refuse_typed("is of images that half precision is measured on: name them with -d", "limit", "store")
    settings = ExtractionSettings(device=options["device"])
    encoding = Encoding(limit=options["limit"], img_size=options["img_size"], settings=settings)
    with EventDisplay() as report:
        found = examine_model(name, data, store=store, encoding=encoding, say=printing.say, report=report)
        done = print_findings(found, form)
    finish(done)
