"""How the numbers were made: a paragraph to quote, what to cite, a LaTeX table, and the line that makes them again."""

from collections.abc import Sequence

from ssl_risk_rs.report.latex import to_latex
from ssl_risk_rs.report.numbers import count
from ssl_risk_rs.report.page import Code, Definitions, Section, Sentences
from ssl_risk_rs.report.sentences import is_there, short
from ssl_risk_rs.results.compare import Comparison
from ssl_risk_rs.results.provenance import BankFacts
from ssl_risk_rs.results.run import Decomposition, Run

__all__ = ["BIBTEX", "latex", "method", "provenance"]

BIBTEX = """@inproceedings{dubois2023evaluating,
  title     = {Evaluating Self-Supervised Learning via Risk Decomposition},
  author    = {Dubois, Yann and Hashimoto, Tatsunori and Liang, Percy},
  booktitle = {Proceedings of the 40th International Conference on Machine Learning},
  series    = {Proceedings of Machine Learning Research},
  volume    = {202},
  year      = {2023}
}"""
_PROBES = {"logistic": "multinomial logistic regression", "ridge": "ridge regression on one-hot targets"}
_ERRORS = {"error": "0-1 errors", "r2": "1 − R²", "auroc": "1 − AUROC, averaged over labels,"}
_SCALING = {
    "standardize": "Features are standardized from each probe's own training rows.",
    "minmax": "Features are scaled to their range over each probe's own training rows.",
    "none": "Features are not scaled.",
}


def method(runs: Sequence[Run]) -> Section:
    """One paragraph for each way of working among the runs, and the BibTeX entry."""
    paragraphs = list(dict.fromkeys(_paragraph(d) for run in runs for d in run.decompositions))
    versions = sorted({run.versions.get("ssl-risk-rs", "") for run in runs} - {""})
    used = f"Numbers were made with ssl-risk-rs {', '.join(versions)}." if versions else ""
    return Section(
        "method",
        "Method",
        (
            *(Sentences((text,)) for text in paragraphs),
            *((Sentences((used,)),) if used else ()),
            Code("BibTeX of the paper whose decomposition this is", BIBTEX),
        ),
    )


def latex(runs: Sequence[Run], comparisons: Sequence[Comparison]) -> Section:
    """The tables for a paper."""
    blocks = [Code("Errors and their parts (needs \\usepackage{booktabs})", to_latex(list(runs)))]
    blocks += [
        Code(f"Differences from {short(found.baseline)}, {found.probe} probe", to_latex(found)) for found in comparisons
    ]
    return Section("latex", "LaTeX", tuple(blocks))


def provenance(runs: Sequence[Run], called: Sequence[str]) -> Section:
    """Where each run comes from, and the line that makes it again."""
    blocks: list[Definitions | Code] = []
    for run, name in zip(runs, called, strict=True):
        blocks.append(Definitions(tuple(_facts(run, name))))
        if run.provenance.command:
            blocks.append(Code(f"The line that makes {name} again", run.provenance.command))
    return Section("provenance", "Where it comes from", tuple(blocks))


def _paragraph(d: Decomposition) -> str:
    """What was done, for a method section."""
    m, sizes = d.method, d.sizes
    probe = _PROBES[m.probe] if d.predicts_classes else "ridge regression on the targets"
    said = [
        f"Errors are {_ERRORS[m.metric]} of a linear probe on frozen features, split into signed parts that add up "
        "(Dubois, Hashimoto and Liang, 2023).",
        f"The probe is {probe} with a squared penalty ({m.protocol} protocol).",
        _SCALING.get(m.scaling, ""),
    ]
    if sizes.subsets:
        rows = " + ".join(count(n) for n in sizes.subset_rows)
        said.append(f"{sizes.subsets} held-out training {'subset' if sizes.subsets == 1 else 'subsets'} ({rows} rows).")
    tuned = d.penalties.get("tuned")
    if tuned is not None and sizes.folds:
        by = "" if m.tuned_on == "error" else " by its class-balanced error"
        said.append(
            f"One penalty, α = {tuned.value:g}, was tuned{by} on {sizes.folds_judged} of {sizes.folds} folds, on rows "
            "that nothing is judged on."
        )
    if "floor" in d.penalties:
        said.append(f"Training errors are taken at a floor of α = {d.penalties['floor'].value:g}.")
    groups = "whole groups" if sizes.groups_train is not None else "rows"
    said.append(
        f"Intervals are of {100 * m.confidence:g} % for fresh {groups} with the encoder fixed, the probe's own "
        f"variation included where it could be estimated; splits are drawn by sample id and seed {m.seed}."
    )
    return " ".join(text for text in said if text)


def _facts(run: Run, name: str) -> list[tuple[str, str]]:
    given, host = run.provenance, run.host
    found = [("Encoder", name), ("Data", given.data)]
    if run.path is not None:
        found.append(("Record", str(run.path)))
    if run.created:
        found.append(("Made", run.created.replace("T", " ")))
    if given.pretraining_data:
        found.append(("Pretrained on", given.pretraining_data))
    for role, bank in given.banks.items():
        found.append((f"Features, {role}", f"{_bank(bank)}{_gone(bank)}"))
        found += [(f"Encoder, {role}", note) for note in bank.encoder_notes]
    seconds = sum(d.seconds for d in run.decompositions)
    found.append(("Decomposition", f"{seconds:,.1f} s; probes on {run.decompositions[0].method.device}"))
    if host.machine:
        found.append(("Machine", f"{host.machine}, {host.cpus or '?'} CPUs, {host.system}"))
    if run.versions:
        found.append(("Versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())))
    return found


def _gone(bank: BankFacts) -> str:
    return "" if is_there(bank) else f"; {bank.path} is not there, or cannot be read"


def _bank(bank: BankFacts) -> str:
    said = [bank.encoder or "", f"layer {bank.feature}" if bank.feature else "", bank.dtype or ""]
    said += [f"{bank.n_features:,} features" if bank.n_features else "", bank.licence or ""]
    said += [f"weights {bank.weights_hash[:23]}…" if bank.weights_hash else ""]
    return ", ".join(text for text in said if text)
