"""A teacher that only answers: no weights, no gradients, so many calls for each class, and now and then no answer.

`LocalBlackBox` holds the network in this process, `RemoteBlackBox` asks one behind HTTP (see `service`). Both are asked
in the same way, and an attack can't tell them apart.
"""

from __future__ import annotations

import io
import re
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import httpx
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from . import data, oracle
from .data.arrays import npy_values
from .errors import CakeError
from .teacher import Teacher

__all__ = [
    "Answers",
    "BlackBox",
    "BudgetSpent",
    "LocalBlackBox",
    "RemoteBlackBox",
    "Unavailable",
    "Usage",
    "packed",
    "unpacked",
]

Answers = Literal["soft", "hard"]

PER_REQUEST = 64  # inputs; small enough for any limit on the size of a request
ATTEMPTS = 10
LONGEST_WAIT = 5.0  # seconds between two attempts, unless the teacher asks for more,
MOST_WAIT = 60.0  # though not for more than this
MOST_SIDE = 4096  # of an input that a teacher elsewhere may ask for
KEPT = 1024  # answers that are kept for those who did not receive them


class BudgetSpent(CakeError):
    """The teacher answers no more."""


class Unavailable(Exception):
    """No answer this time; try again.

    Args:
        reason: why.
        wait: seconds that the teacher asks for, None where it says nothing.
    """

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Usage:
    """What a teacher has answered so far.

    Attributes:
        per_class: calls for each class (C of them): one call is one input answered.
        budget: calls allowed for each class, None without a limit.
    """

    per_class: tuple[int, ...]
    budget: int | None

    @property
    def calls(self) -> int:
        """In all."""
        return sum(self.per_class)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "calls": self.calls}


class BlackBox(ABC):
    """Answers inputs with probabilities, and nothing else.

    Attributes:
        shape: of one input.
        classes: names of the classes.
        failures: requests so far that got no answer and were sent again.
    """

    shape: tuple[int, ...]
    classes: tuple[str, ...]

    def __init__(self) -> None:
        self.failures = 0

    def ask(self, x: Tensor, meant: Tensor | None = None) -> Tensor:
        """Answers (N, C) for inputs: probabilities, or for hard labels a one for the class that is named.

        A request that fails is sent again under the same key, so that nothing is lost and nothing counted twice.

        Args:
            x: inputs (N, *shape), normalised as the teacher's data are.
            meant: the class (N,) whose budget each call is taken from; None for the first, where there is no budget.

        Raises:
            BudgetSpent: a class has fewer calls left than are asked for; none of this request were made.
            CakeError: the teacher refuses the request, or never answers.
        """
        if meant is None:
            meant = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        parts = zip(x.split(PER_REQUEST), meant.split(PER_REQUEST), strict=True)
        return torch.cat([self._insist(*part) for part in parts]) if len(x) else x.new_empty(0, len(self.classes))

    def _insist(self, x: Tensor, meant: Tensor) -> Tensor:
        key, wait = secrets.token_hex(16), 0.05
        for _ in range(ATTEMPTS):
            try:
                return self.request(x, meant, key)
            except Unavailable as error:
                self.failures += 1
                reason = error
                time.sleep(wait if error.wait is None else error.wait)
                wait = min(2 * wait, LONGEST_WAIT)
        raise CakeError(
            f"The teacher did not answer in {ATTEMPTS} attempts ({reason}). Calls so far are kept; try again later."
        )

    @abstractmethod
    def request(self, x: Tensor, meant: Tensor, key: str) -> Tensor:
        """One request, sent once; `key` names it, however often it is sent.

        Raises:
            Unavailable: no answer this time.
        """

    @abstractmethod
    def usage(self) -> Usage:
        """How many calls were made, as the teacher counts them."""


