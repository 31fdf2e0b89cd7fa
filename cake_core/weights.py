"""Weights of a listed architecture from a safetensors file, and the normalisation that a network wants."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import formats, models
from .errors import CakeError

__all__ = ["ROUNDINGS", "Renormalised", "load", "read", "rounded", "sha256", "write"]

ROUNDINGS = ("float16", "int8")
SCALE = ".scale"  # ends the name of the step sizes that stand beside a tensor of whole numbers
FLOATS = ("F16", "BF16", "F32", "F64")
WHOLE = ("I64", "I32", "I16", "I8", "U8")


def read(path: Path, model: str, shape: tuple[int, ...], classes: int, name: str = "") -> nn.Module:
    """A network of a listed architecture with the weights of a file, in float32 and eval mode.

    Args:
        path: the file.
        model: a key of `MODELS`.
        shape: shape of one input.
        classes: number of logits.
        name: what to call the file.

    Raises:
        CakeError: the file is damaged, its tensors are not those of the architecture, or some are not finite.
    """
    name = formats.plain(name or path.name)
    found = formats.header(path, name)
    network = models.build(model, shape, classes)
    if misfit := _misfit(found, _layout(model, shape, classes), models.MODELS[model].title):
        raise CakeError(f"{name} {misfit} {_advice(found, model, shape, classes)}")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CakeError(f"{name} can't be read ({error}). Save it again with safetensors.") from None
    state = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    if broken := [k for k, v in state.items() if not v.isfinite().all()]:
        raise CakeError(
            f"{name}: {formats.some(broken)} has values that are not finite in float32. The training went wrong, or "
            "the weights are too large; choose another file."
        )
    network.load_state_dict(state)
    return network.eval()


def write(path: Path, state: Mapping[str, Tensor]) -> None:
    """Writes a network's tensors as safetensors; `load` gives exactly the same values back.

    Those whose values are all float16 numbers are stored as such, in half the room; those that `rounded` has put on
    255 steps for each output channel as int8 and their step sizes, in a quarter.
    """
    stored = {}
    for key, value in state.items():
        value = value.detach().cpu().contiguous()
        if found := _on_steps(value):
            stored[key], stored[key + SCALE] = found
        else:
            stored[key] = _smallest(value)
    save_file(stored, path)


def load(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that `write` made, real ones in float32.

    Raises:
        SafetensorError: the file is damaged.
    """
    tensors = load_file(path)
    state = {}
    for key, value in tensors.items():
        if key + SCALE in tensors:
            state[key] = value.float() * tensors[key + SCALE].float().view(-1, *(1,) * (value.dim() - 1))
        elif not (key.endswith(SCALE) and key.removesuffix(SCALE) in tensors):
            state[key] = value.float() if value.is_floating_point() else value
    return state


@torch.no_grad()
def rounded(network: nn.Module, to: str) -> None:
    """Rounds a network's weights in place, for a smaller file.

    float16: every tensor. int8: weights W (C, ...) of layers to q s with whole q in [-127, 127] and a step size
    s_c = max |W_c| / 127 for each output channel, itself rounded to bfloat16, so that q s is exact in float32; vectors
    (biases, normalisation) to float16.

    Args:
        network: it is changed.
        to: one of `ROUNDINGS`.

    Raises:
        CakeError: there is no such rounding.
    """
    if to not in ROUNDINGS:
        raise CakeError(f"Weights can't be rounded to '{to}'. Choose one of: {', '.join(ROUNDINGS)}.")
    for value in network.state_dict().values():
        if not value.is_floating_point():
            continue
        if to == "int8" and value.dim() > 1:
            size = (value.flatten(1).abs().amax(dim=1) / 127).bfloat16().float().clamp_min(TINY)
            size = size.view(-1, *(1,) * (value.dim() - 1))
            value.copy_((value / size).round().clamp(-127, 127) * size)
        else:
            value.copy_(value.half().float())


