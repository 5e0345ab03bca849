"""A promise of SPECIFICATION.md and what was measured against it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """`value` must be at most, or at least, `limit`; both in `unit`. `note` says what else was seen."""

    name: str
    value: float
    unit: str
    limit: float
    at_least: bool = False
    note: str = ""

    @property
    def kept(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def row(self) -> str:
        """As a row of the table."""
        sign = "≥" if self.at_least else "≤"
        return (
            f"| {self.name} | {_number(self.value)} {self.unit} | {sign} {_number(self.limit)} {self.unit} | "
            f"{'yes' if self.kept else '**NO**'} | {self.note} |"
        )


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
