"""A target: somebody's layer, which can be started, run forward and walked back."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import EXACT, near
from attncli.checking.targets.arguments import (
    Parameters,
    as_options,
    beside,
    constructed,
    meanings,
    neutral,
    nothing,
    order_of,
    parameters_of,
    parted,
    require_known,
    sizes_said,
    takes_any,
)
from attncli.checking.targets.calling import Calls, Facts
from attncli.checking.targets.frameworks.adapter import NUMPY, Adapter, Pull
from attncli.checking.targets.frameworks.loaded import candidates, loaded, owner, plain
from attncli.checking.targets.given import Given, Shapes, Sizes
from attncli.checking.targets.parameters import Weights, weights_of
from attncli.checking.targets.their_code import Printed, running
from attncli.checking.targets.walking_back import first, walk_back
from attncli.checking.targets.wire import Foreign, array_or_none
from attncli.errors import CodeError, TargetError
from attncli.operations import OPERATIONS, WITH_WEIGHTS
from attncli.tensors import axes_of, default_axes, random_tensor

# What people call the result where they give others beside it.
_LOGSUMEXP = ("lse", "logsumexp", "softmax_lse", "log_sum_exp")
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Target:
    """Somebody's layer.

    Attributes
    ----------
    name : str
        Of the class or function.
    where : str
        How the user named it, for messages.
    file : str or None
        The file it is from.
    inputs : tuple of str
        The arrays that forward takes.
    options : mapping of str to object
        Its other arguments, and their defaults; ``...`` where it must be given one.
    start_with : callable
        ``start_with(sizes, given, seed)`` gives an object with forward and backward, or a `Layer`.
    has_backward : bool
        Of its own, or that of a framework whose arrays it may take: its first call shows that.
    fault : TargetError or None
        Why it cannot be started, where that is known already: it is incomplete.
    given : Given
        What is said of it beside its name.
    calls : Calls
        The circumstances of its calls.
    printed : Printed
        Where what its calls print goes.
    engine : str
        Who computes it: "own" where it is somebody's own code, else one of our engines.
    others : tuple of Target
        What computes the same, from the same inputs.
    renew : callable or None
        Gives the same target in a process that nobody has called yet.
    end : callable
        Ends the process that it runs in, if it has one.
    revive : callable
        Lets another process take the place of one that has ended by itself.
    shape_with : callable or None
        ``shape_with(sizes)`` gives the shapes of inputs, where their names do not say them.
    one_step : bool
        Whether the state that looks at others has an axis for its step, which is its only one.
    is_arranged : bool
        Whether the layout that was said of it is seen to.
    is_alike : bool
        Whether it has as many queries as keys, and as many heads of both.
    blocks : mapping of str to int
        Of what its sizes are multiples.
    frameworks : tuple of str
        Whose arrays it may take beside NumPy's: its code has loaded them.
    takes, made_of : tuple of Parameter
        What forward and the constructor take; nothing of what is ours.
    """

    name: str
    where: str
    file: str | None
    inputs: tuple[str, ...]
    options: Mapping[str, Any]
    start_with: Callable[[Sizes, Given, int], Any]
    has_backward: bool = True
    fault: TargetError | None = None
    given: Given = field(default_factory=Given)
    calls: Calls = field(default_factory=Calls, compare=False, repr=False)
    printed: Printed = field(default_factory=Printed, compare=False, repr=False)
    engine: str = "own"
    others: "tuple[Target, ...]" = ()
    renew: "Callable[[], Target] | None" = field(default=None, compare=False, repr=False)
    end: Callable[[], None] = field(default=lambda: None, compare=False, repr=False)
    revive: Callable[[], None] = field(default=lambda: None, compare=False, repr=False)
    shape_with: Callable[[Sizes], Shapes] | None = None
    one_step: bool = False
    is_arranged: bool = False
    is_alike: bool = False
    blocks: Mapping[str, int] = field(default_factory=dict)
    frameworks: tuple[str, ...] = ()
    takes: Parameters = field(default=(), compare=False, repr=False)
    made_of: Parameters = field(default=(), compare=False, repr=False)

    @property
    def published(self) -> bool:
        """Whether it is a package's that is installed here: its layout and the like are known."""
        parts = (self.file or "").replace("\\", "/").split("/")
        return bool({"site-packages", "dist-packages"} & {*parts})

    @property
    def trusted(self) -> bool:
        """Whether it is ours: what it raises is a bug, and what it prints nobody's business."""
        return self.engine != "own"

    @classmethod
    def from_class(cls, layer: type[Any], *, where: str, file: str | None) -> "Target":
        """Make a target of a class with forward (or ``__call__``), and mostly backward."""
        called = layer.forward if hasattr(layer, "forward") else layer.__call__
        takes = _taken(called, where, bound=_is_plain(layer))
        try:
            made_of = parameters_of(layer)
        except (TypeError, ValueError):
            made_of = ()

        elsewhere = {one.name for one in takes} - {one.name for one in made_of}

        def start(sizes: Sizes, given: Given, seed: int) -> Any:
            arguments = {x: y for x, y in given.arguments.items() if x not in elsewhere}
            given = replace(given, arguments=arguments)
            arguments = _for_constructor(layer, made_of, where, sizes, given, seed)
            with running(f"{where}: {layer.__name__}()", file):
                return layer(**arguments)

        has_backward = callable(getattr(layer, "backward", None)) or bool(loaded())
        return cls.taking(layer.__name__, where, file, takes, start, has_backward, made_of)

    @classmethod
    def from_instance(cls, layer: Any, *, where: str, file: str | None) -> "Target":
        """Make a target of an instance; every start is a deep copy of it."""
        takes = _taken(getattr(layer, "forward", None) or layer.__call__, where)

        def start(sizes: Sizes, given: Given, seed: int) -> Any:
            with running(f"{where}: copying it", file):
                return copy.deepcopy(layer)

        has_backward = callable(getattr(layer, "backward", None)) or bool(loaded())
        return cls.taking(type(layer).__name__, where, file, takes, start, has_backward)

    @classmethod
    def from_functions(
        cls,
        forward: Callable[..., Any],
        backward: Callable[..., Any] | None,
        *,
        name: str,
        where: str,
        file: str | None,
    ) -> "Target":
        """Make a target of ``out, cache = forward(…)``, ``gradients = backward(dout, cache)``.

        Or of forward alone, which gives out and whatever it likes behind it.
        """
        return cls.taking(
            name, where, file, _taken(forward, where),
            lambda sizes, given, seed: _Functions(forward, backward),
            backward is not None or bool(loaded()),
        )  # fmt: skip

    @classmethod
    def taking(
        cls, name: str, where: str, file: str | None, takes: Parameters,
        start: Callable[[Sizes, Given, int], Any], has_backward: bool = True,
        made_of: Parameters = (),
    ) -> "Target":  # fmt: skip
        """Make a target of what it takes, and what starts it.

        Raises
        ------
        CodeError
            If it takes no array.
        """
        inputs, options = parted(takes, Given())
        operation = layer_named(name)
        if not inputs and operation and any(one.kind in _VARIABLE[:1] for one in takes):
            inputs = OPERATIONS[operation].inputs  # forward(self, *args)
        if not inputs:
            expected = "expected forward(self, hs_enc, hs_dec)"
            raise CodeError(f"{where}: forward takes no array: {expected}")
        return cls(
            name, where, file, inputs, options, start, has_backward, takes=takes, made_of=made_of,
            frameworks=tuple(adapter.name for adapter in loaded()),
        )  # fmt: skip

    @classmethod
    def broken(cls, name: str, where: str, file: str | None, fault: TargetError) -> "Target":
        """Make a target of what cannot be started, and why."""

        def start(sizes: Sizes, given: Given, seed: int) -> Any:
            raise fault

        return cls(name, where, file, (), {}, start, fault=fault)

    def start(self, sizes: Sizes, shapes: Shapes | None = None, seed: int = 0) -> "Layer":
        """Make a new instance.

        Raises
        ------
        TargetError
            If its constructor takes what cannot be guessed, or raises.
        """
        given = replace(self.given, shapes={**self.given.shapes, **(shapes or {})})
        sizes = {**sizes, **self._sizes_in(given.shapes)}
        started = self.start_with(sizes, given, seed)
        return started if isinstance(started, Layer) else Layer(self, started, sizes)

    def having(self, given: Given) -> "Target":
        """The target, of which this is said."""
        if not given:
            return self
        if not self.takes:
            return replace(self, given=given)
        inputs, options = parted(self.takes, given)
        return replace(self, given=given, inputs=inputs or self.inputs, options=options)

    @property
    def sizes_said(self) -> dict[str, int]:
        """The sizes that its arguments say."""
        return sizes_said(self.given.arguments)

    def claiming(self, claims: Mapping[str, Any]) -> "Target":
        """The target, whose constructor is given these options of ours where forward is not."""
        known = {beside(name) for name in self.options}
        defaults = {one.name: one.default for one in self.made_of if beside(one.name) not in known}
        said = as_options(defaults, claims)
        arguments = {**said, **self.given.arguments}
        return self.having(replace(self.given, arguments=arguments))

    def anew(self) -> "Target":
        """The same target before its first call, as far as that can be had."""
        return self.renew() if self.renew is not None else self

    def known_as(self, name: str) -> str | None:
        """Give our name of one of the inputs, by the layer's names, its own or its place."""
        if self.trusted:
            return name
        operation = layer_named(self.name)
        ours = OPERATIONS[operation].inputs if operation is not None else ()
        known = meanings(name)
        # LuongAttention is no Attention of the book: what it calls as we do is that.
        is_that = self.name.lower().replace("_", "") == (operation or "").replace("-", "")
        if name in known and operation is not None and not is_that:
            return name
        if (order := order_of(self.inputs, ours)) is not None:
            return ours[order.index(self.inputs.index(name))]
        if known:
            return known[0]
        return ours[self.inputs.index(name)] if len(ours) == len(self.inputs) else None

    def in_order(self, names: tuple[str, ...]) -> "Target":
        """The target with its inputs, and their gradients, in the order of these known names.

        As it is where the names of its inputs do not say which is which.
        """
        order = order_of(self.inputs, names)
        if order is None or order == tuple(range(len(names))):
            return self

        def start(sizes: Sizes, given: Given, seed: int) -> Any:
            return _Reordered(self.having(given).start(sizes, seed=seed), order)

        return replace(
            self,
            inputs=tuple(self.inputs[i] for i in order),
            start_with=start,
            renew=lambda: self.anew().in_order(names),
        )

    def shapes(self, sizes: Sizes, given: Shapes | None = None) -> dict[str, tuple[int, ...]]:
        """Give the shape of every input.

        Raises
        ------
        TargetError
            If there is an input whose shape neither its name nor `given` says.
        """
        sizes = self.fitted(sizes)
        said = self.shape_with(sizes) if self.shape_with else {}
        given = {**said, **self.given.shapes, **(given or {})}
        shapes = {}
        for name in self.inputs:
            known = self.known_as(name)
            if name in given:
                shapes[name] = given[name]
            elif known is None:
                raise TargetError(
                    f"{self.where}: forward takes {name}, whose shape is not known",
                    hint=f"--input {name}=3,5,4 gives it a shape",
                )
            else:
                shapes[name] = shape_in_the_book(known, sizes)
                if self.one_step and known in ("h", "hs_dec", "query"):
                    shapes[name] = (sizes["N"], 1, sizes["H"])
        return shapes

    def fitted(self, sizes: Sizes) -> dict[str, int]:
        """The sizes as it takes them."""
        found = dict(sizes)
        if self.is_alike:
            found["T_dec"] = found["T_enc"] = max(sizes["T_dec"], sizes["T_enc"])
        return found

    def _sizes_in(self, shapes: Shapes) -> dict[str, int]:
        """The sizes that the given shapes of inputs have."""
        found: dict[str, int] = {}
        for name in () if self.trusted else shapes.keys() & {*self.inputs}:
            axes = axes_of(self.known_as(name) or "", len(shapes[name]))
            found.update(zip(axes or (), shapes[name], strict=False))
        return found

    def draw(self, shapes: Shapes, seed: int, dtype: str = "float64") -> list[Array]:
        """Draw random inputs, each from the stream of its name."""
        return [
            random_tensor(self.known_as(name) or name, shapes[name], seed=seed, dtype=dtype)
            for name in self.inputs
        ]


