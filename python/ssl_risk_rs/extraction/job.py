"""Images → representations → banks: which banks, in which dtype, and what they still lack."""

import itertools
import shlex
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ssl_risk_rs._cpus import count_cpus
from ssl_risk_rs._settings import with_options
from ssl_risk_rs.bank import FeatureBank, fits_float16, is_bank
from ssl_risk_rs.encoders.byte_transform import in_two_steps
from ssl_risk_rs.errors import BankError, DataError, EncoderError, ParameterError
from ssl_risk_rs.events import Event
from ssl_risk_rs.extraction.batches import MOST, WORTH_SEARCHING, BatchSize
from ssl_risk_rs.extraction.decoding import (
    CHUNK,
    MOST_WORKERS,
    CorruptImage,
    Decoded,
    Decoder,
    count_images,
    decode,
    describe_corrupt,
)
from ssl_risk_rs.extraction.facts import facts, header
from ssl_risk_rs.extraction.forward import Forward, choose_device, choose_precision
from ssl_risk_rs.extraction.loop import Loop
from ssl_risk_rs.extraction.rates import write_rates
from ssl_risk_rs.extraction.reuse import SameFeatures
from ssl_risk_rs.extraction.scan import OverlapRecord, known_corrupt, known_overlap
from ssl_risk_rs.extraction.settings import ExtractionSettings
from ssl_risk_rs.extraction.shard import Shard, missing_in
from ssl_risk_rs.extraction.writing import PART, BlockWriter, Float16Overflow

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ssl_risk_rs.bank.store import FeatureStore
    from ssl_risk_rs.datasets import ImageDataset
    from ssl_risk_rs.encoders import Encoder

__all__ = ["Job", "extract", "feature_names"]

#: images, spread over the data set, on whose features the stored dtype is decided
N_PROBE = 64


class _Encoded(NamedTuple):
    """Images that were encoded before their bank was there: rows, features (b, d), and how many of them ask for
    another orientation."""

    rows: np.ndarray
    features: dict[str, np.ndarray]
    oriented: int


def extract(
    encoder: "Encoder",
    dataset: "ImageDataset",
    *,
    store: "FeatureStore | Path | str | None" = None,
    features: Sequence[str] | None = None,
    shard: Shard | None = None,
    settings: ExtractionSettings | None = None,
    check_overlap: Callable[[int], None] | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[Event], None] | None = None,
    **options: Any,
) -> dict[str, FeatureBank]:
    """Encode every image of a data set, one pass for all features, each into its own bank.

    Rows that a bank has already are not decoded again: after ^C, `kill -9` or a full disk, the same call goes
    on from the last committed block. A bank that is there is used only if the module's weights are those that made
    it, and a few of its images give the same features now; else it stays, and another is made. The encoder runs in
    evaluation mode without gradients; each part of its module then is in the mode in which it was, on the device, its
    weights in the channels_last layout.

    Parameters
    ----------
    encoder : from `create_encoder`, which takes a module that is being trained, too; or anything with the same
        attributes
    dataset : from `create_dataset`
    store : a store or its folder; None is the default store
    features : names among `encoder.spec.features`; None takes the first, the encoder's default
    shard : encode this shard's rows only, into a part of its own; any number of processes may do so at once, each
        with another shard of the same number
    settings : ExtractionSettings, whose fields keyword options (device, batch_size, dtype, skip_corrupt, …) replace
    check_overlap : called with the number of test images that are training images too, before a bank of the data is
        begun; may raise
    say : called with sentences for the user
    progress : called about ten times a second from this thread

    Returns
    -------
    dict: feature name → `FeatureBank`, its rows those of `dataset` (less the skipped): complete, or, of a shard, with
    all of that shard's rows (`shards_filled` counts the others).

    Raises
    ------
    BankError if another process is encoding rows that are asked for.
    DataError if an image cannot be decoded, with its path and the reason; what was encoded is kept.
    EncoderError if the encoder has no such feature, gives NaN, or does not fit the memory with one image.
    ParameterError if a setting is out of its range, or float16 is asked for and a feature does not fit it.
    """
    from ssl_risk_rs.bank.store import FeatureStore

    _check_kinds(encoder, dataset)
    if isinstance(features, str):
        features = [features]
    settings = with_options(settings or ExtractionSettings(), options, "extract")
    store = store if isinstance(store, FeatureStore) else FeatureStore(store)
    store.make_folder()
    with _modes_kept(encoder.module), _random_numbers_kept(choose_device(settings.device)):
        names = feature_names(encoder, features)
        run = Job(encoder, dataset, store, names, settings, shard, check_overlap, say, progress)
        return run.run()


