"""What the metadata filter reads and which rows it keeps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from schemas.config import Config

SCALES: dict[str, tuple[float, float]] = {"laion_1_10": (1.0, 10.0), "unit_0_1": (0.0, 1.0)}
"""Aesthetic scale by name -> its lowest and highest bound, both inclusive."""

Pixels = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class MetadataFilterConfig(Config):
    """Which Parquet files are read, and the bounds a row must meet. Every bound is inclusive; None is no bound."""

    paths: tuple[str, ...] = Field(min_length=1)
    """Parquet files, folders (every `*.parquet` below) or globs (`*`, `**`, `?`), local or as URLs (`s3://...`)."""
    score_scale: Literal["laion_1_10", "unit_0_1"] = "laion_1_10"
    """Scale on which the files hold the aesthetic score: LAION's predictor gives 1-10, some tools give 0-1."""
    min_aesthetic: float | None = None
    """Lowest aesthetic score kept, on `score_scale`."""
    max_aesthetic: float | None = None
    """Highest aesthetic score kept, on `score_scale`."""
    min_width: Pixels | None = None
    """Least width kept, in pixels."""
    min_height: Pixels | None = None
    """Least height kept, in pixels."""
    min_side: Pixels | None = None
    """Least length of the shorter side kept, in pixels."""
    max_aspect: Annotated[float, Field(ge=1.0)] | None = None
    """Greatest ratio of the longer to the shorter side kept."""
    max_watermark: Probability | None = None
    """Highest watermark probability kept, 0..1."""
    max_unsafe: Probability | None = None
    """Highest probability of unsafe content kept, 0..1."""
    min_similarity: Annotated[float, Field(ge=-1.0, le=1.0)] | None = None
    """Lowest image-text similarity (cosine) kept, -1..1."""
    missing: Literal["reject", "keep"] = "reject"
    """What happens to a row whose value under a bound is null or not a number."""
    rows_per_partition: int = Field(default=250_000, ge=1)
    """Row groups are read together up to about this many rows; a row group is never split."""

    @field_validator("paths", mode="before")
    @classmethod
    def _one_path_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _bounds_fit(self) -> MetadataFilterConfig:
        low, high = SCALES[self.score_scale]
        other = next(name for name in SCALES if name != self.score_scale)
        for name in ("min_aesthetic", "max_aesthetic"):
            bound = getattr(self, name)
            if bound is not None and not low <= bound <= high:
                raise ValueError(
                    f"{name} {bound:g} lies outside the declared score_scale {self.score_scale} ({low:g} to {high:g}); "
                    f"give the bound on that scale, or declare score_scale: {other} if the files hold such scores"
                )
        if (
            self.min_aesthetic is not None
            and self.max_aesthetic is not None
            and self.min_aesthetic > self.max_aesthetic
        ):
            raise ValueError(
                f"min_aesthetic {self.min_aesthetic:g} is above max_aesthetic {self.max_aesthetic:g}: no row could pass"
            )
        return self
