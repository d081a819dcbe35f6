"""The gradients of our own layers and engines: right ones pass, every planted fault fails."""

import dataclasses

import numpy as np
import pytest

from attncli.checking.derivatives.judging import Moved, compare_gradient, differentiate
from attncli.checking.derivatives.judging import gradient_tolerance as allowing
from attncli.checking.derivatives.proof import gradcheck
from attncli.checking.targets import operation_target
from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.errors import ParameterError, ShapeError
from attncli.operations import OPERATIONS, WITH_WEIGHTS
from attncli.operations.layout import Layout

METHODS = ["complex", "central"]
EACH = 1 + len(operation_target.ENGINES)  # times is attention as a whole computed


@pytest.mark.parametrize("method", METHODS)
def test_our_layers_pass(method):
    report = gradcheck(method=method)
    assert report.passed
    found = {(check.layer, check.engine): check.elements for check in report.checks}
    assert set(found) == {
        *((part, "reference") for part in ("softmax", "weight-sum", "attention-weight")),
        *(
            (whole, engine)
            for whole in ("attention", "time-attention", "scaled-dot-product")
            for engine in ("reference", *operation_target.ENGINES)
        ),
    }
    by_layer = {check.layer: 0 for check in report.checks}
    for check in report.checks:
        by_layer[check.layer] += check.elements
    assert by_layer == {
        "softmax": 3 * 5 * 7,
        "weight-sum": 3 * 7 * 4 + 3 * 7,
        "attention-weight": 3 * 7 * 4 + 3 * 4,
        "attention": EACH * (3 * 7 * 4 + 3 * 4),
        "time-attention": EACH * (3 * 7 * 4 + 3 * 5 * 4),
        "scaled-dot-product": EACH * (3 * 5 * 4 + 3 * 7 * 4 + 3 * 7 * 6),
    }


def test_complex_step_is_exact_to_rounding():
    assert gradcheck().worst.absolute_error < 2e-15


@pytest.mark.parametrize("size", ["N", "T_dec", "T_enc", "H"])
def test_sizes_of_one_pass(size):
    assert gradcheck(sizes={"N": 3, "T_dec": 5, "T_enc": 7, "H": 4} | {size: 1}).passed


@pytest.mark.parametrize("seed", range(5))
def test_every_seed_passes(seed):
    assert gradcheck(seed=seed).passed


@pytest.mark.parametrize("size", ["N", "T_dec", "T_enc", "H"])
@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_layers_with_weights_pass_by_name(name, size):
    report = gradcheck(OPERATIONS[name], sizes={size: 1})
    assert report.passed
    assert report.tolerance == 1e-12
    assert [check.input for check in report.checks] == list(OPERATIONS[name].inputs)


# Faults: each is one mistake in the backward pass of one layer.


def planted(name, change):
    """Return the operation with ``change(layer, gradients, dout)`` applied to its gradients."""
    operation = OPERATIONS[name]

    class Wrong(operation.layer):
        def backward(self, dout):
            return change(self, super().backward(dout), dout)

    return dataclasses.replace(operation, layer=Wrong)


def one_element(index, factor):
    def change(layer, gradients, dout):
        first, *rest = (g.copy() for g in gradients)
        first[index] *= factor
        return (first, *rest)

    return change


def without_sum_in_softmax(layer, gradient, dout):
    return layer.out * dout


def softmax_elementwise(layer, gradient, dout):
    return layer.out * (1 - layer.out) * dout


def softmax_plus_instead_of_minus(layer, gradient, dout):
    return layer.out * (dout + (layer.out * dout).sum(axis=-1, keepdims=True))


def softmax_sum_over_wrong_axis(layer, gradient, dout):
    return layer.out * (dout - (layer.out * dout).sum(axis=1, keepdims=True))


def only_value_path(layer, gradients, dout):
    return layer.weight_sum_layer.backward(dout)[0], gradients[1]


def only_score_path(layer, gradients, dout):
    _, da = layer.weight_sum_layer.backward(dout)
    return layer.attention_weight_layer.backward(da)[0], gradients[1]


def only_last_step(layer, gradients, dout):
    return layer.layers[-1].backward(dout[:, -1])[0], gradients[1]


def steps_overwritten(layer, gradients, dout):
    dhs_dec = np.repeat(gradients[1][:, -1:], dout.shape[1], axis=1)
    return gradients[0], dhs_dec


def batch_summed(layer, gradients, dout):
    dhs, da = gradients
    return np.broadcast_to(dhs.sum(axis=0), dhs.shape), da