def _check_kinds(encoder: Any, dataset: object) -> None:
    """Raise unless these are what `create_encoder` and `create_dataset` give, or like it."""
    if isinstance(encoder, str) or isinstance(dataset, str):
        raise ParameterError(
            "extract takes what create_encoder and create_dataset give; ensure_bank(encoder, data) takes names"
        )
    if not all(hasattr(encoder, field) for field in ("spec", "module", "transform", "num_features")):
        raise ParameterError(
            f"{type(encoder).__name__} is no encoder: create_encoder(module, transform=…) makes one of a "
            "torch.nn.Module"
        )
    if not all(hasattr(encoder.module, method) for method in ("state_dict", "modules", "eval", "to")):
        raise ParameterError(f"the module of an encoder is a torch.nn.Module, not {type(encoder.module).__name__}")
    if not all(hasattr(dataset, field) for field in ("samples", "load", "fingerprint")):
        raise ParameterError(
            f"{type(dataset).__name__} is no data set: create_dataset('folder:imgs') makes one of image files, "
            "'npz:FILE' of arrays of images, 'manifest:FILE' of a table that names files"
        )


@contextmanager
def _modes_kept(module: "nn.Module") -> Iterator[None]:
    """Every part of the module is afterwards in the mode, training or evaluation, in which it was."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _random_numbers_kept(device: "torch.device") -> Iterator[None]:
    """torch's generators are afterwards in the states in which they were: a module may draw in evaluation mode too."""
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def feature_names(encoder: "Encoder", features: Sequence[str] | None) -> tuple[str, ...]:
    offered = tuple(encoder.spec.features)
    names = offered[:1] if features is None else tuple(dict.fromkeys(features))
    for name in names:
        if name not in offered:
            raise EncoderError(f"{encoder.spec.name} has no feature {name!r}; it offers {', '.join(offered)}")
    if not names:
        raise ParameterError("no features were asked for; leave `features` out for the encoder's default")
    return names


