"""`ssl-risk-rs report`."""

from pathlib import Path

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _printing as printing

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--html", type=FILE, metavar="FILE", help="One page that needs nothing else. This is the default: "
              "report.html.")  # fmt: skip
@click.option("--md", type=FILE, metavar="FILE", help="The same sentences and tables as Markdown; with --figures its "
              "drawings are linked.")  # fmt: skip
@click.option("--latex", type=FILE, metavar="FILE", help="The tables alone, for a paper (booktabs).")
@click.option("--figures", type=FILE, metavar="DIR", help="Every drawing as SVG and PNG.")
@click.option("--geometry", type=FILE, metavar="FILE", help="Statistics of the representation (parquet: statistic, "
              "value, n). The default is geometry.parquet in the run folder, where there is one.")  # fmt: skip
@click.option("--force", is_flag=True, help="Files that are there are replaced.")
def report(
    runs: tuple[str, ...],
    html: Path | None,
    md: Path | None,
    latex: Path | None,
    figures: Path | None,
    geometry: Path | None,
    force: bool,
) -> None:
    """Write a report of runs: one page to read, share and print.

    RUN is a run folder, a folder with run folders below it, or a pattern ('runs/**'). A report of one run says where
    its error comes from, by class and by group, at fewer labels, which penalties were tried, and what its intervals
    are made of. A report of several also compares them with the first, row by row where they were judged on the same
    rows. The page holds no script and asks for nothing from elsewhere. What is missing is listed with the command that
    adds it. Pages and figures need the extra `report`; Markdown and LaTeX do not.

    \b
    ssl-risk-rs report runs/mine --html report.html
    """
    from ssl_risk_rs._files import check_outputs
    from ssl_risk_rs.report import files
    from ssl_risk_rs.report.build import build_page
    from ssl_risk_rs.report.html import check_installed
    from ssl_risk_rs.report.latex import to_latex
    from ssl_risk_rs.workflow.reporting import gather

    if html is None and md is None and latex is None and figures is None:
        html = Path("report.html")
    check_outputs((html, md, latex), force=force, inputs=[*runs, *([] if geometry is None else [geometry])])
    files.check_figures(figures, force=force)
    if html is not None or figures is not None:
        check_installed()
    material = gather(runs, geometry=geometry, say=printing.say)
    page = build_page(material, made_by=opt.command_line())
    drawn = files.write_figures(page.figures(), figures) if figures is not None else {}
    written: list[Path] = []
    if html is not None:
        files.write_html(page, html)
        written.append(html)
    if md is not None:
        files.write_markdown(page, md, drawn)
        written.append(md)
    if latex is not None:
        tables = [to_latex(list(material.runs)), *(to_latex(found) for found in material.comparisons)]
        files.write_text("\n".join(tables), latex)
        written.append(latex)
    for path in written:
        printing.show(f"The report is in {path}.")
    if figures is not None:
        printing.show(f"{len(drawn)} figures are in {figures}, as SVG and PNG.")
