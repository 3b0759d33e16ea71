"""The error of an encoder while it trains: a run for each epoch that is recorded, and one curve over them.

The folder is that of `run -m 'ckpt:…'`: a run folder for each epoch, and `index.json`, which knows their epochs, so
that reports and comparisons read it at any moment.
"""

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs.bank.store import FeatureStore, bank_key
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.targets import Target
from ssl_risk_rs.encoders import create_encoder
from ssl_risk_rs.errors import BankError, ParameterError, ResultError, SslRiskError
from ssl_risk_rs.events import Report, once
from ssl_risk_rs.extraction.job import extract
from ssl_risk_rs.extraction.settings import Encoding
from ssl_risk_rs.results.many import Curve, Entry, epoch_text
from ssl_risk_rs.results.run import Run
from ssl_risk_rs.workflow.banks import OtherBanks, RunBanks, ensure_for, other_banks
from ssl_risk_rs.workflow.before import checker
from ssl_risk_rs.workflow.evaluate import answer_of
from ssl_risk_rs.workflow.locks import hold_in_store
from ssl_risk_rs.workflow.many import Item, Kept, RunFolder, paired_steps
from ssl_risk_rs.workflow.others import choose_others
from ssl_risk_rs.workflow.question import Question

if TYPE_CHECKING:
    from ssl_risk_rs.bank import FeatureBank
    from ssl_risk_rs.encoders import Encoder, Module, Transform

__all__ = ["TrainingMonitor"]


