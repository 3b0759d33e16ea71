"""`ssl-risk-rs data`: the data sets one can name."""

import click

from ssl_risk_rs.cli import _options as opt


@click.group()
def data() -> None:
    """List, show and check data sets.

    \b
    ssl-risk-rs data list
    """


@data.command("list")
@opt.format_option
def list_(form: str) -> None:
    """List the ways to name images.

    \b
    ssl-risk-rs data list
    """
    from ssl_risk_rs.datasets import list_datasets

    rows = [{"example": entry.example, "layout": entry.layout} for entry in list_datasets()]
    opt.print_rows(rows, form)


@data.command()
@click.argument("uri")
@click.option("--limit", metavar="N|N/class", help="Fewer images of each split, or of each class.")
@opt.format_option
def show(uri: str, limit: str | None, form: str) -> None:
    """Count the images and classes of a data set; no image is decoded.

    \b
    ssl-risk-rs data show digits
    """
    from ssl_risk_rs.datasets import create_dataset

    dataset = create_dataset(uri, limit=limit)
    n_train = int((dataset.samples["split"] == "train").sum())
    for note in dataset.notes:
        opt.say(note)
    opt.print_rows(
        [
            {
                "data": dataset.uri,
                "train": n_train,
                "test": len(dataset) - n_train,
                "classes": len(dataset.class_names),
                "fingerprint": dataset.fingerprint(),
            }
        ],
        form,
    )


@data.command()
@click.argument("uri")
@click.option("--limit", metavar="N|N/class", help="Fewer images of each split, or of each class.")
@click.option("--workers", type=opt.AutoInt(0), default="auto", show_default=True, help="Image decoders.")
@opt.format_option
def check(uri: str, limit: str | None, workers: int | str, form: str) -> None:
    """Decode every image and list those that cannot be decoded; exit status 1 if there are any.

    \b
    ssl-risk-rs data check folder:imgs
    """
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.datasets import create_dataset
    from ssl_risk_rs.extraction.decoding import count_cpus, count_images, find_corrupt
    from ssl_risk_rs.extraction.settings import Progress

    dataset = create_dataset(uri, limit=limit)
    total = len(dataset)
    with EventDisplay() as progress:
        corrupt = find_corrupt(
            dataset,
            workers=count_cpus() if isinstance(workers, str) else workers,
            progress=lambda rows: progress(Progress("scan", rows, total)),
        )
    opt.say(f"{count_images(total)} decoded, {len(corrupt):,} cannot be")
    if corrupt:
        opt.print_rows([{"image": image.where, "reason": image.reason} for image in corrupt], form)
        raise click.exceptions.Exit(1)
