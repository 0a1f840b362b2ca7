"""Packing samples into WebDataset and Parquet shards, under a commit protocol that survives being killed."""

from pipelines.pack.config import PackConfig
from pipelines.pack.folder import check_could_be_ours, check_output
from pipelines.pack.job import PackResult, Progress, RunMap, pack
from pipelines.pack.rows import Loader

__all__ = ["Loader", "PackConfig", "PackResult", "Progress", "RunMap", "check_could_be_ours", "check_output", "pack"]
