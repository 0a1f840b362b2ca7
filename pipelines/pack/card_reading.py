"""The part of a dataset card that tells how its samples are read, and what they are made of."""

from __future__ import annotations

from pipelines.pack.card_front import data_files
from pipelines.pack.markdown import code, table
from schemas.layout import WEBDATASET_FOLDER
from schemas.manifest import ShardManifest

_EDIT_FIELDS = (
    ("references", "reference.EXT, reference1.EXT, ...", "images before the edit, the original files' bytes"),
    ("target", "target.EXT", "the image after it"),
    ("mask", "mask.png", "what was edited: one bit a pixel, the upright target's size, white = edited"),
    ("instruction", "json", "the edit in words"),
    ("edited_fraction", "json", "share of the target's pixels that the mask has white, 0 to 1"),
    ("mask_status", "json", "ok, global, ...: what the recipe says of the pair"),
    ("mask_recipe, mask_parameters, ...", "json", "what built the mask, and what it measured"),
    ("judge_scores, judge_evidence", "json", "scores by name; which model and prompt gave them"),
    ("captions", "json", "texts that models wrote, each with its model and prompt"),
    ("source, licence, edit_type", "json", "as the collection that the pair comes from says"),
    ("source_key", "json", "what finds the row in its collection again: its own name there, or FILE#ROW"),
    ("key", "the members' name", "made from the content: the same pair has the same everywhere"),
)
_IMAGE_FIELDS = (
    ("image", "EXT", "the original file's bytes"),
    ("captions", "txt: one of them; json: all", "texts that models wrote, each with its model and prompt"),
    ("caption", "json", "the text that the image was found with"),
    ("url, width, height, sha256, ...", "json", "where the image was found, and what it is"),
    ("source, licence", "json", "as the collection says"),
    ("source_key", "json", "what finds the row in its collection again"),
    ("key", "the members' name", "made from address and caption"),
)


def reading(manifest: ShardManifest) -> str:
    """How to read, as Markdown."""
    edits = manifest.record == "EditSample"
    formats = {entry.format for entry in manifest.shards}
    split = data_files(manifest)[0]["split"] if manifest.kept else "train"
    parts: list[str] = []
    if "parquet" in formats:
        show = 'sample["instruction"], sample["target"], sample["mask"]' if edits else 'sample["image"]'
        parts.append("With `datasets`; images come decoded:\n\n")
        lines = ["import datasets", "", f'data = datasets.load_dataset("PATH_OF_THIS_FOLDER", split="{split}")']
        parts.append(code("\n".join([*lines, "sample = data[0]", f"print({show})"]), "python"))
    if "webdataset" in formats:
        stem = manifest.config["prefix"] + (f"-{split}" if manifest.subsets is not None else "")
        last = sum(entry.format == "webdataset" and f"/{stem}-" in f"/{entry.name}" for entry in manifest.shards) - 1
        names = f"{{000000..{last:06d}}}" if last else "000000"
        show = 'sample["json"]["instruction"], sample["mask.png"]' if edits else 'sample["json"]["url"]'
        lines = ["import webdataset", "", f'shards = "{WEBDATASET_FOLDER}/{stem}-{names}.tar"']
        lines += [
            'for sample in webdataset.WebDataset(shards, shardshuffle=False).decode("pil"):',
            f"    print({show})",
        ]
        parts.append("\nWith `webdataset`, in this folder:\n\n" + code("\n".join(lines), "python"))
    parts.append(
        "\n`index.parquet` has one row a sample: its key, shard, byte offset and size (those bytes are a readable tar"
        " by themselves), its row in the Parquet shard, size in pixels, aspect bucket, edited fraction, mask status,"
        " kind of edit, source, source key and subset. `manifest.json` has the SHA-256 of every file;"
        " `editmill validate` checks them.\n\n"
    )
    parts.append(table(("column", "in the tar", "what it is"), _EDIT_FIELDS if edits else _IMAGE_FIELDS))
    return "".join(parts)
