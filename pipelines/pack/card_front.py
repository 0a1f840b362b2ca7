"""The front matter of a dataset card: what the Hugging Face hub and `datasets` read of it."""

from __future__ import annotations

import re
from typing import Any

import yaml

from schemas.layout import PARQUET_FOLDER, WEBDATASET_FOLDER
from schemas.manifest import ShardManifest

_LICENCES = (
    "afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsl-1.0 c-uda cc "
    "cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 "
    "cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 "
    "cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m eupl-1.1 gfdl gpl gpl-2.0 gpl-3.0 "
    "intel-research isc lgpl lgpl-2.1 lgpl-3.0 mit mpl-2.0 odbl odc-by open-mdw openrail openrail++ pddl unlicense "
    "wtfpl"
)
_HUB_LICENCES = frozenset(_LICENCES.split())
"""The hub's identifiers of licences that data sets carry."""

_OTHER_SPELLINGS = {"cc0": "cc0-1.0", "apache": "apache-2.0", "apache2.0": "apache-2.0", "public-domain": "cc0-1.0"}
_SIZES = ((1_000, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_LARGER = ((10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**12, "1B<n<10B"))


def hub_licence(licence: str | None) -> str:
    """The hub's identifier of a licence as rows name it: "other" for one it does not have, "unknown" for none."""
    if licence is None or not licence.strip():
        return "unknown"
    plain = re.sub(r"[\s_]+", "-", licence.strip().lower())
    plain = _OTHER_SPELLINGS.get(plain, plain)
    return plain if plain in _HUB_LICENCES else "other"


def data_files(manifest: ShardManifest) -> list[dict[str, str]]:
    """Split and glob of its files for each subset that has samples, of the Parquet shards or else of the tars. A
    subset `train` comes first, because viewers show the first."""
    folder, suffix = (PARQUET_FOLDER, "parquet")
    if not any(entry.format == "parquet" for entry in manifest.shards):
        folder, suffix = (WEBDATASET_FOLDER, "tar")
    prefix = f"{folder}/{manifest.config['prefix']}"
    if manifest.subsets is None:
        return [{"split": "train", "path": f"{prefix}-*.{suffix}"}] if manifest.kept else []
    names = sorted((name for name, samples in manifest.subsets.items() if samples), key=lambda name: name != "train")
    return [{"split": name, "path": f"{prefix}-{name}-*.{suffix}"} for name in names]


def front_matter(manifest: ShardManifest, title: str) -> str:
    """The YAML between the two lines of dashes, these included."""
    edits = manifest.record == "EditSample"
    licences = sorted({hub_licence(entry.get("licence")) for entry in (manifest.contents or {}).get("sources", [])})
    values: dict[str, Any] = {
        "pretty_name": title,
        "license": licences[0] if len(licences) == 1 else licences or "unknown",
        "task_categories": ["image-to-image"] if edits else ["text-to-image", "image-to-text"],
        "tags": ["editmill", *(["image-editing"] if edits else [])],
        "size_categories": [next(name for most, name in (*_SIZES, *_LARGER) if manifest.kept < most)],
    }
    files = data_files(manifest)
    if files:
        values["configs"] = [{"config_name": "default", "data_files": files}]
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---\n"
