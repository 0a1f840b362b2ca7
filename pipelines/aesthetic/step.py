"""The step `aesthetic`: a score for each image, with its scale and the head that gave it."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.aesthetic.config import AestheticConfig
from pipelines.aesthetic.head import head_file, is_on_hub
from pipelines.aesthetic.scorer import Scorer
from pipelines.step import Step, StepResult, set_column
from schemas.atomic import sha256_of
from schemas.config import Config
from schemas.errors import RowRejected, SchemaError
from schemas.images import decode_image
from schemas.outcomes import rejections
from schemas.records import IMAGE_RECORD, IMAGE_TYPE

_ADDS = pa.schema([IMAGE_RECORD.fields.field(name) for name in ("aesthetic", "aesthetic_scale", "aesthetic_head")])


class Aesthetic(Step[AestheticConfig]):
    """Adds `aesthetic`, `aesthetic_scale` and `aesthetic_head`, in the place of values that the collection gave.

    Reasons: `aesthetic_too_low`, `aesthetic_not_finite`, `image_missing`, and those of `schemas.images`.
    """

    name: ClassVar[str] = "aesthetic"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = AestheticConfig
    needs: ClassVar[tuple[str, ...]] = ("image",)
    adds: ClassVar[pa.Schema] = _ADDS
    holds_model: ClassVar[bool] = True

    def __init__(self, config: AestheticConfig) -> None:
        super().__init__(config)
        # What this very step needs is the column its config names.
        vars(self)["needs"] = (config.column,)
        self._scorer = Scorer(config)

    @cached_property
    def _head_mark(self) -> str:
        return self.config.head if is_on_hub(self.config.head) else sha256_of(head_file(self.config.head))

    @property
    def computes_model(self) -> bool:
        """Unless the config puts it on the CPU."""
        return self.config.device != "cpu"

    def identity(self) -> dict[str, Any]:
        """Model, head by its hash, and bounds. Where the model runs decides nothing."""
        values = self.config.as_json()
        del values["device"]
        values["head"] = self._head_mark
        values["head_name"] = self.config.stored_head()
        return {"step": self.name, "version": self.version, "config": values}

    def preflight(self) -> None:
        """As the scorer's."""
        self._scorer.preflight()

    def setup(self) -> None:
        """Load the model."""
        self._scorer.load()

    def process(self, table: pa.Table) -> StepResult:
        """Score every image of the batch, `batch_size` decoded at a time.

        Raises:
            SchemaError: the column holds no images.
        """
        column = table[self.config.column]
        if column.type != IMAGE_TYPE:
            raise SchemaError(
                self.config.column, str(column.type), f"must have the type {IMAGE_TYPE}", "Name the column of images."
            )
        if not self._scorer.is_loaded:
            self.setup()
        outcomes: list[float | RowRejected] = []
        for start in range(0, table.num_rows, self.config.batch_size):
            outcomes += self._batch(column.slice(start, self.config.batch_size))
        kept = [place for place, outcome in enumerate(outcomes) if not isinstance(outcome, RowRejected)]
        refused = [(place, outcome) for place, outcome in enumerate(outcomes) if isinstance(outcome, RowRejected)]
        result = table.take(pa.array(kept, pa.int64())) if refused else table
        scores = [outcome for outcome in outcomes if not isinstance(outcome, RowRejected)]
        result = set_column(result, _ADDS.field("aesthetic"), pa.array(scores, pa.float32()))
        for name, text in (("aesthetic_scale", self.config.scale), ("aesthetic_head", self.config.stored_head())):
            result = set_column(result, _ADDS.field(name), pa.array([text] * len(kept), pa.string()))
        keys = table["key"].to_pylist()
        return StepResult(
            result,
            rejections(
                self.name,
                self.version,
                [keys[place] for place, _ in refused],
                [rejection.reason for _, rejection in refused],
                [rejection.sentence for _, rejection in refused],
                evidence=[rejection.evidence for _, rejection in refused],
            ),
        )

    def _batch(self, images: pa.ChunkedArray) -> list[float | RowRejected]:
        outcomes: list[float | RowRejected] = []
        decoded: list[npt.NDArray[np.uint8]] = []
        places: list[int] = []
        for place, image in enumerate(images.to_pylist()):
            try:
                if image is None:
                    raise RowRejected("image_missing", "the row has no image")
                decoded.append(decode_image(image["bytes"]))
                places.append(place)
                outcomes.append(math.nan)
            except RowRejected as rejection:
                outcomes.append(rejection)
        for place, score in zip(places, self._scorer.scores(decoded), strict=True):
            outcomes[place] = self._judged(score)
        return outcomes

    def _judged(self, score: float) -> float | RowRejected:
        if not math.isfinite(score):
            return RowRejected("aesthetic_not_finite", f"the head {self.config.stored_head()} gives {score}")
        bound = self.config.min_aesthetic
        if bound is not None and score < bound:
            sentence = f"aesthetic {score:.3f} by {self.config.stored_head()} is under the minimum {bound:g}"
            grounds = {"aesthetic": score, "aesthetic_scale": self.config.scale}
            return RowRejected("aesthetic_too_low", sentence, {**grounds, "aesthetic_head": self.config.stored_head()})
        return score
