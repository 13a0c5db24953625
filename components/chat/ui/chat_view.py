"""The chat: a conversation with one model at a time, and the list of all conversations of its user."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from components.chat.client.completions import FEWEST_TOKENS, LOWEST_TOP_P, MOST_TOKENS, Settings
from components.chat.client.replies import Asked, Replies
from components.chat.client.servers import Servers
from components.chat.storage.conversations import Conversation, Conversations, Turn
from components.chat.storage.export import as_markdown, as_rows, file_name
from components.chat.ui import scripts
from components.chat.ui.assets import any_choice, as_json, sheet
from components.chat.ui.markdown_patch import MATHS
from components.chat.ui.show_errors import in_thread, telling
from components.chat.web.identity import user_of

NOTHING_ASKED = "There is nothing to ask again."
# Of a retry where the settings say 0: the model would only say the same again.
RETRY_TEMPERATURE = 0.7
Updates = dict[Any, Any]


class ChatView:
    """Draws the chat and answers its events."""

    def __init__(
        self, servers: Servers, conversations: Conversations, replies: Replies, examples: Sequence[str]
    ) -> None:
        self._servers = servers
        self._conversations = conversations
        self._replies = replies
        self._examples = examples

    def draw(self, page: gr.Blocks) -> None:
        """Place the components, inside a gr.Blocks."""
        self._draw_list()
        self._draw_chat()
        self._draw_settings()
        self._connect(page)

    def _draw_list(self) -> None:
        with gr.Sidebar(elem_id="sidebar", width=280):
            self.new = gr.Button("New chat", elem_id="new", variant="primary")
            self.list = any_choice(gr.Radio([], label="Conversations", elem_id="conversations"))
            self.title = gr.Textbox(label="Title", elem_id="title", max_lines=1, submit_btn="Rename")
            with gr.Row():
                self.save_markdown = gr.Button("Export as Markdown", elem_id="save-markdown", size="sm")
                self.save_rows = gr.Button("Export as data", elem_id="save-rows", size="sm")
            self.delete = gr.Button("Delete", elem_id="delete", size="sm", variant="stop")

    def _draw_chat(self) -> None:
        # A State would not tell of its changes here. Whoever names a conversation is asked whose it is.
        self.conversation = gr.Textbox("", visible="hidden")
        # Nor does the page keep anything of a window: one that is cut off comes back as it was.
        self.judged = gr.Textbox("", visible="hidden")
        # Another value for each question that the page has taken.
        self.asked = gr.Textbox("", visible="hidden")
        # Pressed by the page's script where it has something to draw, to open anew, or to ask the servers again.
        self.drawn = gr.Button(visible="hidden", elem_id="drawn-answers")
        self.reopen = gr.Button(visible="hidden", elem_id="reopen")
        self.relist = gr.Button(visible="hidden", elem_id="relist")
        # What the browser needs to know of each model, and where the page has put the settings.
        self.models = gr.Textbox("{}", visible="hidden")
        self.given = gr.JSON(_sliders(Settings()), visible="hidden")
        self.file_name, self.file_text = gr.Textbox(visible=False), gr.Textbox(visible=False)
        self.model = any_choice(gr.Dropdown([], label="Model", elem_id="model"))
        self.chatbot = gr.Chatbot(
            elem_id="chat", show_label=False, buttons=["copy", "copy_all"], editable="user",
            placeholder="Ask something. Enter sends, Shift+Enter makes a new line, Escape stops.",
            latex_delimiters=MATHS, examples=_examples(self._examples), feedback_options=["Like", "Dislike"],
        )  # fmt: skip
        self.sheet = gr.HTML(sheet(()), visible="hidden")
        self.status = gr.Markdown(elem_id="status")
        with gr.Row(elem_id="why"):
            self.note = gr.Textbox(
                elem_id="note",
                label="Why?",
                show_label=False,
                placeholder="Why? (optional)",
                scale=6,
                max_lines=3,
                submit_btn="Save",
            )
        with gr.Row(elem_id="asking"):
            self.question = gr.Textbox(
                elem_id="question", label="Your message", show_label=False, placeholder="Your message", scale=6,
                autofocus=True, max_lines=8,
            )  # fmt: skip
            self.send = gr.Button("Send", elem_id="send", variant="primary", min_width=80)
            self.stop = gr.Button("Stop", elem_id="stop", variant="stop", min_width=80)
        with gr.Row():
            self.retry = gr.Button("Retry", elem_id="retry", size="sm", min_width=80)
            self.go_on = gr.Button("Go on", elem_id="go-on", size="sm", min_width=80)
            self.clear = gr.Button("Clear", elem_id="clear", size="sm", min_width=80)

    def _draw_settings(self) -> None:
        with gr.Accordion("Settings", open=False):
            self.system = gr.Textbox("", label="System prompt", elem_id="system", lines=2)
            temperature, top_p, max_tokens = _sliders(Settings())
            self.temperature = gr.Slider(
                0.0, 2.0, temperature, step=0.05, label="Temperature (0 = the likeliest words)"
            )
            self.top_p = gr.Slider(LOWEST_TOP_P, 1.0, top_p, step=0.01, label="Top-p (share of the likeliest words)")
            self.max_tokens = gr.Slider(FEWEST_TOKENS, MOST_TOKENS, max_tokens, step=16, label="Length limit (tokens)")
            # A number of Gradio's that is empty says 0.
            self.seed = gr.Textbox("", label="Seed (empty = a new one each time)", elem_id="seed", max_lines=1)

    def _connect(self, page: gr.Blocks) -> None:
        chosen = [self.conversation, self.model, self.system, self.temperature, self.top_p, self.max_tokens, self.seed]
        # Gradio makes a component anew for an update of more than its value, and for each output that is left out; and
        # each value is checked in a thread of its own. What happens for each question has few outputs, and values as
        # they are: with many users, each waits for what all of them cost. Opening a conversation may cost more.
        # Not the question: the page's script empties it as it is sent, and what is typed afterwards stays.
        begun = [self.chatbot, self.status, self.sheet, self.conversation, self.asked]
        opened = [*begun[:-1], self.model, self.system]
        hidden = {"api_visibility": "private", "show_progress": "hidden"}
        quick = {**hidden, "queue": False}
        bare = {**quick, "preprocess": False, "postprocess": False}
        told = partial(telling, self.status)
        shown = [self.conversation, self.sheet, self.asked, self.chatbot]
        asking = [self.question, self.asked, *chosen]
        again = [self.retry.click, self.chatbot.retry]
        for start in (
            gr.on([self.question.submit, self.send.click], told(self._ask), asking, begun, js=scripts.SEND, **bare),
            self.chatbot.example_select(told(self._ask_example), chosen, begun, js=scripts.LET_GO, **bare),
            self.chatbot.edit(told(self._edit), chosen, begun, js=scripts.LET_GO, **bare),
            gr.on(again, told(self._ask_again), chosen, begun, js=scripts.LET_GO, **bare),
            self.go_on.click(told(self._go_on), chosen, begun, **bare),
            self.list.input(told(self._open), [self.list], opened, **quick),
            self.reopen.click(told(self._open), [self.conversation], opened, **quick),
        ):
            start.then(None, shown, None, js=scripts.SHOWN)
        drawn, named = [self.chatbot, self.status, self.sheet], [self.list, self.title]
        self.drawn.click(None, [self.conversation, *drawn], drawn, js=scripts.DRAW, trigger_mode="multiple")
        self.conversation.change(self._list, [self.conversation], named, **quick)
        self.stop.click(self._stop, [self.conversation], None, **quick)
        listed = [self.models, self.model, self.status]
        # The conversation at once, and then the models: a server that hangs is waited for.
        arrival = page.load(told(self._arrive), [self.conversation], [*opened, self.models], js=scripts.ARRIVE, **quick)
        arrival.then(None, shown, None, js=scripts.ARRIVED)
        looked = {**quick, "preprocess": False}
        arrival.then(told(self._list_models), [self.conversation, self.model], listed, **looked)
        self.relist.click(told(self._relist), [self.conversation, self.model], listed[:-1], **looked)
        settings = [self.temperature, self.top_p, self.max_tokens]
        # Also for a choice that the page makes: as it is loaded, or a conversation opened. It costs the server nothing.
        self.model.change(
            None,
            [self.model, self.models, self.given, *settings],
            [self.chatbot, self.given, *settings],
            js=scripts.FOLLOW,
        )
        # Emptied in the browser, not when the server says so: who types fast would ask in the conversation before.
        self.new.click(None, None, [*drawn, self.conversation], js=scripts.EMPTY)
        self.title.submit(told(self._rename), [self.conversation, self.title], [*named, self.status], **quick)
        for clicked, gone, question in (
            ([self.clear.click, self.chatbot.clear], self._clear, "Empty this conversation? It keeps its title."),
            ([self.delete.click], self._delete, "Delete this conversation, and what you thought of it?"),
        ):
            gone = gr.on(clicked, told(gone), [self.conversation], opened, js=scripts.ask_whether(question), **quick)
            gone.then(None, shown, None, js=scripts.SHOWN)
        judged = [self.judged, self.note, *drawn]
        self.chatbot.like(told(self._like), [self.conversation], judged, **quick)
        explained = [self.conversation, self.judged, self.note]
        self.note.submit(told(self._explain), explained, [self.status, self.sheet], **quick)
        saved = [self.file_name, self.file_text, self.status]
        for button, kind in ((self.save_markdown, "md"), (self.save_rows, "jsonl")):
            # Not on from the last file, where there is none.
            click = button.click(told(self._file(kind)), [self.conversation], saved, **quick)
            click.success(None, [self.file_name, self.file_text], [self.file_name], js=scripts.SAVE)

    # What begins an answer.

    async def _ask(self, question: str, _asked: str, request: gr.Request, *chosen: Any) -> Updates:
        if not question.strip():
            return {self.status: "Write something first."}
        return await self._asked(question.strip(), chosen, request)

    async def _ask_example(self, request: gr.Request, example: gr.SelectData, *chosen: Any) -> Updates:
        return await self._asked(example.value["text"], chosen, request)

    async def _edit(self, request: gr.Request, edited: gr.EditData, *chosen: Any) -> Updates:
        opened = await in_thread(self._conversations.load, user_of(request), _chosen(chosen).conversation)
        question = edited.value if isinstance(edited.value, str) else str(edited.value.get("text", ""))
        return await self._asked(
            question.strip(), chosen, request, instead_of=_turn(opened, edited.index, edited.previous_value).id
        )

    async def _asked(
        self, question: str, chosen: Sequence[Any], request: gr.Request, *, instead_of: int | None = None
    ) -> Updates:
        """Add a question, at the end or in the place of another, and begin to answer it."""
        asked, user = _chosen(chosen), user_of(request)
        await self._replies.leave(user, asked.conversation)
        ask = partial(self._conversations.ask, instead_of=instead_of)
        opened = await in_thread(ask, user, asked.conversation, question, asked.system)
        return self._begin(user, asked, opened, anew=instead_of is not None)

    async def _ask_again(self, request: gr.Request, *chosen: Any) -> Updates:
        asked, user = _chosen(chosen), user_of(request)
        if not asked.conversation:
            return {self.status: NOTHING_ASKED}
        await self._replies.leave(user, asked.conversation)
        before = await in_thread(self._conversations.load, user, asked.conversation)
        opened = await in_thread(self._conversations.ask_again, user, asked.conversation, asked.system)
        if before.turns != opened.turns and asked.settings.temperature == 0:
            asked = replace(asked, settings=replace(asked.settings, temperature=RETRY_TEMPERATURE))
        return self._begin(user, asked, opened, anew=True) if opened.turns else {self.status: NOTHING_ASKED}

    async def _go_on(self, request: gr.Request, *chosen: Any) -> Updates:
        asked, user = _chosen(chosen), user_of(request)
        opened = await in_thread(self._conversations.load, user, asked.conversation) if asked.conversation else None
        if opened is not None and self._replies.is_answered(user, opened.id):
            # In another window, perhaps; this one follows it, too.
            return {self.sheet: sheet(opened.turns, running=True)}
        if opened is None or not opened.turns or opened.turns[-1].answer is None:
            return {self.status: "There is nothing to go on with."}
        return self._begin(user, asked, replace(opened, system=asked.system), goes_on=True)

    # The answer.

    def _begin(
        self, user: str, asked: Asked, opened: Conversation, *, goes_on: bool = False, anew: bool = False
    ) -> Updates:
        """Begin to answer; ``anew`` in the place of an answer that was there, whose mark goes with it."""
        self._replies.begin(user, asked, opened, goes_on=goes_on)
        marked = anew or any(turn.liked is not None for turn in opened.turns)
        return {
            self.chatbot: _conversation(opened.turns) if marked else _shown(opened.turns),
            self.status: "Reading your prompt…",
            self.sheet: sheet(opened.turns, running=True), self.conversation: opened.id, self.asked: uuid.uuid4().hex,
        }  # fmt: skip

    async def _list(self, conversation: str, request: gr.Request) -> tuple[Any, str]:
        """All conversations of the user, where the one that is open has changed."""
        titles = await in_thread(self._conversations.titles, user_of(request))
        title = next((title for title, known in titles if known == conversation), "")
        return gr.update(choices=titles, value=conversation or None), title

    # What ends an answer, or leaves it.

    async def _stop(self, conversation: str, request: gr.Request) -> None:
        self._replies.stop(user_of(request), conversation)

    async def _clear(self, conversation: str, request: gr.Request) -> Updates:
        if not conversation:
            return {self.status: gr.skip()}
        await self._replies.leave(user_of(request), conversation)
        await in_thread(self._conversations.clear, user_of(request), conversation)
        return {**self._empty(), self.conversation: conversation}

    def _empty(self) -> Updates:
        return {
            self.chatbot: _conversation(()), self.status: "", self.sheet: sheet(()), self.conversation: "",
        }  # fmt: skip

    # Conversations.

    async def _arrive(self, conversation: str, request: gr.Request) -> Updates:
        """The page as it was left: what this window showed, or the user's last conversation."""
        user = user_of(request)
        known = [known for _, known in await in_thread(self._conversations.titles, user)]
        # A page that is loaded is empty; emptying it would take away what somebody has asked meanwhile.
        if not known:
            return {self.status: gr.skip()}
        # The models as they were listed last: they are listed anew in a moment.
        opened = await self._opened(user, conversation if conversation in known else known[0])
        return {**opened, self.models: self._of_models()}

    async def _list_models(self, conversation: str, model: str, request: gr.Request) -> Updates:
        """The models that are served now, and words where that is too little."""
        updates = await self._relist(conversation, model, request)
        if not self._servers.listed:
            updates[self.status] = f"⚠ {self._servers.nothing_served}"
        elif self._servers.silent:
            updates[self.status] = f"⚠ {self._servers.silent}"
        return updates

    async def _relist(self, conversation: str, model: str, request: gr.Request) -> Updates:
        labels = [model.label for model in await self._servers.models()]
        if model not in labels:
            user = user_of(request)
            turns = (await in_thread(self._conversations.load, user, conversation)).turns if conversation else ()
            model = _last_model(turns, labels) or next(iter(labels), "")
        return {self.models: self._of_models(), self.model: gr.update(choices=labels, value=model or None)}

    def _of_models(self) -> str:
        """Examples and settings of each model, as ``scripts.FOLLOW`` reads them."""
        return as_json({
            model.label: {
                "examples": _examples(self._examples or model.example_prompts),
                "settings": _sliders(Settings.of(model.generation)),
            }
            for model in self._servers.all_known
        })  # fmt: skip

    async def _open(self, conversation: str, request: gr.Request) -> Updates:
        return {**self._empty(), **await self._opened(user_of(request), conversation)}

    async def _opened(self, user: str, conversation: str) -> Updates:
        opened = await in_thread(self._conversations.load, user, conversation)
        labels = [model.label for model in self._servers.listed]
        last = _last_model(opened.turns, labels)
        running = self._replies.is_answered(user, conversation)
        return {
            self.chatbot: _conversation(opened.turns),
            self.sheet: sheet(opened.turns, running=running), self.conversation: conversation, self.status: "",
            self.system: opened.system, **({self.model: gr.update(choices=labels, value=last)} if last else {}),
        }  # fmt: skip

    async def _rename(self, conversation: str, title: str, request: gr.Request) -> Updates:
        if not conversation:
            return {self.status: "There is no conversation to rename yet."}
        if not title.strip():
            return {self.status: "Write a title first."}
        await in_thread(self._conversations.rename, user_of(request), conversation, title.strip())
        titles, title = await self._list(conversation, request)
        return {self.list: titles, self.title: title, self.status: "Renamed."}

    async def _delete(self, conversation: str, request: gr.Request) -> Updates:
        if not conversation:
            return {self.status: gr.skip()}
        await self._replies.leave(user_of(request), conversation)
        await in_thread(self._conversations.delete, user_of(request), conversation)
        return self._empty()

    def _file(self, kind: str) -> Any:
        async def file(conversation: str, request: gr.Request) -> Updates:
            if not conversation:
                return {self.status: "There is no conversation to export yet."}
            opened = await in_thread(self._conversations.load, user_of(request), conversation)
            if not opened.turns:
                return {self.status: "Nothing was said in this conversation yet."}
            text = as_markdown(opened) if kind == "md" else as_rows(opened)
            return {self.file_name: file_name(opened, kind), self.file_text: text}

        return file

    # Opinions.

    async def _like(self, conversation: str, like: gr.LikeData, request: gr.Request) -> Updates:
        user = user_of(request)
        opened = await in_thread(self._conversations.load, user, conversation)
        liked = {"Like": True, "Dislike": False, True: True, False: False}.get(like.liked)
        turn = _turn(opened, like.index, like.value)
        await in_thread(self._conversations.judge, user, turn.id, liked)
        turns = [replace(known, liked=liked) if known is turn else known for known in opened.turns]
        told = {True: "Noted: a good answer.", False: "Noted: a bad answer.", None: "Taken back."}[liked]
        return {
            self.judged: str(turn.id), self.note: turn.note, self.status: told,
            self.sheet: self._sheet(user, opened, asks_why=liked is not None),
            # Its marks, and not its words: an answer may be growing.
            self.chatbot: gr.update(feedback_value=_opinions(turns)),
        }  # fmt: skip

    async def _explain(self, conversation: str, judged: str, note: str, request: gr.Request) -> Updates:
        user = user_of(request)
        if judged.isdecimal():
            await in_thread(self._conversations.explain, user, int(judged), note.strip())
        opened = await in_thread(self._conversations.load, user, conversation)
        return {self.sheet: self._sheet(user, opened), self.status: "Thank you; your note is saved."}

    def _sheet(self, user: str, opened: Conversation, *, asks_why: bool = False) -> str:
        return sheet(opened.turns, running=self._replies.is_answered(user, opened.id), asks_why=asks_why)


