"""Policy rules in oslo.policy's file format, compiled once to functions.

Grammar: `role:NAME`, `rule:NAME`, `KIND:VALUE` where KIND is a credential (or a quoted literal) and VALUE
a literal or `%(target field)s`, `@` (always), `!` (never), the empty rule (always), `and`, `or`, `not`, parentheses.
A file given by the setting `policy_file` overrides defaults by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pileus.auth.context import Context
from pileus.web.errors import Forbidden

Target = Mapping[str, Any]
Check = Callable[[Context, Target], bool]

_WORD = re.compile(r"\s*(\(|\)|(?:'[^']*'|\"[^\"]*\"|[^\s()])(?:%\([^)]*\)s|'[^']*'|[^\s()])*)")


class PolicyError(ValueError):
    """A rule that cannot be read; names the rule and the place."""


class Policy:
    """All rules by name."""

    def __init__(self, defaults: Mapping[str, str]) -> None:
        self.text: dict[str, str] = dict(defaults)
        self._checks: dict[str, Check] = {}

    def override(self, path: Path) -> None:
        """Read a YAML or JSON policy file. Raises PolicyError when the file or a rule cannot be read."""
        import yaml

        try:
            loaded = yaml.safe_load(path.read_text()) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise PolicyError(f"{path}: {error}") from None
        if not isinstance(loaded, dict):
            raise PolicyError(f"{path}: a policy file is a mapping of rule names to rules")
        self.text.update({str(name): str(rule) for name, rule in loaded.items()})
        self._checks.clear()
        self.compile_all()

    def compile_all(self) -> None:
        """Compile every rule, so that a mistake is found at start and not by a request. Raises PolicyError."""
        for name in self.text:
            self.check(name)
        for name in self.text:
            self._follow(name, ())

    def _follow(self, name: str, way: tuple[str, ...]) -> None:
        """Every rule that a rule names exists, and none leads back to itself."""
        if name in way:
            raise PolicyError(f"policy rule '{name}' refers to itself: {' -> '.join((*way, name))}")
        for other in _Parser(self, name, self.text[name]).referred():
            if other not in self.text:
                raise PolicyError(f"policy rule '{name}' names 'rule:{other}', which does not exist")
            self._follow(other, (*way, name))

    def check(self, name: str) -> Check:
        """The rule as a function. Raises PolicyError when it does not exist or cannot be read."""
        found = self._checks.get(name)
        if found is None:
            if name not in self.text:
                raise PolicyError(f"policy rule '{name}' does not exist")
            found = self._checks[name] = _Parser(self, name, self.text[name]).parse()
        return found

    def allows(self, context: Context, name: str, target: Target) -> bool:
        """Whether the caller passes the rule for the target."""
        return self.check(name)(context, target)

    def enforce(self, context: Context, name: str, target: Target) -> None:
        """Raises Forbidden when the rule does not pass."""
        if not self.check(name)(context, target):
            raise Forbidden(f"Policy doesn't allow {name} to be performed.", rule=name)


class _Parser:
    """Recursive descent over `or` of `and` of `not`."""

    def __init__(self, policy: Policy, name: str, text: str) -> None:
        self.policy, self.name = policy, name
        self.words: list[str] = []
        rest = text.strip()
        while rest:
            found = _WORD.match(rest)
            if not found:
                raise PolicyError(f"policy rule '{name}': cannot read '{rest}'")
            self.words.append(found[1])
            rest = rest[found.end() :].strip()

    def referred(self) -> list[str]:
        """The rules that this one names."""
        return [word.removeprefix("rule:") for word in self.words if word.startswith("rule:")]

    def parse(self) -> Check:
        if not self.words:
            return _always
        check = self._or()
        if self.words:
            raise PolicyError(f"policy rule '{self.name}': unexpected '{self.words[0]}'")
        return check

    def _or(self) -> Check:
        parts = [self._and()]
        while self._next("or"):
            parts.append(self._and())
        if len(parts) == 1:
            return parts[0]
        return lambda context, target: any(part(context, target) for part in parts)

    def _and(self) -> Check:
        parts = [self._not()]
        while self._next("and"):
            parts.append(self._not())
        if len(parts) == 1:
            return parts[0]
        return lambda context, target: all(part(context, target) for part in parts)

    def _not(self) -> Check:
        if self._next("not"):
            inner = self._not()
            return lambda context, target: not inner(context, target)
        if self._next("("):
            inner = self._or()
            if not self._next(")"):
                raise PolicyError(f"policy rule '{self.name}': a closing parenthesis is missing")
            return inner
        if not self.words:
            raise PolicyError(f"policy rule '{self.name}': ends too early")
        return self._atom(self.words.pop(0))

    def _next(self, word: str) -> bool:
        if self.words and self.words[0].lower() == word:
            self.words.pop(0)
            return True
        return False

    def _atom(self, word: str) -> Check:
        if word == "@":
            return _always
        if word == "!":
            return _never
        kind, colon, value = word.partition(":")
        if not colon or not kind:
            raise PolicyError(f"policy rule '{self.name}': '{word}' is not KIND:VALUE")
        if kind == "rule":
            policy = self.policy
            return lambda context, target: policy.check(value)(context, target)
        if kind == "role":
            role = value.lower()
            return lambda context, target: any(role == held.lower() for held in context.roles)
        return _compare(kind, value)


def _compare(kind: str, value: str) -> Check:
    field = value[2:-2] if value.startswith("%(") and value.endswith(")s") else None
    wanted = value.strip("'\"")
    literal = kind.strip("'\"") if kind[0] in "'\"" or kind in ("None", "True", "False") else None

    def check(context: Context, target: Target) -> bool:
        left = literal if literal is not None else context.credentials().get(kind)
        if field is not None:
            # A scope that the token does not have equals no owner, not even none; "None" is written where it is meant.
            if field not in target or left is None:
                return False
            return str(left) == str(target[field])
        return str(left) == wanted

    return check


def _always(context: Context, target: Target) -> bool:
    return True


def _never(context: Context, target: Target) -> bool:
    return False
