"""Walks a compiled pipeline document with real arguments, and checks the types of parameters as Kubeflow's driver does.

What the driver does with a value (backend/src/v2/driver/resolve.go of Kubeflow Pipelines 2.17): a parameter that is
declared STRING takes any value, as JSON text where it is no string; every other type refuses a value of another kind. A
loop hands each item to the parameter that the compiler made for it, so an item that arrives as text stays text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

KINDS = {"STRUCT": dict, "LIST": list, "BOOLEAN": bool, "NUMBER_INTEGER": (int, float), "NUMBER_DOUBLE": (int, float)}
_FIELD = re.compile(r'^parseJson\(string_value\)\["(\w+)"\]$')

Values = dict[str, Any]


def mismatches(document: Path, arguments: Mapping[str, Any], outputs: Mapping[str, Any]) -> list[str]:
    """What the driver would refuse, a line each.

    ``outputs`` are the values of output parameters, by the component's name without a number.
    """
    spec = next(iter(YAML(typ="safe", pure=True).load_all(document.read_text(encoding="utf-8"))))
    walk = _Walk(spec["components"], outputs)
    return list(walk.into("root", spec["root"], dict(arguments)))


class _Walk:
    def __init__(self, components: dict[str, Any], outputs: Mapping[str, Any]) -> None:
        self.components = components
        self.outputs = outputs

    def into(self, where: str, component: dict[str, Any], values: Values, without: str = "") -> Iterator[str]:
        """A component and all below it; ``without`` is the one input that a loop gives to its iterations alone."""
        arrived: Values = {}
        for name, declared in component.get("inputDefinitions", {}).get("parameters", {}).items():
            if name == without:
                continue
            if name not in values:
                if not declared.get("isOptional") and "defaultValue" not in declared:
                    yield f"{where}: neither value nor default value provided for {name}"
                continue
            kind = declared["parameterType"]
            value = values[name]
            if kind == "STRING":
                arrived[name] = value if isinstance(value, str) else json.dumps(value)
            elif not isinstance(value, KINDS[kind]) or (kind != "BOOLEAN" and isinstance(value, bool)):
                yield f"{where}: input parameter {name} type mismatch: expect {kind}, got {type(value).__name__}"
            else:
                arrived[name] = value
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            yield from self._task(f"{where}/{name}", component["dag"]["tasks"], task, arrived)

    def _task(self, where: str, siblings: dict[str, Any], task: dict[str, Any], around: Values) -> Iterator[str]:
        component = self.components[task["componentRef"]["name"]]
        given = task.get("inputs", {}).get("parameters", {})
        values: Values = {}
        for name, source in given.items():
            try:
                values[name] = self._value(siblings, source, around)
            except KeyError as error:
                yield f"{where}: {name}: no value {error}"
        if (loop := task.get("parameterIterator")) is None:
            yield from self.into(where, component, values)
            return
        # The loop's own driver sees the list; each iteration sees its item in the list's place.
        item, items = loop["itemInput"], loop["items"]
        yield from self.into(where, {**component, "dag": {}}, values, without=item)
        key = items.get("inputParameter")
        listed = json.loads(items["raw"]) if key is None else values.pop(key, [])  # refused above where it is missing
        for number, value in enumerate(listed):
            yield from self.into(f"{where}[{number}]", component, {**values, item: value}, without=key or "")

    def _value(self, siblings: dict[str, Any], source: dict[str, Any], around: Values) -> Any:
        if "runtimeValue" in source:
            value = source["runtimeValue"]["constant"]
        elif "componentInputParameter" in source:
            value = around[source["componentInputParameter"]]
        else:
            produced = source["taskOutputParameter"]
            component = siblings[produced["producerTask"]]["componentRef"]["name"]
            value = self.outputs[re.sub(r"-\d+$", "", component.removeprefix("comp-"))]
            kind = self.components[component]["outputDefinitions"]["parameters"][produced["outputParameterKey"]]
            assert isinstance(value, KINDS.get(kind["parameterType"], str))
        if selector := source.get("parameterExpressionSelector"):
            field = _FIELD.match(selector)
            assert field is not None, selector
            value = (json.loads(value) if isinstance(value, str) else value)[field[1]]
        return value
