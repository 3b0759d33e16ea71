"""Options that several commands share."""

import functools
import math
import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from ssl_risk_rs._limits import (
    MOST_CONFIDENCE,
    MOST_SEED,
    MOST_SUBSETS,
    MOST_THREADS,
    TIGHTEST_TOLERANCE,
    TOLERANCE_BELOW,
)
from ssl_risk_rs.cli._printing import say

if TYPE_CHECKING:
    from ssl_risk_rs.extraction.settings import Encoding

__all__ = [
    "CONFIDENCE",
    "LIMIT",
    "PREPARATION",
    "SEED",
    "SPLITS",
    "THREADS",
    "TOLERANCE",
    "FiniteRange",
    "columns_options",
    "command_line",
    "data_option",
    "device_option",
    "drop_unlabelled_option",
    "dry_run_option",
    "encoder_device",
    "encoding_on",
    "extraction_options",
    "features_options",
    "format_option",
    "is_named",
    "model_option",
    "named_data",
    "offline_option",
    "one_option",
    "refuse_beside_runs",
    "refuse_encoding",
    "refuse_shard",
    "refuse_typed",
    "shard_option",
    "split_option",
    "store_option",
]

Command = TypeVar("Command", bound=Callable[..., Any])

#: environment variable with the data set to use when none is named
DATA_VARIABLE = "SSL_RISK_DATA"


class FiniteRange(click.FloatRange):
    """A range of numbers, without NaN and infinity, which comparisons let pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number", param, ctx)
        return number


THREADS = click.IntRange(1, MOST_THREADS)
SEED = click.IntRange(0, MOST_SEED)
SPLITS = click.IntRange(1, MOST_SUBSETS)
CONFIDENCE = FiniteRange(0, MOST_CONFIDENCE, min_open=True)
TOLERANCE = FiniteRange(TIGHTEST_TOLERANCE, TOLERANCE_BELOW, max_open=True)


class AutoInt(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.2
    """`auto` or a whole number."""

    name = "auto|N"

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto":
            return value
        try:
            number = int(value)
        except ValueError:
            number = self.least - 1
        if number < self.least:
            self.fail(f"{value!r} is neither auto nor a whole number from {self.least}", param, ctx)
        return number


def _the_only(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> str | None:
    """The value of an option that other commands take several of; of two, Click would drop the first."""
    if len(values) > 1:
        command = context.command_path.partition(" ")[2]
        other = "; ssl-risk-rs sweep takes several" if context.info_name in ("run", "fewshot") else ""
        raise click.UsageError(
            f"{parameter.opts[0]} is given {len(values)} times ({', '.join(values)}), and {command} takes one{other}"
        )
    return values[0] if values else None


def one_option(short: str, long: str, **how: Any) -> Callable[[Command], Command]:
    """An option whose second value is refused, where Click would take it for the only one."""
    return click.option(short, long, multiple=True, callback=_the_only, **how)


def model_option(required: bool = True, multiple: bool = False) -> Callable[[Command], Command]:
    """-m/--model."""
    return click.option(
        "-m",
        "--model",
        required=required,
        multiple=True,
        callback=None if multiple else _the_only,
        help="Encoder: a published name (swav), timm:NAME, ckpt:FILE@ARCH, hf:REPO, openclip:ARCH, hub:REPO:ENTRY, "
        "file.py:function, random:ARCH, pixels:N. docs/encoders.md has their options.",
    )


def data_option(command: Command) -> Command:
    """-d/--data; `named_data` gives its value a default and says which."""
    return one_option(
        "-d",
        "--data",
        help="Images: imagenet:PATH, folder:PATH, manifest:FILE, hf:NAME, wds:TARS, npz:FILE, idx:PATH, cifar10:PATH, "
        "… (ssl-risk-rs data list), digits. "
        f"Default: ${DATA_VARIABLE}, else the bundled digits.",
    )(command)


def is_named(data: str | None) -> bool:
    """Whether a data set was named, in the option or the environment."""
    return bool(data or os.environ.get(DATA_VARIABLE))


def named_data(data: str | None) -> str:
    """The data set that was named, in the option or the environment, else `digits`, said on stderr."""
    if is_named(data):
        return data or os.environ[DATA_VARIABLE]
    from ssl_risk_rs.report.sentences import DIGITS_STAND_IN

    say(DIGITS_STAND_IN)
    return "digits"


def store_option(command: Command) -> Command:
    """--store."""
    return click.option(
        "--store", metavar="DIR",
        help="Feature banks are kept in this folder. The default is $SSL_RISK_STORE, else ssl-risk-rs/banks in the "
        "user's cache folder.",
    )(command)  # fmt: skip


#: --split
split_option = click.option(
    "--split",
    metavar="FILE",
    help="Train and test are as in this csv, tsv or parquet file (sample_id or path, split), or a .txt of test ids.",
)


def drop_unlabelled_option(what: str) -> Callable[[Command], Command]:
    """--drop-unlabelled; `what` says which rows these are."""
    return click.option("--drop-unlabelled", is_flag=True, help=what)


def columns_options(command: Command) -> Command:
    """Options that say which columns and rows of a table are read."""
    command = drop_unlabelled_option("Rows labelled -1, NaN or empty are left out.")(command)
    return click.option(
        "--features-columns", metavar="A,B|PATTERN",
        help="These columns of a parquet or csv file are the features, where they are no numbered family.",
    )(command)  # fmt: skip


def features_options(command: Command) -> Command:
    """Options that say how features are read from files."""
    options = [
        click.option("--test-features", metavar="PATH", help="The test rows, if they are in a file of their own."),
        click.option("--supervised-features", metavar="PATH", help="The twin's features, in the same rows."),
    ]  # fmt: skip
    command = columns_options(command)
    for option in reversed(options):
        command = option(command)
    return command


def format_option(command: Command) -> Command:
    """--format of what goes to stdout."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(["table", "json", "csv"]),
        default="table",
        show_default=True,
        help="Results are printed so.",
    )(command)


