"""`ssl-risk-rs data`: the data sets one can name."""

import textwrap

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing
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

    if form != "table":
        printing.print_rows([{"example": entry.example, "layout": entry.layout} for entry in list_datasets()], form)
        return
    width = max(printing.width() or 80, 40)
    for entry in list_datasets():
        printing.show(entry.example)
        printing.show(textwrap.fill(entry.layout, width, initial_indent="    ", subsequent_indent="    "))


_group = click.option("--group", metavar="COLUMN", help="Column of groups: patients, slides, scenes.")
_limit = click.option(
    "--limit", type=opt.LIMIT, metavar="N|N/class", help="Fewer images of each split, or of each class."
)


@data.command()
@click.argument("uri")
@_limit
@_group
@opt.split_option
@opt.format_option
def show(uri: str, limit: str | None, group: str | None, split: str | None, form: str) -> None:
    """Count the images, classes and groups of a data set; no image is decoded.

    `groups_on_both_sides` counts the groups that have training and test images: they make a test part easier than
    new groups would.

    \b
    ssl-risk-rs data show folder:imgs?group=parent --group group
    """
    from ssl_risk_rs.datasets import create_dataset

    dataset = create_dataset(uri, limit=limit, group=group, split=split)
    samples = dataset.samples
    n_train = int((samples["split"] == "train").sum())
    for note in dataset.notes:
        printing.say(note)
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
    row |= {"columns": ", ".join(samples.columns[5:]), "fingerprint": dataset.fingerprint()}
    if form != "table":
        printing.print_rows([row], form)
        return
    widest = max(map(len, row))
    for name, value in row.items():
        printing.show(f"{name:{widest}}  {value:,}" if isinstance(value, int) else f"{name:{widest}}  {value}".rstrip())


@data.command()
@click.argument("uri")
@_limit
@_group
@opt.split_option
@click.option("--workers", type=opt.AutoInt(0), default="auto", show_default=True, help="Image decoders.")
@opt.format_option
def check(uri: str, limit: str | None, group: str | None, split: str | None, workers: int | str, form: str) -> None:
    """Look at every row and decode every image: counts, classes, sizes, corrupt files, duplicates, groups.

    Two images are duplicates if the bytes of their files, or the pixels of their arrays, are equal. A note is
    something to know. A fault makes the exit status 1: a run would refuse the data, or test images are training images.

    \b
    ssl-risk-rs data check folder:imgs
    """
    from ssl_risk_rs._cpus import count_cpus
    from ssl_risk_rs.cli._findings import finish, print_findings
    from ssl_risk_rs.cli._progress import EventDisplay
    from ssl_risk_rs.datasets import create_dataset
    from ssl_risk_rs.workflow.doctor_data import check_data

    dataset = create_dataset(uri, limit=limit, group=group, split=split)
    for note in dataset.notes:
        printing.say(note)
    with EventDisplay() as progress:
        threads = count_cpus() if isinstance(workers, str) else workers
        findings = check_data(dataset, group=group, workers=threads, report=progress)
    finish(print_findings(findings, form))
