"""Answers as EC2 writes them: XML in which a list is a row of `item` elements. Nothing is ever read from XML here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape

MEDIA = "text/xml;charset=UTF-8"
NAMESPACE = "http://ec2.amazonaws.com/doc/{version}/"

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML document can hold, however written."""


def document(root: str, content: Mapping[str, Any], namespace: str = "") -> bytes:
    """A whole document. Keys are elements; None is left out, a list is items, a bool `true` or `false`."""
    head = f'<{root} xmlns="{escape(namespace)}">' if namespace else f"<{root}>"
    parts = ['<?xml version="1.0" encoding="UTF-8"?>\n', head, *_children(content), f"</{root}>"]
    return "".join(parts).encode()


def _children(content: Mapping[str, Any]) -> Iterator[str]:
    for name, value in content.items():
        if value is not None:
            yield from _element(name, value)


def _element(name: str, value: Any) -> Iterator[str]:
    yield f"<{name}>"
    if isinstance(value, Mapping):
        yield from _children(value)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _element("item", item)
    else:
        yield _text(value)
    yield f"</{name}>"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return escape(_ILLEGAL.sub("\ufffd", str(value)), {"\r": "&#13;"})
