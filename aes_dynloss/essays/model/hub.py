"""What is asked of the Hugging Face hub, and what may be the name of something there.

``HF_ENDPOINT`` names a mirror, ``HF_HUB_OFFLINE`` forbids to ask, ``HF_TOKEN`` or ``hf auth login`` say who asks.
"""

from __future__ import annotations

import re
from pathlib import Path

from aes_dynloss.errors import first_line
from aes_dynloss.tables.formats import SUFFIXES

_CONFIG = "config.json"  # whatever is opened by its name has it
_SECONDS = 5.0
_OF_FILES = (".zip", *SUFFIXES)
_NAME = re.compile(r"(?P<repo>(?P<owner>\w[\w.-]*)/\w[\w.-]*)(@(?P<revision>[^@\s]+))?", re.ASCII)


def hub_name(source: str | Path) -> tuple[str, str | None] | None:
    """OWNER/NAME and the revision of what may be a model on the hub; None for what can only be a path.

    That is also what begins with the name of a folder here, and what ends as a zip or a table does: a mistyped path is
    no question for the hub.

    Args:
        source: OWNER/NAME or OWNER/NAME@REVISION.

    >>> hub_name("ana/argument-scorer@v1.0"), hub_name("ana/argument-scorer"), hub_name("./argument-scorer")
    (('ana/argument-scorer', 'v1.0'), ('ana/argument-scorer', None), None)
    """
    match = _NAME.fullmatch(str(source))
    if match is None or match["repo"].lower().endswith(_OF_FILES) or Path(match["owner"]).exists():
        return None
    return match["repo"], match["revision"]


def unanswered(name: str, revision: str | None = None, token: str | None = None) -> str | None:
    """Why the hub says nothing of a repository, in words; None where it answers, if only that there is none.

    It is asked once and briefly: the hub's own client repeats a question for about a minute.

    Args:
        name: OWNER/NAME.
        revision: Branch, tag or commit; by default ``main``.
        token: Who asks; by default whoever is logged in.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(name, _CONFIG, revision=revision), timeout=_SECONDS, token=token)
    except HfHubHTTPError as error:
        if error.response.status_code < 500:  # there is no such model, or it is not for all
            return None
        reason = first_line(error)
    except Exception as error:  # of whichever client of HTTP the hub's own is built on
        reason = first_line(error)
    else:
        return None
    return "is not asked, for HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"cannot be reached ({reason})"
