"""Settings for every test."""

from __future__ import annotations

import os

from hypothesis import settings

# At a desk, properties are tried on new examples every time; a run that decides whether a change lands must not depend
# on luck, and none on how busy the machine is.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
