"""Networks from ONNX files, as torch modules through which gradients flow.

onnx2pytorch does the conversion; it and onnx are imported only here, and only when they are needed. What it makes is
judged by what it computes: answers for batches of several sizes, and gradients against finite differences.

References: | ONNX | https://onnx.ai/onnx/intro
            | onnx2pytorch | https://github.com/Talmaj/onnx2pytorch
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import devices, formats
from .errors import CakeError
from .rng import generator

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["check", "convert", "operators", "parameter_count"]

EXPORT = '`torch.onnx.export(model, (example,), "teacher.onnx", external_data=False, dynamic_shapes=({0: "batch"},))`'
BRANCHES = ("If", "Loop", "Scan", "SequenceMap")
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
STEPS = (
    "ArgMax", "ArgMin", "Cast", "Ceil", "DequantizeLinear", "DynamicQuantizeLinear", "Floor", "Greater", "Hardmax",
    "Less", "QuantizeLinear", "Round", "Sign", "TopK",
)  # fmt: skip
# What works on text, files and lists: nothing that a teacher needs, and a regular expression may take years.
NO_NUMBERS = (
    "ImageDecoder", "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer",
)  # fmt: skip
MOST_AXES, MOST_SIZE = 64, 2**24  # of what a graph says in whole numbers
REAL = {1: "float32", 10: "float16", 11: "float64"}  # numbers of onnx.TensorProto


def convert(path: Path, shape: tuple[int, ...], name: str = "") -> nn.Module:
    """The network of an ONNX file as a torch module in float32 and eval mode, which gives logits.

    A softmax that stands at the very end is left out: what it is given are logits, and their softmax is what it gave.

    Args:
        path: the file.
        shape: shape of one input.
        name: what to call the file.

    Raises:
        CakeError: the file is damaged, or it holds something that can't be used as a teacher.
    """
    name = formats.plain(name or path.name)
    model = _parsed(path, name)
    _check_graph(model, name)
    _check_inputs(model, shape, name)
    _drop_softmax(model)
    from onnx2pytorch import ConvertModel

    try:
        with warnings.catch_warnings(), devices.bounded_memory(MOST_MEMORY):
            warnings.simplefilter("ignore")  # remarks for those who develop the converter
            network = ConvertModel(model)
    except MemoryError:
        raise CakeError(f"{name} takes too much memory to be converted to torch. Choose a smaller network.") from None
    except Exception as error:  # the file decides what goes wrong there, so it may be anything
        _reraise_if_ours(error)
        raise CakeError(
            f"{name} can't be converted to torch: {_short(error)}. Its operators: {_list(operators(model))}."
        ) from error
    network.stored = _stored(model)
    # The weights now are the module's; a second copy in the graph would be copied along.
    del network.onnx_model.graph.initializer[:]
    return network.float().eval().requires_grad_(False)


def operators(model: ModelProto) -> list[str]:
    """The names of a graph's operators, each once."""
    return sorted({node.op_type for node in model.graph.node})


def parameter_count(network: nn.Module) -> int:
    """Number of stored values: the weights, and what batch normalisation has averaged."""
    return next(m.stored for m in network.modules() if hasattr(m, "stored"))  # it may stand behind a rescaling


