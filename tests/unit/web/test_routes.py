"""The path tree."""

from __future__ import annotations

import pytest

from pileus.web.routes import PUBLIC, Node, Route, _insert, find, pick, segments


def _tree(*paths: str) -> Node:
    tree = Node()
    for path in paths:
        _insert(tree, Route("GET", path, lambda call: None, PUBLIC))
    return tree


def _found(tree: Node, path: str) -> tuple[str, dict[str, str]] | None:
    found = find(tree, segments(path))
    if found is None:
        return None
    node, values = found
    chosen = pick(node.routes["GET"], None)
    assert chosen is not None
    names, route = chosen
    return route.path, dict(zip(names, values, strict=True))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", ("/", {})),
        ("", ("/", {})),
        ("/a", ("/a", {})),
        ("/a/", ("/a", {})),
        ("/a/word", ("/a/word", {})),
        ("/a/other", ("/a/{id}", {"id": "other"})),
        ("/a/word/x", ("/a/word/x", {})),
        ("/a/word/y", ("/a/{id}/y", {"id": "word"})),  # back from a word that leads nowhere
        ("/a/1/b/2", ("/a/{id}/b/{name}", {"id": "1", "name": "2"})),
        ("/o/1/2/3", ("/o/{rest*}", {"rest": "1/2/3"})),
        ("/o/fixed", ("/o/fixed", {})),
        ("/o/fixed/more", ("/o/{rest*}", {"rest": "fixed/more"})),
        ("/o/a//b", ("/o/{rest*}", {"rest": "a//b"})),
        ("/o", None),
        ("/a//y", None),
        ("/a/1/2/3/4", None),
        ("/b", None),
    ],
)
def test_find(path: str, expected: tuple[str, dict[str, str]] | None) -> None:
    tree = _tree(
        "/", "/a", "/a/word", "/a/{id}", "/a/word/x", "/a/{id}/y", "/a/{id}/b/{name}", "/o/{rest*}", "/o/fixed"
    )
    assert _found(tree, path) == expected


def test_names_belong_to_the_row_and_not_to_the_place() -> None:
    tree = _tree("/a/{one}/x", "/a/{two}/y")
    assert _found(tree, "/a/1/x") == ("/a/{one}/x", {"one": "1"})
    assert _found(tree, "/a/1/y") == ("/a/{two}/y", {"two": "1"})


def test_the_row_of_a_version() -> None:
    def handler(call: object) -> None: ...

    old = Route("GET", "/", handler, PUBLIC, until=(2, 4))
    new = Route("GET", "/", handler, PUBLIC, since=(2, 5), until=(2, 7))
    rows = [((), old), ((), new)]
    assert [pick(rows, (2, n)) for n in (1, 4)] == [((), old)] * 2
    assert [pick(rows, (2, n)) for n in (5, 7)] == [((), new)] * 2
    assert pick(rows, (2, 8)) is None


def test_reads_do_not_write() -> None:
    def handler(call: object) -> None: ...

    writes = {m: Route(m, "/", handler, PUBLIC).writes for m in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")}
    assert writes == {"GET": False, "HEAD": False, "POST": True, "PUT": True, "PATCH": True, "DELETE": True}
    assert Route("GET", "/", handler, PUBLIC, write=True).writes
