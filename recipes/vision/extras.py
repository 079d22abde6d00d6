"""What comes with the extra ``vision`` alone."""

from __future__ import annotations

import importlib.util

from aes_dynloss import ConfigError


def needs(*modules: str) -> None:
    """Say at once what is not installed, not when it is first used.

    Raises:
        ConfigError: One of the modules is missing.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"{missing[0]} is not installed. Install the extra: pip install 'aes-dynloss[vision]'.")
