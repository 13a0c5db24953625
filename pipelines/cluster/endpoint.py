"""A server that speaks Kubeflow's API: asking it, and what its refusals and other servers' answers mean."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable
from http.client import BadStatusLine
from typing import Any, TypeVar
from urllib.parse import urlsplit

import kfp_server_api
import urllib3

from components.errors import ClusterError
from pipelines.cluster.endpoint_errors import address_of, content_of, in_one_line, message_of, names_no_user

SECONDS_TO_ANSWER = 30
# A run's answer has its whole pipeline document, some 100 kB.
PAGE_SIZE = 50
WAY = "kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8081:80"
T = TypeVar("T")

_TOKEN = re.compile(r"[\x21-\x7e]+")
# What urllib3 writes before the reason itself.
_CONNECTION = re.compile(r"^<?HTTPS?Connection\(.*?\): ")
# What the generated client raises over an answer that is not of the API's form.
_NOT_OF_THE_API = (ValueError, TypeError, AttributeError, LookupError)


class RefusedError(ClusterError):
    """The endpoint understood the request and refuses it: asking again does not help."""


class Endpoint:
    """One endpoint, as one user sees it."""

    def __init__(self, endpoint: str, token: str | None, namespace: str | None) -> None:
        """``token`` is a bearer token; ``namespace`` is needed where Kubeflow serves several users.

        Raises:
            ClusterError: the endpoint is no address, or the token no header's value.
        """
        self.endpoint = address_of(endpoint)
        self.namespace = namespace
        configuration = kfp_server_api.Configuration(host=self.endpoint)
        # A lost connection is this module's to report, and so is a redirect: it leads to a login page as a rule.
        configuration.retries = urllib3.Retry(connect=0, read=0, redirect=0, other=0, raise_on_redirect=False)
        # The client reads its own list of authorities, not the one of OpenSSL's programs.
        configuration.ssl_ca_cert = os.environ.get("SSL_CERT_FILE") or None
        if token := (token or "").strip():
            if not _TOKEN.fullmatch(token):
                raise ClusterError("KFP_TOKEN: holds characters that no token has; set it again")
            configuration.api_key["authorization"] = token
            configuration.api_key_prefix["authorization"] = "Bearer"
        self._client = kfp_server_api.ApiClient(configuration)
        self._health = kfp_server_api.HealthzServiceApi(self._client)

    def _pages(
        self, ask: Callable[..., Any], field: str, key: str, limit: int | None, options: dict[str, Any]
    ) -> list[Any]:
        """What a list of the API holds, page by page; each entry has the ``key`` that every one of Kubeflow's has."""
        found: list[Any] = []
        token: str | None = None
        while limit is None or len(found) < limit:
            size = PAGE_SIZE if limit is None else min(PAGE_SIZE, limit - len(found))
            paged = {**options, "page_size": size, **({"page_token": token} if token else {})}
            page = self._ask(lambda paged=paged: ask(**paged))  # type: ignore[misc]
            entries = getattr(page, field, None) or []
            for one in entries:
                self._required(one, key)
            found.extend(entries)
            token = getattr(page, "next_page_token", None)
            if not token:
                break
        if not found:
            self._require_kubeflow()
        return found

    def _require_kubeflow(self) -> None:
        """Check an endpoint that has listed nothing: Kubeflow sends an empty object, as other servers may."""
        health = self._health.healthz_service_get_healthz
        answer = self._ask(lambda: health(_request_timeout=SECONDS_TO_ANSWER))
        if not isinstance(getattr(answer, "multi_user", None), bool):
            raise self._foreign()

    def _required(self, answer: Any, name: str) -> str:
        """A field that every answer of Kubeflow has: the client makes an empty object of any other page."""
        value = getattr(answer, name, None)
        if not isinstance(value, str) or not value:
            raise self._foreign()
        return value

    def _ask(self, request: Callable[[], T]) -> T:
        self._client.last_response = None
        try:
            return request()
        except kfp_server_api.ApiException as error:
            raise self._refused(error) from error
        except urllib3.exceptions.LocationValueError as error:
            raise ClusterError(
                f"--endpoint {self.endpoint}: not an address ({in_one_line(str(error))}); correct it"
            ) from error
        except urllib3.exceptions.MaxRetryError as error:
            raise self._silent(error.reason or error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._silent(error) from error
        except _NOT_OF_THE_API as error:
            # The client raises for a refusal whose page is not in UTF-8.
            refusal = error.__context__
            is_refusal = isinstance(refusal, kfp_server_api.ApiException)
            raise (self._refused(refusal) if is_refusal else self._foreign()) from error

    def _refused(self, error: kfp_server_api.ApiException) -> ClusterError:
        if not error.status:
            return self._foreign()
        is_final = (error.status < 500 and error.status not in (408, 429)) or names_no_user(error)
        return (RefusedError if is_final else ClusterError)(self._refusal(error))

    def _foreign(self) -> ClusterError:
        return RefusedError(
            f"{self.endpoint}: answers, but not as Kubeflow does: it is another server, or a login page; "
            f"set KFP_TOKEN, or correct --endpoint (it sent {content_of(self._client.last_response)})"
        )

    def _silent(self, reason: Exception) -> ClusterError:
        """What a connection came to: what speaks another protocol there will go on doing so."""
        text = in_one_line(_CONNECTION.sub("", str(reason)))
        if isinstance(reason, urllib3.exceptions.SSLError | ssl.SSLError):
            if "CERTIFICATE_VERIFY_FAILED" in text or "doesn't match" in text:
                return RefusedError(
                    f"{self.endpoint}: its certificate is not trusted ({text}); set SSL_CERT_FILE to a file with its "
                    "authority's certificate, or correct --endpoint"
                )
            return RefusedError(
                f"{self.endpoint}: speaks no TLS ({text}); if it is Kubeflow, --endpoint begins with http://"
            )
        if any(isinstance(one, BadStatusLine) for one in reason.args) and "without response" not in text:
            return RefusedError(f"{self.endpoint}: speaks no HTTP ({text}); correct --endpoint: its port, or https://")
        return ClusterError(
            f"{self.endpoint}: does not answer ({text}); check --endpoint and the network, or open a way to it: {WAY}"
        )

    def _refusal(self, error: kfp_server_api.ApiException) -> str:
        text = message_of(error)
        if 300 <= error.status < 400:
            return self._redirect(str((error.headers or {}).get("Location") or "nowhere"))
        if names_no_user(error) and error.status >= 500:
            return (
                f"{self.endpoint}: serves several users, and was reached past their login ({error.status}: {text}); "
                "give the address of its gateway as --endpoint, set KFP_TOKEN, and give --namespace"
            )
        if error.status in (401, 403):
            may = f"may use the namespace {self.namespace}" if self.namespace else "it takes"
            several = "" if self.namespace else "; where it serves several users, give --namespace too"
            return (
                f"{self.endpoint}: refuses the token ({error.status}: {text}); set KFP_TOKEN to one that {may}{several}"
            )
        if error.status in (400, 404) and "namespace" in text.lower():
            return f"{self.endpoint}: namespace {self.namespace!r}: {text}; name one that is there with --namespace"
        if error.status in (404, 405, 501):
            return (
                f"{self.endpoint}: answers {error.status}: {text}; is that Kubeflow? correct --endpoint, or open "
                f"a way to it: {WAY}"
            )
        if error.status in (502, 503, 504):
            return (
                f"{self.endpoint}: answers {error.status}: {text}; Kubeflow is not up, or not reached by what stands "
                "before it: kubectl -n kubeflow get pods; then try again"
            )
        return f"{self.endpoint}: answers {error.status}: {text}; its own log (deployment ml-pipeline) has more"

    def _redirect(self, location: str) -> str:
        there, here = urlsplit(location), urlsplit(self.endpoint)
        if there.hostname == here.hostname and there.scheme not in ("", here.scheme) and "/apis/" in there.path:
            address = location.partition("/apis/")[0]
            return f"{self.endpoint}: has moved to {in_one_line(address)}; give that as --endpoint"
        return (
            f"{self.endpoint}: leads to a login page; set KFP_TOKEN to a valid token (it redirects to "
            f"{in_one_line(location.partition('?')[0])})"
        )
