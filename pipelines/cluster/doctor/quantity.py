"""Kubernetes' quantities (``500m``, ``2Gi``) as numbers, and numbers as a person reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

Amounts = Mapping[str, Decimal]

_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_QUANTITY = re.compile(r"^([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)$")


def amount(quantity: str | int | float) -> Decimal:
    """A quantity in cores, bytes or pieces.

    Raises:
        ValueError: it is no quantity.
    """
    found = _QUANTITY.match(str(quantity))
    if found is None or found[2] not in {*_SUFFIXES, *_BINARY}:
        raise ValueError(f"{quantity!r} is no quantity of Kubernetes")
    scale = Decimal(2) ** _BINARY[found[2]] if found[2] in _BINARY else Decimal(10) ** _SUFFIXES[found[2]]
    return Decimal(found[1]) * scale


def amounts(quantities: Mapping[str, Any] | None) -> dict[str, Decimal]:
    """Every quantity of a mapping such as a container's requests."""
    return {name: amount(quantity) for name, quantity in (quantities or {}).items()}


def total(several: Iterable[Amounts]) -> dict[str, Decimal]:
    """The sum of each resource."""
    found: dict[str, Decimal] = {}
    for one in several:
        for name, number in one.items():
            found[name] = found.get(name, Decimal(0)) + number
    return found


def shown(resource: str, number: Decimal) -> str:
    """``1.25 cores``, ``3.5 GiB``, ``2 nvidia.com/gpu``."""
    if resource.endswith("cpu"):
        return f"{_rounded(number)} cores"
    if resource.endswith(("memory", "storage")):
        gib = number / 2**30
        return f"{_rounded(gib)} GiB" if gib >= 1 or gib == 0 else f"{_rounded(number / 2**20, 0)} MiB"
    return f"{_rounded(number)} {resource}"


def shown_all(wanted: Amounts) -> str:
    """Every resource that is asked for, cores and memory first."""
    names = sorted(wanted, key=lambda name: (name != "cpu", name != "memory", name))
    return ", ".join(shown(name, wanted[name]) for name in names if wanted[name])


def _rounded(number: Decimal, digits: int = 2) -> str:
    text = f"{number:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
