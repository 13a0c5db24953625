"""Starting the chat page: ``lorry chat`` and ``python -m components.chat``."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer

from components.listening import listen, url_of

log = logging.getLogger(__name__)


def chat(
    server: Annotated[
        str, typer.Option(envvar="LORRY_CHAT_SERVER", help="base address of an OpenAI-compatible API, with /v1")
    ] = "http://127.0.0.1:8080/v1",
    host: Annotated[str, typer.Option(envvar="LORRY_CHAT_HOST", help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="LORRY_CHAT_PORT", min=1, max=65535, help="port to listen on")] = 7860,
    title: Annotated[str, typer.Option(envvar="LORRY_CHAT_TITLE", help="heading of the page")] = "Lorry chat",
) -> None:
    """Serve the chat page over any OpenAI-compatible server (its key, if it needs one: OPENAI_API_KEY)."""
    # Gradio asks its home for updates unless told not to; an air-gapped page asks nobody.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    with listen(host, port, "--port") as bound:
        import gradio as gr
        import openai
        import uvicorn
        from fastapi import FastAPI

        from components.chat.page import CSS, build_page, theme

        client = openai.AsyncOpenAI(base_url=server, api_key=os.environ.get("OPENAI_API_KEY", "none"), max_retries=0)
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        app.add_api_route("/livez", lambda: {"status": "ok"})
        page = build_page(client, title).queue(default_concurrency_limit=None)
        app = gr.mount_gradio_app(app, page, path="/", theme=theme(), css=CSS, footer_links=[], ssr_mode=False)
        log.info("chat page on %s (asks %s)", url_of(host, port), server)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
        uvicorn.Server(config).run(sockets=[bound])
