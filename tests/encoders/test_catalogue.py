"""The catalogue: complete, coherent, checked cell by cell, and with the paper's preprocessing of every encoder."""

import csv
import io
import json
import re
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image
from ssl_risk_rs._corrections import corrections_text
from ssl_risk_rs.encoders import describe_encoder
from ssl_risk_rs.encoders.catalogue import Catalogue, Status, catalogue, published_names
from ssl_risk_rs.encoders.networks.build import build_network
from ssl_risk_rs.encoders.sources.published import row_options
from ssl_risk_rs.encoders.transforms import Preprocess
from ssl_risk_rs.errors import EncoderError

TABLES = ("encoders", "files", "dialects", "published")
PAPER = [row for row in catalogue().encoders.values() if row.group == "paper"]


def texts() -> dict[str, str]:
    folder = files("ssl_risk_rs.encoders.catalogue")
    found = {name: (folder / f"{name}.tsv").read_text(encoding="utf-8") for name in TABLES}
    return {**found, "corrections": corrections_text()}


def test_the_papers_169_encoders_their_twins_and_their_files_are_there():
    tables = catalogue()
    assert len(PAPER) == len(tables.published) == 169
    assert len({file for row in PAPER for file in row.files}) == 140
    supervised = [row.name for row in tables.encoders.values() if row.group == "supervised"]
    assert len(supervised) == 15
    assert len({cells["objective"] for cells in tables.published.values()}) == 28


def test_every_encoder_loads_but_those_whose_addresses_are_dead():
    tables = catalogue()
    dead = {row.name for row in PAPER if tables.status(row) is Status.ADDRESS_DEAD}
    assert dead == {"beit_vitL16_pt22k", "beitv2_vitB16_pt1k_ep300", "beitv2_vitL16_pt1k"}
    assert all(tables.status(row) is Status.LOADS for row in PAPER if row.name not in dead)
    assert len(published_names(loadable_only=True)) == len(published_names()) - 3


def test_without_torch_an_encoder_needs_an_extra(monkeypatch):
    monkeypatch.setattr("ssl_risk_rs.encoders.catalogue.tables.find_spec", lambda name: None)
    tables = catalogue()
    assert tables.status(tables.encoders["swav_rn50"]) is Status.NEEDS_EXTRA
    assert tables.missing_packages() == ("torch", "torchvision", "timm")


def test_specs_of_all_encoders():
    for name in published_names():
        spec = describe_encoder(name)
        assert spec.source.startswith("https://") and json.dumps(spec.to_dict())
        assert spec.licence and spec.features[0] == catalogue().encoders[name.lower()].feature
        assert spec.random_twin and spec.random_twin.startswith(f"random:{spec.architecture}")
        if spec.supervised_twin:
            twin = describe_encoder(spec.supervised_twin)
            assert (twin.architecture, twin.features[0]) == (spec.architecture, spec.features[0])
            assert spec.twin_labels == "ImageNet-1K"
    assert describe_encoder("DINO_VITS16").features[0] == "4xcls"
    assert describe_encoder("swav_rn50w4").batch_size == 2560
    assert describe_encoder("byol_rn50_bs64").random_twin == "random:resnet50?padding=same"


def test_the_architectures_have_the_widths_of_the_paper():
    """Width of each feature on the meta device, against the paper's column, corrected where the paper is wrong."""
    networks: dict[tuple[str, str], torch.nn.Module] = {}
    for row in PAPER:
        key = (row.architecture, row.options)
        if key not in networks:
            with torch.device("meta"):
                networks[key] = build_network(row.architecture, row_options(row))
        assert _width(networks[key], row) == int(catalogue().corrected(row.name)["z_dim"]), row.name


def _width(network, row) -> int:
    if row.feature == "pred":
        return network.quantizer.scaling.numel()
    width, head = network.num_features, getattr(network, "head", None)
    projected = head.out_features if hasattr(head, "out_features") else 0
    parts = {"cls": width, "avg": width, "4xcls": 4 * width, "proj": projected, "attnpool": width, "avgpool": width}
    return sum(parts[part] for part in row.feature.split("+"))


def test_corrected_cells_stand_beside_the_published_ones():
    tables = catalogue()
    name = "dissl_resnet50_d8192_e800_m8"
    assert tables.published[name]["epochs"] == "400" and tables.corrected(name)["epochs"] == "800"
    assert describe_encoder(name).epochs == 800
    assert tables.corrected("swav_rn50") == dict(tables.published["swav_rn50"])
    assert all(reason for _, reason in tables.corrections.values())
    assert tables.published["clip_vitB32"]["pretraining_data"] == "CLIP"  # the paper's categories as they are


