"""BankHeader, bank.json, and banks that earlier releases wrote."""

import base64
import json
import pickle
import zlib
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import numpy as np
import pytest
from bank_helpers import HEADER, create, filled, samples_of
from ssl_risk_rs import BankError, FeatureBank, ParameterError
from ssl_risk_rs.bank import BankHeader, ExcludedImage

#: the folder of a bank that version 0.1.0 wrote (commit 57d8067): six rows, two features, parts a and b. Each file
#: is the length of its name, its name, the length of its content, its content.
VERSION_1 = """
c-pO2%WvGq86WP$lGf`-R1dKWEDB;_Q*tBA<nXyd5}0e*vR&DcR6i;NfifhAyBkyFX1RLVHQ?mr0!HDsfR9Cxa}Gt(1~~+U(L+%bt#1u-G>W3g
!GAyyAV6n^+||mBkk}3(ku%@p_x--da5;fz-;FnV5e_2&fF>zY!^FB}H7xA8wyjwW2_a%2-_Y~`8Q5zWlIH5FZd;Zcc$VuKN=cP8$yJDM5n`IY
t?Mer5>jl_GYzky5<-x!Nr9_kTlam%v;$(gq*TPSQFrG7jr-dx*Df!u3Sbl5p7KfJ^`_>esn-HDH6u+0aj)OQ(OTT|36r14VM3@pY2z-T`)Pef
LMLaWJJJhZCC~(C!E4|RO2r0efK$S=y?85O^gi5|-iG}>>Af5|N-q!6O8|SXT=txB2Tio-4$&qOf-RT0K5igivo%%n6~nX*PjdsJ*=}G<#8W-j
3oOmWo^SX{spztF@4aj{&=1g!`MdMr+}(2}ci4poFWUw5@?9uo)h-UJj-#8i?<R4yO&f8$B-JU4b=<GdN%bTNPxU&<%~Q;#K0|eh*Cy+DZIkqp
P8?Ail}V#DmLc7l=`J9+ztJO1f|$hb?{o<R48j=qRg*)t38q<6DUB)BN#w=pw%+eVJIrDzTuZvd%M2+zUMG9Zq<Uw)wU%^lF|mfI<PP`VBAr&d
pRBcU(q<0WRZ)tY@ngaeC;d4uOj3o9`<U~LLmGGPw7)A}8^(=yMx;R}YLQ;I*NJ$=0(I0Q?(-VF#Ytj`?dx>?HaGET=!Bz=*klR0yJlIblimC`
*1J0_7MfM+!(_>}7jF2(XHcnQ*jeu|PSHjf?x_czCS;flK~aK$Lfqk<#p~UWjB1gEea~<M-3n~i)hy(zs!0MwbQ2@h_7$RGO~DkzZs@x2>BKeZ
JJ-^PY3Qn{^DcWmT5C?Ljud2`Qq@z)ys8*;i2c2)D02$U;?9vQ{A?HZ-rFGkt#JUBoD~%o;5%@B5tbnx)#*Q-{zg*%3BUvP63Kx)C=AEAc$Mx2
2%re3XQ=s6cmN)#nP7T+U{M(#dFODbgRAMwr!3_2_x_rLg{lD#9IaOJbedsVEQ|jZ#4iLnkjM80qWtPmU!;!#=qtZW&lWw%oroPaIs<*mYZ4yc
!>h;*Dg~w<_)c6L5EAkVEN66zNjL2DIicSO;wOUqFfact_x~7_#07YMv{uLe1;AYfm?$dJbiOhQh1{7(!o%Fyw-hUv7?oV2>{p-xqlvUzYaO4n
`hy_;MUWpA<tK$bAe4{<(P(jwzQ0?#!Oy_A)Mi}Rw`Zdz`pK|k#SptB<Ya!w$vhsDKN#B=iZOzdi}W^tWo+p7FqB4!ln2_eMjDj<f(>g>=;D5x
M_ds%<tG#JA1Am6#Xb(rMT#)+p8R#{-BtM=@w-N&9fR`T>UXtDuB#6GO3Q;(bNQvxFz^@++#yjq5cdV~_k#S{LHTKE4?^{oTy-~Nx-1T>T@^Dm
9~)XbK13sO+B<eLMnt1X!ZS!hwL-;wTh0KwD!XZ!MNJIgEfMh5!#r$f%ST1%X3NK8a5GyznShtF<!1-sJ8TJa)n8mF^x~MNOv`&B#}DX<+TzDQ
Iy1@iWhzP!$qBGn8%TDCbRcD}>7=9<yoIAKgVJU)v0SZHL;26S+Kapz#9tkO$HcG7@C_jUqfmS9<1Bu31d8G(hoA!3EI;qz6F+6{|2+g{AU~L>
z35R9A2XQyhglY%mulZR{^Ea_{ofD69|QSmx%PZhD}K$KzdTGiiyw`NWqDlubo>|_hDzC4S$XruT>AY{d73}XF4Sr|j&qLwJN72sZ!bIPo{N6!
IEizXKbM_Xm#BVgi^(rKPAjuprH^@?ZFbo05|cMQw!F-44#&I9LM^aW)5-klwZe5wc#-Lw4EjQ|?JtC(8!bCmSiJ4l5acYkJ$Eg0ay-t5shV4>
KVONt@cb<*v}0$GRLZlNKIpY{mFgSLF140(cA1&BoF>~ZY`0g}uP00sen)(T$G^$oZ>`=?x7>y60lvXZ=N*>Mg?;m#w|Tyt;x+E?Eo^svrh1d}
SB6f_UH;VgXN(Gcu4H*#&hQY!8&<Q$T<MP2^U|ij<-86mSC--s_Y!HkyVGyS(Mc)$Dw5EwI;%+2?nWo{B`ats$n~`#@R1b+HvM4Hk!540fl<Q<
0u)%7_ziTj8q(wa%pYhK(oc^60ftHZu>
"""
VERSION_1_HEADER = {
    "encoder": "tiny",
    "encoder_spec": {"name": "tiny", "img_size": 32},
    "weights_hash": "ab12",
    "feature": "last:cls",
    "data": "folder:/d",
    "data_name": "toy",
    "data_fingerprint": "f1",
    "data_notes": ["a note"],
    "class_names": ["a", "b"],
    "versions": {"numpy": "2.0"},
    "excluded": [],
    "weights_sha256": "00ff",  # a name that the format knew, and nobody wrote
}