class Job:
    """One call of `extract`."""

    def __init__(
        self,
        encoder: "Encoder",
        dataset: "ImageDataset",
        store: "FeatureStore",
        names: tuple[str, ...],
        settings: ExtractionSettings,
        shard: Shard | None,
        check_overlap: Callable[[int], None] | None,
        say: Callable[[str], None] | None,
        progress: Callable[[Event], None] | None,
    ) -> None:
        self.encoder, self.store, self.names, self.settings, self.shard = encoder, store, names, settings, shard
        self.check_overlap = check_overlap
        self.say: Callable[[str], None] = say or (lambda _: None)
        self.heard = say is not None
        self.progress: Callable[[Event], None] = progress or (lambda _: None)
        self._probed: _Encoded | None = None
        self.device = choose_device(settings.device)
        self.precision = choose_precision(settings.amp, self.device)
        self.workers = self._workers()
        self.corrupt: list[CorruptImage] = []
        self._as_given = dataset
        self._files_then = dataset.fingerprint(False)
        # before any limit, and with hashes a long read
        self.fingerprint = dataset.fingerprint(True) if settings.hash_content else self._files_then
        dataset = dataset.oriented(settings.exif_orientation or dataset.exif_orientation)
        if settings.view is not None:
            dataset = dataset.viewed(settings.view)
        if settings.skip_corrupt:
            self.corrupt = self._scan(dataset)
            dataset = dataset.without([dataset.sample_id(image.row) for image in self.corrupt])
            if self.corrupt:
                self.say(f"left out, since they cannot be decoded: {count_images(len(self.corrupt))}")
        self.dataset = dataset
        from ssl_risk_rs.encoders.encoder import hash_weights

        #: of the module as it is now, which may have been trained on since its encoder was made
        self.weights_hash = hash_weights(encoder.module)
        self.facts = facts(
            encoder,
            dataset,
            weights_hash=self.weights_hash,
            precision=self.precision,
            fingerprint=self.fingerprint,
        )
        self._forward: Forward | None = None

    def _workers(self) -> int:
        if self.settings.workers != "auto":
            return self.settings.workers
        cpus = count_cpus()
        # a CPU encoder takes all cores, and decoding an image costs a few per cent of encoding it; small encoders wait
        # for decoding, so a few threads are there for them: they stop when enough images are ahead
        return min(cpus, MOST_WORKERS) if self.device.type == "cuda" else max(min(cpus, 3), cpus // 4)

    def _scan(self, dataset: "ImageDataset") -> list[CorruptImage]:
        total = len(dataset)
        return known_corrupt(
            dataset,
            self.store.root / "scans",
            workers=self.workers if self.settings.workers != "auto" else count_cpus(),
            fingerprint=self.fingerprint,
            shard=self.shard,
            progress=lambda rows: self.progress(Event("scan", rows, total)),
        )

    @cached_property
    def overlap(self) -> OverlapRecord:
        """Test images that are training images: looked for before the first bank of these data is made."""
        total = len(self.dataset)
        found = known_overlap(
            self.dataset,
            self.store.root / "scans",
            fingerprint=self.fingerprint,
            progress=lambda rows: self.progress(Event("compare", rows, total)),
        )
        if n := found["test_images_in_train"]:
            test, train = found["examples"][0]
            are = "is a training image" if n == 1 else "are training images"
            self.say(f"{count_images(n)} of the test part {are} too: {test} has the bytes of {train}")
            if self.check_overlap is not None:
                self.check_overlap(n)
        return found

    @property
    def forward(self) -> Forward:
        """The encoder on its device, moved there when the first image needs it."""
        if self._forward is None:
            size, steps = self.settings.batch_size, in_two_steps(self.encoder.transform)
            self._forward = Forward(
                self.encoder.module,
                self.names,
                device=self.device,
                precision=self.precision,
                batch_size=None if size == "auto" else size,
                img_size=self.encoder.spec.img_size,
                compile=self.settings.compile,
                normalize=None if steps is None else steps.normalize,
            )
        return self._forward

    def run(self) -> dict[str, FeatureBank]:
        """Fill the banks; a feature that turns out not to fit float16 starts again in float32."""
        dtypes = self.stored_dtypes()
        oriented = 0
        encoded: set[str] = set()
        while True:
            banks = {name: self._bank(name, dtypes[name]) for name in self.names}
            encoded |= {name for name, bank in banks.items() if len(missing_in(bank, self.shard))}
            try:
                oriented += self._fill(banks)
            except Float16Overflow as overflow:
                if self.settings.dtype == "float16":
                    raise ParameterError(
                        f"feature {overflow.feature!r} of {self.encoder.spec.name} does not fit float16; "
                        "use --dtype auto or --dtype float32"
                    ) from overflow
                dtypes[overflow.feature] = "float32"
                continue
            wider = self._restarted_by_others(dtypes)
            if not wider:
                break
            dtypes.update(dict.fromkeys(wider, "float32"))
        if encoded and self._files_changed():
            raise DataError(self._changed([banks[name] for name in self.names if name in encoded]))
        for name, bank in banks.items():
            if missing := len(missing_in(bank, self.shard)):  # counted, not assumed
                raise DataError(f"{bank.path}: {missing} rows of {name} are missing; run again")
        if oriented:
            used = (
                "they were turned" if self.dataset.exif_orientation else "they were used as stored, as torchvision does"
            )
            hint = "" if self.dataset.exif_orientation else "; --exif-orientation turns them"
            self.say(f"{count_images(oriented)} ask for another orientation in their EXIF data: {used}{hint}")
        again = SameFeatures(self._encode, self.precision)
        for name in (name for name in self.names if name in encoded and self.heard):
            if (difference := again.difference(name, banks[name])) is not None:
                self.say(
                    f"Feature {name!r} of {self.encoder.spec.name} differs when the same images are encoded again "
                    f"({difference:.2g} of its spread on the images compared): the numbers are of one draw, and the "
                    f"next run would have others. {self._likely_causes()}"
                )
        return banks

    def _files_changed(self) -> bool:
        """Whether files are others than when the job began; with hashes, what they hold decides."""
        if self._as_given.fingerprint(False) == self._files_then:
            return False
        return not self.settings.hash_content or self._as_given.fingerprint(True) != self.fingerprint

    def _changed(self, banks: Sequence[FeatureBank]) -> str:
        """Remove banks that may hold features of files as they were and as they are now, and say so."""
        left = []
        for bank in banks:
            try:
                self.store.remove(bank.path)
            except (BankError, OSError) as error:
                left.append(f"{bank.path} could not be removed ({error})")
        of = "" if not left else f"; {'; '.join(left)}, remove it"
        return (
            f"files of {self.dataset.uri} were changed while they were encoded: some features are of the old ones and "
            f"some of the new, and are not kept{of}. Run again once nobody writes there"
        )

    # --- the stored dtype

    def _key(self, name: str, dtype: str, variant: int = 0) -> str:
        """Key of a bank; `variant` counts the banks that have equal facts and other features."""
        from ssl_risk_rs.bank.store import bank_key

        more = {"variant": variant} if variant else {}
        return bank_key({**self.facts, "feature": name, "dtype": dtype, **more})

    def stored_dtypes(self) -> dict[str, str]:
        """dtype of each feature: what was asked for, else that of an earlier run's bank, else what the probe
        batch fits."""

        if self.settings.dtype != "auto":
            return dict.fromkeys(self.names, self.settings.dtype)
        found = {}
        for name in self.names:
            dtype = self._dtype_in_store(name)
            if dtype is not None:
                found[name] = dtype
        if len(found) < len(self.names):
            found = {**self._probe(), **found}
        return found

    def _dtype_in_store(self, name: str) -> str | None:
        """dtype of the bank that an earlier run made or began with the features that the encoder gives now."""
        bank = self.in_store(name)
        return None if bank is None else bank.dtype

    def in_store(self, name: str) -> FeatureBank | None:
        """The bank that an earlier run made or began with the features that the encoder gives now."""
        dtypes = ("float16", "float32") if self.settings.dtype == "auto" else (self.settings.dtype,)
        for variant in itertools.count():
            paths = {dtype: self.store.path_for(self._key(name, dtype, variant)) for dtype in dtypes}
            banks = {dtype: self.store.open(path) for dtype, path in paths.items() if is_bank(path)}
            if not banks:
                break
            if len(banks) == 2 and not banks["float16"].complete:
                del banks["float16"]  # it went as far as that before a feature did not fit
            for bank in banks.values():
                if self._difference(name, bank) is None:
                    return bank
        return None

    def _restarted_by_others(self, dtypes: dict[str, str]) -> list[str]:
        """Features that another shard has found not to fit float16 while this one was writing it."""
        if self.shard is None or self.settings.dtype != "auto":
            return []
        narrow = [name for name, dtype in dtypes.items() if dtype == "float16"]
        begun = [name for name in narrow if is_bank(self.store.path_for(self._key(name, "float32")))]
        return [name for name in begun if self._dtype_in_store(name) == "float32"]

    def _probe(self) -> dict[str, str]:
        """dtype that the features of a few images, spread over the data set, fit."""
        n = len(self.dataset)
        rows = np.unique(np.linspace(0, n - 1, min(N_PROBE, n)).astype(np.uint64))
        decoded = self._decoder(rows, chunk=len(rows))[0]
        if decoded.images is None:
            raise DataError(self._corrupt_message(decoded.corrupt))
        arrays = self.forward([decoded.images]).arrays()
        for name, values in arrays.items():
            self.check_features(name, decoded.rows, values)
        self._probed = _Encoded(decoded.rows, arrays, decoded.oriented)
        return {name: "float16" if fits_float16(values) else "float32" for name, values in arrays.items()}

    def _bank(self, name: str, dtype: str) -> FeatureBank:
        """The bank of a feature, created or reopened.

        One that exists is used whatever its header says of libraries and devices, if it gives the same features
        for a few images: its key is a hash of all that is known to decide its numbers, and this finds the rest.
        """
        for variant in itertools.count():
            key = self._key(name, dtype, variant)
            path = self.store.path_for(key)
            if not is_bank(path):
                try:
                    return self._create(path, key, name, dtype)
                except BankError:
                    if not is_bank(path):
                        raise
                    # another shard was quicker, with another device in its header: as one that was there before
            bank = self.store.open(path)
            columns = [column for column in self.dataset.samples.columns if column != "path"]
            if not set(columns) <= set(bank.samples.columns) or not bank.samples.select(columns).equals(
                self.dataset.samples.select(columns)
            ):
                raise BankError(f"{path} holds other samples than {self.dataset.uri}; remove it and run again")
            difference = self._difference(name, bank)
            if difference is None:
                return bank
            self.say(
                f"{path} is not used: {self.encoder.spec.name} gives other features now, with the same weights and "
                f"settings ({difference:.2g} of their spread on the images compared); they go into another bank. "
                f"{self._likely_causes()}"
            )
        raise AssertionError("itertools.count does not end")

    def _likely_causes(self) -> str:
        """Why an encoder of the same weights gives other features, and what finds out."""
        causes = (
            "Likely causes are dropout or random augmentation, features that depend on the batch, and files that the "
            "encoder reads"
        )
        spec = self.encoder.spec
        if spec.source == "memory":  # it has no name that a command could build it by
            return causes
        return f"{causes}; look for them:  ssl-risk-rs doctor model {shlex.quote(spec.name)}"

    def _difference(self, name: str, bank: FeatureBank) -> float | None:
        """None if feature `name` is that of the bank, else how far apart they are, relative to their spread."""
        if bank.n_features != int(self.encoder.num_features[name]):  # it may hold no row yet
            return float("inf")
        return self.same_features.difference(name, bank)

    @cached_property
    def same_features(self) -> SameFeatures:
        return SameFeatures(self._encode, self.precision)

    def _encode(self, rows: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Those of the rows that can be decoded, and their features."""
        decoded = self._decoder(rows, chunk=len(rows))[0]
        return decoded.rows, {} if decoded.images is None else self.forward([decoded.images]).arrays()

    def _create(self, path: Path, key: str, name: str, dtype: str) -> FeatureBank:
        described = header(
            self.encoder,
            self.dataset,
            weights_hash=self.weights_hash,
            feature=name,
            precision=self.precision,
            device=str(self.device),
            fingerprint=self.fingerprint,
            corrupt=self.corrupt,
            overlap=self.overlap,
        )
        return FeatureBank.create(
            path,
            {**described, "key": key},
            self.dataset.samples,
            n_features=int(self.encoder.num_features[name]),
            dtype="float16" if dtype == "float16" else "float32",
        )

    # --- the loop

    def _decoder(self, rows: np.ndarray, chunk: int = CHUNK) -> Decoder:
        return Decoder(self.dataset, self.encoder.transform, rows, chunk, pin=self.device.type == "cuda")

    def _fill(self, banks: dict[str, FeatureBank]) -> int:
        """Decode, encode and write every row that a bank lacks; how many of these ask for another orientation."""
        writer = BlockWriter(banks, self.shard)
        loop: Loop | None = None
        try:
            with writer:
                rows = writer.rows()
                if len(rows) == 0:
                    return 0
                total = len(self.dataset) if self.shard is None else len(self.shard.span(len(self.dataset)))
                if len(rows) < total:
                    self.say(f"encoded before: {total - len(rows):,} of {count_images(total)}; the rest is encoded now")
                probed = self._probed_among(rows)
                if probed is not None:
                    writer.put(probed.rows, probed.features)
                    rows = np.setdiff1d(rows, probed.rows)
                loop = Loop(
                    self.forward,
                    writer.put,
                    batch_size=self.batch_size(len(rows)),
                    done=total - len(rows),
                    total=total,
                    progress=self.progress,
                )
                with closing(self.stream(rows)) as stream:
                    corrupt = loop.run(stream, self.check_features)
        finally:  # the writer's seconds are known once it is closed; a run that is interrupted has rates too
            if loop is not None and writer.bytes:
                part, rates = PART if self.shard is None else self.shard.part, loop.rates(writer, self.workers)
                for bank in writer.banks.values():
                    write_rates(bank.path, part, rates)
        if corrupt:
            raise DataError(self._corrupt_message(corrupt))
        return loop.oriented + (0 if probed is None else probed.oriented)

    def _probed_among(self, rows: np.ndarray) -> _Encoded | None:
        """The images that chose the dtype, if all of them and further ones are to be encoded; a shard has some only."""
        probed = self._probed
        if probed is None or self.shard is not None or len(rows) <= len(probed.rows):
            return None
        return probed if bool(np.isin(probed.rows, rows).all()) else None

    def stream(self, rows: np.ndarray) -> Generator[Decoded, None, None]:
        """These rows, decoded by the workers; to be closed."""
        itemsize = 4 if in_two_steps(self.encoder.transform) is None else 1
        size = (self.encoder.spec.img_size or 224) ** 2 * self.encoder.spec.channels * itemsize
        decoder = self._decoder(rows, min(CHUNK, self.forward.batch_size))
        return decode(decoder, self.workers, chunk_bytes=CHUNK * size)

    def batch_size(self, n_rows: int) -> BatchSize:
        """The batch size, to be searched for where it is left to us and the images are enough to find it."""
        first = self.forward.batch_size
        search = self.settings.batch_size == "auto" and not self.settings.compile and n_rows >= WORTH_SEARCHING * first
        return BatchSize(first, most=MOST.get(self.device.type, first), search=search)

    def _corrupt_message(self, corrupt: list[CorruptImage]) -> str:
        return (
            f"At least {count_images(len(corrupt))} cannot be decoded:\n"
            f"{describe_corrupt(corrupt)}\n"
            f"List all of them with  ssl-risk-rs data check {self.dataset.uri}  or leave them out with "
            "--skip-corrupt"
        )

    def check_features(self, name: str, rows: np.ndarray, values: np.ndarray) -> None:
        if values.shape[1] != (expected := int(self.encoder.num_features[name])):
            raise EncoderError(
                f"feature {name!r} of {self.encoder.spec.name} has {values.shape[1]} numbers an image, its "
                f"num_features says {expected}"
            )
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            where = self.dataset.where(int(rows[np.argmax(bad)]))
            raise EncoderError(
                f"feature {name!r} of {self.encoder.spec.name} is NaN or infinite for {where} in "
                f"{self.precision}; try --amp off, and check the checkpoint"
            )
