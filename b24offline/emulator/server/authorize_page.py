"""The authorization page of a portal: a person logs in, allows the application, and is sent on to its address.

As on a real portal the address is that of the application's settings, not a parameter, and a refusal is shown to the
person; nobody is sent on with an error.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

from b24offline.emulator.server.fault_injection import Reply

if TYPE_CHECKING:
    from b24offline.emulator.api import Params
    from b24offline.emulator.server.token_endpoint import Application
    from b24offline.emulator.state import Portal

HTML_TYPE: Final = "text/html; charset=utf-8"
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; background: #eef2f4; color: #333; margin: 0 }}
main {{ max-width: 26rem; margin: 10vh auto; padding: 2rem; background: #fff; border-radius: 12px }}
h1 {{ font-size: 1.3rem; margin-top: 0 }} .no {{ color: #a40000 }} small {{ color: #667 }}
input {{ display: block; width: 100%; box-sizing: border-box; margin: 0 0 1rem; padding: .5rem; font: inherit }}
button {{ padding: .6rem 1.4rem; border: 0; border-radius: 6px; font: inherit; background: #e4e8ea }}
button[value=allow] {{ background: #bbed21; font-weight: 600 }}
</style></head><body><main><h1>{title}</h1>{body}<p><small>Emulated portal {portal}</small></p></main></body></html>
"""
_FORM: Final = """<form method="post"><p>The application <b>{client}</b> asks for access to: {scopes}.</p>
<label>Login <input name="login" value="user{user}@portal.example"></label>
<label>Password <input name="password" type="password" value="any"></label>
<button name="answer" value="allow">Log in and allow</button> <button name="answer" value="deny">Deny</button></form>"""


def authorize(application: Application, portal: Portal, params: Params, *, posted: bool) -> Reply:
    """Show the form, or carry out what the person chose in it."""
    with portal.lock:
        if params.text("client_id") != application.client_id:
            return _refusal(portal, "The application is unknown: no application has this client_id.")
        if portal.account.removed:
            return _refusal(portal, "The application is not installed on this portal.")
        if not posted:
            scopes = escape(portal.account.scopes.replace(",", ", "))
            form = _FORM.format(client=escape(application.client_id), scopes=scopes, user=portal.account.user_id)
            return _page(portal, 200, "Log in", form)
        if params.text("answer") != "allow":
            return _refusal(portal, "Access was denied.")
        if not application.address:
            return _refusal(portal, "The application has no address to send you to.")
        code = portal.tokens.new_code(portal.clock.now())
        query = urlencode(
            {
                "code": code,
                "state": params.text("state"),
                "domain": portal.address.domain,
                "member_id": portal.member_id,
                "scope": portal.account.scopes,
                "server_domain": urlsplit(portal.address.auth_url).netloc,
            }
        )
        joint = "&" if "?" in application.address else "?"
        return Reply(302, b"", HTML_TYPE, headers=(("Location", f"{application.address}{joint}{query}"),))


def _refusal(portal: Portal, why: str) -> Reply:
    return _page(portal, 403, "No access", f'<p class="no">{escape(why)}</p>')


def _page(portal: Portal, status: int, title: str, body: str) -> Reply:
    text = _PAGE.format(title=escape(title), body=body, portal=escape(portal.name))
    return Reply(status, text.encode(), HTML_TYPE)