def version_1(folder: Path) -> Path:
    folder.mkdir()
    data = zlib.decompress(base64.b85decode(VERSION_1.replace("\n", "")))
    while data:
        length = data[0]
        name, size, data = data[1 : 1 + length].decode(), data[1 + length : 5 + length], data[5 + length :]
        n = int.from_bytes(size, "little")
        (folder / name).write_bytes(data[:n])
        data = data[n:]
    return folder


def test_a_bank_of_the_first_release_is_read(tmp_path):
    bank = FeatureBank.open(version_1(tmp_path / "bank"))
    expected = np.arange(6)[:, None] + np.array([0, 0.5])
    assert np.array_equal(bank.read(range(6)), expected)
    assert bank.header.to_json() == VERSION_1_HEADER and bank.created == "2026-11-26T05:25:25+00:00"
    assert bank.header.extra == {"weights_sha256": "00ff"} and bank.header.limit is None
    assert bank.labels().tolist() == [0, 1] * 3 and bank.rows("test").tolist() == [4, 5]
    assert bank.groups("patient") == ["p1", "p1", "p2", "p2", "p3", "p3"]
    assert bank.verify().blocks == 3
    # asked for again, it is the same bank, and a writer finds nothing to do
    again = FeatureBank.create(bank.path, bank.header, bank.samples, n_features=2, dtype="float16")
    assert again.complete
    with again.writer("a") as writer:
        assert writer.committed == 4
    assert FeatureBank.open(bank.path).verify().damage == []


def test_header_goes_to_json_and_back():
    plain = {
        "encoder": "tiny",
        "encoder_spec": {"name": "tiny", "layers": [1, 2]},
        "weights_hash": "ab",
        "feature": "last:cls",
        "layer": "last",
        "pooling": "cls",
        "img_size": 32,
        "transform": {"mean": [0.5], "other": None},
        "precision": "bfloat16",
        "device": "cuda",
        "data": "folder:/d",
        "data_name": "toy",
        "data_fingerprint": "f",
        "data_notes": ["one"],
        "limit": "5/class",
        "excluded": [{"where": "a.png", "reason": "cut short"}],
        "class_names": ["a", "é"],
        "pretraining_data": "ImageNet-1K",
        "licence": "MIT",
        "versions": {"numpy": "2.0"},
        "key": "3f2a",
        "source": "x.npz",
        "source_test": "t.npz",
        "note": "cut 80/20",
        "notes": [{"code": "cut", "values": {"share": 0.2}}],
        "code_hash": "c0",
        "code_files": ["mine.py"],
        "data_id": "imagenet",
        "data_identity": {"name": "toy", "kind": None},
        "encoder_notes": ["two left over"],
        "limit_group": "patient",
        "exif_orientation": False,
        "view": 2,
        "pixels_version": 2,
        "overlap": {"test_images_in_train": 0},
        "pretraining_id": "imagenet",
        "mine": {"anything": [None, 1.5]},
    }
    assert {field.name for field in fields(BankHeader)} == plain.keys() - {"mine"} | {"extra"}
    header = BankHeader.from_json(plain)
    assert header.to_json() == plain and BankHeader.from_json(header.to_json()) == header
    assert header.excluded == (ExcludedImage("a.png", "cut short"),)
    assert header.class_names == ("a", "é") and header.extra == {"mine": {"anything": [None, 1.5]}}
    assert pickle.loads(pickle.dumps(header)) == header  # goes to other processes
    with pytest.raises(FrozenInstanceError, match="encoder"):
        header.encoder = "other"
    assert BankHeader.from_json({"limit": None}) == BankHeader() and BankHeader().to_json() == {}


