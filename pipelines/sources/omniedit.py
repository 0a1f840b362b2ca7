"""The `omniedit` source: OmniEdit (TIGER-Lab/OmniEdit-Filtered-1.2M).

Layout: `data/train-*-of-*.parquet` and `data/dev-*-of-*.parquet` with omni_edit_id, task (string), src_img, edited_img
(images), edited_prompt_list (list of strings), width, height, sc_score_1, sc_score_2, sc_reasoning, pq_score,
pq_reasoning, o_score. Column names were verified in published code that loads the data set; licence MIT, by its card.
"""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar, Literal

from pipelines.sources.hub_pairs import HubLayout, HubPairs, HubPairsConfig
from schemas.config import Config


class OmniEditConfig(HubPairsConfig):
    """Config of the source `omniedit`. `split`: train or dev."""

    instruction: Literal["first", "last", "shortest", "longest", "any"] = "first"
    """Which of a row's several wordings of its instruction: `any` chooses evenly by a hash of the wordings, so that the
    same row has the same one every time."""


class OmniEdit(HubPairs[OmniEditConfig]):
    """Rows of OmniEdit as pairs; `edit_type` is task, `source_key` is omni_edit_id."""

    name: ClassVar[str] = "omniedit"
    config_class: ClassVar[type[Config]] = OmniEditConfig
    layout: ClassVar[HubLayout] = HubLayout(
        dataset="OmniEdit",
        licence="MIT",
        reference=("src_img",),
        target=("edited_img",),
        instruction=("edited_prompt_list",),
        edit_type="task",
        identity=("omni_edit_id",),
        scores=("sc_score_1", "sc_score_2", "pq_score", "o_score"),
    )

    def instruction_of(self, value: object) -> object:
        """The wording that the config chooses, of those that are not blank; None where there is none."""
        wordings: list[Any] = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        texts = [text for text in wordings if isinstance(text, str) and text.strip()]
        if not texts:
            return None
        match self.config.instruction:
            case "first":
                return texts[0]
            case "last":
                return texts[-1]
            case "shortest":
                return min(texts, key=len)
            case "longest":
                return max(texts, key=len)
            case "any":
                digest = hashlib.sha256("\0".join(texts).encode(errors="replace")).digest()
                return texts[int.from_bytes(digest[:8], "big") % len(texts)]
