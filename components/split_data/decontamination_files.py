"""Every text of the files that ``split.decontamination.files`` names, with the line that it is from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from components.errors import DataError
from components.split_data.raw import RawRecord, encoding_of
from components.split_data.records import is_data_file, records_of
from components.storage.digests import sha256_of
from components.storage.local_files import local_file

YAML_SUFFIXES = (".yaml", ".yml")


def texts_of(address: str, revision: str | None) -> Sequence[tuple[str, str]]:
    """Each text of a file, behind its location (file name, and line or number).

    Raises:
        DataError: the file is not there, cannot be read, holds no text, or its digest is not ``revision``.
    """
    path = local_file(address, revision)
    if not path.is_file():
        raise DataError(f"{path}: no such file; correct split.decontamination.files")
    if revision is not None and sha256_of(path) != revision:
        raise DataError(f"{path}: the file changed while the run was going on; run again to use the new content")
    if is_data_file(path.name):
        records = records_of(path, every_column=True)
        numbered = [(record.line, text) for record in records for text in _strings(_value(path, record))]
    elif path.suffix in YAML_SUFFIXES:
        numbered = list(enumerate(_strings(_yaml(path)), start=1))
    else:
        numbered = list(_lines_and_paragraphs(_plain_text(path)))
    if not numbered:
        raise DataError(f"{path}: holds no text; correct split.decontamination.files")
    unit = "text" if path.suffix in YAML_SUFFIXES else "line"
    return [(f"{path.name}, {unit} {number}", text) for number, text in numbered]


def _value(path: Path, record: RawRecord) -> Any:
    try:
        return record.read()
    except ValueError as error:
        raise DataError(
            f"{path}: line {record.line}: {error}; correct it, or remove the file from split.decontamination.files"
        ) from error


def _lines_and_paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Each line, and each block of lines without an empty one between, which may be one text that is wrapped."""
    paragraph: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if line.strip():
            paragraph.append(line)
            yield number, line
        else:
            if len(paragraph) > 1:
                yield number - len(paragraph), "\n".join(paragraph)
            paragraph = []


def _strings(value: Any) -> Iterator[str]:
    """Every text in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _yaml(path: Path) -> Any:
    try:
        return YAML(typ="safe").load(_plain_text(path))
    except YAMLError as error:
        raise DataError(f"{path}: not YAML ({' '.join(str(error).split())})") from error


def _plain_text(path: Path) -> str:
    with path.open("rb") as file:
        encoding = encoding_of(file)
    try:
        return path.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start + 1}); save the file as UTF-8") from error
