"""hloc_ext: from a photo to a camera pose, inside the workflow of HLOC.

Importing the package registers its extractors, matchers and configurations in every HLOC host
that is, or will be, imported (official ``hloc``, ``imcui.hloc``); see :mod:`hloc_ext.host`.
"""

from __future__ import annotations

import logging

__version__ = "0.1.0"

logger = logging.getLogger("hloc_ext")
if not logger.handlers:
    _handler = logging.StreamHandler()
    _handler.setFormatter(
        logging.Formatter("[%(asctime)s %(name)s %(levelname)s] %(message)s", "%Y/%m/%d %H:%M:%S")
    )
    logger.addHandler(_handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False

from .host import register  # noqa: E402

register()

__all__ = ["__version__", "logger", "register"]
