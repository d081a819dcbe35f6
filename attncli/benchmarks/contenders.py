"""The implementations that can be measured: ours, the bare matrix products, and other libraries.

Each is made from one cell's tensors and gives two functions without arguments: forward alone, and
forward with backward.  Both return their results, so that these can be compared too.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.core import Cache, attention, attention_backward
from attncli.core.engines import WAYS
from attncli.operations import OPERATIONS, Execution, run
from attncli.reports import Cell

PEERS = ("torch", "jax", "onnxruntime")
OURS = ("core", *WAYS, "loop")  # core chooses among the ways by size; loop is the book's
PRODUCTS = "products"


class Contender(NamedTuple):
    """An implementation, ready to run on one cell.

    Attributes
    ----------
    forward : callable
        Returns out.
    both : callable or None
        Returns out, dquery, dkey and dvalue; None where there is no backward.
    """

    forward: Callable[[], Any]
    both: Callable[[], tuple[Any, ...]] | None


def tensors(cell: Cell) -> tuple[Array, Array, Array, Array]:
    """Draw query, key, value and dout (N, T, H)."""
    rng = np.random.default_rng(0)
    drawn = [rng.standard_normal((cell.N, cell.T, cell.H)).astype(cell.dtype) for _ in range(4)]
    return drawn[0], drawn[1], drawn[2], drawn[3]


def options_of(cell: Cell) -> dict[str, Any]:
    """Return what a cell hides, as the core takes it."""
    options: dict[str, Any] = {"window": cell.window}
    options["causal"] = "upper_left" if cell.causal else None
    options["segments"] = cell.ids() if cell.segments > 1 else None
    return options


def make(name: str, cell: Cell, threads: int) -> Contender:
    """Make a contender by its name.

    Raises
    ------
    ImportError
        If it is another library that is not installed.
    """
    if name in PEERS:
        return {"torch": _torch, "jax": _jax, "onnxruntime": _onnxruntime}[name](cell, threads)
    if name == PRODUCTS:
        return _products(cell)
    return _loop(cell) if name == "loop" else _core(cell, threads, name)


def is_installed(peer: str) -> bool:
    """Tell whether a library is there, without importing it."""
    return importlib.util.find_spec(peer) is not None


def _core(cell: Cell, threads: int, name: str) -> Contender:
    query, key, value, dout = tensors(cell)
    engine, weights = ("auto", None) if name == "core" else WAYS[name]

    def forward() -> tuple[Array, Cache]:
        return attention(
            query, key, value, **options_of(cell), threads=threads, engine=engine, weights=weights
        )

    def both() -> tuple[Any, ...]:
        out, cache = forward()
        return out, *attention_backward(dout, cache)

    return Contender(lambda: forward()[0], both)


def _loop(cell: Cell) -> Contender:
    """The book's loop: TimeAttention, whose key is its value, by its layers."""
    hs_dec, hs_enc, _, dout = tensors(cell)
    operation, inputs = OPERATIONS["time-attention"], {"hs_enc": hs_enc, "hs_dec": hs_dec}
    execution = Execution("reference")

    def both() -> tuple[Any, ...]:
        done = run(operation, inputs, execution=execution)
        return done.results["out"], *done.backward(dout).values()

    return Contender(lambda: run(operation, inputs, execution=execution).results["out"], both)


def _products(cell: Cell) -> Contender:
    """The two matrix products of forward with nothing between them: the floor."""
    query, key, value, _ = tensors(cell)
    scores = np.empty((cell.T, cell.T), cell.dtype)
    out = np.empty_like(value)

    def forward() -> Any:
        for n in range(cell.N):
            np.matmul(query[n], key[n].T, out=scores)
            np.matmul(scores, value[n], out=out[n])
        return out

    return Contender(forward, None)


def _torch(cell: Cell, threads: int) -> Contender:
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    query, key, value, dout = (torch.from_numpy(x) for x in tensors(cell))
    leaves = [x[:, None].requires_grad_(True) for x in (query, key, value)]
    attend = torch.nn.functional.scaled_dot_product_attention

    def forward() -> Any:
        with torch.no_grad():
            return attend(*leaves, is_causal=cell.causal)[:, 0].numpy()

    def both() -> tuple[Any, ...]:
        out = attend(*leaves, is_causal=cell.causal)
        gradients = torch.autograd.grad(out, leaves, dout[:, None])
        return out.detach()[:, 0].numpy(), *(x[:, 0].numpy() for x in gradients)

    return Contender(forward, both)


def _jax(cell: Cell, threads: int) -> Contender:
    jax: Any = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    query, key, value, dout = (jax.numpy.asarray(x[:, :, None]) for x in tensors(cell))

    def attend(query: Any, key: Any, value: Any) -> Any:
        return jax.nn.dot_product_attention(query, key, value, is_causal=cell.causal)

    def with_gradients(query: Any, key: Any, value: Any, dout: Any) -> Any:
        out, back = jax.vjp(attend, query, key, value)
        return out, *back(dout)

    forward, both = jax.jit(attend), jax.jit(with_gradients)
    return Contender(
        lambda: jax.block_until_ready(forward(query, key, value))[:, :, 0],
        lambda: tuple(x[:, :, 0] for x in jax.block_until_ready(both(query, key, value, dout))),
    )


def _onnxruntime(cell: Cell, threads: int) -> Contender:
    onnxruntime: Any = importlib.import_module("onnxruntime")
    onnx: Any = importlib.import_module("onnx")
    TensorProto, helper = onnx.TensorProto, onnx.helper

    kind = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}[cell.dtype]
    shape = [cell.N, 1, cell.T, cell.H]
    node = helper.make_node("Attention", ["Q", "K", "V"], ["Y"], is_causal=int(cell.causal))
    graph = helper.make_graph(
        [node],
        "attention",
        [helper.make_tensor_value_info(name, kind, shape) for name in "QKV"],
        [helper.make_tensor_value_info("Y", kind, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    model.ir_version = 11
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = dict(zip("QKV", (x[:, None] for x in tensors(cell)[:3]), strict=True))
    return Contender(lambda: session.run(None, feed)[0][:, 0], None)