class TrainingMonitor:
    """Decomposes the error of a module's linear probe at moments of its training.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten())
    >>> monitor = TrainingMonitor("digits", path / "training", img_size=8, probes="ridge")
    >>> for epoch in range(2):
    ...     pass  # train it
    ...     run = monitor.record(net, epoch)
    >>> monitor.curve().frame().filter(pl.col("quantity") == "agg_risk")["epoch"].to_list()
    [0.0, 1.0]

    The module is copied before it encodes: neither its weights, its mode nor its device change, nor do the states of
    random numbers. Where several processes train one module, one of them records, and the others wait for it.

    Parameters
    ----------
    data : name of the images, as `create_dataset` takes it
    folder : gets a run folder for each epoch, and goes on with those that it holds
    transform : PIL image → float32 Tensor (c, h, w), as the encoder is evaluated; default: ImageNet's usual one
    img_size : side of the images where no transform is given
    name : of the encoder, in tables; default: the module's class
    pretraining_data : the data set that trains it ("imagenet"), which notes on encoder generalization depend on
    probes : "logistic", "ridge", or several of them
    supervised, control : name of a twin, and of a control encoder, or "none"; both are encoded once
    group, target, drop_unlabelled : as for `evaluate`
    store : folder of the feature banks
    keep_features : keep each epoch's bank in the store; else it is removed once its run is written
    force : replace runs of the folder, also those that were made with other settings
    encoding : which images ("limit", "split"), and how they are encoded
    settings : of each probe
    say, report : receive sentences (default: the log), and events of extraction and fits

    Raises
    ------
    ResultError if the folder holds something else, or runs that were made otherwise; DataError and ParameterError for
    images and settings that a decomposition refuses.
    """

    def __init__(
        self,
        data: str,
        folder: "Path | str",
        *,
        transform: "Transform | None" = None,
        img_size: int | None = None,
        name: str | None = None,
        pretraining_data: str | None = None,
        probes: str | Sequence[str] = ("logistic",),
        supervised: str = "none",
        control: str = "none",
        group: str | None = None,
        target: Target | None = None,
        drop_unlabelled: bool = False,
        store: "Path | str | None" = None,
        keep_features: bool = False,
        force: bool = False,
        encoding: Encoding | None = None,
        settings: Settings | None = None,
        say: Callable[[str], None] | None = None,
        report: Report | None = None,
    ) -> None:
        named = (probes,) if isinstance(probes, str) else tuple(probes)
        self.data, self.name, self.transform, self.pretraining_data = data, name, transform, pretraining_data
        self.encoding = encoding or Encoding()
        if img_size is not None:
            self.encoding = replace(self.encoding, img_size=img_size)
        self.question = Question(
            named, settings or Settings(), group, target, drop_unlabelled, supervised, control, self.encoding
        )
        self.store, self.keep_features = FeatureStore(store), keep_features
        self.say, self.report = once(say or logging.getLogger(__name__).info), report
        self.images = self.encoding.images(data, group)
        for note in self.images.notes:
            self.say(note)
        checker(self.question).images(self.images)
        fingerprint = self.images.fingerprint(self.encoding.settings.hash_content)
        asked = self.question.key(self.images.uri, fingerprint, self.encoding.content())
        self.runs = RunFolder(Path(folder).expanduser(), asked, force=force)
        self._ensure = ensure_for(data, self.question, store=self.store.root, say=self.say, report=report)
        self.failed: list[tuple[str, SslRiskError | OSError | MemoryError]] = []
        self._recorded = any(line.question == asked and line.complete for line in self.runs.kept.values())
        self._made: set[Path] = set()  # banks that were not in the store before

    def record(self, module: "Module", epoch: float) -> Run | None:
        """Encode the images with a copy of the module as it is now, decompose, and write the run.

        The generators of torch, NumPy and Python are afterwards as they were, whatever a transform or the module draws.
        An epoch that is there with the same weights is read; with others it is replaced.

        Parameters
        ----------
        module : maps float32 images (b, c, h, w) to a Tensor (b, d), as for `create_encoder`
        epoch : how far the training is, in epochs or steps

        Returns
        -------
        Run; None where a failure ended in a warning: once an epoch has been recorded, a full disk, say, does not end
        the training. `failed` has it, and `record` of the same epoch tries again.

        Raises
        ------
        Those of `create_encoder`, `extract` and `decompose`, until one epoch has been recorded; ParameterError for an
        epoch that is no finite number.
        """
        from ssl_risk_rs.encoders.encoder import random_numbers_of_its_own

        at = _number(epoch)
        item = f"epoch {epoch_text(at)}"
        try:
            with random_numbers_of_its_own():
                run = self._record(module, at, item)
        except (SslRiskError, OSError, MemoryError) as error:
            self.failed.append((item, error))
            if not self._recorded:
                raise
            why = str(error) or "memory is exhausted"
            warnings.warn(f"{item} is not recorded, the training goes on: {why}", RuntimeWarning, stacklevel=2)
            return None
        self._recorded = True
        return run

    def curve(self) -> Curve:
        """The runs in the order of their epochs, and what changed from each to the next, paired by row.

        Raises
        ------
        ResultError if there is none, or one was removed or damaged.
        """
        lines = {name: line for name, line in self.runs.kept.items() if line.question == self.runs.question}
        if not lines:
            raise ResultError(f"no epoch has been recorded in {self.runs.path}")
        entries = tuple(
            Entry(name, line.model, Run.load(self.runs.path / line.folder), epoch=line.epoch, epoch_from="given")
            for name, line in sorted(lines.items(), key=lambda each: each[1].epoch or 0.0)
        )
        return Curve(entries, steps=paired_steps(entries, self.say))

    def _record(self, module: "Module", epoch: float, called: str) -> Run:
        from ssl_risk_rs.encoders.encoder import behaviour

        encoder = create_encoder(
            module, layers=self.encoding.layers, pool=self.encoding.pool, img_size=self.encoding.img_size,
            transform=self.transform, name=self.name, pretraining_data=self.pretraining_data, progress=self.say,
        )  # fmt: skip
        encoder = replace(encoder, spec=replace(encoder.spec, name=f"{encoder.spec.name}, {called}"))
        stamp = f"{encoder.weights_hash} {encoder.code_hash} {_seen(encoder)} {behaviour(encoder)}"
        names = choose_others(
            encoder.spec.to_dict(), self.data, self.question, data_id=self.images.identity.kind,
            n_images=len(self.images), say=self.say,
        )  # fmt: skip
        others = other_banks(names, self.question, self._ensure, say=self.say)
        if (there := self._find(called, epoch, stamp, others)) is not None:
            return there
        # trainings that begin from the same weights wait for each other
        key = bank_key({"weights": encoder.weights_hash, "data": self.data})
        with hold_in_store(self.store.root, key, self.say):
            run, failure = self._make(encoder, others, epoch, called, stamp, type(module).__name__)
        if failure is not None:
            raise failure
        return run

    def _make(
        self, encoder: "Encoder", others: OtherBanks, epoch: float, called: str, stamp: str, of: str
    ) -> tuple[Run, SslRiskError | None]:
        """Encode, decompose and keep the run of an epoch, and what a probe failed of."""
        before = set(self.store.root.iterdir()) if self.store.root.is_dir() else set()
        bank = self._encode(encoder)
        if bank.path not in before:
            self._made.add(bank.path)
        banks = RunBanks(bank, others)
        run, failure = answer_of(banks, of, self.data, self.question, called=encoder.spec.name, report=self.report)
        item = Item(called, encoder.spec.name, lambda: banks, epoch=epoch, epoch_from="given", stamp=stamp)
        run = self.runs.keep(item, run, bank.path, complete=failure is None)
        if not self.keep_features and bank.path in self._made:
            try:
                self.store.remove(bank.path)
            except (BankError, OSError) as error:
                self.say(f"The features of {called} stay in the store: {error}")
        return run, failure

    def _find(self, called: str, epoch: float, stamp: str, others: OtherBanks) -> Run | None:
        """The run of this name, where it is of this network with these weights, and of these others."""
        kept: Kept | None = self.runs.kept.get(called)
        if kept is None:
            return None
        banks = {"encoder": Path(kept.bank), **others.paths()}
        found = self.runs.find(called, banks) if kept.stamp == stamp else None
        if found is not None:
            self.say(f"{called} was recorded before: {found.path}.")
            if not self.keep_features and Path(kept.bank).is_dir():  # of a training that ended before it removed them
                self.say(
                    f"Its features are still in the store; ssl-risk-rs store rm {Path(kept.bank).name} removes them."
                )
            return found
        self.say(f"{called} is recorded again.")
        later = sorted(k.epoch for k in self.runs.kept.values() if k.epoch is not None and k.epoch > epoch)
        if later:
            more = f"epoch {epoch_text(later[0])}" + (f" to {epoch_text(later[-1])}" if len(later) > 1 else "")
            warnings.warn(
                f"{called} is recorded again, since its weights, features, twin or control are others, and {more} of "
                f"an earlier training stays in {self.runs.path}: the curve joins both until this training reaches "
                "them. Another folder gives it a curve of its own",
                RuntimeWarning,
                stacklevel=4,
            )
        return None

    def _encode(self, encoder: "Encoder") -> "FeatureBank":
        """The bank of the encoder's feature."""
        first, *rest = encoder.spec.features
        if rest:
            self.say(f"The module returns several features; {first} is decomposed, not {', '.join(rest)}.")
        banks = extract(
            encoder, self.images, store=self.store, features=[first], settings=self.encoding.settings, say=self.say,
            progress=self.report,
        )  # fmt: skip
        return banks[first]


def _seen(encoder: "Encoder") -> str:
    """Hash of what the encoder is given of an image: parameters of a transform are in no source."""
    from PIL import Image

    pixels = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3) * 37 % 251
    given = encoder.transform(Image.fromarray(pixels.astype(np.uint8)))
    return sha256(given.detach().cpu().numpy().tobytes()).hexdigest()[:16]


def _number(epoch: object) -> float:
    """A finite number, from whatever gives one."""
    try:
        number = math.nan if isinstance(epoch, (bool, str, bytes)) else float(epoch)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ParameterError(f"epoch is {epoch!r}; give a number, such as the epochs or steps trained so far")
    return number
