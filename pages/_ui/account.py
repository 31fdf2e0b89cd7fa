"""Signing in: Streamlit's own OpenID Connect login, switched on by a section [auth] in Streamlit's secrets.

Streamlit keeps who has signed in in a cookie that it signs with `cookie_secret`. Pages get it as `st.user`; the
server's own endpoints read the same cookie here, by the same functions, so that both know the same person.

References: | OpenID Connect Core 1.0 (OpenID Foundation) | https://openid.net/specs/openid-connect-core-1_0.html
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.auth_util import get_cookie_with_chunks, get_origin_from_redirect_uri, get_signing_secret
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from cake_core.errors import CakeError

__all__ = [
    "claims_in",
    "claims_of_session",
    "gate",
    "has_instructor_key",
    "instructors",
    "is_instructor",
    "is_instructor_key",
    "is_outside",
    "login_is_on",
    "secret_of",
    "show_account",
]

SHORTEST = 32  # characters of a secret that others must not guess


@cache
def login_is_on() -> bool:
    """Whether people have to sign in. What the secrets said first holds until the server is started again.

    Raises:
        CakeError: the secrets can't be read, or the section [auth] lacks something: then nobody may come in.
    """
    if not st.secrets.load_if_toml_exists():
        if broken := [p for p in st.get_option("secrets.files") if Path(p).is_file()]:
            raise CakeError(
                f"The secrets in {Path(broken[0]).name} can't be read, so nobody can sign in. Mend the file."
            )
        return False
    if "auth" not in st.secrets:
        return False
    section = st.secrets["auth"]
    if len(str(section.get("cookie_secret", ""))) < SHORTEST:
        raise CakeError(
            f"Signing in is switched on, but 'cookie_secret' in the section [auth] has fewer than {SHORTEST} "
            "characters. Set it to something random."
        )
    if not str(section.get("redirect_uri", "")).endswith("/oauth2callback"):
        raise CakeError(
            "'redirect_uri' in the section [auth] must be this app's address with /oauth2callback behind it."
        )
    if find_spec("authlib") is None:
        raise CakeError("Signing in needs the package Authlib on the server: pip install 'streamlit[auth]'.")
    return True


# -- who it is --------------------------------------------------------------------------------------------------------


def claims_of_session() -> dict[str, Any]:
    """What the identity provider says of whoever looks at this page; empty before they have signed in."""
    return dict(st.user.to_dict()) if st.user.get("is_logged_in") else {}


def claims_in(cookies: Mapping[str, str]) -> dict[str, Any]:
    """The same, from the cookies of a request; empty where the cookie is missing, forged, too old or for another host.

    Args:
        cookies: of the request, by name.
    """

    def signed(name: str) -> bytes | None:
        return decode_signed_value(get_signing_secret(), name, cookies.get(name, "").encode("latin-1", "replace"))

    try:
        claims = json.loads(get_cookie_with_chunks(signed, USER_COOKIE_NAME) or b"{}")
    except ValueError:
        return {}
    here = isinstance(claims, dict) and claims.get("origin") == get_origin_from_redirect_uri()
    return claims if here and claims.get("is_logged_in") is True else {}


def secret_of(claims: Mapping[str, Any]) -> str:
    """What stands for a person where a browser's secret would stand for a browser; empty for nobody.

    It is made of the provider and of what it calls the person, which stays when a name or an address changes. No
    browser's secret has a colon, so no cookie of ours can say the same.

    Args:
        claims: what the provider says.
    """
    who = [claims.get("iss"), claims.get("sub")]
    if not all(isinstance(part, str) and part for part in who):
        return ""
    return "user:" + hashlib.sha256(json.dumps(who).encode()).hexdigest()


# -- instructors ------------------------------------------------------------------------------------------------------


def instructors() -> set[str]:
    """The addresses of those who may see and stop all, where people sign in."""
    return {part.strip().casefold() for part in os.environ.get("CAKE_INSTRUCTORS", "").split(",")} - {""}


def is_instructor(claims: Mapping[str, Any]) -> bool:
    """Whether CAKE_INSTRUCTORS names somebody's address, and the provider says that the address is theirs.

    Args:
        claims: what the provider says.
    """
    return claims.get("email_verified") is True and str(claims.get("email", "")).casefold() in instructors()


def has_instructor_key() -> bool:
    """Whether a key makes an instructor of whoever knows it: where nobody signs in, and CAKE_INSTRUCTOR_KEY is set.

    Raises:
        CakeError: the key is so short that it could be guessed.
    """
    key = os.environ.get("CAKE_INSTRUCTOR_KEY", "")
    if key and len(key) < SHORTEST // 2:
        raise CakeError(f"CAKE_INSTRUCTOR_KEY has fewer than {SHORTEST // 2} characters. Set it to something random.")
    return bool(key) and not login_is_on()


def is_instructor_key(text: str) -> bool:
    """Whether that is the key. It takes as long for every wrong one.

    Args:
        text: what somebody has entered.
    """
    given, key = (hashlib.sha256(t.encode()).digest() for t in (text, os.environ.get("CAKE_INSTRUCTOR_KEY", "")))
    return secrets.compare_digest(given, key) and has_instructor_key()


# -- on pages ---------------------------------------------------------------------------------------------------------


def is_outside() -> bool:
    """Whether somebody has to sign in before there is anything to see."""
    try:
        return login_is_on() and not secret_of(claims_of_session())
    except CakeError:  # `gate` says it
        return True


def gate() -> None:
    """Where people have to sign in, nobody who has not comes further than this.

    Raises:
        CakeError: signing in is switched on, and can't work.
    """
    if not login_is_on() or not is_outside():
        return
    st.space("large")
    _, middle, _ = st.columns([1, 2, 1])
    with middle, st.container(border=True):
        st.title("CAKE Lab", anchor=False)
        st.markdown("Sign in to see how a classifier is copied without its data. Your runs are kept under your name.")
        for name in providers():
            words = f"Sign in with {name.capitalize()}" if name else "Sign in"
            st.button(words, type="primary", icon=":material/login:", width="stretch", on_click=st.login, args=(name,))
        if st.query_params:
            st.caption("You have come by a link. Signing in leads to the first page: open the link again after that.")
    st.stop()


def providers() -> list[str | None]:
    """The names of the sections [auth.…]; None for the section [auth] itself, where it has a provider."""
    section = st.secrets["auth"]
    named = [k for k in section if isinstance(section[k], Mapping) and "client_id" in section[k]]
    return ([None] if "client_id" in section else []) + named


def show_account() -> None:
    """Who has signed in, and the way out; nothing where nobody has to."""
    if not login_is_on():
        return
    claims = claims_of_session()
    name = str(claims.get("name") or claims.get("email") or "Signed in")
    with st.popover(name, type="tertiary", icon=":material/account_circle:", key="account"):
        st.text(str(claims.get("email", "")) + (", instructor" if is_instructor(claims) else ""))
        st.button("Sign out", icon=":material/logout:", on_click=st.logout, key="account:out")
