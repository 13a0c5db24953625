"""The split as a page a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment

from components.split_data.accounts import Account
from components.split_data.config import SplitConfig

MAX_DROPPED_SHOWN = 200

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Split of {{ config.data }}</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
  table { border-collapse: collapse; } td, th { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid #ccc; }
  .bar { background: #4a7; height: .8rem; } .dropped { background: #c63; } .unused { background: #999; }
</style>
<h1>Split</h1>
<p>{{ config.data }}{% if config.data_revision %}, revision {{ config.data_revision[:12] }}{% endif %},
seed {{ config.seed }}: {{ counts.read }} rows read.</p>
<table><tr><th>went to</th><th>rows</th><th>share</th><th></th></tr>
{% for name, count in counts.items() if name != "read" -%}
<tr><td>{{ name }}</td><td>{{ count }}</td><td>{{ "%.1f" | format(100 * count / counts.read) }} %</td>
<td><div class="bar {{ name }}" style="width: {{ 300 * count // counts.read }}px"></div></td></tr>
{% endfor -%}
</table>
{% if dropped %}<h2>Dropped rows</h2>
<table><tr><th>line</th><th>why</th></tr>
{% for account in dropped[:limit] %}<tr><td>{{ account.line }}</td><td>{{ account.reason }}</td></tr>
{% endfor %}</table>
{% if dropped | length > limit %}
<p>and {{ dropped | length - limit }} more; all are in the accounts file.</p>{% endif %}
{% endif %}</html>
"""


def write_report(path: str, config: SplitConfig, counts: dict[str, int], dropped: Sequence[Account]) -> None:
    """Write the counts and the dropped rows as one HTML file without outside references."""
    template = Environment(autoescape=True).from_string(PAGE)
    page = template.render(config=config, counts=counts, dropped=dropped, limit=MAX_DROPPED_SHOWN)
    Path(path).write_text(page, encoding="utf-8")
