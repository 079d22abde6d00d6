"""The made-up essays that come with the package; README.md beside this file says what they are."""

from __future__ import annotations

from pathlib import Path

# What `data.source` calls them.
BUNDLED = "made-up-essays"

ESSAYS = Path(__file__).with_name("made_up_essays.jsonl")
PROMPTS = Path(__file__).with_name("prompts.json")
QUICKSTART = Path(__file__).with_name("quickstart.yaml")
