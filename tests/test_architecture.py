"""The floors and their arrows (docs/architecture.md), held."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT: dict[str, set[str]] = {
    "schemas": set(),
    "pipelines": {"schemas"},
    "unified_model": {"schemas"},
    "trainer": {"unified_model", "schemas"},
    "jobs": {"trainer", "unified_model", "pipelines", "schemas"},
}
HEAVY = {"torch", "ray", "deepspeed", "transformers", "diffusers", "cv2", "datasets", "matplotlib", "pyarrow", "numpy"}


def imported_packages(file: Path) -> set[str]:
    """Top-level names that a file imports, wherever in the file the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("floor", MAY_IMPORT)
def test_arrows_point_down(floor: str) -> None:
    files = sorted((ROOT / floor).rglob("*.py"))
    assert files, f"{floor} has no files"
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[floor] - {floor}
    wrong = {str(file.relative_to(ROOT)): bad for file in files if (bad := imported_packages(file) & forbidden)}
    assert not wrong


@pytest.mark.parametrize("floor", ["schemas", "pipelines", "unified_model"])
def test_no_ray_below_the_trainer(floor: str) -> None:
    wrong = [str(file) for file in (ROOT / floor).rglob("*.py") if "ray" in imported_packages(file)]
    assert not wrong


def test_shared_vocabulary_needs_no_torch() -> None:
    wrong = [str(f) for f in (ROOT / "schemas").rglob("*.py") if imported_packages(f) & (HEAVY - {"numpy", "pyarrow"})]
    assert not wrong


def test_command_line_imports_nothing_heavy() -> None:
    code = "import sys, jobs.cli; print(*sorted(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not HEAVY & set(loaded.stdout.split())


def test_pipelines_need_only_the_base_install() -> None:
    code = (
        "import sys, pkgutil, importlib, pipelines\n"
        "for blocked in ('torch', 'transformers', 'diffusers', 'deepspeed', 'skimage', 'sklearn'):\n"
        "    sys.modules[blocked] = None\n"
        "for module in pkgutil.walk_packages(pipelines.__path__, 'pipelines.'):\n"
        "    importlib.import_module(module.name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=400)
