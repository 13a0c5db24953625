"""The chat page's server, put together from storage, clients, the page and its HTTP side.

It imports Gradio, which takes seconds: ``command.py`` imports it only once the page is about to be served.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from uvicorn import Config

from components.chat.answering.comparing import RunningComparisons
from components.chat.answering.replies import Replies
from components.chat.answering.running import RunningAnswers
from components.chat.client.servers import Servers
from components.chat.storage.comparisons import Comparisons
from components.chat.storage.conversations import Conversations
from components.chat.storage.database import DATABASE_NAME, Database
from components.chat.storage.labels import Labels
from components.chat.ui.assets import CSS, theme
from components.chat.ui.gradio_workarounds.http import GradioRoutes, mounted_page, user_of_request
from components.chat.ui.gradio_workarounds.markdown_script import serve_patched_script
from components.chat.ui.gradio_workarounds.page_root import take_root_from_browser
from components.chat.ui.live_updates import LiveUpdates
from components.chat.ui.page import build_page
from components.chat.web.csp import SecurityHeaders
from components.chat.web.events import add_route
from components.chat.web.identity import by_cookie, by_header, by_login, secret_of
from components.chat.web.proxy import UnderPath
from components.chat.web.shutdown import ChatPageServer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PageOptions:
    """The options of ``lorry chat`` that the page itself depends on."""

    servers: Sequence[str]
    title: str
    data_dir: Path
    examples: Sequence[str]
    users_file: Path | None
    user_header: str | None
    root_path: str


def serve_page(options: PageOptions, bound: socket.socket, address: str) -> None:
    """Serve the page on a bound socket until a signal ends it; ``address`` is logged."""
    database = Database(options.data_dir / DATABASE_NAME)
    servers = Servers(options.servers, os.environ.get("OPENAI_API_KEY", "none"), Labels(database))
    running = RunningAnswers()
    app = _app(servers)
    authentication = _authentication(app, options)
    conversations, comparisons = Conversations(database), Comparisons(database)
    replies = Replies(servers, conversations, running)
    running_comparisons = RunningComparisons(comparisons, running)
    page = build_page(
        servers, conversations, replies, comparisons, running_comparisons, options.title, options.examples
    )
    _add_streams(app, LiveUpdates(replies, running_comparisons))
    take_root_from_browser()
    app = gr.mount_gradio_app(
        app, page, path="/", theme=theme(), css=CSS, footer_links=[], ssr_mode=False, run_history=False,
        **authentication,
    )  # fmt: skip
    log.info("chat page on %s (servers: %s; conversations in %s)", address, servers.addresses, options.data_dir)
    config = Config(
        UnderPath(app, options.root_path), log_level="warning", timeout_graceful_shutdown=3, timeout_keep_alive=75
    )
    # What is loaded now is never garbage; a collection that traverses it would delay everybody's tokens by 0.2 s.
    gc.collect()
    gc.freeze()
    ChatPageServer(config, running, running_comparisons, mounted_page(app).stop_event).run(sockets=[bound])
    database.close()


def _app(servers: Servers) -> FastAPI:
    """The application without the page."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await servers.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(GradioRoutes)
    app.add_middleware(SecurityHeaders)
    app.add_api_route("/livez", lambda: {"status": "ok"})
    serve_patched_script(app)
    return app


def _authentication(app: FastAPI, options: PageOptions) -> dict[str, Any]:
    """How users are known: the arguments for ``gr.mount_gradio_app``."""
    if options.users_file:
        return by_login(options.users_file)
    if options.user_header:
        return by_header(options.user_header)
    return by_cookie(app, secret_of(options.data_dir))


def _add_streams(app: FastAPI, updates: LiveUpdates) -> None:
    """Add the routes of the streams. They must come before Gradio's, which is mounted at ``/``."""

    def user_of(request: Any) -> str | None:
        return user_of_request(mounted_page(app))(request)

    add_route(app, "answers", updates.reply, user_of)
    add_route(app, "comparisons", updates.comparison, user_of)
