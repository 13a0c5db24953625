"""Addresses of endpoints, and what came in place of an answer."""

from __future__ import annotations

from types import SimpleNamespace

import kfp_server_api
import pytest

from components.errors import ClusterError
from pipelines.cluster.endpoint_errors import address_of, content_of, in_one_line, message_of, names_no_user


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://127.0.0.1:8081", "http://127.0.0.1:8081"),
        (" https://kubeflow.example/pipeline/ ", "https://kubeflow.example/pipeline"),
    ],
)
def test_an_address_loses_spaces_and_its_last_slash(given, address):
    assert address_of(given) == address


@pytest.mark.parametrize(
    "given", ["", "kubeflow", "ftp://a", "http://", "http://a:b", "http://a:0", "http://a b/c", "http://a:99999"]
)
def test_what_is_no_address_is_refused_with_one_that_is(given):
    with pytest.raises(ClusterError, match=r"not an address; .*http://"):
        address_of(given)


def test_the_address_of_a_page_is_refused_with_what_it_begins_with():
    with pytest.raises(ClusterError, match=r"such as https://k\.example/pipeline$"):
        address_of("https://k.example/pipeline/#/runs/details/1")


def refusal(body: bytes | str | None) -> kfp_server_api.ApiException:
    error = kfp_server_api.ApiException(status=403, reason="Forbidden")
    error.body = body
    return error


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"error_message": "no\\nsuch  namespace"}', "no such namespace"),
        ('{"message": "denied"}', "denied"),
        ('{"error": "denied by proxy"}', "denied by proxy"),
        ("{}", "Forbidden"),
        ("[1]", "[1]"),
        ("RBAC: access denied", "RBAC: access denied"),
        ("<html><title> 403 \n Forbidden page</title></html>", "403 Forbidden page"),
        ("<html></html>", "Forbidden"),
        (b"\xff\xfe", "Forbidden"),
        (None, "Forbidden"),
    ],
)
def test_the_message_of_a_refusal_in_any_form(body, message):
    assert message_of(refusal(body)) == message


def test_a_refusal_that_misses_the_user_is_told_apart():
    assert names_no_user(refusal('{"error_message": "Request header error: there is no user identity header."}'))
    assert not names_no_user(refusal('{"error_message": "denied"}'))


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"", "nothing"),
        (None, "nothing"),
        (b"<!DOCTYPE html><title>Sign in</title>", "a web page, 'Sign in'"),
        (b"<html><body>x</body></html>", "a web page"),
        (b"hello  there", "'hello there'"),
        (b"x" * 61, repr("x" * 60) + "…"),
    ],
)
def test_what_came_in_place_of_an_answer(data, content):
    assert content_of(SimpleNamespace(data=data)) == content


def test_a_long_text_is_cut_to_one_line():
    assert in_one_line("a\n b\t c " + "x" * 400) == "a b c " + "x" * 294