class LocalBlackBox(BlackBox):
    """A network behind a counter.

    Args:
        network: a module, or any function, from inputs (B, *shape) to logits (B, C).
        shape: of one input.
        classes: names of the classes.
        budget: calls allowed for each class, None without a limit.
        answers: "soft" probabilities, or "hard": only the class it names.
        digits: to how many digits soft answers are rounded, None for all of them.
        device: where to compute.
        latency: seconds that each request takes at least.
        errors: share of requests that fail before anything is computed.
        seed: of the failures.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        shape: tuple[int, ...],
        classes: Sequence[str],
        *,
        budget: int | None = None,
        answers: Answers = "soft",
        digits: int | None = None,
        device: torch.device | str = "cpu",
        latency: float = 0.0,
        errors: float = 0.0,
        seed: int = 0,
    ):
        super().__init__()
        self.shape, self.classes, self.answers = shape, tuple(classes), answers
        self._oracle = oracle.Oracle(network, device, frozenset({"logits"}))
        self._budget, self._digits, self._latency, self._errors = budget, digits, latency, errors
        self._per_class = [0] * len(self.classes)
        self._given: OrderedDict[str, Tensor] = OrderedDict()  # by the key of the request, for those who ask again
        self._chance = np.random.default_rng(seed)
        self._one_at_a_time = threading.Lock()

    @classmethod
    def of(cls, teacher: Teacher, **more: Any) -> Self:
        """A trained teacher behind a counter, for its data's inputs and classes."""
        info = data.info(teacher.card.data["name"])
        return cls(teacher.network, info.shape, info.classes, **more)

    def request(self, x: Tensor, meant: Tensor, key: str) -> Tensor:
        self._check(x, meant)
        if self._latency:
            time.sleep(self._latency)
        with self._one_at_a_time:
            if key in self._given:
                return self._given[key]
            if self._errors and self._chance.random() < self._errors:
                raise Unavailable("an error of the teacher's")
            self._charge(meant)
            with torch.no_grad():
                logits = self._oracle(x.to(self._oracle.device)).to(x.device)
            if self.answers == "hard":
                answers = F.one_hot(logits.argmax(dim=1), len(self.classes)).float()
            else:
                answers = logits.softmax(dim=1)
                answers = answers if self._digits is None else answers.round(decimals=self._digits)
            self._given[key] = answers
            if len(self._given) > KEPT:
                self._given.popitem(last=False)
            return answers

    def usage(self) -> Usage:
        return Usage(tuple(self._per_class), self._budget)

    def _check(self, x: Tensor, meant: Tensor) -> None:
        if x.dim() != 1 + len(self.shape) or tuple(x.shape[1:]) != self.shape or meant.shape != x.shape[:1]:
            wanted = " x ".join(map(str, self.shape))
            raise CakeError(f"This teacher takes inputs of {wanted} and one class for each. Send such inputs.")
        if not x.isfinite().all():
            raise CakeError("Some of the inputs are not finite numbers. Leave these out.")
        if len(x) and not (int(meant.min()) >= 0 and int(meant.max()) < len(self.classes)):
            raise CakeError(f"Classes are numbers from 0 to {len(self.classes) - 1}.")

    def _charge(self, meant: Tensor) -> None:
        """Takes the calls from the budget: all of them, or none."""
        after = [
            n + more
            for n, more in zip(self._per_class, meant.bincount(minlength=len(self.classes)).tolist(), strict=True)
        ]
        if self._budget is not None and max(after) > self._budget:
            name = self.classes[after.index(max(after))]
            raise BudgetSpent(f"The budget of {self._budget:,} calls for class '{name}' is spent.")
        self._per_class = after


