"""The waits and faults of `pipelines.retries`, under their former name."""

from pipelines.retries import LONGEST_WAIT_S, PermanentError, RetryableError, parse_retry_after, wait_s

__all__ = ["LONGEST_WAIT_S", "PermanentError", "RetryableError", "parse_retry_after", "wait_s"]