def device_option(command: Command) -> Command:
    """--device of a command that only encodes."""
    return click.option(
        "--device", default="auto", show_default=True, help="The encoder runs on auto, cpu, cuda, cuda:1 …"
    )(command)


def _forbid_network(context: click.Context, _: click.Parameter, offline: bool) -> None:
    """For this command, as if $SSL_RISK_OFFLINE were set: whatever downloads asks it."""
    if not offline:
        return
    from ssl_risk_rs._files import OFFLINE

    before = os.environ.get(OFFLINE)
    os.environ[OFFLINE] = "1"

    def restore() -> None:
        if before is None:
            os.environ.pop(OFFLINE, None)
        else:
            os.environ[OFFLINE] = before

    context.call_on_close(restore)


def offline_option(command: Command) -> Command:
    """--offline; the value is not handed over."""
    return click.option(
        "--offline", is_flag=True, expose_value=False, callback=_forbid_network,
        help="Nothing is downloaded: what is not on this machine is an error. $SSL_RISK_OFFLINE=1 does the same.",
    )(command)  # fmt: skip


class LimitParam(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.2
    """`N` or `N/class`, checked and handed over as text."""

    name = "N|N/class"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from ssl_risk_rs.datasets.limits import Limit
        from ssl_risk_rs.errors import ParameterError

        try:
            Limit.parse(value)
        except ParameterError as error:
            self.fail(str(error), param, ctx)
        return value


LIMIT = LimitParam()


def refuse_encoding(*more: str) -> None:
    """Refuse options on the command line that say how images are encoded, and those named, beside features."""
    for param in _typed((*EXTRACTION, *more)):
        also = "; --supervised-features names the twin's" if param.name == "supervised" else ""
        raise click.UsageError(
            f"{param.opts[-1]} is of images that are encoded here, and --features are encoded already{also}"
        )


def refuse_beside_runs(*names: str) -> None:
    """Refuse options on the command line that say how features are decomposed, where there are run folders only."""
    refuse_typed(
        "is of what is decomposed here, and every target is a run folder: leave it out, or name the features", *names
    )


def refuse_typed(why: str, *names: str) -> None:
    """Refuse options on the command line, which would have no effect, and say why."""
    for param in _typed(names):
        raise click.UsageError(f"{max(param.opts, key=len)} {why}")


def _typed(names: Collection[str]) -> Iterator[click.Parameter]:
    """The options among these that are on the command line."""
    ctx = click.get_current_context()
    for param in ctx.command.params:
        if param.name in names and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
            yield param


def _with(options: Sequence[Callable[[Any], Any]], command: Command) -> Command:
    """A command with options, which its help lists in this order."""
    for option in reversed(options):
        command = option(command)
    return command


img_size_option = click.option(
    "--img-size",
    type=click.IntRange(1),
    help="The encoder sees images of this side, in pixels. The default is its own.",
)

#: options that say what the encoder sees and how it runs
_EXTRACTION = [
    click.option(
        "--limit",
        type=LIMIT,
        metavar="N|N/class",
        help="Only N images of each split are taken, or N of each class of each split; sample ids decide which.",
    ),
    split_option,
    img_size_option,
    click.option(
        "--mean",
        metavar="imagenet|clip|half|M",
        help="This mean is taken from pixels, for weights of a file (ckpt: and hub:): M is one number or three.",
    ),
    click.option(
        "--std",
        metavar="imagenet|clip|half|S",
        help="Pixels are divided by this deviation, which is given as the mean is.",
    ),
    click.option(
        "--resize",
        type=click.IntRange(1),
        help="The short side has this many pixels before the crop, for weights of a file.",
    ),
    click.option("--interpolation", type=click.Choice(["bilinear", "bicubic"]), help="Images are resized by this."),
    click.option(
        "--layers",
        metavar="A,B|blocks.*|all",
        help="These features are taken: names, patterns, or all. `models show NAME` lists what an encoder has; the "
        "default is the one that its authors evaluate.",
    ),
    click.option(
        "--pool",
        metavar="cls,mean",
        help="Layers that name no pooling are pooled so: cls is the class token, mean the average of the patches.",
    ),
    click.option(
        "--amp",
        type=click.Choice(["auto", "off", "bf16", "fp16"]),
        default="auto",
        show_default=True,
        help="The encoder multiplies in this precision. With auto it is bf16 on a GPU (fp16 on an old one), float32 on "
        "a CPU.",
    ),
    click.option(
        "--batch-size",
        type=AutoInt(1),
        default="auto",
        show_default=True,
        help="So many images are encoded at a time. With auto, more are tried until more no longer pay. The number is "
        "halved where the memory ends.",
    ),
    click.option(
        "--workers",
        type=AutoInt(0),
        default="auto",
        show_default=True,
        help="So many threads or processes decode images. With auto they are as many as the CPU has cores beside "
        "a GPU, else a few.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float16", "float32"]),
        default="auto",
        show_default=True,
        help="Features are stored so. With auto it is float16 where its rounding is next to nothing, else float32.",
    ),
    click.option("--compile", is_flag=True, help="The encoder goes through torch.compile."),
    click.option(
        "--skip-corrupt",
        is_flag=True,
        help="Images that cannot be decoded are left out. All are decoded once before, to find them.",
    ),
    click.option(
        "--hash-content",
        is_flag=True,
        help="Files are told apart by their content, not by size and time: every file is read.",
    ),
    click.option(
        "--exif-orientation",
        is_flag=True,
        help="Images are turned as their EXIF data ask. Without it they are used as stored, as torchvision does.",
    ),
]
#: those that say how a checkpoint's images are prepared: the fields of `Preparation`
PREPARATION = ("mean", "std", "resize", "interpolation")
#: names of all of them
EXTRACTION = tuple(param.name or "" for param in _with(_EXTRACTION, click.Command("")).params)


