"""The teacher as a method sees it: it can do what the method declared, counts how often it is asked, and no more."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import devices, hooks, models
from .errors import CakeError

__all__ = ["ACCESS", "AccessError", "NormInput", "Oracle", "folded", "frozen_copy", "lacks"]

# What a method may need of a teacher, from the least to the most, and what it is called.
ACCESS = {
    "labels": "the class it names",
    "logits": "logits",
    "gradient": "gradients with respect to its input",
    "features": "hidden activations",
    "weights": "the weights of its last layer",
    "batchnorm": "batch normalisation",
    "data": "its training data",
}
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid)


class AccessError(RuntimeError):
    """A method asked a teacher for something that it did not declare: a fault of the method."""


@dataclass(frozen=True)
class NormInput:
    """What came into one layer of batch normalisation, and what the layer remembers of its training data.

    Attributes:
        x: inputs (B, channels, ...).
        mean, var: running statistics (channels,).
    """

    x: Tensor
    mean: Tensor
    var: Tensor


class Oracle:
    """A function from inputs to logits that counts its calls, and opens no more of the teacher than was declared.

    A call is one sample through the teacher. `forward_calls` counts samples that were answered, `gradient_calls`
    samples for which a gradient flowed back through the teacher to its input.

    The teacher itself is never touched: a module is copied, and the copy is frozen, in eval mode and on the device.

    Args:
        teacher: a module, or any function, from inputs (B, *shape) to logits (B, C).
        device: where to compute.
        access: what may be asked for, keys of `ACCESS`. Anything else is an `AccessError`.
        precision: number format of the teacher's products, one of `devices.PRECISIONS`. Logits and gradients are
            float32 in any case.
        compiled: whether the teacher goes through torch.compile: minutes at first, then faster on a GPU.
        frozen: whether the teacher is a frozen copy already, and need not be copied again.
        data: the teacher's training inputs (N, *shape), normalised, and labels (N,), for methods that need "data".
    """

    def __init__(
        self,
        teacher: Callable[[Tensor], Tensor],
        device: torch.device | str = "cpu",
        access: frozenset[str] = frozenset({"logits", "gradient"}),
        *,
        precision: str = "fp32",
        compiled: bool = False,
        frozen: bool = False,
        data: tuple[Tensor, Tensor] | None = None,
    ):
        self.forward_calls = 0
        self.gradient_calls = 0
        self.access, self.precision, self.device = access, precision, torch.device(device)
        self.compiled = compiled
        copied = isinstance(teacher, nn.Module) and not frozen
        self._network = frozen_copy(teacher, self.device) if copied else teacher
        answer = folded(self._network) if isinstance(self._network, nn.Module) else self._network
        self._answer = torch.compile(answer, dynamic=False) if compiled else answer
        self._data = data

    # -- what can be asked ---------------------------------------------------------------------------------------

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, C) of inputs (B, *shape). Needs "logits", and "gradient" where x wants one."""
        self._needs("logits")
        return self._asked(self._answer, x)

    def labels(self, x: Tensor) -> Tensor:
        """The class (B,) that the teacher names for each input. Needs "labels"."""
        self._needs("labels")
        with torch.no_grad():
            return self._asked(self._answer, x).argmax(dim=1)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, C), and what the last linear layer sees (B, F). Needs "features"."""
        self._needs("logits", "features")
        with hooks.inputs_of([hooks.last_linear(self._module())]) as seen:
            z = self._asked(self._network, x)
        return z, seen[0][1].float()

    def activations(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, C), and what comes into each layer of units before their nonlinearity. Needs "features"."""
        self._needs("logits", "features")
        layers = [m for m in self._module().modules() if isinstance(m, ACTIVATIONS)]
        if not layers:
            raise CakeError("This teacher shows no hidden activations: it has no ReLU or similar as a layer.")
        with hooks.inputs_of(layers) as seen:
            z = self._asked(self._network, x)
        return z, [a.float() for _, a in seen]

    def normalised(self, x: Tensor) -> tuple[Tensor, list[NormInput]]:
        """Logits (B, C), and what comes into each layer of batch normalisation. Needs "batchnorm"."""
        self._needs("logits", "batchnorm")
        with hooks.inputs_of(self._norms()) as seen:
            z = self._asked(self._network, x)
        return z, [NormInput(h.float(), layer.running_mean, layer.running_var) for layer, h in seen]

    def in_batch_mode(self, x: Tensor) -> Tensor:
        """Logits (B, C) where batch normalisation takes its statistics from these inputs. Needs "batchnorm"."""
        self._needs("logits", "batchnorm")
        with batch_statistics(self._norms()), torch.no_grad():
            return self._asked(self._network, x)

    @torch.no_grad()
    def look(self, x: Tensor) -> Tensor:
        """The classes (M, N) of samples (M, N, *shape) that are shown, for the eye: not counted, not for methods."""
        with devices.autocast(self.device, self.precision):
            return self._network(x.flatten(0, 1)).argmax(dim=1).view(x.shape[:2])

    @property
    def network(self) -> Callable[[Tensor], Tensor]:
        """The teacher itself, for who makes another oracle of it: not for methods."""
        return self._network

    @property
    def examples(self) -> tuple[Tensor, Tensor] | None:
        """The teacher's training data, likewise, where they are here."""
        return self._data

    def uncounted(self) -> Oracle:
        """The same teacher with counters of its own: for who explains a step, and does not copy with its answers."""
        twin = copy.copy(self)
        twin.forward_calls = twin.gradient_calls = 0
        twin.access = self.access | {"logits"}
        return twin

    def last_weights(self) -> Tensor:
        """The weights of the last linear layer (C, F). Needs "weights"."""
        self._needs("weights")
        return hooks.last_linear(self._module()).weight.detach()

    def data(self) -> tuple[Tensor, Tensor]:
        """The teacher's training inputs (N, *shape), normalised, and labels (N,). Needs "data"."""
        self._needs("data")
        if self._data is None:
            raise CakeError("This method learns from the teacher's training data, and they are not here.")
        return self._data

    def memory_trial(self, shape: tuple[int, ...], count: int) -> Callable[[], None]:
        """A function that computes for `count` inputs what a step would, to see how much memory that takes."""
        gradient = "gradient" in self.access

        def trial() -> None:
            x = torch.zeros(count, *shape, device=self.device, requires_grad=gradient)
            with torch.set_grad_enabled(gradient), devices.autocast(self.device, self.precision):
                z = self._answer(x)
            if gradient:
                torch.autograd.grad(z.sum(), x)

        return trial

    # -- how -----------------------------------------------------------------------------------------------------

    def _needs(self, *what: str) -> None:
        missing = [w for w in what if w not in self.access and not (w == "labels" and "logits" in self.access)]
        if missing:
            raise AccessError(f"This method did not declare that it needs {', '.join(ACCESS[w] for w in missing)}.")

    def _asked(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        self.forward_calls += len(x)
        if x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)  # convolutions are up to twice as fast so
        if torch.is_grad_enabled() and x.requires_grad:
            self._needs("gradient")
            x = _CountGradient.apply(x, self)
        with devices.autocast(self.device, self.precision):
            z = network(x)
        return z.float() if z.dtype == torch.bfloat16 else z

    def _module(self) -> nn.Module:
        if not isinstance(self._network, nn.Module):
            raise CakeError(
                "This teacher is a function and shows only its logits. Choose a method that needs no more, "
                "or hand over the network itself."
            )
        return self._network

    def _norms(self) -> list[nn.Module]:
        layers = hooks.batch_norms(self._module())
        if not layers:
            raise CakeError("This teacher has no batch normalisation. Choose one that has, a ResNet for example.")
        return layers


