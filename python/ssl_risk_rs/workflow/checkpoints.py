"""Many checkpoints, or encoders, in one line: a run for each, one curve over epochs, what changed at each step.

`ckpt:runs/ep*.pth@resnet18` stands for the files that match, in the order of their epochs.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ssl_risk_rs.encoders.names import expand_names, parse_name
from ssl_risk_rs.encoders.sources.files import file_facts, weights_files
from ssl_risk_rs.encoders.weights.epochs import epoch_of, without_suffixes
from ssl_risk_rs.errors import ParameterError, SslRiskError
from ssl_risk_rs.events import Report, once
from ssl_risk_rs.results.many import Curve, EpochFrom
from ssl_risk_rs.results.run import Run
from ssl_risk_rs.workflow.banks import RunBanks, banks_of, ensure_for
from ssl_risk_rs.workflow.evaluate import answer_of
from ssl_risk_rs.workflow.many import Item, Kept, RunFolder, paired_steps, run_each
from ssl_risk_rs.workflow.question import Question

__all__ = ["evaluate_checkpoints", "short_names"]


def evaluate_checkpoints(
    models: Sequence[str],
    data: str,
    question: Question,
    *,
    folder: Path,
    force: bool = False,
    command: str = "",
    store: "Path | str | None" = None,
    say: Callable[[str], None] = lambda _: None,
    report: Report | None = None,
    data_named: bool = True,
) -> Curve:
    """Evaluate several encoders on the same data, and pair each with the one before it.

    Parameters
    ----------
    models : names, and patterns of checkpoints
    folder : gets a run folder for each; what is finished there is not made again
    force : make all of them again
    command : that is recorded with each run
    store, say, report, data_named : as for `evaluate`

    Returns
    -------
    Curve, ordered by epoch where every one has one, else as given; those that failed are named in it

    Raises
    ------
    EncoderError for a pattern that matches nothing; ResultError for a folder that holds something else.
    """
    names = expand_names(models)
    if len(names) < 2:
        raise ParameterError(f"a curve needs at least two encoders, got {', '.join(names) or 'none'}")
    layers = question.encoding.layers or ()
    if len(layers) > 1:
        raise ParameterError("several encoders take one of their features: name one layer, or one encoder")
    runs = RunFolder(folder, question.key(), force=force)
    called = dict(zip(names, short_names(names), strict=True))
    stamps = {name: _stamp(name) for name in names}  # before what the files say is read
    epochs = {name: _epoch(name, runs.kept.get(called[name])) for name in names}
    _say_epochs({called[name]: epoch for name, epoch in epochs.items()}, say)
    if all(epoch is not None for epoch, _ in epochs.values()):
        names.sort(key=lambda name: epochs[name][0] or 0.0)  # the sort is stable: the order of names among equals

    say_once = once(say)  # all are of the same data
    ensure = ensure_for(data, question, store=store, say=say_once, report=report)

    def banks(name: str) -> RunBanks:
        return banks_of(name, data, question, ensure, encoding=question.encoding.for_encoder(name), say=say_once)

    items = [
        Item(
            called[n],
            n,
            partial(banks, n),
            epoch=epochs[n][0],
            epoch_from=epochs[n][1],
            stamp=stamps[n],
            stamp_now=partial(_stamp, n),
        )
        for n in names
    ]

    def run_of(item: Item, made: RunBanks) -> tuple[Run, SslRiskError | None]:
        return answer_of(made, item.model, data, question, report=report, data_named=data_named)

    entries, failed = run_each(items, runs, run_of, command=command, say=say)
    return Curve(tuple(entries), tuple(failed), paired_steps(entries, say))


def _epoch(name: str, kept: Kept | None) -> tuple[float, EpochFrom] | tuple[None, None]:
    if kept is not None and kept.epoch is not None and kept.epoch_from is not None and kept.stamp == _stamp(name):
        return kept.epoch, kept.epoch_from
    parsed = parse_name(name)
    return epoch_of(Path(parsed.target)) if parsed.kind == "checkpoint" else (None, None)


def _stamp(name: str) -> str:
    """Path, size and time of a checkpoint's files; reading an epoch out of them costs loading them."""
    return " ".join(str(fact) for file in weights_files(parse_name(name)) for fact in file_facts(file)) or name


def _say_epochs(epochs: "dict[str, tuple[float, EpochFrom] | tuple[None, None]]", say: Callable[[str], None]) -> None:
    by_origin: dict[str | None, list[str]] = {}
    for name, (_, origin) in epochs.items():
        by_origin.setdefault(origin, []).append(name)
    if "file" in by_origin:
        say(f"The epochs of {_some(by_origin['file'])} are those that the files record.")
    if "name" in by_origin:
        told = [f"{name} ({epochs[name][0]:g})" for name in by_origin["name"]]
        say(f"The epochs of {_some(told)} are numbers in their names: the files record none.")
    if None in by_origin and len(by_origin) > 1:
        say(f"No epoch is known of {_some(by_origin[None])}, so the runs stay in the order given.")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"


def short_names(names: Sequence[str]) -> list[str]:
    """What several encoders are called: files by their stem, with as many folders as tell them apart."""
    paths = [Path(p.target) if (p := parse_name(name)).kind == "checkpoint" else None for name in names]
    for depth in range(1, max((len(p.parts) for p in paths if p), default=1) + 1):
        found = [
            name if path is None else "/".join([*path.parts[-depth:-1], without_suffixes(path.name) or path.name])
            for name, path in zip(names, paths, strict=True)
        ]
        if len(set(found)) == len(found):
            return found
    return list(names)
