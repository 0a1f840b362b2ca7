"""What the metadata filter reads and which rows it keeps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.metadata_filter.scales import AESTHETIC_SCALES
from pipelines.metadata_filter.where_parse import parse_where
from schemas.config import Config

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
    languages: tuple[str, ...] = ()
    """Languages kept, spelt as the files spell them (`en`); empty keeps every one."""
    where: str | None = None
    """A condition in the manner of SQL, `aesthetic >= 6 and width * height > 500000`: a row must make it true, and a
    row for which it is neither true nor false (a value that it needs is null or NaN) is rejected. Columns go by any of
    their usual names, or by the file's own."""
    missing: Literal["reject", "keep"] = "reject"
    """What happens to a row whose value under a bound, or whose language, is null or not a number."""
    outcomes: Literal["examples", "rows"] = "examples"
    """What is written of rejected rows, which may be hundreds of millions: the number for each reason and examples
    from the beginning of the input, or a row for each."""
    rows_per_partition: int = Field(default=1_000_000, ge=1)
    """Row groups are read and committed together up to about this many rows; a local row group of more than twice as
    many is cut. Rows that are kept are in memory together, at about 1 KiB each while they are written: where most rows
    are kept, take fewer."""

    @field_validator("paths", "languages", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("where")
    @classmethod
    def _where_can_be_parsed(cls, value: str | None) -> str | None:
        if value is not None:
            parse_where(value)
        return value

    @model_validator(mode="after")
    def _bounds_fit(self) -> MetadataFilterConfig:
        low, high = AESTHETIC_SCALES[self.score_scale]
        other = next(name for name in AESTHETIC_SCALES if name != self.score_scale)
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
