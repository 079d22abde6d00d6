"""``aes-dynloss dossier``: a draft of technical documentation, from a run and what was measured of its model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from aes_dynloss.cli.options import EXISTING, FOLDER, ExistingPath, OnceCommand
from aes_dynloss.errors import DataError

if TYPE_CHECKING:
    from aes_dynloss.programme.dossier_files import DossierFiles

HTML, DOCX = "dossier.html", "dossier.docx"
FORMS = {"html": (HTML,), "docx": (DOCX,), "both": (DOCX, HTML)}


@click.command(cls=OnceCommand)
@click.argument("run", type=ExistingPath("run", "Name the folder that aes-dynloss finetune or ensemble wrote."))
@click.option("--output-dir", "-o", type=FOLDER, required=True, help=f"Folder for {HTML} and {DOCX}.")
@click.option(
    "--evaluation",
    type=EXISTING,
    metavar="DIR",
    help="A later report on its scores.  [default: RUN/evaluation]",
)
@click.option(
    "--readers",
    type=EXISTING,
    metavar="DIR",
    help="A report of `evaluate --rater-column` on who scored essays by hand.  [default: RUN/readers]",
)
@click.option(
    "--robustness",
    type=EXISTING,
    metavar="FILE|DIR",
    help="robustness.json of the model.  [default: in RUN or RUN/robustness]",
)
@click.option(
    "--monitor", type=EXISTING, metavar="DIR", help="A monitor of the model's scores.  [default: in RUN or RUN/monitor]"
)
@click.option(
    "--data-check",
    type=EXISTING,
    metavar="FILE",
    help="What `data check --json` wrote of the run's essays.  [default: data_check.json in RUN]",
)
@click.option("--audit", type=EXISTING, metavar="LOG", help="The log that --audit of `score` and `evaluate` wrote.")
@click.option("--format", "form", type=click.Choice(list(FORMS)), default="both", help="docx needs the extra dossier.")
@click.option("--force", is_flag=True, help="Replace an earlier dossier.")
def dossier(
    *,
    run: Path,
    output_dir: Path,
    form: str,
    force: bool,
    **measured: Path | None,
) -> None:
    """Draft technical documentation of RUN, a run or an ensemble, under the headings of Annex IV of the EU AI Act.

    Whatever the run's files tell is filled in, each statement with its file; the rest are marked blanks for people. It
    is a draft for a responsible person, and claims no compliance.
    """
    # Heavy imports here keep --help fast.
    from aes_dynloss.programme.dossier_files import read_dossier_files
    from aes_dynloss.reports.report_files import refuse_existing
    from aes_dynloss.reports.word_document import require_docx

    if not force:
        refuse_existing(output_dir, (HTML, DOCX))
    _refuse_filled_in(output_dir)
    if DOCX in FORMS[form]:
        require_docx()
    found = read_dossier_files(run, **measured)
    if output_dir.resolve() in {source.path.resolve().parent for source in found.files}:
        raise DataError(f"{output_dir} holds what the dossier is written from. Choose an --output-dir of its own.")
    _write(found, output_dir, f"Technical documentation of {run.resolve().name}", FORMS[form])
    click.echo(f"Wrote {' and '.join(str(output_dir / name) for name in FORMS[form])}", err=True)


def _refuse_filled_in(folder: Path) -> None:
    """Refuse, even by --force, to replace a document that people have written in since it was made."""
    from aes_dynloss.tables.atomic import file_sha256
    from aes_dynloss.tables.provenance import PROVENANCE, read_provenance

    path = folder / DOCX
    if path.is_file() and (folder / PROVENANCE).is_file():
        expected = read_provenance(folder).products.get(DOCX)
        if file_sha256(path) != expected:
            raise DataError(f"{path} was written in since it was made. Move it, or choose another --output-dir.")


def _write(files: DossierFiles, folder: Path, title: str, names: tuple[str, ...]) -> None:
    """The forms of the same sections; one of an earlier dossier that is not made anew is removed."""
    from aes_dynloss.programme.dossier import dossier_facts, dossier_sections
    from aes_dynloss.reports.blocks import render_page, write_page
    from aes_dynloss.reports.report_files import replacing_together
    from aes_dynloss.reports.word_document import write_document
    from aes_dynloss.tables.provenance import Provenance, sealed

    made = Provenance.now([source.path for source in files.files], files.model)
    about = {name: words for name, words in made.about().items() if name != "Made from"}
    facts, sections = dossier_facts(files), dossier_sections(files)
    stale = [name for name in FORMS["both"] if name not in names]
    with sealed(made, folder, names=names), replacing_together(folder, names, stale) as new:
        if DOCX in names:
            write_document(new / DOCX, title, facts, sections, about)
        if HTML in names:
            write_page(render_page(title, facts, sections, about), new / HTML)
