"""The script of the page, and the few lines of it at each event."""

from __future__ import annotations

from pathlib import Path

from components.chat.storage.comparisons import NONE, TIE
from components.chat.ui.assets import as_json, sheet

SCRIPT = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
# The browser's own name for what this window shows; the server knows whether it is the user's.
ARRIVE = '() => [sessionStorage.getItem("lorry-conversation") || ""]'
SEND = "(question, asked, ...chosen) => { lorry.send(question, asked); return [question, asked, ...chosen]; }"
LET_GO = '(...chosen) => { lorry.letGo("answers"); return chosen; }'
# What the page has answered: a question that it did not take goes back, and an answer that runs is followed.
SHOWN = """
(conversation, sheet, asked, chat) => {
  sessionStorage.setItem("lorry-conversation", conversation);
  lorry.settle(asked);
  if (sheet.includes('data-state="running"')) lorry.follow("answers", conversation);
  else lorry.letGo("answers");
}
"""
ARRIVED = f"(...shown) => {{ lorry.restore(shown[3]); ({SHOWN.strip()})(...shown); }}"
# Puts what has come of an answer behind the turns before it; not where the conversation is another one by now. The
# server sends what is new of it alone: Gradio would take the whole conversation apart for each, and for every user.
DRAW = """
(conversation, chat, status, sheet) => {
  const piece = lorry.pieces.answers;
  if (piece?.cut) return [chat, piece.words, sheet];
  const more = piece ? chat.length - piece.turns : -1;
  const here = piece && piece.conversation === conversation;
  if (!here || more < 0 || more > 1 || (more && chat.at(-1).role === "user")) return [chat, status, sheet];
  const answer = {role: "assistant", metadata: null, content: [{type: "text", text: piece.text}], options: null};
  return [[...chat.slice(0, piece.turns), ...(piece.text ? [answer] : [])], piece.words, piece.sheet];
}
"""
# Examples and settings of the model that is chosen now. A setting that stands where the page has put it (``given``)
# follows; one that was moved by hand stays, and so do all where nothing is known of the model. What does not change is
# not written either: it may be moved in this very moment.
FOLLOW = """
(model, models, given, ...settings) => {
  const own = JSON.parse(models)[model], same = {__type__: "update"};
  if (!own) return [same, given, ...settings.map(() => same)];
  const put = settings.map((value, number) => value === given[number] ? own.settings[number] : given[number]);
  const moved = settings.map((value, number) => put[number] === given[number] ? same : put[number]);
  return [{...same, examples: own.examples}, put, ...moved];
}
"""
# The text goes to the browser's own disk; no file of it is left on the server. Its name is taken away, so that nothing
# is saved where the next export fails.
SAVE = """
(name, text) => {
  if (!name) return [""];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "text/plain;charset=utf-8"}));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
  return [""];
}
"""
# A conversation in which nothing was said: its turns, their marks, the status, the sheet and the name.
EMPTY = f"""
() => {{
  lorry.letGo("answers");
  sessionStorage.removeItem("lorry-conversation");
  return [{{__type__: "update", value: [], feedback_value: []}}, "", {as_json(sheet(()))}, ""];
}}
"""
# What has come of the answers; the ballot and the name of the comparison once all are there.
DRAW_COMPARISON = """
() => {
  const piece = lorry.pieces.comparisons, same = {__type__: "update"};
  if (piece.cut) return [piece.words, ...Array(3 + 3 * 4).fill(same)];
  const columns = [..."ABCD"].map((letter) => ({...same, visible: piece.letters.includes(letter)}));
  const letters = piece.letters.map((letter) => [letter, letter]);
  const choices = [...letters, ["All the same", "TIE"], ["None is good", "NONE"]];
  const ballot = piece.done ? {...same, choices, visible: true} : same;
  const of = (texts) => [..."ABCD"].map((letter) => texts[letter] ?? same);
  return [
    piece.words, ballot, piece.id, {...same, interactive: !piece.done}, ...columns, ...of(piece.heads), ...of(piece),
  ];
}
""".replace("TIE", TIE).replace("NONE", NONE)
FOLLOW_COMPARISON = """
(comparison) => {
  if (!comparison) return;
  sessionStorage.setItem("lorry-comparison", comparison);
  lorry.follow("comparisons", comparison);
}
"""
FORGET_COMPARISON = '() => sessionStorage.removeItem("lorry-comparison")'
TAKE_UP_COMPARISON = f'() => ({FOLLOW_COMPARISON.strip()})(sessionStorage.getItem("lorry-comparison"))'


def ask_whether(question: str) -> str:
    """A script that asks before it sends the conversation's name; none is sent where the user refuses."""
    return f"(conversation) => [confirm({as_json(question)}) ? (lorry.letGo('answers'), conversation) : '']"
