"""The local page of a review: a few fixed addresses, answers kept before they are acknowledged.

Who may ask. The address printed on the terminal holds a random token; opening it sets a cookie that
scripts cannot read and that no other site can send along with a request of its own. Every request must
name this server in ``Host`` (so a foreign name that was pointed at this machine gets nothing); every
request that changes something must come from this page (``Origin``) and repeat the token in a header.
Nothing in a request ever becomes part of a path: pictures are named by the id of a known example.
"""

import hmac
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from hem.errors import HemError
from hem.reporting.markup import escape
from hem.reporting.review_pictures import FORMS, Pictures
from hem.reporting.review_session import Session
from hem.structures import Answer

MOST_BYTES = 10_000  # of a request's body
_IDLE_S = 30.0  # a connection that says nothing is closed
_PICTURE = re.compile(r"/picture/([a-z]+)/([0-9a-f]{16})")
_TAB = re.compile(r"[0-9a-z]{8,40}")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_ASSETS = {
    "/review.css": ("review.css", "text/css; charset=utf-8"),
    "/review.js": ("review.js", "text/javascript; charset=utf-8"),
}


class Refused(Exception):
    """A request that is not answered: its status and one sentence."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class ReviewServer(ThreadingHTTPServer):
    """Serves one session.

    Args:
        session, pictures: what is reviewed.
        host: address to listen on.
        port: 0 takes a free one.
        title: heading of the page.

    Raises:
        HemError: if the address cannot be listened on.
    """

    daemon_threads = True

    def __init__(
        self, session: Session, pictures: Pictures, host: str = "127.0.0.1", port: int = 8765, title: str = ""
    ) -> None:
        self.session = session
        self.pictures = pictures
        self.title = title
        self.token = secrets.token_urlsafe(24)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise HemError(
                f"cannot listen on {host}:{port} ({error.strerror or error}); choose another port=, or port=0"
            ) from None
        self.hosts = _names(host, self.server_port)

    @property
    def cookie(self) -> str:
        """Name of the cookie; cookies do not look at ports, so it holds the port."""
        return f"hem_review_{self.server_port}"

    @property
    def address(self) -> str:
        """What to open in a browser."""
        host = str(self.server_address[0])
        shown = "127.0.0.1" if host == "0.0.0.0" else "[::1]" if host == "::" else _bracketed(host)
        return f"http://{shown}:{self.server_port}/?token={self.token}"

    def answers_to(self, host: str | None) -> bool:
        """Say whether a Host header names this server."""
        if host is None:
            return False
        if host in self.hosts:
            return True
        if "*" not in self.hosts:
            return False
        name, _, port = host.rpartition(":")
        try:  # listening on every address: any number of this machine, but no name, which could be foreign
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return port == str(self.server_port)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _names(host: str, port: int) -> frozenset[str]:
    """Return the Host headers to answer; ``*`` stands for any number of this machine."""
    if host in ("0.0.0.0", "::"):
        return frozenset({f"localhost:{port}", "*"})
    names = {"127.0.0.1", "localhost"} if host in ("127.0.0.1", "localhost") else {_bracketed(host)}
    return frozenset(f"{name}:{port}" for name in names)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: ReviewServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "hem", ""
    timeout = _IDLE_S
    routes: ClassVar[Mapping[str, str]] = {"/api/next": "_next", "/api/progress": "_progress"}
    actions: ClassVar[Mapping[str, str]] = {"/api/answer": "_answer", "/api/undo": "_undo"}

    def do_GET(self) -> None:
        """Answer the page, its assets, pictures and what to show next."""
        self._guarded(self._get)

    def do_POST(self) -> None:
        """Take an answer, or take one back."""
        self._guarded(self._post)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            self._checked(work)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True  # the reader went away

    def _checked(self, work: Callable[[], None]) -> None:
        try:
            if not self.server.answers_to(self.headers.get("Host")):
                raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "not the name of this server")
            work()
        except (Refused, HemError) as error:
            status = error.status if isinstance(error, Refused) else HTTPStatus.CONFLICT
            self.close_connection = True  # a body that was not read would be taken for the next request
            self._send(status, f"{error}\n".encode(), "text/plain; charset=utf-8")

    # -- reading ---------------------------------------------------------------------------------

    def _get(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        given = query.get("token", [""])[0]
        if parts.path == "/" and given:
            self._let_in(given)
            return
        self._known()
        if parts.path == "/":
            self._send(HTTPStatus.OK, self._page(), "text/html; charset=utf-8")
        elif parts.path in _ASSETS:
            name, kind = _ASSETS[parts.path]
            self._send(HTTPStatus.OK, _asset(name), kind)
        elif parts.path in self.routes:
            self._json(getattr(self, self.routes[parts.path])(query))
        else:
            self._picture(parts.path)

    def _let_in(self, token: str) -> None:
        if not _same(token, self.server.token):
            raise Refused(HTTPStatus.FORBIDDEN, "wrong token; open the address printed on the terminal")
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", "/")  # the token leaves the address bar
        self.send_header(
            "Set-Cookie", f"{self.server.cookie}={self.server.token}; HttpOnly; SameSite=Lax; Path=/"
        )
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _known(self) -> None:
        pairs = (part.strip().partition("=") for part in self.headers.get("Cookie", "").split(";"))
        if not any(
            name == self.server.cookie and _same(value, self.server.token) for name, _, value in pairs
        ):
            raise Refused(HTTPStatus.FORBIDDEN, "open the address printed on the terminal, with its token")

    def _page(self) -> bytes:
        text = _asset("review.html").decode()
        return (
            text.replace("{title}", escape(self.server.title)).replace("{token}", self.server.token).encode()
        )

    def _picture(self, path: str) -> None:
        found = _PICTURE.fullmatch(path)
        if not found or found[1] not in FORMS or found[2] not in self.server.session.sample.strata:
            raise Refused(HTTPStatus.NOT_FOUND, "no such page")
        self._send(HTTPStatus.OK, self.server.pictures.get(found[2], found[1]), "image/jpeg")

    def _next(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        return self._shown(self.server.session.next(_tab(query.get("tab", [""])[0])))

    def _progress(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        return self.server.session.progress()

    def _shown(self, example_id: str | None) -> dict[str, Any]:
        session = self.server.session
        coming = session.coming(self.server.pictures.ahead)
        self.server.pictures.prepare([example_id, *coming] if example_id else coming)
        return {
            "example": None if example_id is None else session.describe(example_id),
            "coming": coming[:2],
            "progress": session.progress(),
        }

    # -- changing --------------------------------------------------------------------------------

    def _post(self) -> None:
        body = self._body()
        self._known()
        origin = self.headers.get("Origin", "")
        if urlsplit(origin).scheme != "http" or not self.server.answers_to(urlsplit(origin).netloc):
            raise Refused(HTTPStatus.FORBIDDEN, "only this page may answer")
        if not _same(self.headers.get("X-Hem-Token", ""), self.server.token):
            raise Refused(HTTPStatus.FORBIDDEN, "the token is missing")
        path = urlsplit(self.path).path
        if path not in self.actions:
            raise Refused(HTTPStatus.NOT_FOUND, "no such action")
        self._json(getattr(self, self.actions[path])(body))

    def _body(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON")
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "say how long the body is")
        if int(length) > MOST_BYTES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise Refused(HTTPStatus.BAD_REQUEST, "not JSON") from None
        if not isinstance(body, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, "not a JSON object")
        return body

    def _answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        tab = _tab(body.get("tab"))
        answer, example_id = body.get("answer"), body.get("id")
        if answer not in tuple(Answer) or not isinstance(example_id, str):
            raise Refused(HTTPStatus.BAD_REQUEST, "answer is right, wrong or unsure, about an id")
        self.server.session.answer(example_id, Answer(answer), tab)
        return self._shown(self.server.session.next(tab))

    def _undo(self, body: Mapping[str, Any]) -> dict[str, Any]:
        tab = _tab(body.get("tab"))
        undone = self.server.session.undo(tab)
        return {**self._shown(undone or self.server.session.next(tab)), "undone": undone}

    # -- sending ---------------------------------------------------------------------------------

    def _json(self, value: Mapping[str, Any]) -> None:
        data = json.dumps(value, allow_nan=False).encode()
        self._send(HTTPStatus.OK, data, "application/json; charset=utf-8")

    def _send(self, status: HTTPStatus, data: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the page shows what matters, and addresses hold the token."""


def _tab(value: object) -> str:
    if not isinstance(value, str) or not _TAB.fullmatch(value):
        raise Refused(HTTPStatus.BAD_REQUEST, "a tab names itself with 8 to 40 digits and small letters")
    return value


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _asset(name: str) -> bytes:
    return resources.files("hem.reporting").joinpath("assets", name).read_bytes()