# --- preprocessing ---------------------------------------------------------------------------------------

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SWAV = ((0.485, 0.456, 0.406), (0.228, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

#: what the authors' loaders do, family by family: (names, crop, short side, interpolation, mean and std)
LOADERS = [
    (r"(open)?clip_.*px336.*", 336, 336, "bicubic", CLIP),
    (r"clip_rn50x4", 288, 288, "bicubic", CLIP),
    (r"clip_rn50x16", 384, 384, "bicubic", CLIP),
    (r"clip_rn50x64", 448, 448, "bicubic", CLIP),
    (r"openclip_vitL14", 224, 224, "bicubic", HALF),
    (r"(clip|openclip|lossyless)_.*", 224, 224, "bicubic", CLIP),
    (r"relativeloc.*", 255, 292, "bilinear", IMAGENET),
    (r"beit_.*", 224, 256, "bicubic", HALF),
    (r"(swav|dc2|selav2)_.*", 224, 256, "bilinear", SWAV),
    (r"(beitv2|dino|ibot|mugs|mae|vicreg|vicregl|speccl)_.*", 224, 256, "bicubic", IMAGENET),
    (r"(msn|mocov3|byol|simsiam|moco).*", 224, 256, "bilinear", IMAGENET),
    (r".*", 224, 256, "bilinear", IMAGENET),
]


def test_preprocessing_of_all_169_is_the_papers_bit_for_bit():
    from torchvision import transforms as T
    from torchvision.transforms import InterpolationMode

    generator = np.random.default_rng(0)
    pictures = [
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in ((301, 407), (500, 375), (224, 224), (640, 200), (96, 96))
    ]
    seen: dict[tuple[object, ...], str] = {}
    for row in PAPER:
        crop, side, interpolation, norm = next(rest for pattern, *rest in LOADERS if re.fullmatch(pattern, row.name))
        said = (row.img_size, row.resize, row.interpolation, (row.mean, row.std))
        assert said == (crop, side, interpolation, norm), row.name
        seen.setdefault(said, row.name)
    assert len(seen) == len({tuple(map(str, rest)) for _, *rest in LOADERS})
    for (crop, side, interpolation, (mean, std)), name in seen.items():
        theirs = T.Compose(
            [T.Resize(side, InterpolationMode(interpolation)), T.CenterCrop(crop), T.ToTensor(), T.Normalize(mean, std)]
        )
        ours = Preprocess(describe_encoder(name))
        for picture in pictures:
            assert torch.equal(ours(picture), theirs(picture)), name


# --- wrong cells -----------------------------------------------------------------------------------------


def changed(table: str, line: int, column: str, value: str) -> dict[str, str]:
    content = texts()
    rows = list(csv.reader(content[table].splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    rows[line - 1][rows[0].index(column)] = value
    text = io.StringIO()
    for row in rows:
        text.write("\t".join(row) + "\n")
    return content | {table: text.getvalue()}


@pytest.mark.parametrize(
    ("table", "column", "value", "message"),
    [
        ("encoders", "file", "lost", "table encoders, line 3, file 'lost': table files has no lost"),
        ("encoders", "dialect", "elvish", "table dialects has no 'elvish'"),
        ("encoders", "img_size", "0", "it is no whole number above 0"),
        ("encoders", "mean", "0.5", "three numbers between 0 and 1"),
        ("encoders", "interpolation", "nearest", "none of bilinear, bicubic"),
        ("encoders", "options", "a b", "options are key=value"),
        ("encoders", "twin", "nobody", "the twin nobody of"),
        ("encoders", "group", "mine", "none of paper, supervised, outside"),
        ("encoders", "name", "barlow_rn50", "it is there twice"),
        ("files", "address", "ftp://host/w", "neither https://"),
        ("files", "state", "tired", "none of alive, assumed"),
        ("files", "sha256", "XYZ", "no beginning of a SHA-256"),
        ("files", "file", "nobody", "has no barlow_rn50_ep300|no encoder is made of nobody"),
        ("dialects", "operation", "melt", "operations are rename"),
        ("dialects", "match", "(", "it is no pattern"),
        ("dialects", "becomes", "{9}", "the pattern has 0 groups"),
        ("corrections", "published", "7", "table published has no such"),
        ("published", "name", "nobody", "nobody is no encoder of the paper"),
    ],
)
def test_a_wrong_cell_is_named(table, column, value, message):
    content = changed(table, 3, column, value)
    if (table, column) == ("dialects", "becomes"):
        content = changed(table, 3, "operation", "rename")
        rows = content[table].split("\n")
        rows[2] = rows[2].replace("\t\trename", "\t{9}\trename")
        content[table] = "\n".join(rows)
    with pytest.raises(EncoderError, match=message):
        Catalogue.read(content)


def test_wrong_tables_are_named():
    content = texts()
    with pytest.raises(EncoderError, match="table files: its columns are"):
        Catalogue.read(content | {"files": content["files"].replace("sha256", "md5", 1)})
    with pytest.raises(EncoderError, match=r"table encoders, line 2: \d+ cells in \d+ columns"):
        Catalogue.read(content | {"encoders": content["encoders"].replace("barlow_rn50\t", "barlow_rn50\t\t", 1)})
    lines = content["published"].splitlines()
    with pytest.raises(EncoderError, match="table published: vicregl_rn50_alpha09 is missing"):
        Catalogue.read(content | {"published": "\n".join(lines[:-1])})


def test_no_code_knows_an_encoders_name():
    """The tables tell encoders apart; code that asks for a name would be a fourth table."""
    package = files("ssl_risk_rs.encoders")
    from pathlib import Path

    for path in Path(str(package)).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        code = re.sub(r'"""(?s:.*?)"""|#[^\n]*', "", text)
        named = [row.name for row in PAPER if re.search(rf'["\']{re.escape(row.name)}["\']', code)]
        assert not named, f"{path.name} names {named}"
