"""ONNX: networks of ours, exported and brought back, are the same; what can't be a teacher gets a sentence."""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from cake_core import models, onnx_network
from cake_core.errors import CakeError
from cake_core.oracle import frozen_copy

SHAPE = (1, 8, 8)


def export(network: nn.Module, path: Path, shape=SHAPE, *, batch: bool = True, **options) -> Path:
    """As the app's own sentence says, with torch's default exporter; or with the older one (dynamo=False)."""
    example = torch.randn(2, *shape)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if options.get("dynamo", True):
            axes = {"dynamic_shapes": ({0: "batch"},)} if batch else {}
            options = {"external_data": False, "verbose": False, **axes, **options}
        else:
            options |= {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
        torch.onnx.export(network.eval(), (example,), path, **options)
    return path


def trained_like(name: str, shape, classes: int) -> nn.Module:
    """A network whose batch normalisation has seen something."""
    network = models.build(name, shape, classes, seed=3)
    rng = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=rng)
            module.running_var.uniform_(0.5, 2, generator=rng)
    return network.eval()


@pytest.fixture(scope="module")
def lenet_file(tmp_path_factory) -> tuple[nn.Module, Path]:
    network = trained_like("lenet5", SHAPE, 10)
    return network, export(network, tmp_path_factory.mktemp("onnx") / "lenet.onnx")


def same(network: nn.Module, brought: nn.Module, shape) -> None:
    """The same logits and the same gradients, for batches of 2 and of 5."""
    rng = torch.Generator().manual_seed(1)
    for batch in (2, 5):
        x = torch.randn(batch, *shape, generator=rng).requires_grad_()
        ours, theirs = network(x), brought(x)
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
        weight = torch.randn(ours.shape, generator=rng)
        gradients = [torch.autograd.grad((z * weight).sum(), x)[0] for z in (ours, theirs)]
        # As a whole: of many thousand rectified units one may be so near zero that rounding decides whether it counts.
        assert torch.dist(*gradients) < 0.02 * gradients[0].norm()


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("lenet5", SHAPE, {}),
        ("lenet5", (1, 28, 28), {"dynamo": False, "opset_version": 13}),
        ("resnet4", (1, 28, 28), {}),
        ("resnet4", (3, 32, 32), {"dynamo": False, "opset_version": 17}),
        ("mlp", (2,), {}),
    ],
)
def test_what_was_exported_comes_back(tmp_path, name, shape, options):
    network = trained_like(name, shape, 4)
    brought = onnx_network.convert(export(network, tmp_path / "t.onnx", shape, **options), shape)
    onnx_network.check(brought, shape, 4, "t.onnx")
    same(network, brought, shape)
    same(network, copy.deepcopy(brought), shape)
    same(network, frozen_copy(brought, "cpu"), shape)  # frozen, channels last
    assert not brought.training
    assert onnx_network.parameter_count(brought) >= 0.98 * models.parameter_count(network)


def test_weights_in_constant_nodes_are_counted_too(lenet_file):
    network, path = lenet_file
    model = onnx.load(path)
    for tensor in list(model.graph.initializer):
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]
    assert onnx_network._stored(model) >= 0.98 * models.parameter_count(network)


def test_a_softmax_at_the_end_is_left_out(tmp_path, lenet_file):
    network, _ = lenet_file
    path = export(nn.Sequential(network, nn.Softmax(dim=1)), tmp_path / "t.onnx")
    brought = onnx_network.convert(path, SHAPE)
    onnx_network.check(brought, SHAPE, 10, "t.onnx")
    same(network, brought, SHAPE)