def extraction_options(command: Command) -> Command:
    """Options that say which features of which images are encoded, and how: `encoding` (its `device` is that of another
    option) and, for files of weights, `preparation`."""

    @functools.wraps(command)
    def typed(**given: Any) -> Any:
        from ssl_risk_rs.encoders.names import Preparation

        prepared = Preparation(**{name: given.pop(name) for name in PREPARATION})
        return command(encoding=_encoding(given), preparation=prepared, **given)

    return _with([*_EXTRACTION, offline_option], typed)  # type: ignore[return-value]  # it stands for the command


def _encoding(given: dict[str, Any]) -> "Encoding":
    """Take the values of `extraction_options` out of what was given."""
    from dataclasses import fields

    from ssl_risk_rs.extraction.settings import Encoding, ExtractionSettings

    how = {field.name: given.pop(field.name) for field in fields(ExtractionSettings) if field.name in EXTRACTION}
    named_layers = given.pop("layers")
    layers = None if named_layers is None else [layer.strip() for layer in named_layers.split(",") if layer.strip()]
    if layers == []:
        raise click.UsageError("--layers names no layer; leave it out for the encoder's own, or say all")
    which = {name: given.pop(name) for name in ("limit", "split", "img_size", "pool")}
    return Encoding(None if layers is None else tuple(layers), settings=ExtractionSettings(**how), **which)


def encoding_on(encoding: "Encoding", device: str) -> "Encoding":
    """The same on the encoder's device."""
    from dataclasses import replace

    return replace(encoding, settings=replace(encoding.settings, device=encoder_device(device)))


def encoder_device(device: str) -> str:
    """The device of the encoder where --device names those of the probes: the first of several."""
    return device.split(",")[0].removeprefix("auto:").removeprefix("torch:")


class ShardParam(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.2
    """`i/n`, as a `Shard`."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from ssl_risk_rs.errors import ParameterError
        from ssl_risk_rs.extraction.shard import Shard

        try:
            return value if isinstance(value, Shard) else Shard.parse(value)
        except ParameterError as error:
            self.fail(str(error), param, ctx)


def shard_option(command: Command) -> Command:
    """--shard of the command that only encodes."""
    return click.option(
        "--shard", type=ShardParam(), metavar="i/n",
        help="Only the i-th of n ranges of rows is encoded, from 0/n to n-1/n, into a part of its own: run all n at "
        "once, on one machine or many with the same store. A shard that died is filled by the same line, or by a line "
        "without --shard.",
    )(command)  # fmt: skip


def dry_run_option(command: Command) -> Command:
    """--dry-run of commands that encode."""
    return click.option(
        "--dry-run", is_flag=True,
        help="A few batches are timed, and rows, bytes, minutes and memory of what would be encoded are printed; "
        "nothing is written.",
    )(command)  # fmt: skip


def refuse_shard(command: Command) -> Command:
    """--shard of commands that need all rows: an error that says where it belongs."""

    def refuse(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None:
            raise click.UsageError(
                f"--shard goes with  ssl-risk-rs extract : {ctx.info_name} needs the rows of all shards. Fill the bank "
                f"with  extract --shard {value} …  and the other shards, then use {ctx.info_name} without --shard"
            )

    return click.option("--shard", hidden=True, expose_value=False, callback=refuse)(command)


def command_line() -> str:
    """What was typed, as a line that can be pasted."""
    return shlex.join(["ssl-risk-rs", *sys.argv[1:]])
