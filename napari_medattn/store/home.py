"""Where a person's own things are kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home_folder() -> Path:
    """``$MEDATTN_HOME``, or the user's data folder."""
    told = os.environ.get("MEDATTN_HOME")
    return Path(told) if told else platformdirs.user_data_path("napari-medattn")
