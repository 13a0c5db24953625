"""Starting the chat page: ``lorry chat`` and ``python -m components.chat``."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from components.errors import DataError
from components.runtime.sockets import listen, url_of

log = logging.getLogger(__name__)

DATABASE = "chat.sqlite"


def chat(
    server: Annotated[
        list[str] | None,
        typer.Option(
            envvar="LORRY_CHAT_SERVER",
            help="address of an OpenAI-compatible API, with /v1, or NAME=ADDRESS; may be repeated (variable: spaces)",
            show_default="http://127.0.0.1:8080/v1",
        ),
    ] = None,
    host: Annotated[str, typer.Option(envvar="LORRY_CHAT_HOST", help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="LORRY_CHAT_PORT", min=1, max=65535, help="port to listen on")] = 7860,
    title: Annotated[str, typer.Option(envvar="LORRY_CHAT_TITLE", help="heading of the page")] = "Lorry chat",
    data_dir: Annotated[
        Path, typer.Option(envvar="LORRY_CHAT_DATA_DIR", help="folder for conversations, opinions and votes")
    ] = Path(".lorry/chat"),
    examples: Annotated[
        str,
        typer.Option(
            envvar="LORRY_CHAT_EXAMPLES", help="example prompts, with | between them, in the place of the models' own"
        ),
    ] = "",
    users_file: Annotated[
        Path | None,
        typer.Option(
            envvar="LORRY_CHAT_USERS_FILE", help="ask for a login; names and bcrypt hashes, as htpasswd -B writes them"
        ),
    ] = None,
    root_path: Annotated[
        str,
        typer.Option(
            envvar="LORRY_CHAT_ROOT_PATH",
            help="path under which a proxy shows the page, such as /lorry, whether it takes that away or not",
        ),
    ] = "",
    user_header: Annotated[
        str | None,
        typer.Option(
            envvar="LORRY_CHAT_USER_HEADER",
            help="header in which a proxy in front names the user it has checked, such as X-Forwarded-User",
        ),
    ] = None,
) -> None:
    """Serve the chat page over OpenAI-compatible servers (their key, if they need one: OPENAI_API_KEY).

    Conversations belong to a browser, known by a signed cookie (LORRY_CHAT_SECRET, or a secret made in --data-dir); or
    to the user of a login, with --users-file or --user-header.
    """
    # Gradio asks its home for updates unless told not to; an air-gapped page asks nobody.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    if users_file and user_header:
        raise DataError("--users-file and --user-header are two ways to know a user; choose one")
    with listen(host, port, "--port") as bound:
        import gradio as gr
        from fastapi import FastAPI
        from uvicorn import Config

        from components.chat.client.comparing import Comparing
        from components.chat.client.replies import Replies
        from components.chat.client.running import Running
        from components.chat.client.servers import Servers
        from components.chat.storage.comparisons import Comparisons
        from components.chat.storage.conversations import Conversations
        from components.chat.storage.database import Database
        from components.chat.storage.labels import Labels
        from components.chat.ui.assets import CSS, theme
        from components.chat.ui.markdown_patch import add_script
        from components.chat.ui.page import build_page
        from components.chat.web.csp import OwnHostOnly
        from components.chat.web.events import add_route
        from components.chat.web.identity import by_cookie, by_header, by_login, secret_of, user_of_request
        from components.chat.web.proxy import UnderPath, name_root_in_browser
        from components.chat.web.shutdown import EndingServer

        addresses = server or ["http://127.0.0.1:8080/v1"]
        database = Database(data_dir / DATABASE)
        servers = Servers(addresses, os.environ.get("OPENAI_API_KEY", "none"), Labels(database))
        running = Running()

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            yield
            await servers.close()

        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
        app.add_middleware(OwnHostOnly)
        app.add_api_route("/livez", lambda: {"status": "ok"})
        if users_file:
            known = by_login(users_file)
        elif user_header:
            known = by_header(user_header)
        else:
            known = by_cookie(app, secret_of(data_dir))
        conversations, comparisons = Conversations(database), Comparisons(database)
        replies, comparing = Replies(servers, conversations, running), Comparing(comparisons, running)
        prompts = [text for text in examples.split("|") if text.strip()]
        page = build_page(servers, conversations, replies, comparisons, comparing, title, prompts)
        add_script(app)
        add_route(app, "answers", replies.follow, lambda request: who(request))
        add_route(app, "comparisons", comparing.follow, lambda request: who(request))
        name_root_in_browser()
        app = gr.mount_gradio_app(
            app, page, path="/", theme=theme(), css=CSS, footer_links=[], ssr_mode=False, run_history=False, **known,
        )  # fmt: skip
        mounted = next(route.app for route in app.routes if isinstance(getattr(route, "app", None), gr.routes.App))
        who = user_of_request(mounted)
        log.info(
            "chat page on %s (asks %s; keeps conversations in %s)", url_of(host, port), servers.addresses, data_dir
        )
        config = Config(
            UnderPath(app, root_path), log_level="warning", timeout_graceful_shutdown=3, timeout_keep_alive=75
        )
        # What is loaded stays: looking for garbage in it would hold up everybody's tokens for a fifth of a second.
        gc.collect()
        gc.freeze()
        EndingServer(config, running, mounted.stop_event).run(sockets=[bound])
        database.close()
