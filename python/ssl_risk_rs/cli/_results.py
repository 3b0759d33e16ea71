"""Options of commands that decompose, as typed values, and how their results leave."""

import errno
import functools
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing
from ssl_risk_rs.errors import ParameterError

if TYPE_CHECKING:
    from ssl_risk_rs.decomposition.targets import Target
    from ssl_risk_rs.errors import SslRiskError
    from ssl_risk_rs.results import Run
    from ssl_risk_rs.workflow.question import Question

__all__ = [
    "Ending", "beside_an_encoder", "check_question", "decomposition_options", "default_folder", "keeper",
    "probe_options",
]  # fmt: skip

Command = TypeVar("Command", bound=Callable[..., Any])

#: page of a run folder, or of a folder of several
PAGE = "report.html"

#: fields of `Settings` that options set under their own name
_FIELDS = (
    "protocol", "seed", "n_threads", "tol", "scaling", "n_subsets", "confidence", "midpoint", "shared_groups",
    "tune_on", "random_counts", "overlap", "device", "metrics", "shots", "draws", "labels_for", "order",
)  # fmt: skip


def beside_an_encoder(question: "Question") -> "Question":
    """The same where --device is the encoder's first of all: probes go to that GPU where they pay for it."""
    device = question.settings.device
    if not device.startswith("cuda"):
        return question
    return replace(question, settings=replace(question.settings, device=f"auto:{device}"))


def check_question(question: "Question") -> None:
    """Complain about what cannot be asked for before images are encoded, not after."""
    from ssl_risk_rs.workflow.probes import settings_of

    if question.drop_unlabelled and question.target is None:
        raise click.UsageError(
            "--drop-unlabelled leaves out images without a value of --target, or rows of features; name one of them"
        )
    try:
        settings_of(question.probes, question.settings)
    except ParameterError as error:
        raise click.UsageError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Ending:
    """Where the result goes."""

    form: str
    out: str | None
    force: bool
    strict_convergence: bool
    report: bool = False

    def check(self) -> None:
        """Complain about the run folder before the work, not after."""
        from ssl_risk_rs.results import check_target

        check_target(self.out if self.out is not None else default_folder("run"), force=self.force)

    def finish(self, run: "Run", failure: "SslRiskError | None") -> None:
        """Write the record, then print what the terminal can show, and say where the record is.

        Where it cannot be written, the result is printed all the same.
        """
        from ssl_risk_rs.errors import ResultError

        run = replace(run, provenance=replace(run.provenance, command=opt.command_line()))
        target = self.out or default_folder(run.provenance.encoder)
        unsaved, unprinted, folder = "", "", None
        try:
            folder = run.save(target, force=self.force)
        except (OSError, ResultError) as error:
            reason = str(error) if isinstance(error, ResultError) else f"{target}: {error.strerror or error}"
            remedy = "run it again" if isinstance(error, ResultError) else "make room or name another, and run it again"
            unsaved = f"the result above has no record ({reason}); {remedy}"
        try:
            self._print(run, folder)
        except OSError as error:  # a closed pipe, or a stdout that was never there
            there = "" if folder is None else f"; it is in {folder}"
            unprinted = f"The result cannot be printed ({error.strerror or error}){there}."
            if error.errno in (None, errno.EPIPE, errno.EBADF):
                printing.say(unprinted)
                unprinted = ""
            # what is still in the buffer would fail again when the interpreter ends
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # open until the interpreter ends
        if failure is not None:
            where = unsaved or f"What was finished before is in {folder}."
            raise click.ClickException(f"{failure}\n{where}")
        if unsaved or unprinted:
            raise click.ClickException(" ".join(text for text in (unprinted, unsaved) if text))
        if folder is not None:
            self.write_page(folder)
        self.judge_fits(run)

    def write_page(self, folder: "Path") -> None:
        """Write report.html into the folder of one run or of several, where --report asks for it."""
        if not self.report:
            return
        from ssl_risk_rs.report.build import build_page
        from ssl_risk_rs.report.files import write_html
        from ssl_risk_rs.workflow.reporting import gather

        write_html(build_page(gather([folder], say=printing.say), made_by=opt.command_line()), folder / PAGE)
        printing.say(f"The report is in {folder / PAGE}.")

    def _print(self, run: "Run", folder: "Path | None") -> None:
        from ssl_risk_rs.report.sentences import notes
        from ssl_risk_rs.report.shots import forecast_sentences
        from ssl_risk_rs.report.text import render

        if self.form == "table":
            printing.show(render(run, printing.width()))
            self._print_published(run)
            draws = ", draws_*.parquet" if any(d.shots for d in run.decompositions) else ""
            if folder is not None:
                printing.show(f"  The record is in {folder} (run.json, results.parquet, outcomes.npz{draws}).")
                if not self.report:
                    printing.show(f"  A page of it:  ssl-risk-rs report {shlex.quote(str(folder))} --html report.html")
        else:
            printing.print_rows(replace(run, path=folder).frame().to_dicts(), self.form)
            for note in dict.fromkeys(n.sentence() for d in run.decompositions for n in notes(d, run.provenance)):
                printing.say(note)
            for d in run.decompositions:
                for sentence in [*forecast_sentences(d), *(n.sentence() for shot in d.shots for n in shot.notes)]:
                    printing.say(f"{d.method.probe} probe: {sentence}")
            if folder is not None:
                printing.say(f"The record is in {folder}.")

    def _print_published(self, run: "Run") -> None:
        """The published numbers of the encoder beside its own, if there are any on this machine."""
        from ssl_risk_rs.report.published import render_beside
        from ssl_risk_rs.results.counterpart import NotPublished
        from ssl_risk_rs.workflow import published

        table = published.find_published(printing.say)
        if isinstance(table, NotPublished):
            if table is NotPublished.NOT_FETCHED and published.is_published(run.provenance.encoder):
                printing.say(
                    "ssl-risk-rs paper fetch downloads the published numbers of this encoder, to show them beside."
                )
            return
        for found in published.beside(run, table):
            printing.show("\n" + render_beside(found, table.frame.height, printing.width()))

    def judge_fits(self, run: "Run") -> None:
        """Say which fits missed their tolerance; complain where --strict-convergence is asked for."""
        fits = [(d, f) for d in run.decompositions for f in (*d.fits, *(f for shot in d.shots for f in shot.fits))]
        missed = [f for _, f in fits if f.missed]
        if missed:
            printing.say(f"{len(missed)} fits did not reach their tolerance: {', '.join(f.role for f in missed)}.")
        tuning = sum(shot.tuning_missed for d in run.decompositions for shot in d.shots)
        if tuning:
            printing.say(f"{tuning} fits that tuned few-shot penalties did not reach their tolerance.")
        unproven = [f for d, f in fits if f.unproven(d.method.tol)]
        if self.strict_convergence and (missed or unproven):
            raise click.ClickException(
                f"{len(missed) + len(unproven)} fits have no proof of their tolerance (--strict-convergence); the run "
                "is saved"
            )