def mean_instead_of_sum(layer, gradients, dout):
    dhs, da = gradients
    return dhs, da / dout.shape[-1]


def parameter_gradient(which, change):
    """Return a fault of one of the arrays in ``grads``."""

    def faulty(layer, gradients, dout):
        layer.grads[which][...] = change(layer.grads[which])
        return gradients

    return faulty


def steps_reversed(layer, gradients, dout):
    return gradients[0], gradients[1][:, ::-1]


FAULTS = {
    "dropped Σ in softmax": ("softmax", without_sum_in_softmax),
    "softmax as if element-wise": ("softmax", softmax_elementwise),
    "wrong sign in softmax": ("softmax", softmax_plus_instead_of_minus),
    "softmax summed over the wrong axis": ("softmax", softmax_sum_over_wrong_axis),
    "negated": ("weight-sum", lambda layer, g, dout: (-g[0], g[1])),
    "batch items mixed": ("weight-sum", batch_summed),
    "mean instead of sum": ("weight-sum", mean_instead_of_sum),
    "second gradient zero": ("attention-weight", lambda layer, g, dout: (g[0], 0 * g[1])),
    "value path alone": ("attention", only_value_path),
    "score path alone": ("attention", only_score_path),
    "last step alone": ("time-attention", only_last_step),
    "every step the last": ("time-attention", steps_overwritten),
    "steps reversed": ("time-attention", steps_reversed),
    "factor 1 + 1e-9": ("time-attention", lambda layer, g, dout: (g[0] * (1 + 1e-9), g[1])),
    "factor 2": ("attention", lambda layer, g, dout: (g[0], 2 * g[1])),
    "one element": ("time-attention", one_element((2, 6, 3), 1.01)),
    "one element is NaN": ("time-attention", one_element((0, 0, 0), np.nan)),
    "dW of one item alone": ("luong", parameter_gradient(0, lambda dW: dW / 3)),
    "dW not written": ("luong", parameter_gradient(0, np.zeros_like)),
    "one element of dW": ("luong", parameter_gradient(0, lambda dW: dW + 1e-9 * (dW == dW.max()))),
    "dW_dec negated": ("bahdanau", parameter_gradient(1, np.negative)),
    "dv reversed": ("bahdanau", parameter_gradient(2, lambda dv: dv[::-1].copy())),
    "heads of dWq exchanged": (
        "multi-head",
        parameter_gradient(0, lambda dW: np.roll(dW, dW.shape[1] // 2, axis=1)),
    ),
    "dWo factor 1 + 1e-9": ("multi-head", parameter_gradient(3, lambda dW: dW * (1 + 1e-9))),
    "constant added": ("weight-sum", lambda layer, g, dout: (g[0] + 1e-9, g[1])),
}


@pytest.mark.filterwarnings("ignore:.*not finite")
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_caught(fault):
    name, change = FAULTS[fault]
    report = gradcheck(planted(name, change))
    assert not report.passed


def test_one_wrong_element_is_found_where_it_is():
    report = gradcheck(planted("time-attention", one_element((2, 6, 3), 1.01)))
    wrong, right = (check for check in report.checks if check.engine == "reference")
    assert (wrong.input, wrong.worst, wrong.passed) == ("hs_enc", (2, 6, 3), False)
    assert wrong.backward == pytest.approx(1.01 * wrong.derivative)
    assert right.passed


@pytest.mark.filterwarnings("ignore:.*not finite")
def test_nan_is_an_error_of_any_size():
    report = gradcheck(planted("time-attention", one_element((1, 1, 1), np.nan)))
    assert report.worst.relative_error == np.inf


def test_gradient_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"dx is \(2,\), expected the shape of x, \(3,\)"):
        compare_gradient("mine", "x", np.zeros(2), np.zeros(3), allowing(1e-9))


def test_rounding_beside_large_elements_is_no_error():
    derivative = np.array([1.0, 1e-9])
    assert compare_gradient("mine", "x", derivative + 1e-16, derivative, allowing(1e-12)).passed


@pytest.mark.parametrize("tolerance", [0.0, -1.0, np.nan])
def test_tolerance_must_be_positive(tolerance):
    with pytest.raises(ParameterError, match="expected more than 0"):
        gradcheck(tolerance=tolerance)


# Engines


def mistaken(monkeypatch, name, **wrong):
    """Let one engine give something else."""
    execution = operation_target.ENGINES[name]
    run = operation_target.run

    def changed(operation, inputs, **options):
        done = run(operation, inputs, **options)
        if options["execution"] != execution:
            return done
        return Wrong(done, **wrong)

    class Wrong:
        def __init__(self, done, out=lambda out: out, gradient=lambda gradient: gradient):
            self.results = {name: out(x) for name, x in done.results.items()}
            self.backward = lambda dout: {
                name: gradient(x) for name, x in done.backward(dout).items()
            }

    monkeypatch.setattr(operation_target, "run", changed)


@pytest.mark.parametrize("engine", operation_target.ENGINES)
def test_every_engine_is_held_against_the_same_derivative(monkeypatch, engine):
    mistaken(monkeypatch, engine, gradient=lambda x: x * (1 + 1e-11))
    report = gradcheck(OPERATIONS["time-attention"])
    assert not report.passed
    assert {check.engine for check in report.checks if not check.passed} == {engine}
    assert report.problems == ()


@pytest.mark.parametrize("engine", operation_target.ENGINES)
def test_every_engines_results_are_held_against_the_references(monkeypatch, engine):
    mistaken(monkeypatch, engine, out=lambda x: x * (1 + 1e-11))
    report = gradcheck(OPERATIONS["scaled-dot-product"])
    assert not report.passed
    assert all(check.passed for check in report.checks)
    assert [text.split(" at ")[0] for text in report.problems] == [
        f"{engine}: out is off by 1.0e-11,"
    ]
    assert not gradcheck().passed


def test_what_our_code_raises_is_a_bug_of_ours_and_no_fault_of_a_target(monkeypatch):
    def raising(*arguments, **options):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(operation_target, "run", raising)
    with pytest.raises(ZeroDivisionError, match="ours"):
        gradcheck(OPERATIONS["softmax"])


# Derivatives


@pytest.mark.parametrize(("method", "error"), [("complex", 1e-15), ("central", 1e-10)])
@pytest.mark.parametrize("whole", [False, True])
def test_derivative_of_a_known_function(method, error, whole):
    x, y = np.array([[0.3, -1.2], [2.0, 0.1]]), np.array([0.5, 2.0])
    dout = np.array([1.0, -3.0])

    def derivative(which):
        real = [x.copy(), y.copy()]
        wide = [x.astype(complex), y.astype(complex)]

        def moved(arrays):
            return Moved(lambda: np.exp(arrays[0]) @ arrays[1], arrays[which], "float64")

        analytic = moved(wide) if method == "complex" else None
        found = differentiate(moved(real), dout, analytic=analytic, whole=whole)
        # What was moved is put back.
        assert all(map(np.array_equal, (*real, *wide), (x, y, x, y)))
        return found

    by_x, by_y = derivative(0), derivative(1)
    np.testing.assert_allclose(by_x.gradient, np.outer(dout, y) * np.exp(x), rtol=error)
    np.testing.assert_allclose(by_y.gradient, dout @ np.exp(x), rtol=error)
    if whole:
        np.testing.assert_allclose(by_y.jacobian, np.exp(x).T, rtol=error)
    else:
        assert by_y.jacobian is None


@pytest.mark.parametrize("options", [
    {"extras": Extras(sinks=[0.0] * 2), "semantics": Semantics(causal="lower_right")},
    {"extras": Extras(alibi=[0.0] * 2), "semantics": Semantics(window=(2, 1), softcap=1.5)},
    {"extras": Extras(sinks=[0.0] * 2, alibi=[0.0] * 2, kv_lengths=[7, 3, 5])},
    {"extras": Extras(segments=(np.arange(5) // 2, np.arange(7) // 3), sinks=[0.0] * 2)},
    {"extras": Extras(cu_seqlens=[0, 2, 5], cu_seqlens_k=[0, 3, 7], alibi=[0.0] * 2)},
    {"extras": Extras(keep=np.eye(5, 7) == 0), "semantics": Semantics(keep_prob=0.6)},
])  # fmt: skip
def test_every_option_is_proved_with_every_engine(options):
    operation = OPERATIONS["scaled-dot-product"]
    layout = Layout.of(operation, {}, {"heads": 2})
    report = gradcheck(operation_target.operation_target(operation, **options, layout=layout))
    assert report.passed
    assert report.worst.relative_error < 1e-12
    beside = {name for name in ("sinks", "alibi") if name in options["extras"].given()}
    found = {(check.engine, check.input) for check in report.checks}
    every = {"query", "key", "value", *beside}
    assert found == {(e, x) for e in ("reference", *operation_target.ENGINES) for x in every}
