"""The page for people: one file, whose content security policy lets a browser run its own script alone."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files


def page_and_policy() -> tuple[str, str]:
    """The page's html, and its content security policy: its own style and script, requests to this server alone."""
    html = (files("aes_dynloss.serving") / "page.html").read_text(encoding="utf-8")
    style, script = (
        f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
        for name in ("style", "script")
        for content in re.findall(f"<{name}>(.*?)</{name}>", html, re.DOTALL)
    )
    policy = (
        f"default-src 'none'; style-src {style}; script-src {script}; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
    return html, policy
