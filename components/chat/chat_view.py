"""The chat: a conversation with one model at a time, and the list of all conversations of its user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from openai.types.chat import ChatCompletionMessageParam

from components.chat.answers import Answer, ServerError, Settings, stream_answer
from components.chat.conversations import Conversation, Conversations, Turn
from components.chat.export import as_markdown, as_rows, file_name
from components.chat.identity import user_of
from components.chat.look import SAVE, any_choice, sheet
from components.chat.running import Answering, Running
from components.chat.servers import Servers
from components.errors import DataError

GO_ON = "Go on exactly where you stopped, in the middle of a word if need be. Repeat nothing."
NOTHING_SERVED = "No model server answers at {}. Is it running? Press Retry to ask again."
Updates = dict[Any, Any]


@dataclass(frozen=True)
class Asked:
    """What a person has chosen on the page when an answer begins."""

    conversation: str
    model: str
    system: str
    settings: Settings


class ChatView:
    """Draws the chat and answers its events."""

    def __init__(self, servers: Servers, conversations: Conversations, examples: Sequence[str]) -> None:
        self._servers = servers
        self._conversations = conversations
        self._examples = examples
        self._running = Running()
        # By the page's session: the answer that was begun, until it is drawn.
        self._followed: dict[str, tuple[Answering, _Keeper]] = {}

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
            self.title = gr.Textbox(label="Title", elem_id="title", max_lines=1, submit_btn="Rename", visible=False)
            with gr.Row():
                self.save_markdown = gr.Button("Export as Markdown", elem_id="save-markdown", size="sm")
                self.save_rows = gr.Button("Export as data", elem_id="save-rows", size="sm")
            self.delete = gr.Button("Delete", elem_id="delete", size="sm", variant="stop")

    def _draw_chat(self) -> None:
        self.conversation = gr.State("")
        self.judged = gr.State(None)
        self.file_name, self.file_text = gr.Textbox(visible=False), gr.Textbox(visible=False)
        self.model = any_choice(gr.Dropdown([], label="Model", elem_id="model"))
        self.chatbot = gr.Chatbot(
            elem_id="chat", show_label=False, height="58vh", buttons=["copy", "copy_all"], editable="user",
            placeholder="Ask something. Enter sends, Shift+Enter makes a new line, Escape stops.", allow_tags=False,
            examples=[{"text": text} for text in self._examples], feedback_options=["Like", "Dislike"],
        )  # fmt: skip
        self.sheet = gr.HTML(sheet(()), visible="hidden")
        self.status = gr.Markdown(elem_id="status")
        with gr.Row(visible=False, elem_id="why") as self.why:
            self.note = gr.Textbox(
                elem_id="note", show_label=False, placeholder="Why? (optional)", scale=6, max_lines=3, submit_btn="Save"
            )
        with gr.Row():
            self.question = gr.Textbox(
                elem_id="question", show_label=False, placeholder="Your message", scale=6, autofocus=True, max_lines=8
            )
            self.send = gr.Button("Send", elem_id="send", variant="primary", min_width=80)
            self.stop = gr.Button("Stop", elem_id="stop", variant="stop", min_width=80)
        with gr.Row():
            self.retry = gr.Button("Retry", elem_id="retry", size="sm", min_width=80)
            self.go_on = gr.Button("Go on", elem_id="go-on", size="sm", min_width=80)
            self.clear = gr.Button("Clear", elem_id="clear", size="sm", min_width=80)

    def _draw_settings(self) -> None:
        with gr.Accordion("Settings", open=False):
            self.system = gr.Textbox("", label="System prompt", elem_id="system", lines=2)
            self.temperature = gr.Slider(0.0, 2.0, value=0.0, step=0.1, label="Temperature (0 = the likeliest words)")
            self.top_p = gr.Slider(0.05, 1.0, value=1.0, step=0.05, label="Top-p (share of the likeliest words)")
            self.max_tokens = gr.Slider(16, 2048, value=256, step=16, label="Length limit (tokens)")
            self.seed = gr.Number(value=None, precision=0, label="Seed (empty = a new one each time)")

    def _connect(self, page: gr.Blocks) -> None:
        chosen = [self.conversation, self.model, self.system, self.temperature, self.top_p, self.max_tokens, self.seed]
        # Gradio makes a component anew for an update of more than its value, and for each output that is left out. What
        # happens for each question has few outputs and plain values; opening a conversation may cost more.
        begun = [self.question, self.chatbot, self.status, self.sheet, self.conversation]
        opened = [*begun, self.list, self.title, self.model, self.system, self.why]
        hidden = {"api_visibility": "private", "show_progress": "hidden"}
        quick = {**hidden, "queue": False}
        starts = [
            gr.on([self.question.submit, self.send.click], self._ask, [self.question, *chosen], begun, **quick),
            self.chatbot.example_select(self._ask_example, chosen, begun, **quick),
            self.chatbot.edit(self._edit, chosen, begun, **quick),
            gr.on([self.retry.click, self.chatbot.retry], self._ask_again, chosen, begun, **quick),
            self.go_on.click(self._go_on, chosen, begun, **quick),
        ]
        for start in starts:
            following = start.success(self._follow, None, [self.chatbot, self.status], concurrency_limit=None, **hidden)
            settled = following.then(self._settle, [self.conversation], [self.sheet], **quick)
            settled.then(self._relist, [self.conversation], [self.list, self.title], **quick)
        self.stop.click(self._stop, None, None, **quick)
        gr.on([self.clear.click, self.chatbot.clear], self._clear, [self.conversation], opened, **quick)
        page.load(self._arrive, None, opened, **quick)
        self.new.click(self._leave, None, opened, **quick)
        self.list.input(self._open, [self.list], opened, **quick)
        self.title.submit(self._rename, [self.conversation, self.title], [self.list], **quick)
        asked = (
            "(conversation) => [confirm('Delete this conversation, and what you thought of it?') ? conversation : '']"
        )
        self.delete.click(self._delete, [self.conversation], opened, js=asked, **quick)
        self.chatbot.like(self._like, [self.conversation], [self.judged, self.why, self.note, self.status], **quick)
        self.note.submit(self._explain, [self.judged, self.note], [self.why, self.status], **quick)
        for button, kind in ((self.save_markdown, "md"), (self.save_rows, "jsonl")):
            saved = button.click(self._file(kind), [self.conversation], [self.file_name, self.file_text], **quick)
            saved.success(None, [self.file_name, self.file_text], None, js=SAVE)

    # What begins an answer.

    async def _ask(self, question: str, request: gr.Request, *chosen: Any) -> Updates:
        if not question.strip():
            return {self.status: "Write something first."}
        return await self._asked(question.strip(), chosen, request)

    async def _ask_example(self, request: gr.Request, example: gr.SelectData, *chosen: Any) -> Updates:
        return await self._asked(example.value["text"], chosen, request)

    async def _edit(self, request: gr.Request, edited: gr.EditData, *chosen: Any) -> Updates:
        opened = await self._load(user_of(request), _chosen(chosen).conversation)
        question = edited.value if isinstance(edited.value, str) else str(edited.value.get("text", ""))
        before = [turn.id for turn in opened.turns[: int(edited.index)]]
        return await self._asked(question.strip(), chosen, request, after=before[-1] if before else None)

    async def _asked(self, question: str, chosen: Sequence[Any], request: gr.Request, **place: int | None) -> Updates:
        """Add a question, behind the last turn or where it is said, and begin to answer it."""
        asked, user = _chosen(chosen), user_of(request)
        self._running.end(request.session_hash, "leave")
        if not asked.conversation:
            begun = await asyncio.to_thread(self._conversations.begin, user, question, asked.system)
            asked = replace(asked, conversation=begun)
        opened = await self._load(user, asked.conversation)
        after = place.get("after", opened.turns[-1].id if opened.turns else None)
        await asyncio.to_thread(self._conversations.say, user, opened.id, "user", question, after=after)
        return await self._begin(asked, user, request.session_hash)

    async def _ask_again(self, request: gr.Request, *chosen: Any) -> Updates:
        asked, user = _chosen(chosen), user_of(request)
        turns = (await self._load(user, asked.conversation)).turns if asked.conversation else ()
        questions = [turn.id for turn in turns if turn.role == "user"]
        if not questions:
            return {self.status: "There is nothing to ask again."}
        self._running.end(request.session_hash, "leave")
        await asyncio.to_thread(self._conversations.stand_at, user, asked.conversation, questions[-1])
        return await self._begin(asked, user, request.session_hash)

    async def _go_on(self, request: gr.Request, *chosen: Any) -> Updates:
        asked, user = _chosen(chosen), user_of(request)
        turns = (await self._load(user, asked.conversation)).turns if asked.conversation else ()
        if self._running.runs(request.session_hash) or not turns or turns[-1].answer is None:
            return {self.status: "There is nothing to go on with."}
        return await self._begin(asked, user, request.session_hash, goes_on=True)

    # The answer.

    async def _begin(self, asked: Asked, user: str, session: str, *, goes_on: bool = False) -> Updates:
        """Ask the server for an answer to the last question, or to go on with the last answer."""
        await asyncio.to_thread(self._conversations.instruct, user, asked.conversation, asked.system)
        opened = await self._load(user, asked.conversation)
        keeper = _Keeper(self._conversations, user, opened, asked.model, goes_on=goes_on)
        messages = for_server(opened)
        if goes_on:
            messages.append({"role": "user", "content": GO_ON})
        answering = self._running.start(session, self._answers(asked, messages, keeper), keeper.keep)
        self._followed[session] = (answering, keeper)
        return {
            self.question: "", self.chatbot: _shown(opened.turns), self.status: "Reading your prompt…",
            self.sheet: sheet(opened.turns, running=True), self.conversation: asked.conversation,
        }  # fmt: skip

    async def _answers(
        self, asked: Asked, messages: Sequence[ChatCompletionMessageParam], keeper: _Keeper
    ) -> AsyncGenerator[Answer]:
        model = await self._model(asked.model)
        keeper.model = model.label
        async with aclosing(stream_answer(model.client, model.id, messages, asked.settings)) as answers:
            async for answer in answers:
                yield answer

    async def _follow(self, request: gr.Request) -> AsyncIterator[tuple[Any, str]]:
        """Draw the answer that was begun, as it comes."""
        if request.session_hash not in self._followed:
            yield gr.skip(), gr.skip()
            return
        answering, keeper = self._followed.pop(request.session_hash)
        try:
            async for answer in answering.pieces(self._running):
                yield keeper.shown(answer), answer.in_words()
            if answering.error:
                yield keeper.shown(answering.latest), f"⚠ {answering.error}"
        finally:
            answering.end("leave")  # the page was closed

    async def _settle(self, conversation: str, request: gr.Request) -> str:
        """Figures below the answers, and the buttons that make sense, once an answer has ended."""
        if not conversation:
            return sheet(())
        opened = await self._load(user_of(request), conversation)
        return sheet(opened.turns, running=self._running.runs(request.session_hash))

    async def _relist(self, conversation: str, request: gr.Request) -> tuple[Any, Any]:
        """The list with the conversation in it, on top."""
        titles = await asyncio.to_thread(self._conversations.titles, user_of(request))
        title = next((title for title, known in titles if known == conversation), "")
        return gr.update(choices=titles, value=conversation or None), gr.update(value=title, visible=bool(title))

    async def _model(self, label: str) -> Any:
        model = self._servers.known(label)
        if model is None:
            models = await self._servers.models()
            model = next((model for model in models if model.label == label), models[0] if models else None)
        if model is None:
            raise ServerError(NOTHING_SERVED.format(self._servers.addresses))
        return model

    def _standing(self, opened: Conversation) -> Updates:
        """A conversation in which nothing runs."""
        return {
            self.chatbot: gr.update(value=_shown(opened.turns), feedback_value=_opinions(opened.turns)),
            self.sheet: sheet(opened.turns),
        }  # fmt: skip

    # What ends an answer, or leaves it.

    def _stop(self, request: gr.Request) -> None:
        self._running.end(request.session_hash, "stop")

    def _clear(self, conversation: str, request: gr.Request) -> Updates:
        self._running.end(request.session_hash, "leave")
        if conversation:
            self._conversations.stand_at(user_of(request), conversation, None)
        return {**self._empty(), self.conversation: conversation, self.list: gr.skip(), self.title: gr.skip()}

    def _empty(self) -> Updates:
        return {
            self.question: "", self.chatbot: [], self.status: "", self.sheet: sheet(()), self.conversation: "",
            self.list: gr.update(value=None), self.title: gr.update(value="", visible=False),
            self.why: gr.update(visible=False),
        }  # fmt: skip

    def _leave(self, request: gr.Request) -> Updates:
        self._running.end(request.session_hash, "leave")
        return {**self._empty(), self.system: gr.skip()}

    # Conversations.

    async def _arrive(self, request: gr.Request) -> Updates:
        """The page as it was left: the user's last conversation, and the models that are served."""
        user = user_of(request)
        labels = [model.label for model in await self._servers.models()]
        titles = await asyncio.to_thread(self._conversations.titles, user)
        # What somebody is typing already stays.
        updates = {**self._empty(), self.question: gr.skip()}
        if titles:
            updates |= await self._opened(user, titles[0][1])
        if not labels:
            updates[self.status] = f"⚠ {NOTHING_SERVED.format(self._servers.addresses)}"
        known = gr.update(choices=labels, value=labels[0] if labels else None)
        return {
            **updates,
            self.model: known,
            self.list: gr.update(choices=titles, value=titles[0][1] if titles else None),
        }

    async def _open(self, conversation: str, request: gr.Request) -> Updates:
        self._running.end(request.session_hash, "leave")
        return {**self._empty(), **await self._opened(user_of(request), conversation), self.list: gr.skip()}

    async def _opened(self, user: str, conversation: str) -> Updates:
        opened = await self._load(user, conversation)
        last = next((turn.model for turn in reversed(opened.turns) if self._servers.known(turn.model)), None)
        return {
            **self._standing(opened), self.conversation: conversation, self.status: "",
            self.title: gr.update(value=opened.title, visible=True), self.system: opened.system,
            **({self.model: last} if last else {}),
        }  # fmt: skip

    def _rename(self, conversation: str, title: str, request: gr.Request) -> Updates:
        user = user_of(request)
        if title.strip():
            self._conversations.rename(user, conversation, title.strip())
        return {self.list: gr.update(choices=self._conversations.titles(user), value=conversation)}

    def _delete(self, conversation: str, request: gr.Request) -> Updates:
        if not conversation:
            return {self.status: gr.skip()}
        self._running.end(request.session_hash, "leave")
        user = user_of(request)
        self._conversations.delete(user, conversation)
        return {**self._empty(), self.list: gr.update(choices=self._conversations.titles(user), value=None)}

    def _file(self, kind: str) -> Any:
        def file(conversation: str, request: gr.Request) -> tuple[str, str]:
            if not conversation:
                raise gr.Error("There is no conversation to export yet.", print_exception=False)
            opened = self._conversations.load(user_of(request), conversation)
            return file_name(opened, kind), as_markdown(opened) if kind == "md" else as_rows(opened)

        return file

    async def _load(self, user: str, conversation: str) -> Conversation:
        try:
            return await asyncio.to_thread(self._conversations.load, user, conversation)
        except DataError as error:
            raise gr.Error(str(error), print_exception=False) from error

    # Opinions.

    def _like(self, conversation: str, like: gr.LikeData, request: gr.Request) -> Updates:
        user = user_of(request)
        turns = self._conversations.load(user, conversation).turns
        liked = {"Like": True, "Dislike": False, True: True, False: False}.get(like.liked)
        turn = turns[like.index if isinstance(like.index, int) else like.index[0]]
        self._conversations.judge(user, turn.id, liked)
        told = {True: "Noted: a good answer.", False: "Noted: a bad answer.", None: "Taken back."}[liked]
        return {
            self.judged: turn.id, self.why: gr.update(visible=liked is not None), self.note: turn.note,
            self.status: told,
        }  # fmt: skip

    def _explain(self, judged: int | None, note: str, request: gr.Request) -> Updates:
        if judged is not None:
            self._conversations.explain(user_of(request), judged, note.strip())
        return {self.why: gr.update(visible=False), self.status: "Thank you; your note is saved."}


