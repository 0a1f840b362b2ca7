"""The preview page in a real browser, for the tests that visit it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_visit import CARDS, Visit, launched, visited, write_page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for the module, or a skip with the reason."""
    with launched() as opened:
        yield opened


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with `page_visit.CARDS`."""
    return write_page(tmp_path_factory.mktemp("page"), CARDS)


@pytest.fixture
def visit(browser: Any, page_file: Path) -> Iterator[Visit]:
    """A fresh visit to that page."""
    with visited(browser, page_file) as opened:
        yield opened
