"""Connections that are cut, proxies that buffer, hide the host or cut the path: the page goes on behind them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import chat_process
from tests.conftest import answers as is_up
from tests.conftest import free_port
from tests.openai_stub import Stub


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    with Stub(delta_seconds=0.1) as stub:
        yield stub


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def address(stub, port, tmp_path_factory) -> Iterator[str]:
    flags = ["--server", f"{stub.address}/v1", "--root-path", "/lorry"]
    with chat_process(*flags, data_dir=tmp_path_factory.mktemp("chat"), port=port) as address:
        yield address


def ask(page: Page, question: str) -> None:
    page.locator("#question textarea").fill(question)
    page.locator("#send").click()


def grows(page: Page) -> None:
    """The answer gets longer."""
    answer = page.locator("#chat .bot-row").last
    expect(answer).to_contain_text(" 3 ")
    number = int(answer.inner_text().split()[-1]) if answer.inner_text().split()[-1].isdecimal() else 3
    expect(answer).to_contain_text(f" {number + 15} ")
    expect(page.locator("#state")).to_have_attribute("data-state", "running")


def stops(page: Page) -> None:
    page.locator("#stop").click()
    expect(page.locator("#status")).to_contain_text("stopped")
    expect(page.locator("#state")).to_have_attribute("data-state", "idle")


@contextmanager
def cutting(upstream: int, seconds: float) -> Iterator[str]:
    """A proxy that cuts each connection after some seconds."""

    def pipe(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", upstream)) as server:
            both = [threading.Thread(target=pipe, args=pair) for pair in ((client, server), (server, client))]
            for one in both:
                one.start()
            time.sleep(seconds)
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            for one in both:
                one.join()

    def accept() -> None:
        with suppress(OSError):
            while True:
                served.append(threading.Thread(target=serve, args=(listening.accept()[0],)))
                served[-1].start()

    served: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for one in (accepting, *served):
                one.join()


def test_an_answer_outlives_every_cut_and_typed_text_stays(visit, address, port):
    with cutting(port, 2.0) as proxied:
        page = visit(proxied)
        page.evaluate("window.neverLoadedAgain = true")
        ask(page, "count")
        expect(page.locator("#chat .bot-row").last).to_contain_text(" 3 ")
        page.locator("#question textarea").fill("typed meanwhile")
        expect(page.locator("#chat .bot-row").last).to_contain_text(" 120 ")
        assert page.evaluate("window.neverLoadedAgain")
        assert page.locator("#question textarea").input_value() == "typed meanwhile"
        stops(page)
        page.context.close()


def test_a_reload_follows_the_answer_that_runs_and_typed_text_stays(visit, address):
    page = visit(address)
    ask(page, "count")
    expect(page.locator("#chat .bot-row").last).to_contain_text(" 3 ")
    page.locator("#question textarea").fill("half a thought")
    page.reload()
    grows(page)
    expect(page.locator("#question textarea")).to_have_value("half a thought")
    stops(page)


def test_a_closed_page_does_not_end_the_answer(visit, address, stub):
    stub.answers["recite"] = " ".join(map(str, range(30)))
    page = visit(address)
    ask(page, "recite")
    expect(page.locator("#chat .bot-row").last).to_contain_text("0 1 2")
    context = page.context
    page.close()
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#chat .bot-row").last).to_contain_text("28 29")
    expect(page.locator("#state")).to_have_attribute("data-state", "idle")


def test_what_is_typed_after_sending_stays_and_what_was_not_taken_comes_back(visit, address):
    page = visit(address)
    held = []
    page.route("**/run/predict", lambda route: held.append(route), times=1)
    ask(page, "first words")
    expect(page.locator("#question textarea")).to_have_value("")
    page.locator("#question textarea").fill("next words")
    held[0].continue_()
    expect(page.locator("#chat .bot-row")).to_contain_text("stub heard: first words")
    assert page.locator("#question textarea").input_value() == "next words"
    page.context.set_offline(True)
    page.locator("#send").click()
    page.locator("#question textarea").fill("and more")
    page.context.set_offline(False)
    # Gradio loads the page again once it is reachable.
    expect(page.locator("#question textarea")).to_have_value("next words\nand more")
    expect(page.locator("#chat .bot-row")).to_contain_text("stub heard: first words")


def test_the_page_says_that_it_is_cut_off_and_goes_on_when_it_is_not(visit, address):
    page = visit(address)
    page.route("**/answers/*", lambda route: route.abort())
    ask(page, "count")
    expect(page.locator("#status")).to_contain_text("The connection to the page is cut; trying again…")
    page.unroute("**/answers/*")
    expect(page.locator("#status")).to_contain_text("tokens/s")
    grows(page)
    stops(page)


def test_an_answer_that_the_pages_own_end_broke_off_can_go_on_when_the_page_is_back(visit, stub, tmp_path):
    port = free_port()
    flags = ["--server", f"{stub.address}/v1"]
    with chat_process(*flags, data_dir=tmp_path, port=port) as address:
        page = visit(address)
        ask(page, "count")
        expect(page.locator("#chat .bot-row").last).to_contain_text(" 3 ")
    with chat_process(*flags, data_dir=tmp_path, port=port):
        page.locator("#go-on").click()
        expect(page.locator("#chat .bot-row").last).to_contain_text("stub heard: Go on exactly where you stopped")
        assert page.locator("#chat .bot-row").last.inner_text().startswith("0 1 2 3")


NGINX = """
worker_processes 1; daemon off; pid FOLDER/pid; error_log FOLDER/error.log; USER
events {} http { access_log off;
  client_body_temp_path FOLDER/a; proxy_temp_path FOLDER/b; fastcgi_temp_path FOLDER/c; uwsgi_temp_path FOLDER/d;
  scgi_temp_path FOLDER/e; ssl_certificate FOLDER/cert.pem; ssl_certificate_key FOLDER/key.pem;
  server { listen 127.0.0.1:PLAIN; location / { proxy_pass http://127.0.0.1:PAGE; } }
  server { listen 127.0.0.1:TLS ssl;
    location / { proxy_pass http://127.0.0.1:PAGE; }
    location /stripped/ { proxy_pass http://127.0.0.1:PAGE/; }
    location /lorry { proxy_pass http://127.0.0.1:PAGE; } }
}
"""


@pytest.fixture(scope="module")
def nginx(address, port, tmp_path_factory) -> Iterator[dict[str, str]]:
    """Debian's nginx with its defaults in front of the page, with TLS and without."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None and not os.environ.get("CI"):
        pytest.skip("no nginx here; install Debian's package nginx-light")
    assert program is not None, "CI must install Debian's package nginx-light"
    folder: Path = tmp_path_factory.mktemp("nginx")
    plain, tls = free_port(), free_port()
    text = NGINX.replace("FOLDER", str(folder)).replace("PLAIN", str(plain)).replace("TLS", str(tls))
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(text.replace("PAGE", str(port)).replace("USER", user))
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=lorry.test", "-days", "2"]
    subprocess.run([*made, "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    process = subprocess.Popen([program, "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)
    try:
        while not is_up(f"http://127.0.0.1:{plain}/livez"):
            assert process.poll() is None, (folder / "error.log").read_text()
        yield {"plain": f"http://127.0.0.1:{plain}", "tls": f"https://lorry.test:{tls}"}
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("where", ["plain/", "tls/", "tls/stripped/", "tls/lorry/", "tls/lorry"])
def test_behind_nginx_with_its_defaults_words_come_as_they_are_generated(where, nginx, visit):
    scheme, _, path = where.partition("/")
    failed: list[str] = []

    def watch(page: Page) -> None:
        page.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
        page.on("requestfailed", lambda request: failed.append(request.url))

    page = visit(f"{nginx[scheme]}/{path}", watch=watch, ignore_https_errors=True)
    ask(page, "count")
    # The stub sends ten words a second: a buffer would delay them by minutes.
    expect(page.locator("#chat .bot-row").last).to_contain_text("0 1", timeout=3000)
    grows(page)
    assert failed == []
    stops(page)


def test_streams_ask_proxies_not_to_buffer_them(address, visit):
    page = visit(address)
    ask(page, "recite")
    with httpx.Client(cookies={"lorry_chat": page.context.cookies()[0]["value"]}) as client:
        for path in ("answers/none", "comparisons/none", "gradio_api/queue/data?session_hash=x"):
            with client.stream("GET", f"{address}/{path}") as response:
                assert response.headers["x-accel-buffering"] == "no", path
        assert client.get(f"{address}/logout").headers["location"] == "./"
    assert httpx.get(f"{address}/answers/none").headers["content-type"].startswith(("text/event-stream", "application"))


@pytest.fixture
def phone(visit, address) -> Callable[[int, int], Page]:
    return lambda width, height: visit(address, viewport={"width": width, "height": height}, has_touch=True)


@pytest.mark.parametrize(("width", "height"), [(360, 640), (390, 700), (390, 340), (1280, 720), (1920, 1080)])
def test_the_input_is_in_sight_without_scrolling_and_nothing_is_wider_than_the_screen(phone, width, height, stub):
    stub.answers["wide"] = f"`{'x' * 300}` and\n\n```\n{'y' * 300}\n```\n\n| {'z' * 200} | b |\n|---|---|\n| 1 | 2 |"
    page = phone(width, height)

    def fits() -> bool:
        script = """() => ['#question textarea', '#send', '#stop'].every((name) => {
            const box = document.querySelector(name).getBoundingClientRect();
            return box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth;
        }) && document.documentElement.scrollWidth <= innerWidth"""
        return bool(page.evaluate(script))

    assert fits()
    ask(page, "wide")
    expect(page.locator("#state")).to_have_attribute("data-state", "idle")
    expect(page.locator("#chat .bot-row td").first).to_be_attached()
    assert fits()
    # Most of the width is for words.
    assert page.locator("#question textarea").bounding_box()["width"] > width / 3


def test_the_list_of_conversations_leaves_a_page_that_is_made_narrow(phone):
    page = phone(1280, 720)
    expect(page.locator(".sidebar.open")).to_have_count(1)
    page.set_viewport_size({"width": 360, "height": 640})
    expect(page.locator(".sidebar.open")).to_have_count(0)
    expect(page.locator("#send")).to_be_in_viewport()


def test_keys_within_a_composition_are_the_input_methods(visit, address):
    page = visit(address)
    devtools = page.context.new_cdp_session(page)
    question = page.locator("#question textarea")

    def compose(text: str, key: str) -> None:
        question.click()
        devtools.send("Input.imeSetComposition", {"text": text, "selectionStart": 1, "selectionEnd": 1})
        press = {"type": "rawKeyDown", "key": key, "code": key, "windowsVirtualKeyCode": 229}
        devtools.send("Input.dispatchKeyEvent", press)
        page.wait_for_timeout(300)

    compose("にほん", "Enter")
    devtools.send("Input.insertText", {"text": "日本"})
    expect(question).to_have_value("日本")
    expect(page.locator("#chat .user-row")).to_have_count(0)
    question.press("Enter")
    expect(page.locator("#chat .bot-row")).to_contain_text("stub heard: 日本")
    ask(page, "count")
    expect(page.locator("#chat .bot-row").last).to_contain_text(" 3 ")
    compose("か", "Escape")
    grows(page)
    question.fill("")
    question.press("Escape")
    expect(page.locator("#status")).to_contain_text("stopped")
