"""The page: what a person sees and presses. Nothing on it comes from another host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import gradio as gr
import openai
from openai.types.chat import ChatCompletionMessageParam

from components.chat.answers import Answer, ServerError, Settings, stream_answer

History = list[dict[str, Any]]

EXAMPLES = ("What is Lorry?", "What is the rank setting in LoRA?", "What is quantization?")
FONTS = ["system-ui", "sans-serif"]
CSS = "footer { display: none !important; } #status { min-height: 1.6rem; opacity: .8; }"


def theme() -> gr.themes.Base:
    """Colours and fonts; only fonts that the browser's machine has."""
    return gr.themes.Soft(font=FONTS, font_mono=["ui-monospace", "monospace"])


def build_page(client: openai.AsyncOpenAI, title: str) -> gr.Blocks:
    """The page over one server."""
    # By the page's session: what ends its running answer early. Gradio's own cancelling races the answer's next piece.
    ends: dict[str | None, asyncio.Future[bool]] = {}

    async def answer(
        history: History, system: str, temperature: float, max_tokens: float, request: gr.Request
    ) -> AsyncIterator[tuple[History, str]]:
        if not history or history[-1]["role"] != "user":
            yield history, ""
            return
        settings = Settings(temperature, int(max_tokens))
        latest = Answer()
        end = ends[request.session_hash] = asyncio.get_running_loop().create_future()
        try:
            async with aclosing(stream_answer(client, _for_server(history, system), settings)) as answers:
                async for latest in _until(end, answers):
                    yield _with_answer(history, latest), latest.in_words()
            if end.done():
                yield (_with_answer(history, latest), "Stopped.") if end.result() else ([], "")
        except ServerError as error:
            yield _with_answer(history, latest), f"⚠ {error}"
        finally:
            ends.pop(request.session_hash, None)

    async def stop_answer(request: gr.Request) -> str:
        _end(ends.get(request.session_hash), keep=True)
        return "Stopped."

    async def clear_all(request: gr.Request) -> tuple[History, str]:
        _end(ends.get(request.session_hash), keep=False)
        return [], ""

    with gr.Blocks(title=title, analytics_enabled=False, fill_height=True) as page:
        gr.Markdown(f"## {title}")
        chatbot = gr.Chatbot(
            elem_id="chat", show_label=False, height="60vh", buttons=["copy", "copy_all"], feedback_options=None,
            placeholder="Ask something. Enter sends.", examples=[{"text": text} for text in EXAMPLES],
        )  # fmt: skip
        status = gr.Markdown(elem_id="status")
        with gr.Row():
            question = gr.Textbox(
                elem_id="question", show_label=False, placeholder="Your message", scale=6, autofocus=True, max_lines=8
            )
            send = gr.Button("Send", elem_id="send", variant="primary", min_width=90)
            stop = gr.Button("Stop", elem_id="stop", variant="stop", min_width=90)
        with gr.Row():
            retry = gr.Button("Retry", elem_id="retry", size="sm")
            clear = gr.Button("Clear", elem_id="clear", size="sm")
        with gr.Accordion("Settings", open=False):
            system = gr.Textbox(value="", label="System prompt", elem_id="system", lines=2)
            temperature = gr.Slider(0.0, 2.0, value=0.0, step=0.1, label="Temperature (0 = the likeliest words)")
            max_tokens = gr.Slider(16, 2048, value=256, step=16, label="Length limit (tokens)")
        asked = [chatbot, system, temperature, max_tokens]
        # While an answer runs nothing else can be asked: two answers would write over each other's conversation.
        asking = [question, send, retry]
        starts = [
            gr.on([question.submit, send.click], _ask, [question, chatbot], [question, chatbot], queue=False),
            chatbot.example_select(_ask_example, [chatbot], [chatbot], queue=False),
            gr.on([retry.click, chatbot.retry], _without_answer, [chatbot], [chatbot], queue=False),
        ]
        for start in starts:
            busy = start.then(_busy, None, asking, queue=False)
            answering = busy.then(answer, asked, [chatbot, status], concurrency_limit=None)
            answering.then(_idle, None, asking, queue=False)
        stop.click(stop_answer, None, [status], queue=False)
        clear.click(clear_all, None, [chatbot, status], queue=False)
    return page


async def _until(end: asyncio.Future[bool], answers: AsyncGenerator[Answer]) -> AsyncGenerator[Answer]:
    """The answers as they come, until ``end`` is done."""
    while True:
        coming = asyncio.ensure_future(anext(answers, None))
        either: set[asyncio.Future[Any]] = {coming, end}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not coming.done():
                coming.cancel()
                await asyncio.wait({coming})
        if end.done() or coming.cancelled() or (answer := coming.result()) is None:
            return
        yield answer


def _end(end: asyncio.Future[bool] | None, *, keep: bool) -> None:
    """End an answer that runs; ``keep`` what has come of it."""
    if end is not None and not end.done():
        end.set_result(keep)


def _busy() -> list[dict[str, Any]]:
    """Question, send and retry switched off."""
    return [gr.update(interactive=False)] * 3


def _idle() -> list[dict[str, Any]]:
    """Question, send and retry switched on."""
    return [gr.update(interactive=True)] * 3


def _ask(question: str, history: History) -> tuple[str, History]:
    """The box emptied, the conversation with the question; an empty question changes nothing."""
    if not question.strip():
        return question, history
    return "", [*history, {"role": "user", "content": question}]


def _ask_example(history: History, example: gr.SelectData) -> History:
    return [*history, {"role": "user", "content": example.value["text"]}]


def _without_answer(history: History) -> History:
    """The conversation up to the last question."""
    while history and history[-1]["role"] == "assistant":
        history = history[:-1]
    return history


def _with_answer(history: History, answer: Answer) -> History:
    return [*history, {"role": "assistant", "content": answer.text}] if answer.text else history


def _for_server(history: History, system: str) -> list[ChatCompletionMessageParam]:
    messages: list[ChatCompletionMessageParam] = []
    if system.strip():
        messages.append({"role": "system", "content": system})
    for turn in history:
        if turn["role"] == "user":
            messages.append({"role": "user", "content": _text(turn["content"])})
        else:
            messages.append({"role": "assistant", "content": _text(turn["content"])})
    return messages


def _text(content: Any) -> str:
    """The words of a turn; Gradio hands them over as a string or as parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)
