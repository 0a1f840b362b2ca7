"""The editing model: understanding tower, semantic encoder, connectors, DiT, and the pipeline that edits an image."""

import logging

# Where bitsandbytes is installed, its import by another library warns of a faster CPU kernel that could be fetched.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