def sha256(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Renormalised(nn.Module):
    """A network that wants inputs normalised in another way: f(scale x + shift).

    With x = (p - m) / s, where m and s are the app's mean and standard deviation, and a network that wants
    (p - m') / s', scale = s / s' and shift = (m - m') / s' are exact.

    Args:
        network: f.
        scale, shift: one number per channel or feature.
    """

    def __init__(self, network: nn.Module, scale: Tensor, shift: Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        each = (-1,) + (1,) * (x.dim() - 2)  # (C, 1, 1) for images, (F,) for points
        return self.network(x * self.scale.view(each) + self.shift.view(each))


@cache
def _layout(model: str, shape: tuple[int, ...], classes: int) -> dict[str, tuple[bool, tuple[int, ...]]]:
    """Of each tensor of an architecture: whether it holds real numbers, and its shape. Nothing is computed for it."""
    with torch.device("meta"):
        state = models.build(model, shape, classes).state_dict()
    return {k: (v.is_floating_point(), tuple(v.shape)) for k, v in state.items()}


def _misfit(found: dict[str, formats.Tensor], wanted: dict[str, tuple[bool, tuple[int, ...]]], title: str = "") -> str:
    """What does not fit first, and which tensors are missing or too many; empty where all is well."""
    parts = []
    for key, (real, shape) in wanted.items():
        if key in found and found[key].shape != shape:
            parts.append(f"`{key}` is {_size(found[key].shape)} in the file and {_size(shape)} in {title}.")
            break
        if key in found and found[key].dtype not in (FLOATS if real else WHOLE):
            kinds = "float16, bfloat16, float32 or float64" if real else "whole numbers"
            parts.append(f"`{key}` is of type {found[key].dtype}; it has to be {kinds}.")
            break
    missing, surplus = ([k for k in a if k not in b] for a, b in ((wanted, found), (found, wanted)))
    parts += [f"Missing: {formats.some(missing)}."] if missing else []
    parts += [f"Not part of it: {formats.some(surplus)}."] if surplus else []
    return " ".join(["does not fit.", *parts]) if parts else ""


def _advice(found: dict[str, formats.Tensor], model: str, shape: tuple[int, ...], classes: int) -> str:
    """What to do with a file that does not fit the architecture chosen."""
    kind = "images" if len(shape) == 3 else "points"
    title = models.MODELS[model].title
    inputs = f"{_size(shape)} inputs and {classes} classes"
    for other in models.MODELS.values():
        if other.name != model and kind in other.kinds and not _misfit(found, _layout(other.name, shape, classes)):
            return f"{title} was chosen; the file fits {other.title}. Choose {other.title}."
    if head := found.get("head.weight"):
        theirs = head.shape[0] if len(head.shape) == 2 else 0
        if theirs > 1 and not _misfit(found, _layout(model, shape, theirs)):
            return f"It is a {title} for {theirs} classes, and {classes} were asked for. Choose what it was made for."
    first = next(iter(found)).split(".")[0]
    if first in ("module", "model", "net", "_orig_mod") and all(k.startswith(f"{first}.") for k in found):
        return f"All names begin with `{first}.`: save the state_dict of the network inside its wrapper."
    return f"{title} was chosen, for {inputs}. For a network that is not listed here, bring an ONNX file."


TINY = 2.0**-100  # the step of a channel that is all zeros


def _on_steps(tensor: Tensor) -> tuple[Tensor, Tensor] | None:
    """A tensor as int8 and a bfloat16 step size for each of its first dimension, where `rounded` has put it on them."""
    if tensor.dtype != torch.float32 or tensor.dim() < 2 or not tensor.numel():
        return None
    exact = (tensor.flatten(1).abs().amax(dim=1) / 127).clamp_min(TINY)
    size = exact.bfloat16()
    if not torch.equal(size.float(), exact):
        return None
    steps = tensor / size.float().view(-1, *(1,) * (tensor.dim() - 1))
    return (steps.to(torch.int8), size) if torch.equal(steps, steps.round()) else None


def _smallest(tensor: Tensor) -> Tensor:
    """The tensor as float16 where that changes no value."""
    half = tensor.half()
    return half if tensor.dtype == torch.float32 and torch.equal(half.float(), tensor) else tensor


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
