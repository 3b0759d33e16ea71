"""`ssl-risk-rs bench`."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing

if TYPE_CHECKING:
    from ssl_risk_rs.workflow.bench import Measured


@click.command()
@opt.one_option("-m", "--model", default=["random:resnet50"], show_default=True, help="Encoder that is timed.")
@opt.one_option("-d", "--data", help="Images that are decoded; default, 64 drawn JPEGs of ImageNet's size.")
@click.option("--device", default="auto", show_default=True, help="Encoder and probes run on auto, cpu, cuda, cuda:1 …")
@click.option("--threads", "n_threads", type=opt.THREADS, help="Threads of the probes' kernels; default, all cores.")
@click.option("--rows", type=int, default=32_768, show_default=True, help="Rows of the drawn features.")
@click.option("--features", type=int, help="Features of each row; default, as many as the encoder has.")
@click.option("--classes", type=int, default=1000, show_default=True, help="Classes of the rows.")
@opt.format_option
def bench(
    model: str,
    data: str | None,
    device: str,
    n_threads: int | None,
    rows: int,
    features: int | None,
    classes: int,
    form: str,
) -> None:
    """Time what a run does on this machine: decode, encode, sum, score, fit.

    Each stage runs by itself for some seconds, on images and features that are drawn unless others are named; nothing
    is kept. The last rows say what a run on ImageNet would take at these rates: the images, which wait for the slower
    of decoding and encoding (on a CPU for both), and the decomposition by each probe. A whole run on your own data is
    timed by `run --dry-run`.

    \b
    ssl-risk-rs bench -m timm:vit_small_patch14_dinov2 -d folder:imgs
    """
    from ssl_risk_rs.workflow.bench import bench_machine

    measured = list(
        bench_machine(
            model=model, data=data, device=device, encoder_device=opt.encoder_device(device), n_threads=n_threads,
            n_rows=rows, n_features=features, n_classes=classes, say=printing.say,
        )
    )  # fmt: skip
    if form == "table":
        printing.print_rows([_shown(one) for one in measured], form)
    else:
        printing.print_rows([asdict(one) for one in measured], form)


def _shown(measured: "Measured") -> dict[str, str]:
    rate = measured.per_second
    return {
        "stage": measured.stage,
        "per second": "" if rate is None else f"{rate:,.0f} {'images' if measured.stage in IMAGES else 'rows'}",
        "took": _time(measured.seconds),
        "what": measured.how,
    }


#: stages whose rates count images
IMAGES = ("decode", "encode")


def _time(seconds: float) -> str:
    """Seconds, minutes or hours, to three digits."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
