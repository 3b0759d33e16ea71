"""`file.py:function`: the user's own code, which is run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs.encoders.names import EncoderName
from ssl_risk_rs.encoders.spec import EncoderSpec, Layers, choose_features, usual_resize
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from ssl_risk_rs.encoders.encoder import Encoder

__all__ = ["build_code", "describe_code"]


def describe_code(name: EncoderName) -> EncoderSpec:
    """Spec of what a function returns, as far as it is known before the function runs.

    Raises
    ------
    EncoderError if there is no such file.
    """
    if not Path(name.target).is_file():
        raise EncoderError(f"{name.text}: no file {name.target}")
    # what its images are, the function decides
    return EncoderSpec(name.text, name.part, "code", ("output",), img_size=None, resize=None)


def build_code(
    name: EncoderName,
    *,
    layers: Layers,
    pool: str | None,
    img_size: int | None,
    progress: Callable[[str], None],
) -> "Encoder":
    """Run the user's file and wrap what its function returns: module, (module, transform) or Encoder."""
    from torch import nn

    from ssl_risk_rs.encoders.encoder import Encoder, OutputModule, finish, finish_own
    from ssl_risk_rs.encoders.sources.user_code import run_function
    from ssl_risk_rs.encoders.transforms import Preprocess

    spec = replace(describe_code(name), img_size=224, resize=256)
    code = run_function(Path(name.target).resolve(), name.part)
    made = code.made
    if isinstance(made, Encoder):
        return replace(made, code_hash=code.digest, code_files=code.files)
    if img_size is not None:
        spec = replace(spec, img_size=img_size, resize=usual_resize(img_size))
    module, transform = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module) or not (transform is None or callable(transform)):
        raise EncoderError(
            f"{name.text} returned {type(made).__name__}; return a torch.nn.Module, (module, transform), or an Encoder"
        )
    if transform is not None:
        encoder = finish_own(spec, OutputModule(module), transform, img_size=img_size)
    else:
        progress(
            f"{name.text}: no transform given, so ImageNet's usual one: short side {spec.resize}, centre "
            f"{spec.img_size}, ImageNet mean and std; return (module, transform) for another"
        )
        encoder = finish(spec, OutputModule(module), Preprocess(spec))
    encoder = replace(encoder, code_hash=code.digest, code_files=code.files)
    wanted = encoder.spec.features
    if layers is not None or pool is not None:
        wanted = choose_features(encoder.spec.features, layers, pool)
    if wanted != encoder.spec.features:
        raise EncoderError(f"{name.text} decides itself what it returns: {', '.join(encoder.spec.features)}")
    return encoder