def _turn(opened: Conversation, index: int | Sequence[int], shown: Any) -> Turn:
    """The turn at a place on the page, where it begins with what is shown there.

    An answer that could not be kept stands there and nowhere else; another window may have changed what was said.
    """
    number = index if isinstance(index, int) else index[0]
    if number >= len(opened.turns):
        raise gr.Error("This was not kept; ask again.", print_exception=False)
    turn, text = opened.turns[number], "".join(shown) if isinstance(shown, list) else str(shown)
    if not turn.content.startswith(text) and not text.startswith(turn.content):
        raise gr.Error("Another window has changed this conversation; load the page again.", print_exception=False)
    return turn


def _last_model(turns: Sequence[Turn], labels: Sequence[str]) -> str:
    """Who answered last of those that are served."""
    return next((turn.model for turn in reversed(turns) if turn.model in labels), "")


def _chosen(chosen: Sequence[Any]) -> Asked:
    conversation, model, system, temperature, top_p, max_tokens, seed = chosen
    try:
        number = int(seed) if str(seed or "").strip() else None
        settings = Settings(float(temperature), int(max_tokens), float(top_p), number)
    except (TypeError, ValueError) as error:
        raise gr.Error("A number in the settings is none; correct it there.", print_exception=False) from error
    return Asked(str(conversation or ""), str(model or ""), str(system or ""), settings)


def _examples(prompts: Sequence[str]) -> list[gr.chatbot.ExampleMessage]:
    """Examples in the form of Gradio's own chat."""
    return [{"text": text} for text in prompts]


def _sliders(settings: Settings) -> list[float]:
    """The values of the sliders, in their order."""
    return [settings.temperature, settings.top_p, settings.max_tokens]


def _shown(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Messages in the form of Gradio's own chat, as its script and ``DRAW`` know them."""
    return [
        {"role": turn.role, "metadata": None, "content": [{"type": "text", "text": turn.content}], "options": None}
        for turn in turns
    ]


def _conversation(turns: Sequence[Turn]) -> Any:
    """The chat with these turns and their marks; dearer than the turns alone, which leave marks where they are."""
    return gr.update(value=_shown(turns), feedback_value=_opinions(turns))


def _opinions(turns: Sequence[Turn]) -> list[str | None]:
    """Gradio's names for what was thought of each answer."""
    liked = [turn.liked for turn in turns if turn.role == "assistant"]
    return [None if opinion is None else "Like" if opinion else "Dislike" for opinion in liked]
