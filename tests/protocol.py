"""A session of the app without a browser: the messages that a browser would send, and what the server answers."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qs

from google.protobuf.json_format import MessageToJson
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

__all__ = ["ForwardMsg", "Session", "asked"]

SECONDS = 120  # until a page has answered; the machine may be busy


def asked(page: str, query: str, message: BackMsg | None = None) -> bytes:
    """What a browser sends to have a page drawn.

    Args:
        page: its name.
        query: what stands behind the question mark.
        message: with what was pressed or moved.
    """
    message = message or BackMsg()
    message.rerun_script.page_name, message.rerun_script.query_string = page, query
    message.rerun_script.context_info.url = f"http://127.0.0.1/{page}"
    return message.SerializeToString()


class Session:
    """One open page.

    Args:
        url: of the server.
        cookie: what the browser sends.
    """

    def __init__(self, url: str, cookie: str):
        self._open = ExitStack()
        self.socket = self._open.enter_context(
            connect(
                url.replace("http", "ws") + "/_stcore/stream",
                subprotocols=["streamlit"],
                additional_headers={"Cookie": cookie},
                max_size=None,
            )
        )
        self.page, self.query = "", ""
        self.elements: list[Any] = []
        self.text = ""

    def open(self, page: str, query: str = "") -> str:
        """Opens a page as its address does; returns everything that the server has sent of it, as text."""
        self.page, self.query = page, query
        return self._run(BackMsg())

    def click(self, label: str) -> str:
        """Presses a button of the page that is open."""
        (found,) = {b.id for b in self.elements if b.label == label}
        message = BackMsg()
        state = message.rerun_script.widget_states.widgets.add()
        state.id, state.trigger_value = found, True
        return self._run(message)

    def set(self, label: str, on: bool) -> str:
        """Moves a switch of the page that is open."""
        (found,) = {c.id for c in self.elements if c.label == label}
        message = BackMsg()
        state = message.rerun_script.widget_states.widgets.add()
        state.id, state.bool_value = found, on
        return self._run(message)

    @property
    def parameters(self) -> dict[str, str]:
        """What the page's address says now."""
        return {k: v[0] for k, v in parse_qs(self.query).items()}

    def _run(self, message: BackMsg) -> str:
        self.socket.send(asked(self.page, self.query, message))
        self.elements, parts = [], []
        while True:
            answer = ForwardMsg.FromString(self.socket.recv(timeout=SECONDS))
            kind = answer.WhichOneof("type")
            if kind == "script_finished":
                self.text = "\n".join(parts)
                return self.text
            if kind == "page_info_changed":
                self.query = answer.page_info_changed.query_string
            elif kind == "delta":
                element = answer.delta.new_element
                if (name := element.WhichOneof("type")) in ("button", "checkbox"):
                    self.elements.append(getattr(element, name))
                parts.append(MessageToJson(answer, ensure_ascii=False))

    def close(self) -> None:
        """Closes the page."""
        self._open.close()