def test_probabilities_by_other_means_are_refused(tmp_path, lenet_file):
    class Probabilities(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            e = self.network(x).exp()
            return e / e.sum(dim=1, keepdim=True)

    path = export(Probabilities(lenet_file[0]), tmp_path / "t.onnx")
    with pytest.raises(CakeError, match="gives probabilities; a teacher gives logits"):
        onnx_network.check(onnx_network.convert(path, SHAPE), SHAPE, 10, "t.onnx")


def test_a_log_softmax_is_as_good_as_logits(tmp_path, lenet_file):
    path = export(nn.Sequential(lenet_file[0], nn.LogSoftmax(dim=1)), tmp_path / "t.onnx")
    onnx_network.check(onnx_network.convert(path, SHAPE), SHAPE, 10, "t.onnx")


def test_a_fixed_batch_size_says_how_to_export(tmp_path, lenet_file):
    path = export(lenet_file[0], tmp_path / "t.onnx", batch=False)
    with pytest.raises(CakeError, match=r"exported for 2 input\(s\) at a time.*dynamic_shapes"):
        onnx_network.convert(path, SHAPE)


def test_weights_in_a_second_file_are_refused(tmp_path, lenet_file):
    path = export(lenet_file[0], tmp_path / "t.onnx", external_data=True)
    assert path.with_suffix(".onnx.data").is_file()
    with pytest.raises(CakeError, match=r"weights in a second file.*external_data=False"):
        onnx_network.convert(path, SHAPE)


def test_other_inputs_and_other_classes_are_refused(lenet_file):
    _, path = lenet_file
    with pytest.raises(CakeError, match="takes inputs of 1 x 8 x 8, and these are 1 x 28 x 28"):
        onnx_network.convert(path, (1, 28, 28))
    with pytest.raises(CakeError, match="takes inputs of 1 x 8 x 8, and these are 2"):
        onnx_network.convert(path, (2,))
    with pytest.raises(CakeError, match="gives 10 logits for each input, and there are 7 classes"):
        onnx_network.check(onnx_network.convert(path, SHAPE), SHAPE, 7, "t.onnx")


def test_answers_of_another_form_are_refused(tmp_path, lenet_file):
    path = export(nn.Sequential(lenet_file[0], nn.Unflatten(1, (2, 5))), tmp_path / "t.onnx")
    with pytest.raises(CakeError, match=r"answers 5 inputs with \(5, 2, 5\); a teacher gives one row of 10 logits"):
        onnx_network.check(onnx_network.convert(path, SHAPE), SHAPE, 10, "t.onnx")


def test_damaged_files_are_refused(tmp_path, lenet_file):
    content = lenet_file[1].read_bytes()
    for broken in (content[: len(content) // 2], content[:-1], b"\x08" + bytes(range(200)), b"hello there " * 20):
        path = tmp_path / "t.onnx"
        path.write_bytes(broken)
        with pytest.raises(CakeError, match="no ONNX file|not valid ONNX"):
            onnx_network.convert(path, SHAPE)


# -- graphs written by hand --------------------------------------------------------------------------------------------


def graph(
    tmp_path, nodes, *, weights=(), inputs=None, outputs=("z",), opset=18, dtype=TensorProto.FLOAT, extra=()
) -> Path:
    """A file with these nodes, from inputs x (B, 2) to z (B, 3)."""
    given = inputs or [helper.make_tensor_value_info("x", dtype, ["batch", 2])]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in outputs]
    stored = [numpy_helper.from_array(np.asarray(v), name) for name, v in weights]
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in extra)]
    model = helper.make_model(helper.make_graph(nodes, "g", given, made, stored), opset_imports=imports, ir_version=10)
    path = tmp_path / "t.onnx"
    onnx.save(model, path)
    return path


W = np.random.default_rng(0).standard_normal((2, 3)).astype("f4")
MATMUL = helper.make_node("MatMul", ["x", "w"], ["h"])


def judged(path: Path, classes: int = 3) -> None:
    network = onnx_network.convert(path, (2,))
    onnx_network.check(network, (2,), classes, path.name)


def test_a_graph_by_hand_is_taken(tmp_path):
    judged(graph(tmp_path, [MATMUL, helper.make_node("Tanh", ["h"], ["z"])], weights=[("w", W)]))


def test_float16_weights_and_inputs_become_float32(tmp_path):
    path = graph(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["z"])], weights=[("w", W.astype("f2"))], dtype=10)
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.elem_type = 10
    onnx.save(model, path)
    network = onnx_network.convert(path, (2,))
    torch.testing.assert_close(network(torch.eye(2)), torch.from_numpy(W.astype("f2")).float())


@pytest.mark.parametrize("op", ["Round", "Sign", "Floor"])
def test_operators_that_stop_the_gradient_are_refused_by_name(tmp_path, op):
    path = graph(tmp_path, [MATMUL, helper.make_node(op, ["h"], ["z"])], weights=[("w", W)])
    with pytest.raises(CakeError, match=f"No gradient flows back through t.onnx to its input; it uses `{op}`"):
        judged(path)


