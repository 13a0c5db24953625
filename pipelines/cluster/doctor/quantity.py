"""Kubernetes' quantities (``500m``, ``2Gi``) as numbers, and numbers as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

Amounts = Mapping[str, Decimal]


def amount(quantity: Any) -> Decimal:
    """A quantity in cores, bytes or pieces."""
    return Decimal(parse_quantity(quantity))


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


def less(amounts: Amounts, taken: Amounts) -> dict[str, Decimal]:
    """What is left of ``amounts``."""
    return {name: number - taken.get(name, Decimal(0)) for name, number in amounts.items()}


def lacking(wanted: Amounts, free: Amounts) -> list[str]:
    """The resources of which more is wanted than is free."""
    return [name for name, number in wanted.items() if number > free.get(name, Decimal(0))]


def shown(resource: str, number: Decimal) -> str:
    """``1.25 cores``, ``3.5 GiB``, ``2 nvidia.com/gpu``."""
    if resource.endswith("cpu"):
        return f"{_rounded(number)} cores"
    if resource.endswith(("memory", "storage")):
        gib = number / 2**30
        return f"{_rounded(gib)} GiB" if gib >= 1 or gib == 0 else f"{_rounded(number / 2**20, 0)} MiB"
    return f"{_rounded(number)} {resource}"


def shown_all(wanted: Amounts, names: Iterable[str] = ()) -> str:
    """Every resource that is asked for, cores and memory first; ``names`` limits it to these."""
    chosen = [name for name in (names or wanted) if name != "pods" and wanted.get(name)]
    chosen.sort(key=lambda name: (name != "cpu", name != "memory", name))
    return ", ".join(shown(name, wanted[name]) for name in chosen) or "nothing"


def _rounded(number: Decimal, digits: int = 2) -> str:
    text = f"{number:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
