"""The zoo's encoders for the command line and the library: `bench/zoo/encoders.py:NAME`.

    ssl-risk-rs run -m bench/zoo/encoders.py:simclr_s0 -d idx:/usr/share/datasets/fashion-mnist

NAME is an encoder of the packs in `bench/data/zoo`, or in the folder that the environment variable FASHION_ZOO names.
`python bench/zoo/pretrain.py --data DIR --out bench/data/zoo --list` shows the names.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from networks import IMG_SIZE, MEAN, STD, build_network
from pack import read_records, read_tensors

if TYPE_CHECKING:
    from ssl_risk_rs import Encoder, EncoderSpec

__all__ = ["encoder", "spec", "zoo_folder"]

HERE = Path(__file__).resolve()


def zoo_folder() -> Path:
    """Where the packs lie."""
    return Path(os.environ.get("FASHION_ZOO") or HERE.parents[1] / "data" / "zoo").expanduser()


def encoder(name: str) -> "Encoder":
    """Build an encoder and load its weights from the pack that holds it.

    Raises
    ------
    EncoderError if no pack holds it (with the nearest names), or its tensors do not fit.
    """
    import torch
    from ssl_risk_rs.encoders.encoder import OutputModule, finish
    from ssl_risk_rs.encoders.spec import nearest
    from ssl_risk_rs.encoders.transforms import Preprocess
    from ssl_risk_rs.errors import EncoderError

    folder = zoo_folder()
    try:
        records = read_records(folder)
    except ValueError as error:
        raise EncoderError(str(error)) from error
    if name not in records:
        close = ", ".join(nearest(name, list(records))) or "none: bench/zoo/pretrain.py makes them"
        raise EncoderError(f"{folder} has no encoder {name}; nearest of its {len(records)}: {close}")
    path, record = records[name]
    network = build_network(str(record["architecture"]), int(str(record["z_dim"])))
    tensors = {
        key.removeprefix("encoder."): torch.from_numpy(value)
        for key, value in read_tensors(path, name).items()
        if key.startswith("encoder.")
    }
    try:
        network.load_state_dict(tensors)  # float16 becomes the network's float32
    except RuntimeError as error:
        raise EncoderError(f"{path}: {name} does not fit its architecture ({error})") from error
    facts = spec(name, record, set(records))
    return finish(facts, OutputModule(network), Preprocess(facts))


def spec(name: str, record: dict[str, object], there: set[str]) -> "EncoderSpec":
    """What is known of an encoder; its twin and control are those of the same architecture, dimension and seed."""
    from ssl_risk_rs.encoders.spec import EncoderSpec

    kind = "".join(
        f"_{part}"
        for part, is_base in (
            (record["architecture"], record["architecture"] == "convnet"),
            (f"d{record['z_dim']}", record["z_dim"] == 128),
        )
        if not is_base
    )
    twin, control = f"supervised{kind}_ep60_weak_s{record['seed']}", f"random{kind}_s{record['seed']}"
    trained = record["objective"] != "random"
    found = EncoderSpec(
        name=f"{HERE}:{name}",
        architecture=str(record["architecture"]),
        source="code",
        features=("output",),
        img_size=IMG_SIZE,
        resize=IMG_SIZE,
        mean=(MEAN,),
        std=(STD,),
        channels=1,
        licence="MIT (this project)",
        supervised_twin=f"{HERE}:{twin}" if twin in there else None,
        twin_labels="Fashion-MNIST" if twin in there else None,
        random_twin=f"{HERE}:{control}" if control in there else None,
    )
    if not trained:
        return found
    return replace(
        found,
        objective=str(record["objective"]),
        pretraining_data=str(record["pretraining_data"]),
        epochs=int(str(record["checkpoint_epoch"])),
        batch_size=int(str(record["batch_size"])),
    )


def __getattr__(name: str) -> "Callable[[], Encoder]":
    """`encoders.NAME()` builds the encoder of that name: what a name `file.py:NAME` asks for."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return lambda: encoder(name)