def all_having(targets: Sequence[Target], given: Given) -> tuple[Target, ...]:
    """The targets, of which this is said.

    Raises
    ------
    TargetError
        If none of them has such an argument.
    """
    refused = None
    for target in targets:
        try:
            require_known(target.made_of, target.takes, given)
            break
        except TargetError as error:
            refused = TargetError(f"{target.where}: {error}", hint=error.hint)
    else:
        if refused is not None:
            raise refused
    return tuple(target.having(given) for target in targets)


class Layer:
    """An instance of a target; every call goes through `running`.

    Attributes
    ----------
    facts : Facts
        What the last call did beside giving its result.
    """

    def __init__(self, target: Target, instance: Any, sizes: Sizes = MappingProxyType({})) -> None:
        self.target = target
        self.instance = instance
        self.sizes = sizes
        for adapter in () if target.trusted else loaded():
            self.instance = adapter.started(self.instance, target.given.device)
        self._born = () if target.trusted else weights_of(self.instance).names
        self.facts = Facts()
        self._inputs: tuple[Array, ...] = ()
        self._given: Any = None
        self._pull: Pull | None = None
        self._gradients: list[Any] = []
        self._alone = ""
        self._gave: Adapter = NUMPY
        self._gives: Any = None
        for adapter in () if target.trusted or not sizes else loaded():
            if adapter.makes_weights(self.instance):
                self.forward(*target.draw(target.shapes(sizes), seed=0))
                self.instance = adapter.started(self.instance, target.given.device)
                self._born = weights_of(self.instance).names

    def forward(self, *arrays: Array, **options: Any) -> Any:
        """Run forward; what comes out first may be anything."""
        if self.target.trusted:
            return self.instance.forward(*arrays, **options)
        method = getattr(self.instance, "forward", None) or self.instance.__call__
        self._inputs, self._pull, self._alone = arrays, None, ""
        calls, device = self.target.calls, self.target.given.device
        if calls.adapter is not None:
            return self._forward(calls.adapter, method, arrays, options)
        refused: dict[Adapter, TargetError] = {}
        found: list[Any] = []
        for adapter in candidates(method, differentiable=not self._has_own, device=device):
            calls.adapter = adapter
            try:
                found = [self._forward(adapter, method, arrays, options)]
            except TargetError as error:
                refused[adapter] = error
                continue
            if adapter is not NUMPY or self._gave is NUMPY:
                return found[0]
            # What takes NumPy's arrays and gives others is a framework's.
        calls.adapter = NUMPY if found and self._gave not in refused else None
        if calls.adapter is None:
            raise refused.get(self._gave) or next(iter(refused.values()))
        return found[0]

    def _forward(
        self, adapter: Adapter, method: Any, arrays: tuple[Array, ...], options: Mapping[str, Any]
    ) -> Any:
        def take(value: Any) -> Any:
            numpys = isinstance(value, np.ndarray) and adapter is not NUMPY
            return adapter.take(value, self.target.given.device) if numpys else value

        def run(*given: Any) -> Any:
            placed, named = self._placed(given, options)
            self._given = method(*map(take, placed), **{name: take(x) for name, x in named.items()})
            return self._given

        axes = min((array.ndim for array in arrays), default=0)
        if adapter is NUMPY or self._has_own:
            self._alone = "" if self._has_own else "there is none"
            self._gives = self._call("forward", run, arrays, adapter)
            return first(self._gives, axes)

        def differentiated(*moved: Any) -> Any:
            self._gives = _result(run(*moved))
            return first(self._gives, axes)

        def derived(*given: Any) -> Any:
            out, self._pull, self._alone = adapter.differentiate(
                differentiated, given, self.weights().values
            )
            return out

        return self._call("forward", derived, arrays, adapter)

    def _placed(self, arrays: Sequence[Any], options: Mapping[str, Any]) -> tuple[list[Any], Any]:
        """What forward is given, by place as far as that goes and by name from there on."""
        target = self.target
        theirs = {one.name for one in (target.made_of if takes_any(target.takes) else target.takes)}
        said = {
            name: value
            for name, value in target.given.arguments.items()
            if (name in theirs) != takes_any(target.takes)
        }
        named = {
            **neutral(target.options, self.sizes), **nothing(target.takes), **said,
            **dict(zip(target.inputs, arrays, strict=False)), **options,
        }  # fmt: skip
        placed: list[Any] = []
        for one in target.takes:
            if one.kind is inspect.Parameter.VAR_POSITIONAL:
                placed += [named.pop(name) for name in target.inputs if name in named]
            if one.kind in (_KEYWORD, *_VARIABLE) or one.name not in named:
                break
            placed.append(named.pop(one.name))
        return placed, named

    def backward(self, dout: Array) -> Any:
        """Run backward; what comes out may be anything."""
        if self.target.trusted:
            return self.instance.backward(dout)
        if self._pull is not None:
            number = len(self._inputs)
            gradients = self._call("backward", self._pull, (dout,), NUMPY)
            self._gradients = gradients[number:]
            return tuple(gradients[:number])
        if not self._has_own or not self.target.has_backward:
            self.facts = Facts(alone=self._alone, framework=self.target.calls.framework)
            return None
        try:
            back = walk_back(self.instance.backward, self.target.inputs, self._given)
        except TypeError as error:
            raise CodeError(f"{self.target.where}: backward {error}") from None
        arrays = (dout, *(self._inputs[number] for number in back.inputs))
        result = self._call("backward", back.call, arrays, self.target.calls.adapter or NUMPY)
        return self._by_name(result) if isinstance(result, Mapping) and result else result

    @property
    def _has_own(self) -> bool:
        return callable(getattr(self.instance, "backward", None))

    def _call(self, what: str, method: Any, arrays: tuple[Array, ...], adapter: Adapter) -> Any:
        target, calls = self.target, self.target.calls
        taken = [adapter.take(array, target.given.device) for array in arrays]
        given = calls.give(what, taken, adapter)
        with running(f"{target.where}: {what}", target.file, target.printed):
            with calls.circumstanced() as borrowed:
                result = _result(method(*given))
                self._gave = owner(first(result))
            result = plain(result)
        held = given
        if adapter is not NUMPY:  # it may have them in another dtype
            held = [adapter.numbers(one) for one in given]
            arrays = tuple(a.astype(b.dtype) for a, b in zip(arrays, held, strict=True))
        self.facts = calls.facts(what, arrays, held, result, bool(borrowed), self._alone)
        return result

    def _by_name(self, gradients: Mapping[Any, Any]) -> tuple[Any, ...]:
        """Gradients in the order of the inputs, as far as their names say it."""
        names = self.target.inputs
        for form in ("d{}", "d_{}", "grad_{}", "{}"):
            if all(form.format(name) in gradients for name in names):
                return tuple(gradients[form.format(name)] for name in names)
        return tuple(gradients.values())

    def logsumexp(self, rows: tuple[int, ...]) -> tuple[Any, bool]:
        """What the last forward gave for every row beside out, and whether it is called that.

        None where there is nothing of the kind.
        """
        gives = self._gives
        if isinstance(gives, Mapping):
            named = next((gives[name] for name in _LOGSUMEXP if name in gives), None)
            beside = [named]
        else:
            beside = list(gives[1:]) if isinstance(gives, (tuple, list)) else []
        for one in beside:
            array = _numbers(one)
            if array is not None and array.shape in (rows, (*rows, 1)):
                return array.reshape(rows), isinstance(gives, Mapping)
        return None, False

    def names(self) -> tuple[str, ...]:
        """The names of its attributes."""
        return tuple(name for name in dir(self.instance) if not name.startswith("__"))

    def held(self, name: str) -> Any:
        """Give one of its attributes, None where it has none, or one that raises."""
        if name == "grads" and self._pull is not None:
            return plain(self._gradients)
        try:
            return plain(getattr(self.instance, name, None))
        except Exception:  # a property of theirs
            return None

    def weights(self) -> Weights:
        """Its weights and their gradients, as they are there: they may be a framework's."""
        found = weights_of(self.instance)
        if self._pull is not None:
            return found._replace(gradients=self._gradients)
        # What forward and backward leave behind may look like more of them.
        return found.only([x for x in found.names if x in self._born or x.startswith("params[")])

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """What its weights are called."""
        names, values, _ = self.weights()
        return tuple(
            name
            for name, value in zip(names, plain(values), strict=True)
            if isinstance(value, np.ndarray)
        )

    @property
    def parameters(self) -> list[Array]:
        """Its weights, which may be written into where they are here; see `assign`."""
        return _arrays(plain(self.weights().values))

    @property
    def gradients(self) -> list[Array]:
        """The gradients of its weights, as far as there are any."""
        return _arrays(plain(self.weights().gradients))

    def assign(self, number: int, values: Array) -> None:
        """Write into one of the parameters, in place."""
        weight = self.weights().values[number]
        owner(weight).write(weight, values)

    def identity(self, name: str) -> tuple[int, ...]:
        """Tell one list from another, and the arrays in it: their addresses, the list's first.

        An optimiser holds ``params`` and ``grads``; what is another object afterwards it never
        sees.  Empty where there is no such list.
        """
        try:
            held = getattr(self.instance, name, None)  # itself: what is looked at may be a copy
        except Exception:  # a property of theirs
            held = None
        return (id(held), *map(id, held)) if isinstance(held, (list, tuple)) else ()


