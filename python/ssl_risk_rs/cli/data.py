"""`ssl-risk-rs data`: the data sets one can name."""

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli.audit import audit


@click.group()
def data() -> None:
    """List, show and check data sets.

    \b
    ssl-risk-rs data list
    """


data.add_command(audit)


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


_group = click.option("--group", metavar="COLUMN", help="Column of groups: patients, slides, scenes.")
_limit = click.option("--limit", metavar="N|N/class", help="Fewer images of each split, or of each class.")


@data.command()
@click.argument("uri")
@_limit
@_group
@opt.format_option
def show(uri: str, limit: str | None, group: str | None, form: str) -> None:
    """Count the images, classes and groups of a data set; no image is decoded.

    `groups_on_both_sides` counts the groups that have training and test images: they make a test part easier than
    new groups would.

    \b
    ssl-risk-rs data show folder:imgs?group=parent --group group
    """
    from ssl_risk_rs.datasets import create_dataset

    dataset = create_dataset(uri, limit=limit, group=group)
    samples = dataset.samples
    n_train = int((samples["split"] == "train").sum())
    for note in dataset.notes:
        opt.say(note)
    row: dict[str, str | int] = {
        "data": dataset.uri,
        "identity": dataset.identity.kind or "unknown",
        "train": n_train,
        "test": len(dataset) - n_train,
        "classes": len(dataset.class_names),
    }
    if group is not None:
        train, test = (set(samples.filter(samples["split"] == part)[group].to_list()) for part in ("train", "test"))
        row |= {"groups": len(train | test), "groups_on_both_sides": len(train & test)}
    opt.print_rows([row | {"fingerprint": dataset.fingerprint()}], form)


@data.command()
@click.argument("uri")
@_limit
@click.option("--workers", type=opt.AutoInt(0), default="auto", show_default=True, help="Image decoders.")
@opt.format_option
def check(uri: str, limit: str | None, workers: int | str, form: str) -> None:
    """Decode every image; list those that cannot be decoded, and test images that are training images too.

    A test image is a training image if the bytes of the two files, or the pixels of the two arrays, are equal. The
    exit status is 1 if there is anything to list.

    \b
    ssl-risk-rs data check folder:imgs
    """
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.datasets import create_dataset, find_overlap
    from ssl_risk_rs.events import Event
    from ssl_risk_rs.extraction.decoding import count_cpus, count_images, find_corrupt

    dataset = create_dataset(uri, limit=limit)
    total = len(dataset)
    with EventDisplay() as progress:
        corrupt = find_corrupt(
            dataset,
            workers=count_cpus() if isinstance(workers, str) else workers,
            progress=lambda rows: progress(Event("scan", rows, total)),
        )
        overlap = find_overlap(dataset, progress=lambda rows: progress(Event("compare", rows, total)))
    opt.say(
        f"{count_images(total)} decoded, {len(corrupt):,} cannot be; "
        f"{count_images(overlap.n_test)} of the test part are training images too"
    )
    rows = [{"image": image.where, "reason": image.reason} for image in corrupt]
    pairs = overlap.examples(dataset, show=overlap.n_test)
    rows += [{"image": test, "reason": f"the same content as training image {train}"} for test, train in pairs]
    if rows:
        opt.print_rows(rows, form)
        raise click.exceptions.Exit(1)
