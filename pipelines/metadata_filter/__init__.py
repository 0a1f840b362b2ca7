"""The metadata filter: LAION-style Parquet in, kept `ImageRecord` rows and reasons for all others out."""

from pipelines.metadata_filter.config import MetadataFilterConfig
from pipelines.metadata_filter.source import LaionParquet

__all__ = ["LaionParquet", "MetadataFilterConfig"]
