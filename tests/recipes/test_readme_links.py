"""Links in READMEs lead to files, and to headings, that are there; the top README stays short."""

from __future__ import annotations

import re

from readmes import ROOT, each_readme

LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")


def headings(text: str) -> set[str]:
    """Anchors as GitHub makes them: lower case, punctuation dropped, blanks as hyphens."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_readme
def test_links_lead_somewhere(readme):
    for path, anchor in LINK.findall(readme.read_text(encoding="utf-8")):
        target = readme.parent / path if path else readme
        if target.is_dir():
            target /= "README.md"
        assert target.exists(), f"{path} does not exist"
        if anchor:
            assert anchor in headings(target.read_text(encoding="utf-8")), f"{path} has no heading #{anchor}"


def test_the_top_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