def _stored(model: ModelProto) -> int:
    """Number of values of all tensors of floats that a graph stores, whether as initialisers or in Constant nodes."""
    constants = [a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"]
    tensors = (*model.graph.initializer, *constants)
    return sum(math.prod(t.dims) for t in tensors if t.data_type in REAL and len(t.dims))


# To answer a handful of inputs with; no network for small images comes near.
MOST_MEMORY = 4 * 2**30  # bytes
MOST_VALUES = 2**28  # that go into one operation
MOST_SECONDS = 120


def check(network: nn.Module, shape: tuple[int, ...], classes: int, name: str) -> None:
    """Sees by computing whether a network can be a teacher.

    Args:
        network: from inputs (B, *shape) to logits (B, C).
        shape: shape of one input.
        classes: C.
        name: what to call it.

    Raises:
        CakeError: it does not give logits (B, C) for batches of 2 and of 5, its answers depend on chance or on the
            others in the batch, they are probabilities, its gradients are missing or wrong, or it takes too much
            memory.
    """
    try:
        with devices.bounded_memory(MOST_MEMORY), _Bounded(name):
            _check(network, shape, classes, name)
    except (RuntimeError, MemoryError) as error:
        if not devices.is_out_of_memory(error):
            raise
        raise CakeError(
            f"{name} takes more than {MOST_MEMORY >> 30} GB of memory to answer five inputs of {_size(shape)}. "
            "Choose a smaller network."
        ) from None


class _Bounded(TorchDispatchMode):
    """Inside the block no operation is given more values than a network for small images could need, nor is one begun
    when all together have taken too long: a graph of a few bytes can ask for years of work."""

    def __init__(self, name: str):
        super().__init__()
        self.name, self.end = name, time.monotonic() + MOST_SECONDS

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = sum(t.numel() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        if given > MOST_VALUES or time.monotonic() > self.end:
            raise CakeError(
                f"{self.name} has too much to compute for a teacher: an operation on {given:,} values. Choose a "
                "smaller network."
                if given > MOST_VALUES
                else f"{self.name} takes more than {MOST_SECONDS} s to answer five inputs. Choose a smaller network."
            )
        return func(*args, **(kwargs or {}))


def _check(network: nn.Module, shape: tuple[int, ...], classes: int, name: str) -> None:
    x = torch.randn(5, *shape, generator=generator(0))
    with torch.no_grad():
        five, two, again = (_answers(network, part, classes, name).float() for part in (x, x[:2], x))
    if not five.isfinite().all():
        raise CakeError(f"{name} gives answers that are not finite. Look at its weights, and export it again.")
    if not torch.equal(five, again):
        raise CakeError(f"{name} gives another answer each time. Call model.eval() before you export it.")
    if not torch.allclose(five[:2], two, rtol=1e-3, atol=1e-4):
        raise CakeError(
            f"{name}: the answer for one input changes with the others in its batch. Call model.eval() before you "
            "export it, and export it with a dynamic batch axis."
        )
    if (five >= 0).all() and torch.allclose(five.sum(dim=1), torch.ones(5), atol=1e-3):
        raise CakeError(
            f"{name} gives probabilities; a teacher gives logits, what stands before the softmax. Take the softmax "
            "out of the model and export it again."
        )
    _check_gradient(network, shape, classes, name)


# -- the file ---------------------------------------------------------------------------------------------------------


def _parsed(path: Path, name: str) -> ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        raise CakeError(f"{name} is no ONNX file, or it was cut short. Export it again: {EXPORT}.") from None
    if not model.graph.node:
        raise CakeError(f"{name} is no ONNX file of a network: there is no graph in it. Export it again: {EXPORT}.")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model)):
        raise CakeError(f"{name} keeps its weights in a second file. Export it into a single one: {EXPORT}.")
    try:
        if model.functions:
            from onnx.inliner import inline_local_functions

            model = inline_local_functions(model)
        onnx.checker.check_model(model)
    # Of the library in C++: its own, what its assertions are turned into, and names that are no UTF-8.
    except (onnx.checker.ValidationError, RuntimeError, ValueError, TypeError, IndexError) as error:
        raise CakeError(f"{name} is not valid ONNX: {_short(error)}. Export it again: {EXPORT}.") from None
    return model


def _tensors(model: ModelProto):
    """All stored tensors of a graph."""
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)


def _check_graph(model: ModelProto, name: str) -> None:
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise CakeError(
                f"{name} uses the operator {formats.plain(node.op_type)} of {formats.plain(node.domain)}, which is no "
                "part of ONNX. Export it without extensions of a certain runtime."
            )
        if node.op_type in NO_NUMBERS:
            raise CakeError(
                f"{name} uses the operator {node.op_type}, which works on text or on pictures' files. A teacher "
                "computes with numbers alone: leave out of the export what comes before them."
            )
        _check_sizes(node, name)
        if node.op_type in BRANCHES:
            raise CakeError(f"{name} uses the operator {node.op_type}. Networks with loops or branches can't be used.")
        if node.op_type in RANDOM:
            raise CakeError(
                f"{name} uses the operator {node.op_type}, so its answers depend on chance. Call model.eval() before "
                "you export it."
            )


def _check_sizes(node: NodeProto, name: str) -> None:
    """Refuses whole numbers beyond all measure: some are lengths of lists, which fill the memory as they are made."""
    for a in node.attribute:
        axes = a.name in ("axis", "axes")
        endless = node.op_type in ("Slice", "Constant") and not axes  # up to the end, wherever it is
        if any(abs(n) > (MOST_AXES if axes else MOST_SIZE) for n in (a.i, *a.ints)) and not endless:
            raise CakeError(
                f"{name}: {formats.plain(a.name)} of the operator {formats.plain(node.op_type)} is larger than any "
                f"network needs. It is damaged; export it again: {EXPORT}."
            )


def _check_inputs(model: ModelProto, shape: tuple[int, ...], name: str) -> None:
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in stored]
    for what, found in (("inputs", inputs), ("outputs", model.graph.output)):
        if len(found) != 1:
            raise CakeError(f"{name} has {len(found)} {what} ({_list([f.name for f in found])}); a teacher has one.")
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type not in REAL:
        raise CakeError(f"The input of {name} is not of type {_list(list(REAL.values()))}, so it has no gradient.")
    sizes = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]  # None: left open
    if sizes and sizes[0] is not None:
        raise CakeError(
            f"{name} was exported for {sizes[0]} input(s) at a time. Export it with a dynamic batch axis: {EXPORT}."
        )
    if sizes and (
        len(sizes) != 1 + len(shape) or any(a not in (None, b) for a, b in zip(sizes[1:], shape, strict=True))
    ):
        theirs = " x ".join("?" if s is None else str(s) for s in sizes[1:])
        hint = " (channels come first)" if len(shape) == 3 and sizes[3:] == [shape[0]] else ""
        raise CakeError(f"{name} takes inputs of {theirs}, and these are {_size(shape)}{hint}. Choose what it takes.")