def packed(array: np.ndarray) -> bytes:
    """An array as the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def unpacked(content: bytes) -> np.ndarray:
    """The numbers in the bytes of an .npy file; ValueError where there are none. Pickles are never opened."""
    return npy_values(io.BytesIO(content), len(content))


class RemoteBlackBox(BlackBox):
    """A teacher behind HTTP.

    Args:
        url: of the service, such as http://127.0.0.1:8700.
        key: its API key.
        form: "npy" (exact and short) or "json" (readable) for what is sent and received.
        seconds: to wait for an answer.

    Raises:
        CakeError: nobody answers there, or the key is wrong.
    """

    def __init__(self, url: str, key: str = "", form: Literal["npy", "json"] = "npy", seconds: float = 30.0):
        super().__init__()
        self.url, self.form = url, form
        try:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            self._client = httpx.Client(base_url=url, headers=headers, timeout=seconds)
        except (httpx.InvalidURL, ValueError) as error:
            raise CakeError(f"'{url}' is no address ({error}). Write it like http://127.0.0.1:8700.") from None
        match self._patiently("GET", "/v1/model"):
            case {"shape": [*shape], "classes": [_, _, *_] as classes, "answers": "soft" | "hard" as answers} if (
                shape and all(type(n) is int and 0 < n <= MOST_SIDE for n in shape) and len(shape) <= 3
            ):
                self.shape, self.classes = tuple(shape), tuple(map(str, classes))
                self.answers: Answers = answers
            case _:
                raise self._strange("GET /v1/model")

    def close(self) -> None:
        """Lets go of the connection."""
        self._client.close()

    def request(self, x: Tensor, meant: Tensor, key: str) -> Tensor:
        headers = {"idempotency-key": key, "x-meant": ",".join(map(str, meant.tolist()))}
        values = x.detach().cpu().numpy().astype(np.float32)
        if self.form == "npy":
            headers |= {"content-type": "application/x-npy", "accept": "application/x-npy"}
            response = self._send("POST", "/v1/answers", headers=headers, content=packed(values))
        else:
            body = {"inputs": values.tolist(), "meant": meant.tolist()}
            response = self._send("POST", "/v1/answers", headers=headers, json=body)
        try:
            found = unpacked(response.content) if self.form == "npy" else response.json()["answers"]
            answers = np.asarray(found, dtype=np.float32)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise self._strange("POST /v1/answers") from None
        if answers.shape != (len(x), len(self.classes)) or not np.isfinite(answers).all():
            raise self._strange("POST /v1/answers")
        return torch.as_tensor(answers).to(x.device)

    def usage(self) -> Usage:
        match self._patiently("GET", "/v1/usage"):
            case {"per_class": [*counts], "budget": int() | None as budget} if all(type(n) is int for n in counts):
                return Usage(tuple(counts), budget)
        raise self._strange("GET /v1/usage")

    def _strange(self, asked: str) -> CakeError:
        return CakeError(
            f"What answers at {self.url} is no teacher's service, or an answer was spoilt on its way: {asked} gives "
            "something else than what was asked for. Look at the address."
        )

    def _patiently(self, method: str, path: str) -> Any:
        """A request that changes nothing, sent until it is answered."""
        for left in reversed(range(ATTEMPTS)):
            try:
                return self._send(method, path).json()
            except (ValueError, RecursionError):
                raise self._strange(f"{method} {path}") from None
            except Unavailable as error:
                if not left or isinstance(error.__cause__, httpx.ConnectError):
                    raise CakeError(f"Nobody answers at {self.url} ({error}). Is the address right?") from None
                time.sleep(error.wait or 0.05)

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        """One request; a refusal is a `CakeError`, whatever may pass is `Unavailable`."""
        try:
            response = self._client.request(method, path, **content)
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise CakeError(f"'{self.url}' can't be asked ({error}). Is it an address, and the key a key?") from None
        except httpx.TransportError as error:
            raise Unavailable(str(error) or type(error).__name__) from error
        if response.status_code in (429, 500, 502, 503, 504):
            wait = response.headers.get("retry-after", "")
            asked = min(float(wait), MOST_WAIT) if re.fullmatch("[0-9]{1,9}", wait) else None
            raise Unavailable(f"status {response.status_code}", asked)
        if response.status_code >= 400:
            try:
                reason = str(response.json()["error"])[:500]
            except (ValueError, KeyError, TypeError, RecursionError):
                reason = f"{response.reason_phrase or 'no reason given'} (status {response.status_code})."
            if response.status_code == 402:
                raise BudgetSpent(reason)
            raise CakeError(f"The teacher at {self.url} refuses (status {response.status_code}): {reason.rstrip('.')}.")
        return response