def test_fields_of_another_type(tmp_path):
    """Kept on reading, since others write banks too; refused where they are made."""
    header = BankHeader.from_json({"transform": "resize 224", "img_size": "224", "encoder": "tiny"})
    assert header.transform is None and header.extra == {"transform": "resize 224", "img_size": "224"}
    with pytest.raises(ParameterError, match=r'class_names is \["a", 1\], expected a list of strings'):
        BankHeader.from_json({"class_names": ["a", 1]})
    for name, value, expected in [
        ("encoder", 5, "a string"),
        ("img_size", True, "a whole number"),
        ("versions", {"numpy": 2}, "a string"),
        ("transform", "resize", "an object"),
        ("exif_orientation", 1, "true or false"),
        ("view", "2", "a whole number"),
        ("notes", ["x"], "an object"),
        ("excluded", [{"where": "x"}], "a string"),
        ("excluded", 3, "a list"),
    ]:
        with pytest.raises(ParameterError, match=rf"header's {name}.*expected {expected}"):
            create(tmp_path / "bank", header={**HEADER, name: value})
    for header, message in [({"x": float("nan")}, "JSON"), ({"x": object()}, "JSON"), ({"x": "\ud800"}, "JSON")]:
        with pytest.raises(ParameterError, match=message):
            create(tmp_path / "bank", header=header)
    assert not (tmp_path / "bank").exists()


def test_a_header_makes_a_bank(tmp_path):
    header = BankHeader(encoder="tiny", class_names=("a", "b", "c"))
    bank = create(tmp_path / "bank", header=header)
    assert bank.header == header and bank.class_names == ["a", "b", "c"]
    assert create(tmp_path / "bank", header=header.to_json()).header == header


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace(b"tiny", b"t\xe9ny"), "is no UTF-8 text"),
        (lambda text: text.replace(b"tiny", b"\\ud800"), "bank.json is no"),
        (lambda text: text.replace(b'"a",', b"1,"), "class_names is .*expected a list of strings"),
        (lambda text: text.replace(b'"header": {', b'"header": 5, "x": {'), "header is 5, expected an object"),
        (lambda text: b"[" * 100_000, "bank.json"),
        (lambda text: b'{"n_rows": ' + b"9" * 5000, "bank.json"),
        (lambda text: text[:-3], "bank.json"),
    ],
)
def test_damaged_manifests_are_bank_errors(tmp_path, change, message):
    path = filled(tmp_path / "bank").path / "bank.json"
    text = path.read_bytes()
    path.write_bytes(change(text))
    assert path.read_bytes() != text
    for look in (FeatureBank.open, FeatureBank.verify_path):
        with pytest.raises(BankError, match=message):
            look(path.parent)


def test_a_promise_of_four_billion_rows_costs_nothing(tmp_path):
    facts = {"format": "ssl-risk-bank", "schema_version": 1, "n_rows": 2**32 - 1, "n_features": 5, "dtype": "float16"}
    text = json.dumps(facts)
    assert len(text) < 150
    (tmp_path / "bank.json").write_text(text)
    bank = FeatureBank.open(tmp_path)
    assert not bank.complete and bank.n_missing == 2**32 - 1
    with pytest.raises(BankError, match=r"samples\.parquet cannot be read"):
        bank.missing_rows()
    with pytest.raises(BankError, match="4294967295 of 4294967295 rows are missing"):
        bank.read([0])
    samples_of(10).write_parquet(tmp_path / "samples.parquet")
    with pytest.raises(BankError, match=r"bank\.json has no samples_sha256"):
        bank.missing_rows()
    with bank.writer("a") as writer:  # and memory grows with what is written
        writer.append(np.array([2**32 - 2], np.uint64), np.zeros((1, 5), np.float32))
    bank = FeatureBank.open(tmp_path)
    assert bank.n_missing == 2**32 - 2
    with pytest.raises(BankError, match=r"damaged in 1 place.*\n.*bank\.json has no samples_sha256"):
        bank.verify()  # samples that no reader takes
    (tmp_path / "samples.parquet").unlink()
    assert bank.verify().rows == 1  # a bank without samples
