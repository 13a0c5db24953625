"""The evaluation as an HTML page: losses, the best step of training, answers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from jinja2 import Environment

from components.artifacts.contracts import RunRecord
from components.evaluate.results import GeneratedAnswer, SplitLoss

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Evaluation of run {{ record.run_key }}</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
  table { border-collapse: collapse; width: 100%; }
  td, th { padding: .4rem .8rem; text-align: left; border-bottom: 1px solid #ccc; vertical-align: top; }
  td.answer { white-space: pre-wrap; width: 40%; } small { color: #777; }
</style>
<h1>Evaluation</h1>
<p>Base {{ record.base_model.address }}, run {{ record.run_key }}, {{ record.steps }} steps in
{{ "%.1f" | format(record.minutes) }} minutes on {{ record.hardware }}.
The weights are those of step {{ record.adapter_step }} (train.checkpoint: {{ record.checkpoint }}).</p>
<h2>Loss and perplexity</h2>
<table><tr><th>split</th><th>rows</th><th>tokens</th><th>base loss</th><th>tuned loss</th><th>change</th>
<th>base perplexity</th><th>tuned perplexity</th></tr>
{% for loss in losses %}<tr><td>{{ loss.split }}</td><td>{{ loss.n_rows }}</td><td>{{ loss.tuned.n_tokens }}</td>
<td>{{ "%.4f" | format(loss.base.loss) }}</td><td>{{ "%.4f" | format(loss.tuned.loss) }}</td>
<td>{{ "%+.1f" | format(-100 * loss.improvement) }} %</td>
<td>{{ "%.2f" | format(loss.base.perplexity) }}</td><td>{{ "%.2f" | format(loss.tuned.perplexity) }}</td></tr>
{% endfor %}</table>
{% if record.best_eval_loss is not none %}<p>During training the best validation loss was
{{ "%.4f" | format(record.best_eval_loss) }} at step {{ record.best_step }}{% if record.final_eval_loss is not none %};
the last, at step {{ record.steps }}, {{ "%.4f" | format(record.final_eval_loss) }}{% endif %}.</p>{% endif %}
{% if prompts %}<h2>Answers side by side</h2>
<table><tr><th>prompt</th><th>base</th><th>tuned</th></tr>
{% for prompt in prompts %}{% for base, tuned in prompt.pairs %}
<tr><td><strong>{{ prompt.name }}</strong><br>{{ base.turn }}</td>
{% for answer in (base, tuned) %}<td class="answer">{{ answer.text }}
<small>{{ "%.2f" | format(answer.seconds) }} s, {{ answer.n_tokens }} tokens,
{{ "%.0f" | format(answer.tokens_per_second) }} tokens/s</small></td>{% endfor %}</tr>
{% endfor %}{% endfor %}</table>{% endif %}
</html>
"""


def write_report(path: str, record: RunRecord, losses: Sequence[SplitLoss], answers: Sequence[GeneratedAnswer]) -> None:
    """Write one HTML file without external references."""
    prompts = []
    for name, group in groupby(answers, key=lambda answer: answer.prompt):
        own = list(group)
        base = [answer for answer in own if answer.model == "base"]
        tuned = [answer for answer in own if answer.model == "tuned"]
        prompts.append({"name": name, "pairs": list(zip(base, tuned, strict=True))})
    page = Environment(autoescape=True).from_string(PAGE).render(record=record, losses=losses, prompts=prompts)
    Path(path).write_text(page, encoding="utf-8")
