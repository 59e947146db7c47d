"""Who may ask, and how much at once.

A page of another site can make a browser send requests here, and a name of another site can be made to mean this
machine: what does not come from this page, under a name of this server, is refused. Elsewhere than on loopback everyone
needs the token.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from davel.web.settings import is_loopback

COOKIE = "davel_token"
MAX_BODY_BYTES = 16 * 2**20
"""Of everything but uploads, which are counted as they come."""
UPLOAD_TYPE = "application/octet-stream"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def session_of(token: str) -> str:
    """What a browser keeps instead of the token."""
    return hmac.new(token.encode(), b"davel session", hashlib.sha256).hexdigest()


class Guard:
    """ASGI middleware: refuses what must not come through, and adds headers to what does."""

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                for name, value in HEADERS.items():
                    MutableHeaders(scope=message).setdefault(name, value)
                if scope["path"].startswith("/api"):
                    MutableHeaders(scope=message).setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is None and self.token is not None:
            query = parse_qs(scope["query_string"].decode("latin-1"))
            if scope["path"] == "/" and "token" in query and self._is_token(query["token"][0]):
                cookie = f"{COOKIE}={session_of(self.token)}; HttpOnly; SameSite=Strict; Path=/; Max-Age=2592000"
                await _answer(guarded, 303, "", [("location", "/"), ("set-cookie", cookie)])
                return
            if not self._is_known(headers):
                refusal = 401, "this server needs its token: open /?token=TOKEN, or send `Authorization: Bearer TOKEN`"
        if refusal is not None:
            await _answer(guarded, *refusal)
            return
        upload = headers.get("content-type", "").partition(";")[0].strip() == UPLOAD_TYPE
        await self.app(scope, receive if upload else _limited(receive), guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Status and reason, for requests that another site could have caused."""
        try:
            host = urlsplit(f"//{headers.get('host', '')}")
            host_name, origin = host.hostname or "", urlsplit(headers.get("origin", f"//{host.netloc}"))
        except ValueError:
            return 400, "the request's Host or Origin is no address"
        if self.token is None and not is_loopback(host_name):
            return 421, "this server answers to localhost only"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and scope["path"] != "/":
            return 403, "another site's page must not ask this"
        if origin.netloc != host.netloc:
            return 403, "another site's page must not ask this"
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        kind = headers.get("content-type", "").partition(";")[0].strip()
        if has_body and kind not in (UPLOAD_TYPE, "application/json"):
            return 415, f"send {UPLOAD_TYPE} or application/json, not {kind[:60] or 'an unnamed type'}"
        return None

    def _is_token(self, text: str) -> bool:
        return self.token is not None and hmac.compare_digest(text.encode(), self.token.encode())

    def _is_known(self, headers: Headers) -> bool:
        assert self.token is not None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), session_of(self.token).encode())


def _limited(receive: Receive) -> Receive:
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MAX_BODY_BYTES:
            raise HTTPException(413, f"the request is longer than {MAX_BODY_BYTES} bytes")
        return message

    return counted


async def _answer(send: Send, status: int, text: str, more: Iterable[tuple[str, str]] = ()) -> None:
    body = json.dumps({"detail": text}).encode() if text else b""
    headers = [("content-type", "application/json"), ("content-length", str(len(body))), *more]
    encoded = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
