"""Checked settings of an extraction."""

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from ssl_risk_rs._limits import check_choice
from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.datasets.views import check_view
from ssl_risk_rs.encoders.names import is_pixels
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.extraction.forward import PRECISIONS, Amp

if TYPE_CHECKING:
    from ssl_risk_rs.datasets import ImageDataset

__all__ = ["Encoding", "ExtractionSettings", "StorageDtype"]

StorageDtype = Literal["auto", "float16", "float32"]

#: settings that are not part of what a bank is asked for: how fast it is made, and `device`, which chooses the
#: precision where `amp` is auto; `allows` holds that of a bank against it
_HOW = ("device", "batch_size", "workers")


@dataclass(frozen=True, slots=True)
class ExtractionSettings:
    """How to encode; nothing here says what.

    Attributes
    ----------
    device : auto (CUDA if there is one), cpu, cuda, cuda:1 …
    amp : precision of the encoder's products: auto, off (float32), bf16, fp16
    batch_size : auto, or images encoded at a time; halved when the memory does not suffice
    workers : auto, or threads or processes that decode images; 0 decodes between batches. Where processes are not
        forked (macOS, Python 3.14 and later), a script needs `if __name__ == "__main__":`, or threads decode
    dtype : auto (float16 unless a feature does not fit it), float16, float32: how features are stored
    compile : whether the encoder goes through torch.compile
    skip_corrupt : leave out images that cannot be decoded. They are found by decoding every image once before the
        encoder starts, and recorded in the banks. Without it the first such image ends the run
    hash_content : tell data apart by the files' contents instead of their sizes and times: this survives a copy, and
        reads every file
    exif_orientation : turn images as their EXIF data ask; False leaves them as stored, like torchvision
    view : number, from 1, of the augmented view (`datasets.views`) that images are seen in; None: as they are
    """

    device: str = "auto"
    amp: Amp = "auto"
    batch_size: int | Literal["auto"] = "auto"
    workers: int | Literal["auto"] = "auto"
    dtype: StorageDtype = "auto"
    compile: bool = False
    skip_corrupt: bool = False
    hash_content: bool = False
    exif_orientation: bool = False
    view: int | None = None

    def __post_init__(self) -> None:
        check_choice("amp", self.amp, get_args(Amp))
        check_choice("dtype", self.dtype, get_args(StorageDtype))
        for name, least in (("batch_size", 1), ("workers", 0)):
            value = getattr(self, name)
            if value != "auto" and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ParameterError(f"{name} is {value!r}; give auto or a whole number from {least}")
        if self.view is not None:
            check_view(self.view)

    def allows(self, precision: str | None) -> bool:
        """Whether a bank of this precision is what is asked for; a device that is not named may be any."""
        if precision is None:
            return True
        if self.amp != "auto":
            return precision == PRECISIONS[self.amp]
        return self.device == "auto" or (precision == "float32") == (not self.device.startswith("cuda"))

    def content(self) -> dict[str, Any]:
        """What changes a bank's numbers, JSON-ready; without `view` where there is none, as banks of older versions."""
        values = {name: value for name, value in asdict(self).items() if name not in _HOW}
        if self.view is None:
            del values["view"]
        return values


@dataclass(frozen=True, slots=True)
class Encoding:
    """Which features of which images are encoded, and how: what banks are asked for beside encoder, data and groups.

    Attributes
    ----------
    layers : layers or feature names, one pass for all; None is the encoder's default feature
    pool : pooling of layers that name none; img_size : side of the images, None is the encoder's own
    limit : `N` or `"N/class"`; split : file that tells training from test images
    settings : how
    """

    layers: tuple[str, ...] | None = None
    pool: str | None = None
    img_size: int | None = None
    limit: str | None = None
    split: str | None = None
    settings: ExtractionSettings = field(default_factory=ExtractionSettings)

    def __post_init__(self) -> None:
        if isinstance(self.layers, list):  # encodings are keys
            object.__setattr__(self, "layers", tuple(self.layers))

    def of_default_feature(self) -> "Encoding":
        """The same for an encoder that chooses its own feature, as twins and controls do."""
        return replace(self, layers=None, pool=None)

    def for_encoder(self, encoder: str) -> "Encoding":
        """The same for one of several encoders: a grid of pixels is of its own size, whatever the others see."""
        return replace(self, img_size=None) if is_pixels(encoder) else self

    def images(self, data: str, group: str | None = None) -> "ImageDataset":
        """The images that are encoded, see `create_dataset`; `group` is the column whose groups are kept whole."""
        exif_orientation = self.settings.exif_orientation
        return create_dataset(data, limit=self.limit, group=group, split=self.split, exif_orientation=exif_orientation)

    def content(self) -> dict[str, Any]:
        """What changes numbers, JSON-ready."""
        return {
            "layers": self.layers, "pool": self.pool, "img_size": self.img_size, "limit": self.limit,
            "split": self.split, "settings": self.settings.content(),
        }  # fmt: skip