def _result(value: Any) -> Any:
    """What a call returned, of kinds that can be looked at without running their code again."""
    if inspect.iscoroutine(value):
        value.close()  # or Python complains that nobody awaits it
    if isinstance(value, (tuple, list)) and type(value) not in (tuple, list):
        return value._asdict() if hasattr(value, "_asdict") else tuple(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return dict(value) if isinstance(value, Mapping) else value


def _numbers(value: Any) -> Array | None:
    """A framework's array as NumPy's, where there is more than the trace of one."""
    try:
        return real_array(plain(value))
    except Exception:  # of a value that is being traced there are no numbers
        return None


class Around(Layer):
    """A layer that stands before another."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer.target, layer.instance)
        self._layer = layer

    def held(self, name: str) -> Any:
        """Give one of its attributes."""
        return self._layer.held(name)

    def names(self) -> tuple[str, ...]:
        """The names of its attributes."""
        return self._layer.names()

    def weights(self) -> Weights:
        """Its weights and their gradients."""
        return self._layer.weights()

    def assign(self, number: int, values: Array) -> None:
        """Write into one of the parameters, in place."""
        self._layer.assign(number, values)

    def identity(self, name: str) -> tuple[int, ...]:
        """Tell one list from another."""
        return self._layer.identity(name)

    def logsumexp(self, rows: tuple[int, ...]) -> tuple[Any, bool]:
        """What the last forward gave for every row beside out."""
        return self._layer.logsumexp(rows)


class _Reordered(Around):
    """A layer that takes its inputs, and gives their gradients, in another order."""

    def __init__(self, layer: Layer, order: tuple[int, ...]) -> None:
        super().__init__(layer)
        self._order = order

    def forward(self, *arrays: Array, **options: Any) -> Any:
        """Run forward."""
        theirs = [arrays[self._order.index(i)] for i in range(len(arrays))]
        result = self._layer.forward(*theirs, **options)
        changed = tuple(sorted(self._order.index(i) for i in self._layer.facts.changed))
        self.facts = self._layer.facts._replace(changed=changed)
        return result

    def backward(self, dout: Array) -> Any:
        """Run backward."""
        result = self._layer.backward(dout)
        self.facts = self._layer.facts
        if isinstance(result, (tuple, list)) and len(result) == len(self._order):
            return tuple(result[i] for i in self._order)
        return result


class _Functions:
    """A pair of functions as a layer."""

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any] | None) -> None:
        self._forward, self.backward = forward, backward
        self.params: list[Array] = []
        self.grads: list[Array] = []
        self.weights: Any = None

    def forward(self, *arrays: Array, **options: Any) -> Any:
        result = self._forward(*arrays, **options)
        if isinstance(result, tuple) and len(result) == 2:
            self.weights = getattr(result[1], "weights", None)
        return result


def shape_in_the_book(known: str, sizes: Sizes) -> tuple[int, ...]:
    """Give the shape that the book's layers have a tensor in: its softmax is for (N, T)."""
    axes = ("N", "T_enc") if known == "scores" else default_axes(known)
    return tuple(sizes.get(axis, sizes["H"]) for axis in axes)


def layer_named(name: str) -> str | None:
    """Guess which of our layers a class is by its name, those without weights of their own.

    Examples
    --------
    >>> layer_named("MyTimeAttention"), layer_named("attention_weight"), layer_named("Affine")
    ('time-attention', 'attention-weight', None)
    """
    plain = name.lower().replace("_", "")
    for operation in sorted(OPERATIONS, key=len, reverse=True):
        if operation.replace("-", "") in plain and operation not in WITH_WEIGHTS:
            return operation
    return None


def known_inputs(forward: Any) -> bool:
    """Whether a function takes query, key and value, by whatever names people give them."""
    try:
        inputs, _ = parted(parameters_of(forward), Given())
    except (TypeError, ValueError):
        return False
    return are_known_inputs(inputs)


def are_known_inputs(names: Iterable[str]) -> bool:
    """Whether query, key and value are among these names, or what holds all three."""
    known = [meanings(name)[:1] for name in names]
    return ("qkv",) in known or all(
        (ours,) in known for ours in OPERATIONS["scaled-dot-product"].inputs
    )


def real_array(value: Any) -> Array | None:
    """Give a value as an array of real numbers, or None where it is none."""
    array = array_or_none(value)
    return array if array is not None and array.dtype.kind in "biuf" else None


def same(a: Any, b: Any, depth: int = 3) -> bool:
    """Say whether two results are the same numbers; NaN equals NaN.

    What are no numbers (a gap, None, a text) are the same if they are of one type: that they are
    no numbers is a fault of its own, and tells of nothing that changes between calls.

    Examples
    --------
    >>> same(([1.0, float("nan")], ...), (np.array([1.0, np.nan]), ...)), same(1.0, 2.0)
    (True, False)
    """
    left, right = real_array(a), real_array(b)
    if left is not None and right is not None:
        return near(left, right, EXACT).agrees
    # A list may hold itself: out and gradients are no deeper than this.
    if depth and isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b, [depth - 1] * len(a)))
    return left is None and right is None and type(a) is type(b)


