"""Settings for all tests."""

from __future__ import annotations

from hypothesis import settings

# A shared or slow machine is no fault of the code: no test is judged by the clock.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
