"""`pixels:8`: mean pixels on a grid, which cannot have memorized an image."""

from typing import TYPE_CHECKING

from ssl_risk_rs.encoders.names import EncoderName
from ssl_risk_rs.encoders.spec import EncoderSpec, Layers, choose_features
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from ssl_risk_rs.encoders.encoder import Encoder

__all__ = ["build_pixels", "describe_pixels"]


def describe_pixels(name: EncoderName) -> EncoderSpec:
    """Spec of the grid.

    Raises
    ------
    EncoderError for other options than channels, 1 or 3.
    """
    channels = name.options.get("channels", 3)
    if channels not in (1, 3) or name.options.keys() - {"channels"}:
        raise EncoderError(f"{name.text}: the one option of pixels is channels, 1 or 3, such as pixels:8?channels=1")
    n_channels = 1 if channels == 1 else 3
    return EncoderSpec(
        name=name.text,
        architecture=f"mean pixels of a {name.target} by {name.target} grid",
        source="code",
        features=("output",),
        img_size=None,
        resize=None,
        mean=(0.0,) * n_channels,
        std=(1.0,) * n_channels,
        channels=n_channels,
        notes="Has no weights: it cannot have memorized an image.",
    )


def build_pixels(name: EncoderName, layers: Layers, pool: str | None, img_size: int | None) -> "Encoder":
    """The encoder.

    Raises
    ------
    EncoderError for a feature or an image size, of which it has none.
    """
    from torch import nn

    from ssl_risk_rs.encoders.encoder import OutputModule, finish
    from ssl_risk_rs.encoders.transforms import GridPixels

    spec = describe_pixels(name)
    choose_features(spec.features, layers, pool)
    if img_size is not None:
        raise EncoderError("pixels pools images of any size to its grid: leave out the image size")
    return finish(spec, OutputModule(nn.Flatten()), GridPixels(int(name.target), spec.channels))
