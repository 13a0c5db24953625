"""The script of the page, and the JavaScript of single events."""

from __future__ import annotations

from pathlib import Path

from components.chat.storage.comparisons import NONE_IS_GOOD, TIE
from components.chat.ui.assets import as_json
from components.chat.ui.gradio_workarounds.state_css import state_css

SCRIPT = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
# The conversation that this window showed last; the server checks that it belongs to the user.
ARRIVE = '() => [sessionStorage.getItem("lorry-conversation") || ""]'
SEND = "(question, accepted, ...chosen) => { lorry.send(question, accepted); return [question, accepted, ...chosen]; }"
UNFOLLOW = '(...chosen) => { lorry.unfollow("answers"); return chosen; }'
# After a response of the server: a question that was not accepted goes back, and a reply that runs is followed.
FOLLOW_SHOWN = """
(conversation, stateCss, accepted, chat) => {
  sessionStorage.setItem("lorry-conversation", conversation);
  lorry.settle(accepted);
  if (stateCss.includes('data-state="running"')) lorry.follow("answers", conversation);
  else lorry.unfollow("answers");
}
"""
FOLLOW_ARRIVED = f"(...shown) => {{ lorry.restore(shown[3]); ({FOLLOW_SHOWN.strip()})(...shown); }}"
# Draws the reply's snapshot after the turns before it, unless the window shows another conversation by now. The server
# sends only the delta: Gradio would parse and send the whole conversation for each, and for every user.
DRAW_REPLY = """
(conversation, chat, status, stateCss) => {
  const snapshot = lorry.snapshots.answers;
  if (snapshot?.disconnected) return [chat, snapshot.status, stateCss];
  const more = snapshot ? chat.length - snapshot.n_turns : -1;
  const here = snapshot && snapshot.conversation === conversation;
  if (!here || more < 0 || more > 1 || (more && chat.at(-1).role === "user")) return [chat, status, stateCss];
  const answer = {
    role: "assistant", metadata: null, content: [{type: "text", text: snapshot.text}], options: null,
  };
  const turns = chat.slice(0, snapshot.n_turns);
  return [snapshot.text ? [...turns, answer] : turns, snapshot.status, snapshot.state_css];
}
"""
# Examples and settings of the model that is chosen now. A setting with the value that the page gave it (``defaults``)
# follows the model; one that the user moved stays, and all stay if nothing is known of the model. A value that does not
# change is not written either: the user may be moving it at this moment.
FOLLOW_MODEL = """
(model, models, defaults, ...settings) => {
  const own = JSON.parse(models)[model], same = {__type__: "update"};
  if (!own) return [same, defaults, ...settings.map(() => same)];
  const next = settings.map((value, number) => value === defaults[number] ? own.settings[number] : defaults[number]);
  const moved = settings.map((value, number) => next[number] === defaults[number] ? same : next[number]);
  return [{...same, examples: own.examples}, next, ...moved];
}
"""
# The browser saves the text, so no file of it is left on the server. The name is emptied, so that nothing is saved
# again if the next export fails.
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
# A new conversation: the chatbot with its marks, the status, the state CSS and the id.
EMPTY = f"""
() => {{
  lorry.unfollow("answers");
  sessionStorage.removeItem("lorry-conversation");
  return [{{__type__: "update", value: [], feedback_value: []}}, "", {as_json(state_css(()))}, ""];
}}
"""
# The answers so far; the ballot and the id of the comparison once all are complete.
DRAW_COMPARISON = """
() => {
  const snapshot = lorry.snapshots.comparisons, same = {__type__: "update"};
  if (snapshot.disconnected) return [snapshot.status, ...Array(3 + 3 * 4).fill(same)];
  const columns = [..."ABCD"].map((letter) => ({...same, visible: snapshot.letters.includes(letter)}));
  const letters = snapshot.letters.map((letter) => [letter, letter]);
  const choices = [...letters, ["All the same", "TIE"], ["None is good", "NONE_IS_GOOD"]];
  const ballot = snapshot.done ? {...same, choices, visible: true} : same;
  const byLetter = (texts) => [..."ABCD"].map((letter) => texts[letter] ?? same);
  return [
    snapshot.status, ballot, snapshot.id, {...same, interactive: !snapshot.done},
    ...columns, ...byLetter(snapshot.headings), ...byLetter(snapshot),
  ];
}
""".replace("TIE", TIE).replace("NONE_IS_GOOD", NONE_IS_GOOD)
FOLLOW_COMPARISON = """
(comparison) => {
  if (!comparison) return;
  sessionStorage.setItem("lorry-comparison", comparison);
  lorry.follow("comparisons", comparison);
}
"""
FORGET_COMPARISON = '() => sessionStorage.removeItem("lorry-comparison")'
RESUME_COMPARISON = f'() => ({FOLLOW_COMPARISON.strip()})(sessionStorage.getItem("lorry-comparison"))'


def confirm(question: str) -> str:
    """A script that sends the conversation's id if the user confirms the question, and an empty one otherwise."""
    return f"(conversation) => [confirm({as_json(question)}) ? (lorry.unfollow('answers'), conversation) : '']"
