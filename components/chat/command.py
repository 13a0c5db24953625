"""Starting the chat page: ``lorry chat`` and ``python -m components.chat``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from components.errors import DataError
from components.runtime.sockets import listen, url_of

DEFAULT_SERVER = "http://127.0.0.1:8080/v1"
ServerOption = Annotated[
    list[str] | None,
    typer.Option(
        envvar="LORRY_CHAT_SERVER",
        help="address of an OpenAI-compatible API, with /v1, or NAME=ADDRESS; may be repeated (variable: spaces)",
        show_default=DEFAULT_SERVER,
    ),
]
HostOption = Annotated[str, typer.Option(envvar="LORRY_CHAT_HOST", help="address to listen on")]
PortOption = Annotated[int, typer.Option(envvar="LORRY_CHAT_PORT", min=1, max=65535, help="port to listen on")]
TitleOption = Annotated[str, typer.Option(envvar="LORRY_CHAT_TITLE", help="heading of the page")]
DataDirOption = Annotated[
    Path, typer.Option(envvar="LORRY_CHAT_DATA_DIR", help="folder for conversations, opinions and votes")
]
ExamplesOption = Annotated[
    str,
    typer.Option(envvar="LORRY_CHAT_EXAMPLES", help="example prompts, with | between them, instead of the models' own"),
]
UsersFileOption = Annotated[
    Path | None,
    typer.Option(
        envvar="LORRY_CHAT_USERS_FILE", help="ask for a login; names and bcrypt hashes, as htpasswd -B writes them"
    ),
]
RootPathOption = Annotated[
    str,
    typer.Option(
        envvar="LORRY_CHAT_ROOT_PATH",
        help="path under which a proxy shows the page, such as /lorry, whether the proxy strips it or not",
    ),
]
UserHeaderOption = Annotated[
    str | None,
    typer.Option(
        envvar="LORRY_CHAT_USER_HEADER",
        help="header in which a proxy in front names the user it has checked, such as X-Forwarded-User",
    ),
]


def chat(
    server: ServerOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 7860,
    title: TitleOption = "Lorry chat",
    data_dir: DataDirOption = Path(".lorry/chat"),
    examples: ExamplesOption = "",
    users_file: UsersFileOption = None,
    root_path: RootPathOption = "",
    user_header: UserHeaderOption = None,
) -> None:
    """Serve the chat page over OpenAI-compatible servers (their key, if they need one: OPENAI_API_KEY).

    Conversations belong to a browser, known by a signed cookie (LORRY_CHAT_SECRET, or a secret made in --data-dir); or
    to the user of a login, with --users-file or --user-header.
    """
    # Gradio asks its maker's host for updates by default; a page without internet access must not.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    if users_file and user_header:
        raise DataError("--users-file and --user-header are two ways to know a user; choose one")
    # A port that is taken is reported before the seconds that importing Gradio takes.
    with listen(host, port, "--port") as bound:
        from components.chat.serve import PageOptions, serve_page

        prompts = [text for text in examples.split("|") if text.strip()]
        options = PageOptions(server or [DEFAULT_SERVER], title, data_dir, prompts, users_file, user_header, root_path)
        serve_page(options, bound, url_of(host, port))