class _CountGradient(torch.autograd.Function):
    """Identity whose backward pass counts the samples that came by."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, oracle: Oracle) -> Tensor:
        ctx.oracle = oracle
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ctx.oracle.gradient_calls += len(grad)
        return grad, None


def frozen_copy(network: nn.Module, device: torch.device | str) -> nn.Module:
    """A copy that answers and never changes: eval mode, no parameter gradients, channels-last on the device.

    Raises:
        CakeError: the module can't be copied.
    """
    try:
        copied = copy.deepcopy(network)
    except Exception as error:
        raise CakeError(
            f"This teacher can't be copied ({error}), and CAKE Lab never works on the original. "
            "Wrap it in a function that returns its logits, or remove what can't be copied (open files, locks)."
        ) from error
    for layer in copied.modules():
        if isinstance(layer, ACTIVATIONS) and getattr(layer, "inplace", False):
            layer.inplace = False  # so that what comes into it can still be read afterwards
    return copied.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


def folded(network: nn.Module) -> nn.Module:
    """A frozen network whose batch normalisation has gone into the convolutions and linear layers before it.

    With fixed statistics normalising is a scale and a shift per channel, so the logits are the same to rounding; what
    is saved is a pass over the activations for each layer, on the way there and back. Layers that nothing precedes
    keep theirs. Networks of somebody's own are returned as they are: who knows what happens in them while they are
    traced.
    """
    if not isinstance(network, models.Classifier) or not hooks.batch_norms(network):
        return network
    from torch.fx.experimental.optimization import fuse  # takes its time to import, and few teachers need it

    return fuse(network).eval().requires_grad_(False).to(memory_format=torch.channels_last)


@contextmanager
def batch_statistics(layers: list[nn.Module]) -> Iterator[None]:
    """Inside the block these layers normalise with the statistics of the batch, and remember nothing of it."""
    before = [(m.training, m.track_running_stats) for m in layers]
    for m in layers:
        m.training, m.track_running_stats = True, False
    try:
        yield
    finally:
        for m, (training, track) in zip(layers, before, strict=True):
            m.training, m.track_running_stats = training, track


def lacks(teacher: Any, access: frozenset[str]) -> list[str]:
    """What of `access` a teacher can't give, apart from its data: keys of `ACCESS`.

    Args:
        teacher: a module, or any function from inputs to logits.
        access: what a method declares.
    """
    inside = access & {"features", "weights", "batchnorm"}
    if not isinstance(teacher, nn.Module):
        return sorted(inside)
    has = {
        "features": any(isinstance(m, ACTIVATIONS) for m in teacher.modules()),
        "weights": any(isinstance(m, nn.Linear) for m in teacher.modules()),
        "batchnorm": bool(hooks.batch_norms(teacher)),
    }
    return sorted(w for w in inside if not has[w])
