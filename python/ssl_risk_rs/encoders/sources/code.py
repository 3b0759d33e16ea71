"""`file.py:function`: the user's own code, which is run; `ckpt:FILE@file.py:function`: with the weights of a file."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ssl_risk_rs.encoders.names import EncoderName
from ssl_risk_rs.encoders.sources.architecture import network_options
from ssl_risk_rs.encoders.sources.checkpoint import PREPROCESSING, chosen, copies_of, with_preprocessing
from ssl_risk_rs.encoders.sources.published import fill
from ssl_risk_rs.encoders.spec import EncoderSpec, Layers, choose_features, usual_resize
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from torch import nn

    from ssl_risk_rs.encoders.encoder import Encoder

__all__ = ["build_code", "describe_code"]


def describe_code(name: EncoderName) -> EncoderSpec:
    """Spec of what a function returns, as far as it is known before the function runs.

    Raises
    ------
    EncoderError if there is no such file, or for options that belong to an architecture's name.
    """
    assert name.code is not None
    path, function = name.code
    if not path.is_file():
        raise EncoderError(f"{name.text}: no file {path}")
    if unknown := network_options(name):
        raise EncoderError(f"{name.text}: {function} makes the network, without arguments: leave out {min(unknown)}")
    # what its images are, the function decides
    return EncoderSpec(name.text, function, "code", ("output",), img_size=None, resize=None)


def build_code(
    name: EncoderName,
    *,
    layers: Layers,
    pool: str | None,
    img_size: int | None,
    match: Literal["name", "order"],
    progress: Callable[[str], None],
) -> "Encoder":
    """Run the user's file and wrap what its function returns: module, (module, transform) or Encoder; a checkpoint
    fills the module first."""
    from torch import nn

    from ssl_risk_rs.encoders.encoder import Encoder, OutputModule, finish, finish_own
    from ssl_risk_rs.encoders.sources.user_code import run_function
    from ssl_risk_rs.encoders.transforms import Preprocess

    spec = replace(describe_code(name), img_size=224, resize=256)
    assert name.code is not None
    path, function = name.code
    code = run_function(path.resolve(), function)
    made, of_file = code.made, name.kind == "checkpoint"
    if isinstance(made, Encoder) and not of_file:
        return replace(made, code_hash=code.digest, code_files=code.files)
    if img_size is not None:
        spec = replace(spec, img_size=img_size, resize=usual_resize(img_size))
    module, transform = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module) or not (transform is None or callable(transform)):
        encoder_too = "" if of_file else ", or an Encoder"
        raise EncoderError(
            f"{name.text} returned {type(made).__name__}; return a torch.nn.Module or (module, transform){encoder_too}"
        )
    if of_file:
        _fill(module, name, match, progress)
    said = [key for key in PREPROCESSING if key in name.options]
    if transform is not None:
        if said:
            raise EncoderError(
                f"{name.text}: {function} returns a transform of its own: leave out {', '.join(said)}, or return the "
                "module alone"
            )
        encoder = finish_own(spec, OutputModule(module), transform, img_size=img_size)
    else:
        spec = with_preprocessing(spec, name) if said else spec
        if len(said) < len(PREPROCESSING):
            progress(_assumed(name, spec))
        encoder = finish(spec, OutputModule(module), Preprocess(spec))
    encoder = replace(encoder, code_hash=code.digest, code_files=code.files)
    wanted = encoder.spec.features
    if layers is not None or pool is not None:
        wanted = choose_features(encoder.spec.features, layers, pool)
    if wanted != encoder.spec.features:
        raise EncoderError(f"{name.text} decides itself what it returns: {', '.join(encoder.spec.features)}")
    return encoder


def _fill(
    module: "nn.Module", name: EncoderName, match: Literal["name", "order"], progress: Callable[[str], None]
) -> None:
    """Give the module the weights of the checkpoint."""
    from ssl_risk_rs.encoders.weights.match import Choice

    choice = chosen(name, Choice(match=match, architecture=name.part, known=True, own=True))
    fill(module, copies_of(name), choice, name=name.text, progress=progress)


def _assumed(name: EncoderName, spec: EncoderSpec) -> str:
    """What is taken for the preprocessing that neither the function nor the name says."""
    if not name.options.keys() & set(PREPROCESSING):
        return (
            f"{name.text}: no transform given, so ImageNet's usual one: short side {spec.resize}, centre "
            f"{spec.img_size}, ImageNet mean and std; return (module, transform) for another"
        )
    return (
        f"{name.text}: no transform given, so short side {spec.resize}, centre {spec.img_size}, {spec.interpolation}, "
        f"mean {spec.mean} and std {spec.std}; return (module, transform) for another"
    )
