"""What the program says of itself stands in docs/: a setting, command or metric without its line fails here."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from pileus.cli.docs import cli_page, metrics_page, settings_page
from pileus.cli.main import COMMANDS
from pileus.settings import Settings
from pileus.web.metrics import Metrics

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = {"settings": settings_page, "cli": cli_page, "metrics": metrics_page}


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_up_to_date(page: str) -> None:
    path = ROOT / "docs" / f"{page}.md"
    assert path.exists(), f"docs/{page}.md is missing: run `make docs`"
    assert path.read_text() == PAGES[page]() + "\n", f"docs/{page}.md is out of date: run `make docs`"


def test_nothing_is_left_out() -> None:
    settings, cli, metrics = (render() for render in PAGES.values())
    for name in Settings.__struct_fields__:
        assert f"| `{name}` |" in settings
    for command in COMMANDS:
        assert f"## pileus {command.name}\n" in cli
        assert command.help in cli.replace("\n", " ")
        module = importlib.import_module(f"pileus.cli.{command.module}")
        assert module.__doc__, command.name
    for metric in vars(Metrics()).values():
        if hasattr(metric, "_name"):
            assert f"`{metric._name}" in metrics
            assert metric._documentation
