"""The picture of an explained essay: a made-up letter, explained by the quickstart's model, as Chromium shows it.

aes-dynloss quickstart -o runs/quickstart
python recipes/essays/explained_page.py runs/quickstart       # explained.png; needs selenium, chromium and chromedriver
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from aes_dynloss import EssayScorer
from aes_dynloss.essays.explaining.page import essay_page
from aes_dynloss.reports.page import write_page

sys.path.append(str(Path(__file__).parents[1]))
from page_picture import picture

OUTPUT = Path(__file__).parent / "explained.png"
HEIGHT = 1500
# The two sentences about dogs and phones are out of place, to show what the model makes of them.
LETTER = """Dear Head Teacher,

I do not think phones should be collected at the gate. My reason is the bus. Twice this month it left early, and only \
because I could ring home did my aunt fetch me before dark.

It is true that some of us play with them in lessons. But a rule that takes every phone punishes those who never did. \
You could keep the phones of pupils who were caught, for a week, and leave the rest alone.

I like dogs and my dog is brown. Phones is good and phones is good.

If a list of those pupils hung by the office, everyone would know that the rule is meant, and nobody's mother would \
wait at a locked gate.

Yours sincerely,
Tamsin Rook, 8B
"""


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the quickstart's folder")
    options = parser.parse_args()
    (one,) = EssayScorer.from_pretrained(options.run).explain([LETTER], "phones")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        write_page(essay_page(replace(one, essay_id="tamsin"), {"Model": "quickstart"}), page)
        OUTPUT.write_bytes(picture(page, HEIGHT, focus=".marked .adds-3"))


if __name__ == "__main__":
    main()
