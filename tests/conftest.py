"""Options and fixtures of all tests: which databases, and how many requests the bad-input run makes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.databases import SERVERS, Server, server

_DATABASES = ("sqlite", *SERVERS)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--database` chooses what the tests that take `database_url` run on."""
    parser.addoption(
        "--database", choices=(*_DATABASES, "all"), default="sqlite", help="what tests/api runs on (default: sqlite)"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with a `cloud` run once on each chosen database."""
    if "database_url" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--database")
        names = _DATABASES if chosen == "all" else (chosen,)
        metafunc.parametrize("database_url", names, indirect=True, scope="module")


class Servers:
    """The servers of this session, each started when it is first asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[str, Server] = {}

    def get(self, name: str) -> Server:
        """The server, started if it is not running yet."""
        if name not in self._running:
            self._running[name] = self._stack.enter_context(server(name))
        return self._running[name]


def _levels() -> dict[logging.Logger, int]:
    known = logging.root.manager.loggerDict.copy().values()
    return {logger: logger.level for logger in known if isinstance(logger, logging.Logger)}


@pytest.fixture(autouse=True)
def log_levels() -> Iterator[None]:
    """The loggers are this very process's, and requests can change them: they are as before after each test."""
    before = _levels()
    yield
    for logger, level in _levels().items():
        if level != before.get(logger, logging.NOTSET):
            logger.setLevel(before.get(logger, logging.NOTSET))


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture(scope="module")
def database_url(request: pytest.FixtureRequest, servers: Servers) -> Iterator[str]:
    """The URL of a fresh, migrated database; empty for the SQLite file in the cloud's own folder."""
    if request.param == "sqlite":
        yield ""
    else:
        yield from servers.get(request.param).database()
