"""The page for people: one document, whose content security policy lets a browser run its own script alone."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files


def page_and_policy() -> tuple[str, str]:
    """The page's html, and its content security policy: its own style and script, requests to this server alone."""
    folder = files("aes_dynloss.serving")
    html, style, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js"))
    html = html.replace("<style></style>", f"<style>{style}</style>").replace(
        "<script></script>", f"<script>{script}</script>"
    )
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    )
    return html, policy


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
