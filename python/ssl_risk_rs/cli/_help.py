"""What every command's help has: -h beside --help, a line to paste at its end, and long lists in sections."""

import click

__all__ = ["NAMES", "SECTIONS", "LongCommand", "prepare_help"]

NAMES = ["-h", "--help"]

#: heading → names of the options below it, in commands that have too many for one list
SECTIONS: dict[str, tuple[str, ...]] = {
    "Encoder and images": (
        "model", "data", "features", "test_features", "supervised_features", "features_columns", "drop_unlabelled",
        "supervised", "control", "limit", "split", "layers", "pool", "store",
    ),
    "How images are encoded": (
        "img_size", "mean", "std", "resize", "interpolation", "amp", "batch_size", "workers", "dtype", "compile",
        "skip_corrupt", "exif_orientation", "hash_content", "views", "offline", "dry_run",
    ),
    "What is decomposed": (
        "probe", "protocol", "metrics", "tune_on", "order", "scaling", "target", "target_kind", "group",
        "shared_groups", "overlap",
    ),
    "Fewer labels": ("shots", "draws", "labels_for"),
    "Fits and intervals": ("n_subsets", "midpoint", "confidence", "random_counts", "seed", "tol", "strict_convergence"),
    "Where it runs": ("device", "n_threads", "shard", "shards", "engine", "engine_options", "jobs", "parts"),
    "Results": ("out", "force", "report", "form", "help"),
}  # fmt: skip


class LongCommand(click.Command):
    """A command whose help lists its options in the sections of `SECTIONS`."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options that are not hidden, each below its heading, in the order of the command."""
        shown = [("help" if "--help" in p.opts else p.name, p.get_help_record(ctx)) for p in self.get_params(ctx)]
        for heading, names in SECTIONS.items():
            records = [record for name, record in shown if name in names and record is not None]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def prepare_help(command: click.Command) -> None:
    """Let a command and all below it know -h too, however its context comes about: Click keeps the first.

    The line to paste, which stands last in a docstring behind `\\b`, comes last in the help too, below the options.
    """
    command.context_settings.setdefault("help_option_names", NAMES)
    words, mark, line = (command.help or "").rpartition("\b\n")
    if mark:
        command.help, command.epilog = words.strip(), mark + line
    if isinstance(command, click.Group):
        for below in command.commands.values():
            prepare_help(below)
