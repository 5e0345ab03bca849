"""`pileus docs`: the reference pages that derive from the program."""

from __future__ import annotations

import argparse

PAGES = ("settings", "cli", "metrics", "openapi")


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    sub.add_argument("page", choices=PAGES)


def run(options: argparse.Namespace) -> int:
    """Print the page."""
    pages = {"settings": settings_page, "cli": cli_page, "metrics": metrics_page, "openapi": openapi_page}
    print(pages[options.page]())
    return 0


def settings_page() -> str:
    """Every setting, in Markdown."""
    from pileus.settings import reference

    lines = [
        "# Settings", "",
        "Given in a TOML file (`--config`, or `/etc/pileus/pileus.toml`), as `PILEUS_NAME` in the environment, or as "
        "`--set name=value`; later wins in this order. Lists and maps on the command line: `a,b` and `k:v,k:v`.", "",
        "| name | type | default | meaning |", "| --- | --- | --- | --- |",
    ]
    lines += [f"| `{name}` | {kind.replace('|', chr(92) + '|')} | `{default}` | {text} |"
              for name, kind, default, text in reference()]
    return "\n".join(lines)


def cli_page() -> str:
    """Every command with its options, in Markdown."""
    from pileus.cli.main import COMMANDS, parser

    lines = ["# Commands", ""]
    top = parser()
    below = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    for command in COMMANDS:
        sub = below.choices[command.name]
        sub.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=100)
        lines += [f"## pileus {command.name}", "", "```", sub.format_help().strip(), "```", ""]
    return "\n".join(lines).rstrip()


def metrics_page() -> str:
    """Every metric, in Markdown."""
    from pileus.web.metrics import Metrics

    lines = ["# Metrics", "", "`GET /metrics`, in Prometheus' text format.", "",
             "| name | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for metric in vars(Metrics()).values():
        if hasattr(metric, "_documentation"):
            labels = ", ".join(metric._labelnames)
            suffix = "_total" if metric._type == "counter" else ""
            lines.append(f"| `{metric._name}{suffix}` | {metric._type} | {labels} | {metric._documentation} |")
    return "\n".join(lines)


def openapi_page() -> str:
    """The OpenAPI document of all services, as JSON."""
    import json

    from pileus.web.openapi import document_of_all

    return json.dumps(document_of_all(), indent=1)