def _errors(_: click.Context, __: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """`20,7.5` → (0.2, 0.075)."""
    if value is None:
        return None
    try:
        return tuple(float(part) / 100 for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of errors in percent, for example 20,10") from None


def _target(column: str | None, kind: Any) -> "Target | None":
    if column is None:
        if kind != "auto":
            raise click.UsageError("--target-kind says how a column is read: name it with --target")
        return None
    from ssl_risk_rs.decomposition.targets import Target

    return Target(column, kind)


def probe_options(command: Command, *, shots: str | None = None) -> Command:
    """Options of the probe, the protocol and the intervals: `question`; `shots` are those where none are named."""
    options = [
        click.option(
            "--probe",
            type=click.Choice(["logistic", "ridge", "both"]),
            default="logistic",
            show_default=True,
            help="The logistic probe is the paper's; ridge is faster and good for screening.",
        ),
        click.option(
            "--protocol",
            type=click.Choice(["strict", "paper"]),
            default="strict",
            show_default=True,
            help="Under strict no choice sees the rows it is judged on; paper makes the authors' choices.",
        ),
        click.option(
            "--metric", "metrics", default="error", show_default=True, metavar="error,balanced,top5,log_loss,ece",
            help="The components are given in these metrics too, from the same judged rows. The 0-1 error is always "
            "there; penalties are tuned as --tune-on says.",
        ),
        click.option(
            "--tune-on", type=click.Choice(["error", "balanced"]), default="error", show_default=True,
            help="Penalties are tuned on the 0-1 error of held-out rows, or on its mean over classes, which small "
            "classes decide as much as large ones.",
        ),
        click.option(
            "--order", type=click.Choice(["paper", "alternative", "both"]), default="paper", show_default=True,
            help="The error of finite labels is measured before that of unseen images, after it, or both, with the "
            "mean of the orders. The last two cost one more fit.",
        ),
        click.option(
            "--scaling",
            type=click.Choice(["standardize", "minmax", "none"]),
            help="Features are scaled from the probe's own training rows. The default is standardize, under the "
            "paper's protocol none.",
        ),
        click.option(
            "--group", metavar="COLUMN",
            help="Rows with the same value in this column (patient, slide, scene) stay together in every split, and "
            "intervals are by group.",
        ),
        click.option(
            "--target", metavar="COLUMN[,...]",
            help="This column (site, scanner, batch, age) is predicted instead of the labels: how readable is it? The "
            "rows and the draw of splits stay. Several names or patterns are several numbers, or labels of 0 and 1.",
        ),
        click.option(
            "--target-kind", type=click.Choice(["auto", "classes", "numbers", "labels"]), default="auto",
            show_default=True,
            help="With auto, text and up to 50 different whole numbers are classes, several columns of 0 and 1 are "
            "labels, and all else are numbers. Numbers and labels need --probe ridge.",
        ),
        click.option(
            "--shared-groups", type=click.Choice(["refuse", "warn"]),
            help="A group that has training and test rows is refused, or warned of. The default is refuse, under the "
            "paper's protocol warn.",
        ),
        click.option(
            "--overlap", type=click.Choice(["refuse", "warn"]),
            help="Test images that are training images are refused, or warned of. The default is refuse, under the "
            "paper's protocol warn. Of features without images, equal rows are warned of, and refused if asked.",
        ),
        click.option(
            "--splits", "n_subsets", type=opt.SPLITS,
            help="R_AS is averaged over this many held-out training subsets. The default is 3, or 1 where a fit takes "
            "minutes.",
        ),
        click.option(
            "--random-counts", is_flag=True,
            help="Intervals are over samples whose class counts vary, as those of rows that are drawn at random do. By "
            "default every sample has the class counts at hand.",
        ),
        click.option(
            "--midpoint/--no-midpoint", default=None,
            help="Probes of the held-out subsets are fitted at the floor too, for the midpoint of R_AF. The default is "
            "yes where it takes seconds.",
        ),
        click.option(
            "--shots", metavar="1%,30,5,3|auto", default=shots,
            help="These few-shot sizes are decomposed too: rows of each class, or a share of the training rows. With "
            "auto, those of 1 %, 30, 5 and 3 that the data allow.",
        ),
        click.option(
            "--draws", type=click.IntRange(2), metavar="N",
            help="This many draws are made of each few-shot size. The default is 10, raised to 20 where their spread "
            "decides the interval.",
        ),
        click.option(
            "--labels-for", callback=_errors, metavar="PERCENT,...",
            help="The labels that these errors need are printed. The default is up to three round ones between the "
            "measured sizes.",
        ),
        click.option(
            "--ci", "confidence", type=opt.CONFIDENCE, default=0.95,
            show_default=True, help="This is the confidence of the intervals.",
        ),
        click.option(
            "--seed", type=opt.SEED, help="Splits are drawn by sample id and this seed. The default is 0."
        ),
        click.option("--tol", type=opt.TOLERANCE,
                     help="Logistic fits end at this relative suboptimality, 1e-7 or more: a share of the loss, or of "
                     "what the weights lower it by where that is less. The default is 1e-6 for small data, else 3e-4, "
                     "and 1e-3 for fits that only tune."),
        click.option("--threads", "n_threads", type=opt.THREADS,
                     help="So many threads fit probes. The default is all cores."),
        click.option(
            "--device", default="auto", show_default=True,
            help="Probes, and an encoder, run on auto, cpu, cuda, cuda:1, or cuda:0,cuda:1. With an encoder, and with "
            "auto or auto:cuda:1, probes use the GPU where it pays: small ones are faster on the CPU.",
        ),
    ]  # fmt: skip

    @functools.wraps(command)
    def typed(**given: Any) -> Any:
        from ssl_risk_rs.decomposition.settings import Settings
        from ssl_risk_rs.workflow.question import Question

        probe = given.pop("probe")
        try:
            settings = Settings(**{name: given.pop(name) for name in _FIELDS})
        except ParameterError as error:
            raise click.UsageError(str(error)) from error
        question = Question(
            probes=("logistic", "ridge") if probe == "both" else (probe,),
            settings=settings,
            group=given.pop("group"),
            target=_target(given.pop("target"), given.pop("target_kind")),
        )
        return command(question=question, **given)

    wrapped: Any = typed
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]  # it stands for the command in other arguments


def decomposition_options(command: Command, *, shots: str | None = None) -> Command:
    """`probe_options`, and options of the output of one run: `question` and `ending`."""
    options = [
        click.option("--strict-convergence", is_flag=True,
                     help="The exit status is 1 if a fit has no proof of its tolerance."),
        click.option("--out", metavar="DIR", help="This run folder is made; the default is runs/TIME_ENCODER."),
        click.option("--force", is_flag=True, help="An existing run folder is replaced; what else lies in it stays."),
        click.option("--report", is_flag=True,
                     help="A page of the result, report.html, is written into that folder (extra `report`)."),
        opt.format_option,
    ]  # fmt: skip

    @functools.wraps(command)
    def typed(**given: Any) -> Any:
        names = ("form", "out", "force", "strict_convergence", "report")
        ending = Ending(**{name: given.pop(name) for name in names})
        if ending.report:
            from ssl_risk_rs.report.html import check_installed

            check_installed()  # before the work, not after
        return command(ending=ending, **given)

    wrapped: Any = typed
    for option in reversed(options):
        wrapped = option(wrapped)
    return probe_options(wrapped, shots=shots)  # type: ignore[no-any-return]  # as above


def keeper(out: str | None) -> "Callable[[Run, str], Run]":
    """What writes the run that was made of a target below the folder `out`, and says where."""

    def keep(run: "Run", target: str) -> "Run":
        run = replace(run, provenance=replace(run.provenance, command=opt.command_line()))
        folder = run.save(default_folder(Path(target.split(",")[0]).stem, out or "runs"))
        printing.say(f"The record of {target} is in {folder}.")
        return replace(run, path=folder)

    return keep


def default_folder(encoder: str, above: str = "runs") -> Path:
    """runs/TIME_ENCODER, a name that is free."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in Path(encoder).name)[:60]
    stem = f"{above}/{datetime.now():%Y%m%d-%H%M%S}_{safe}"
    path, i = Path(stem), 1
    while path.exists():
        path, i = Path(f"{stem}_{i}"), i + 1
    return path