def kind_of(value: Any) -> str:
    """Say what somebody returned instead of an array of real numbers."""
    if value is ...:
        return "a gap (...) that is still to be filled in"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    if isinstance(value, Foreign):
        return value.kind
    return "None" if value is None else type(value).__name__


def as_gradients(result: Any, count: int) -> list[Any]:
    """Give what backward returned as a list: of several arrays, or of the one."""
    alone = isinstance(result, tuple) and len(result) == count == 1
    if isinstance(result, (tuple, list)) and (
        alone or not (count == 1 and real_array(result) is not None)
    ):
        return list(result)
    return [result]


def how_many(given: list[Any]) -> str:
    """Say how many gradients backward returned, or what it returned instead of one."""
    if len(given) != 1:
        return f"{len(given)} values"
    return "one array" if real_array(given[0]) is not None else kind_of(given[0])


def _is_plain(layer: type[Any]) -> bool:
    """Whether forward is an ordinary method, whose first argument is the instance."""
    forward = inspect.getattr_static(layer, "forward" if hasattr(layer, "forward") else "__call__")
    return hasattr(forward, "__get__") and not isinstance(forward, (staticmethod, classmethod))


def _taken(function: Callable[..., Any], where: str, *, bound: bool = False) -> Parameters:
    """What forward takes.

    Raises
    ------
    CodeError
        If nothing says it.
    """
    try:
        return parameters_of(function, bound=bound)
    except (TypeError, ValueError):
        raise CodeError(f"{where}: forward's arguments cannot be read") from None


def _for_constructor(
    layer: type[Any], made_of: Parameters, where: str, sizes: Sizes, given: Given, seed: int
) -> dict[str, Any]:
    """Give the arguments of a constructor.

    Raises
    ------
    TargetError
        Naming every argument that nothing says.
    """
    arguments, missing = constructed(made_of, sizes, given, seed)
    if missing:
        raise TargetError(
            f"{where}: {layer.__name__}({', '.join(p.name for p in made_of)}) cannot be called: "
            f"nothing says what {' and '.join(missing)} should be",
            hint=f"{' '.join(f'--arg {name}=4' for name in missing)} gives numbers, "
            f"--arg {missing[0]}=random:4,4 an array",
        )
    return arguments


def _arrays(held: Any) -> list[Array]:
    if not isinstance(held, (list, tuple)):
        return []
    return [array for array in held if isinstance(array, np.ndarray)]
