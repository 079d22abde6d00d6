"""``aes-dynloss verify``: whether a product is as it was made."""

from __future__ import annotations

from pathlib import Path

import click

from aes_dynloss.cli.options import CHANGED


@click.command()
@click.argument("product", type=click.Path(path_type=Path, exists=True))
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path, exists=True), metavar="[SOURCE]...")
def verify(product: Path, sources: tuple[Path, ...]) -> int:
    """Recompute the hashes of PRODUCT, a run, a model, a report or a file of scores, and say what differs.

    SOURCE are files that it should be made from, such as the essays or the folder of their tables, which are held
    against those that it was. Exit code 3 where something differs.
    """
    from aes_dynloss.tables.provenance import read_provenance, verify

    made, differences = read_provenance(product), verify(product, sources)
    commit = "" if made.commit is None else f", commit {made.commit}"
    lines = [f"Made {made.made} by aes-dynloss {made.version}{commit}: {made.command or 'from Python'}"]
    lines += [f"Made from {name}, sha256 {digest}" for name, digest in made.sources.items()]
    if made.model is not None:
        lines.append(f"Made by a model whose config.json has sha256 {made.model}")
    lines += [f"Differs: {fault}." for fault in differences.found]
    if not differences.found:
        lines.append(f"{product}: {differences.files} files as they were.")
    # A file's name may be no Unicode.
    click.echo("\n".join(lines).encode("utf-8", "backslashreplace").decode())
    return CHANGED if differences.found else 0