def _drop_softmax(model: ModelProto) -> None:
    """Makes logits the output, where the last operator is a softmax over the classes."""
    output = model.graph.output[0]
    last = next((n for n in model.graph.node if output.name in n.output), None)
    if (
        last is None
        or last.op_type != "Softmax"
        or any(a.name == "axis" and a.i not in (1, -1) for a in last.attribute)
    ):
        return
    logits = last.input[0]
    if logits not in {i.name for i in model.graph.input}:
        model.graph.node.remove(last)
        output.name = logits


# -- what it computes -------------------------------------------------------------------------------------------------


def _answers(network: nn.Module, x: Tensor, classes: int, name: str) -> Tensor:
    try:
        logits = network(x)
    except Exception as error:  # as above: operators that others chose, in shapes that others chose
        _reraise_if_ours(error)
        raise CakeError(
            f"{name} can't answer a batch of {len(x)} inputs of {_size(tuple(x.shape[1:]))}: {_short(error)}. If its "
            f"batch size is fixed, export it with a dynamic batch axis: {EXPORT}."
        ) from error
    if isinstance(logits, Tensor) and not logits.is_floating_point():
        raise CakeError(f"{name} answers with {_kind(logits)}; a teacher gives logits, which are real numbers.")
    if not isinstance(logits, Tensor) or logits.shape != (len(x), classes):
        theirs = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if isinstance(logits, Tensor) and logits.dim() == 2 and len(logits) == len(x):
            raise CakeError(
                f"{name} gives {logits.shape[1]} logits for each input, and there are {classes} classes. Choose the "
                "data set, or name the classes, that it was made for."
            )
        raise CakeError(
            f"{name} answers {len(x)} inputs with {theirs}; a teacher gives one row of {classes} logits for each. "
            "Export the part of the model that does."
        )
    return logits


def _kind(values: Tensor) -> str:
    """What numbers a tensor holds, in words."""
    return "complex numbers" if values.is_complex() else f"whole numbers or truth values ({values.dtype})"


def _check_gradient(network: nn.Module, shape: tuple[int, ...], classes: int, name: str) -> None:
    """Compares gradients with central differences, on the coordinates with the largest gradient and on others."""
    rng = generator(1)
    weight = torch.randn(classes, generator=rng, dtype=torch.float64)
    x = torch.randn(2, *shape, generator=rng, dtype=torch.float64)
    f, step, tolerance = copy.deepcopy(network).double(), 1e-5, 0.01
    try:
        with torch.no_grad():
            f(x)
    except Exception as error:  # a graph that names its types can't be had in float64: compare more coarsely
        _reraise_if_ours(error)
        f, step, tolerance, x, weight = network, 1e-2, 0.1, x.float(), weight.float()
    used = operators(next(m.onnx_model for m in network.modules() if hasattr(m, "onnx_model")))
    stopping = [o for o in used if o in STEPS]
    none = CakeError(
        f"No gradient flows back through {name} to its input"
        + (f"; it uses {_list(stopping)}" if stopping else "")
        + ". CAKE needs gradients: export the network as it was trained, without quantisation."
    )
    try:
        x.requires_grad_()
        (gradient,) = torch.autograd.grad((f(x) * weight).sum(), x)
    except Exception as error:  # as above: it may compute something else for these inputs
        _reraise_if_ours(error)
        raise none from error
    if not gradient.isfinite().all() or not gradient.any():
        raise none
    flat = gradient.flatten()
    largest = flat.abs().topk(min(6, flat.numel())).indices
    others = torch.randint(flat.numel(), (4,), generator=rng)
    wrong, chosen = 0, torch.cat([largest, others]).unique()
    with torch.no_grad():
        for i in chosen:
            moved = [x.detach().flatten().index_add(0, i[None], flat.new_tensor([d])) for d in (step, -step)]
            try:
                up, down = ((f(m.view_as(x)) * weight).sum() for m in moved)
            except Exception as error:
                _reraise_if_ours(error)
                raise CakeError(
                    f"{name} answers some inputs and fails at others that hardly differ: {_short(error)}. It uses "
                    f"{_list(used)}; export a network that does the same with every input."
                ) from error
            wrong += bool(((up - down) / (2 * step) - flat[i]).abs() > tolerance * flat.abs().max())
    if wrong > len(chosen) // 4:  # one or two may sit on a kink, as those of ReLU and max-pooling
        raise CakeError(
            f"The gradients of {name} are not those of its answers ({wrong} of {len(chosen)} differ from finite "
            f"differences). An operator was not converted well; it uses {_list(used)}."
        )


def _reraise_if_ours(error: Exception) -> None:
    """A full memory is no fault of the file's form, and is told elsewhere."""
    if isinstance(error, MemoryError | CakeError) or devices.is_out_of_memory(error):
        raise error


def _short(error: Exception) -> str:
    line = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return line if len(line) <= 200 else line[:200] + "..."


def _list(names: list[str], most: int = 12) -> str:
    return formats.some(names, most) or "none"


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