class _Keeper:
    """Keeps one answer in its conversation, and knows how the conversation looks with it."""

    def __init__(
        self, conversations: Conversations, user: str, opened: Conversation, model: str, *, goes_on: bool
    ) -> None:
        self.model = model
        self._conversations, self._user, self._opened = conversations, user, opened
        self._turns = opened.turns[:-1] if goes_on else opened.turns
        last = opened.turns[-1]
        self._earlier = last.answer if goes_on and last.answer is not None else Answer()
        self._turn = last.id if goes_on else None

    async def keep(self, answer: Answer) -> None:
        """Write the answer down, once there are words."""
        if answer.text:
            await asyncio.to_thread(self._write, answer.behind(self._earlier))

    def _write(self, answer: Answer) -> None:
        if self._turn is None:
            after = self._opened.turns[-1].id
            conversation = self._opened.id
            self._turn = self._conversations.say(
                self._user, conversation, "assistant", "", after=after, model=self.model
            )
        self._conversations.answered(self._turn, answer)

    def shown(self, answer: Answer) -> list[dict[str, str]]:
        """The messages of the page."""
        return _shown(self._turns, answer.behind(self._earlier).text or self._earlier.text)


def for_server(opened: Conversation) -> list[ChatCompletionMessageParam]:
    """The conversation as a server reads it; questions that got no answer go together with the next."""
    messages: list[dict[str, str]] = [{"role": "system", "content": opened.system}] if opened.system.strip() else []
    for turn in opened.turns:
        if messages and messages[-1]["role"] == turn.role == "user":
            messages[-1]["content"] += f"\n\n{turn.content}"
        else:
            messages.append({"role": turn.role, "content": turn.content})
    return messages  # type: ignore[return-value]


def _chosen(chosen: Sequence[Any]) -> Asked:
    conversation, model, system, temperature, top_p, max_tokens, seed = chosen
    settings = Settings(temperature, int(max_tokens), top_p, None if seed is None else int(seed))
    return Asked(conversation, model or "", system or "", settings)


def _shown(turns: Sequence[Turn], answer: str = "") -> list[dict[str, str]]:
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    return [*messages, {"role": "assistant", "content": answer}] if answer else messages


def _opinions(turns: Sequence[Turn]) -> list[str | None]:
    """Gradio's names for what was thought of each answer."""
    liked = [turn.liked for turn in turns if turn.role == "assistant"]
    return [None if opinion is None else "Like" if opinion else "Dislike" for opinion in liked]
