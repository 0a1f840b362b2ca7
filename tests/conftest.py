"""Settings for every test."""

from __future__ import annotations

import os

from hypothesis import settings

# At a desk, properties are tried on new examples every time; a run that decides whether a change lands must not depend
# on luck.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
