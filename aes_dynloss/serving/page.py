"""The page for people, one file, and the policy under which a browser runs its own script alone."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files


def page_and_policy() -> tuple[str, str]:
    """The page's html, and its content security policy: its own style and script, requests to this server alone."""
    html = (files("aes_dynloss.serving") / "page.html").read_text(encoding="utf-8")
    style, script = (_digest(html, name) for name in ("style", "script"))
    policy = (
        f"default-src 'none'; style-src {style}; script-src {script}; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
    return html, policy


def _digest(html: str, name: str) -> str:
    (content,) = re.findall(f"<{name}>(.*?)</{name}>", html, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