def test_random_operators_and_branches_are_refused(tmp_path):
    nodes = [MATMUL, helper.make_node("RandomNormalLike", ["h"], ["r"]), helper.make_node("Add", ["h", "r"], ["z"])]
    with pytest.raises(CakeError, match="RandomNormalLike, so its answers depend on chance"):
        judged(graph(tmp_path, nodes, weights=[("w", W)]))
    body = helper.make_graph([helper.make_node("Identity", ["h"], ["b"])], "b", [], [onnx.ValueInfoProto(name="b")])
    branch = helper.make_node("If", ["yes"], ["z"], then_branch=body, else_branch=body)
    weights = [("w", W), ("yes", np.array(True))]
    with pytest.raises(CakeError, match="Networks with loops or branches|not valid ONNX"):
        judged(graph(tmp_path, [MATMUL, branch], weights=weights))


def test_operators_of_others_are_refused(tmp_path):
    node = helper.make_node("FusedMatMul", ["x", "w"], ["z"], domain="com.microsoft")
    with pytest.raises(CakeError, match="operator FusedMatMul of com.microsoft, which is no part of ONNX"):
        judged(graph(tmp_path, [node], weights=[("w", W)], extra=["com.microsoft"]))


def test_operators_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(CakeError, match="not valid ONNX: No Op registered for Frobnicate"):
        judged(graph(tmp_path, [helper.make_node("Frobnicate", ["x"], ["z"])]))


def test_what_the_converter_can_not_do_is_told(tmp_path, monkeypatch):
    import onnx2pytorch

    def fail(model):
        raise NotImplementedError("Conversion not implemented for op_type=MatMul.")

    monkeypatch.setattr(onnx2pytorch, "ConvertModel", fail)
    path = graph(tmp_path, [MATMUL, helper.make_node("Tanh", ["h"], ["z"])], weights=[("w", W)])
    with pytest.raises(CakeError, match="can't be converted to torch: Conversion not implemented.*`MatMul`, `Tanh`"):
        judged(path)


def test_several_inputs_or_outputs_are_refused(tmp_path):
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 2]) for n in ("x", "y")]
    nodes = [helper.make_node("Add", ["x", "y"], ["s"]), helper.make_node("MatMul", ["s", "w"], ["z"])]
    with pytest.raises(CakeError, match=r"has 2 inputs \(`x`, `y`\); a teacher has one"):
        judged(graph(tmp_path, nodes, weights=[("w", W)], inputs=inputs))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Relu", ["z"], ["v"])]
    with pytest.raises(CakeError, match="has 2 outputs"):
        judged(graph(tmp_path, nodes, weights=[("w", W)], outputs=("z", "v")))


def test_inputs_of_whole_numbers_are_refused(tmp_path):
    nodes = [helper.make_node("Cast", ["x"], ["f"], to=1), helper.make_node("MatMul", ["f", "w"], ["z"])]
    with pytest.raises(CakeError, match="so it has no gradient"):
        judged(graph(tmp_path, nodes, weights=[("w", W)], dtype=TensorProto.UINT8))


def test_answers_that_depend_on_the_batch_are_refused(tmp_path):
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["c"]),
        helper.make_node("MatMul", ["c", "w"], ["z"]),
    ]
    with pytest.raises(CakeError, match="changes with the others in its batch"):
        judged(graph(tmp_path, nodes, weights=[("w", W), ("axes", np.array([0]))]))


def test_answers_that_are_not_finite_are_refused(tmp_path):
    broken = W.copy()
    broken[0, 0] = np.nan
    with pytest.raises(CakeError, match="answers that are not finite"):
        judged(graph(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["z"])], weights=[("w", broken)]))


def test_wrong_gradients_are_noticed():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sin()

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.onnx_model = onnx.ModelProto()

        def forward(self, x):
            return Wrong.apply(x) @ torch.from_numpy(W).to(x.dtype)

    with pytest.raises(CakeError, match="differ from finite differences"):
        onnx_network.check(Network(), (2,), 3, "t.onnx")


def test_functions_inside_a_file_are_unfolded(tmp_path):
    double = helper.make_function(
        "mine", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    nodes = [MATMUL, helper.make_node("Double", ["h"], ["z"], domain="mine")]
    path = graph(tmp_path, nodes, weights=[("w", W)], extra=["mine"])
    model = onnx.load(path)
    model.functions.append(double)
    onnx.save(model, path)
    judged(path)
    torch.testing.assert_close(onnx_network.convert(path, (2,))(torch.eye(2)), 2 * torch.from_numpy(W))
