"""``lorry gc`` from listing to deletion: what is listed is what goes, and it is looked at again before it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from components.collect_garbage.items import GONE, Kind, Listing, Outcome
from components.collect_garbage.plan import Decision, Rules, decide, parts, pins_of_current
from pipelines.garbage.knowledge import Sources, gather, of_foreign_runs
from pipelines.garbage.places import Place, Report, VolumePlace

PARTS_BETWEEN_LINES = 50


@dataclass(frozen=True)
class Plan:
    """What was found and decided. ``notes`` are lines for the user: what was asked, what is damaged or foreign."""

    decisions: list[Decision]
    looked_at: list[str]
    notes: list[str]

    @property
    def going(self) -> list[Decision]:
        """The decisions by which something goes."""
        return [one for one in self.decisions if one.goes]


def make_plan(
    places: Sequence[Place], sources: Sources, keep: int, older_than: timedelta, report: Report,
    known: Mapping[str, Listing] | None = None,
) -> Plan:  # fmt: skip
    """List the places, ask the sources and decide; ``known`` are listings that are not made again.

    Raises:
        LorryError: a place or a source does not answer, refuses, or is not what it should be.
    """
    listings = {place.address: (known or {}).get(place.address) or place.list(report) for place in places}
    now = datetime.now(UTC)
    shared = [place.address for place in places if place.is_shared]
    found = gather(sources if shared else Sources(overlays=sources.overlays))
    notes = [warning for listing in listings.values() for warning in listing.warnings]
    unknown: dict[str, dict[Kind, str]] = {address: dict(found.unknown) for address in shared}
    for address, theirs in of_foreign_runs({a: listings[a] for a in shared}, found.runs).items():
        notes.append(f"{address}: {len(theirs)} of its runs are not that Kubeflow's: another one may use this store")
        newest = max(theirs, key=lambda item: item.modified)
        # A step writes a note when it begins and when it ends: a long one looks like one that was abandoned.
        why = f"run {newest.name} in this store is of another Kubeflow, whose runs may read it"
        unknown[address] |= {"input": why, "base model": why}
    notes += [f"{address}: holds nothing" for address, listing in listings.items() if not listing.items]
    notes += [_foreign(address, listing.foreign) for address, listing in listings.items() if listing.foreign]
    pins = pins_of_current({address: listing.current for address, listing in listings.items()}) | found.pins
    rules = Rules(keep, older_than, now, pins=pins, unknown=unknown, needs=found.needs)
    decisions = decide({address: listing.items for address, listing in listings.items()}, rules)
    return Plan(decisions, found.looked_at if shared else [], notes)


def _foreign(address: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{address}: not Lorry's, left alone: {shown}"


def delete(
    places: Sequence[Place], sources: Sources, keep: int, older_than: timedelta, shown: Plan, report: Report
) -> list[tuple[str, Outcome]]:
    """Delete what the plan ``shown`` lists and what may still go now; give what became of each, with its place.

    Raises:
        LorryError: a place or a source does not answer or refuses; what was not deleted yet is still there.
    """
    listed = {(one.place, one.item.reference): one.item for one in shown.going}
    # A volume's Job looks at each item itself; what pins it is asked again here, without a third Job.
    volumes = {place.address: _as_listed(place.address, shown) for place in places if isinstance(place, VolumePlace)}
    again = make_plan(places, sources, keep, older_than, lambda _: None, volumes)
    done: list[tuple[str, Outcome]] = []
    for place in places:
        items = [
            one.item
            for one in again.going
            if one.place == place.address and listed.get((one.place, one.item.reference)) == one.item
        ]
        if items:
            report(f"{place.address}: deleting {parts(len(items))}")
        for number, outcome in enumerate(place.delete(items, report) if items else (), 1):
            done.append((place.address, outcome))
            if number % PARTS_BETWEEN_LINES == 0:
                report(f"{place.address}: {number} of {len(items)}")
    gone = {(place, f"{outcome.kind}:{outcome.name}") for place, outcome in done}
    reasons = {(one.place, one.item.reference): one.reason for one in again.decisions}
    for (address, named), item in listed.items():
        if (address, named) not in gone:
            why = reasons.get((address, named), GONE)
            done.append((address, Outcome(kind=item.kind, name=item.name, size_bytes=0, kept_because=why)))
    return done


def _as_listed(address: str, shown: Plan) -> Listing:
    items = [one.item for one in shown.decisions if one.place == address]
    is_store = any(item.kind != "checkpoints" for item in items)
    return Listing(kind="store" if is_store else "checkpoints", items=items)
