"""The one table of spellings under which real LAION files hold the columns of an `ImageRecord`."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.errors import SchemaError

LAION_ALIASES: dict[str, tuple[str, ...]] = {
    "url": ("url", "URL", "image_url", "Image URL"),
    "caption": ("caption", "TEXT", "text", "alt_text", "top_caption"),
    "width": ("width", "WIDTH", "original_width", "ORIGINAL_WIDTH"),
    "height": ("height", "HEIGHT", "original_height", "ORIGINAL_HEIGHT"),
    "aesthetic": ("aesthetic", "AESTHETIC_SCORE", "aesthetic_score", "AESTHETIC", "prediction", "aesthetics_score"),
    "watermark": ("watermark", "pwatermark", "PWATERMARK", "watermark_prob"),
    "unsafe": ("unsafe", "punsafe", "PUNSAFE", "unsafe_prob"),
    "similarity": ("similarity", "SIMILARITY", "clip_similarity", "clip_similarity_vitb32", "similarity_score"),
    "nsfw": ("nsfw", "NSFW"),
    "language": ("language", "LANGUAGE", "lang"),
    "source_key": ("source_key", "key", "hash", "HASH", "SAMPLE_ID", "sample_id", "uid", "__key__"),
    "source": ("source", "SOURCE", "dataset"),
    "licence": ("licence", "license", "LICENSE", "LICENCE"),
    "sha256": ("sha256", "SHA256"),
    "md5": ("md5", "MD5"),
}
"""`ImageRecord` column -> spellings, most specific first. Spellings are matched exactly, case included."""


def resolve_aliases(columns: Sequence[str]) -> dict[str, str]:
    """Which column of a file holds which column of an `ImageRecord`.

    Args:
        columns: the file's column names.

    Returns:
        `ImageRecord` column -> the file's column, for those the file has.

    Raises:
        SchemaError: two columns of the file claim the same `ImageRecord` column with equal right
            (the record's own name wins; between two foreign spellings nobody can tell).
    """
    resolved: dict[str, str] = {}
    for canonical, spellings in LAION_ALIASES.items():
        present = [name for name in spellings if name in columns]
        if not present:
            continue
        if canonical not in present and len(present) > 1 and canonical != "source_key":
            raise SchemaError(
                canonical,
                present,
                f"several columns may hold '{canonical}'",
                f"Rename the right one to '{canonical}', or drop the others.",
            )
        resolved[canonical] = present[0]
    return resolved
