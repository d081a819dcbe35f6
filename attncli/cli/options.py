"""The options that commands share: each means the same everywhere and is defined here once."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import click

from attncli.cli.help_pages import GroupedOption
from attncli.errors import AttnWarning, ParameterError
from attncli.files.formats import FORMATS, WRITTEN
from attncli.memory import cores
from attncli.spelling import plain, whole

if TYPE_CHECKING:
    from attncli.cli.output import Output
    from attncli.cli.screen import Screen
    from attncli.core.extras import Extras
    from attncli.core.semantics import Semantics
    from attncli.files.reading import Reading
    from attncli.operations.execution import Execution
    from attncli.problems.request import Request

F = TypeVar("F", bound=Callable[..., Any])

LAYERS = (
    "softmax",
    "weight-sum",
    "attention-weight",
    "attention",
    "time-attention",
    "scaled-dot-product",
)
WITH_WEIGHTS = ("luong", "bahdanau", "multi-head")
ENGINES = ("auto", "direct", "tiled", "reference", "dask")
DTYPES = ("float16", "float32", "float64")

# The tensors that can come from a file of their own, and the options they are named by.
PARTS = {
    "hs_enc": "Encoder states (N, T_enc, H); .npy files are mapped into memory.",
    "hs_dec": "Decoder states (N, T_dec, H).",
    "query": "Queries (N, T_dec, H) or (N, heads, T_dec, H).",
    "key": "Keys (N, T_enc, H) or (N, heads, T_enc, H).",
    "value": "Values (N, T_enc, H_v) or (N, heads, T_enc, H_v).",
    "qkv": "Queries, keys and values in one: (N, T, 3, heads, H), or side by side in H.",
    "hs": "Encoder states (N, T_enc, H), for one decoder step.",
    "h": "One decoder state (N, H).",
    "a": "Weights (N, T_enc), for weight-sum.",
    "scores": "Scores (…, T_enc), for softmax.",
    "dout": "Gradient of the loss with respect to the result.",
    "mask": "Mask (N, T_dec, T_enc): True = takes part; floating = added to the scores.",
    "enc_mask": "Mask (N, T_enc) of the encoder steps that take part.",
    "dec_mask": "Mask (N, T_dec) of the decoder steps that take part.",
}


def option(*declarations: str, group: str, **attributes: Any) -> Callable[[F], F]:
    """Declare an option under a heading of the help text."""
    return click.option(*declarations, cls=GroupedOption, group=group, **attributes)


under_sizes = functools.partial(option, group="Sizes of random tensors")
under_calculation = functools.partial(option, group="Calculation")
under_semantics = functools.partial(option, group="Semantics")
under_reading = functools.partial(option, group="Reading files")
under_tolerance = functools.partial(option, group="Tolerance")
under_output = functools.partial(option, group="Output")


class Bundle:
    """One decorator of options that travel together; the command gets ``build(**values)``.

    Of bundles among its options it takes what they have built.
    """

    def __init__(
        self, name: str, build: Callable[..., Any], *options: Callable[[Any], Any]
    ) -> None:
        self.name, self.build, self.options = name, build, options

    def __call__(self, function: F) -> F:
        """Declare the options."""

        @functools.wraps(function)
        def command(**values: Any) -> Any:
            own = {key: values.pop(key) for key in sorted(keys & values.keys())}
            return function(**values, **{self.name: self.build(**own)})

        decorated: Any = command
        before = len(getattr(decorated, "__click_params__", ()))
        for one in reversed(self.options):
            decorated = one(decorated)
        # click keeps the declared parameters here, the last declared first.
        keys = {parameter.name for parameter in decorated.__click_params__[before:]}
        keys |= {one.name for one in self.options if isinstance(one, Bundle)}
        return cast(F, decorated)


class Size(click.ParamType[int]):
    """A number of bytes: ``500MB``, ``2GiB`` or plain bytes."""

    name = "size"
    _UNITS: ClassVar = {"": 1, "B": 1} | {
        letter + end: base**power
        for power, letter in enumerate("KMGT", start=1)
        for end, base in (("", 1000), ("B", 1000), ("IB", 1024))
    }

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Turn the text into bytes."""
        if isinstance(value, int):
            return value
        digits = value.rstrip("bBiIkKmMgGtT")
        unit = value[len(digits) :].upper()
        try:
            size = float(digits) * self._UNITS[unit]
            if not 0 < size < 2**63:
                raise ValueError
        except (KeyError, ValueError):
            self.fail(f"{value!r} is not a size such as 500MB or 2GiB", param, ctx)
        return int(size)


class Window(click.ParamType["int | tuple[int, int]"]):
    """How far queries see: ``W`` steps on both sides, or ``LEFT,RIGHT``; -1 is no limit."""

    name = "window"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | tuple[int, int]:
        """Turn the text into one number or two."""
        sides = value.split(",")
        try:
            numbers = tuple(map(whole, sides))
        except ValueError:
            numbers = ()
        if len(numbers) not in (1, 2) or min(numbers) < -1:
            self.fail(
                f"{value!r} is not a number of steps, or LEFT,RIGHT, each -1 or more", param, ctx
            )
        return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers, none negative: ``3,4,5``."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Turn the text into numbers."""
        try:
            numbers = tuple(map(whole, value.split(",")))
        except ValueError:
            numbers = (-1,)
        if min(numbers) < 0:
            self.fail(f"{value!r} is not a list of whole numbers such as 3,4,5", param, ctx)
        return numbers


class Runs(Numbers):
    """Lengths of what follows each other: ``3,4``, or ``3,4/2,2`` where keys have others."""

    name = "runs"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn the text into the lengths of queries and of keys."""
        queries, _, keys = value.partition("/")
        pair = tuple(Numbers.convert(self, x, param, ctx) for x in (queries, keys or queries))
        if not all(map(sum, pair)):
            self.fail(f"{value!r} has no length above 0", param, ctx)
        return pair


class Logits(click.ParamType[tuple[float, ...]]):
    """Numbers: ``0,1.5``."""

    name = "logits"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Turn the text into numbers."""
        try:
            numbers = tuple(map(float, value.split(",")))
            if not all(x < float("inf") for x in numbers):  # nor NaN; −inf is a sink not there
                raise ValueError
        except ValueError:
            self.fail(f"{value!r} is not a list of finite numbers such as 0,1.5", param, ctx)
        return numbers


class Heads(Numbers):
    """How many heads there are: ``A``, or ``A,B`` where key and value have B."""

    name = "heads"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Turn the text into one number or two."""
        numbers = super().convert(value, param, ctx)
        if len(numbers) > 2 or 0 in numbers:
            self.fail(f"{value!r} is not A or A,B, each 1 or more", param, ctx)
        return numbers


class OneOf(click.Choice[str]):
    """A choice whose words may be spelled as elsewhere: ``TimeAttention``, ``upper_left``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Turn the text into one of the words."""
        meant = [word for word in self.choices if plain(word) == plain(value)]
        return super().convert(meant[0] if meant else value, param, ctx)


def parse_pairs(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    """Read ``OURS=THEIRS``, or whatever the option's metavar says, repeated."""
    pairs: dict[str, str] = {}
    for text in texts:
        first, equals, second = text.partition("=")
        if not (first and equals and second):
            raise click.BadParameter(f"{text!r} is not {param.metavar}", ctx, param)
        if first in pairs:
            raise click.BadParameter(f"{first} is there twice", ctx, param)
        pairs[first] = second
    return pairs


def parse_layouts(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """Read axes for all tensors, or for each by its name."""
    if not texts:
        return {}
    from attncli.operations.layout import parse_layout

    return parse_layout(",".join(texts))


def parse_shapes(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """Read ``NAME=2,3,4`` as a shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, text in parse_pairs(ctx, param, texts).items():
        try:
            shape = tuple(whole(size) for size in text.split(",") if size.strip())
        except ValueError:
            shape = ()
        if not shape or min(shape) < 1:
            message = f"{f'{name}={text}'!r} is not {param.metavar}"
            raise click.BadParameter(message, ctx, param)
        shapes[name] = shape
    return shapes


_COUNT = click.IntRange(min=1)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _steps(group: str) -> tuple[Callable[[F], F], Callable[[F], F]]:
    return (
        option(
            "--T",
            "--seq-len",
            "T",
            group=group,
            type=_COUNT,
            help="Time steps, of decoder and encoder.  [default: 5]",
        ),
        option(
            "--T-enc", "T_enc", group=group, type=_COUNT, help="Time steps of the encoder alone."
        ),
    )


steps_options = Bundle("sizes", _given, *_steps("Sizes"))
"""For what has no other size."""

size_options = Bundle(
    "sizes",
    _given,
    under_sizes("--N", "--batch", "N", type=_COUNT, help="Batch size.  [default: 3]"),
    *_steps("Sizes of random tensors"),
    under_sizes("--H", "--hidden", "H", type=_COUNT, help="Hidden size.  [default: 4]"),
)

seed_option = under_sizes(
    "--seed",
    type=click.IntRange(min=0, max=2**63 - 1),
    help="Seed of everything random; the same seed and sizes give the same tensors everywhere."
    "  [default: 0]",
)

dtype_option = under_calculation(
    "--dtype",
    type=OneOf(DTYPES),
    help="Compute in this dtype.  [default: float64, or the file's]",
)

layer_option = under_calculation(
    "--layer",
    type=OneOf(LAYERS + WITH_WEIGHTS),
    metavar="LAYER",
    help=f"The layer to run: {', '.join(LAYERS + WITH_WEIGHTS)}.  [default: time-attention, or "
    "what the file's arrays imply]",
)


def _semantics(*, causal: bool, causal_align: str | None, **values: Any) -> Semantics:
    from attncli.core.semantics import Semantics

    side = None if causal_align is None else causal_align.replace("-", "_")
    if causal:
        return Semantics(causal=side or "upper_left", **values)
    return Semantics(align=side, **values)


_ORDER = (
    under_semantics("--causal", is_flag=True, help="Queries see no later keys."),
    under_semantics(
        "--causal-align",
        type=OneOf(["upper-left", "lower-right"]),
        help="upper-left: a query's own key is t; lower-right: the last query's is the last.  "
        "[default: upper-left]",
    ),
    under_semantics(
        "--window",
        type=Window(),
        metavar="STEPS",
        help="Queries see only keys so many steps before and, unless causal, after; LEFT,RIGHT for "
        "each side, -1 for no limit.",
    ),
)

order_options = Bundle("semantics", _semantics, *_ORDER)
"""Those that hide keys by their step."""

_SEMANTICS = (
    under_semantics(
        "--scale",
        type=float,
        help="Factor of the scores.  [default: 1; 1/√H for scaled-dot-product]",
    ),
    *_ORDER,
    under_semantics(
        "--softcap",
        type=click.FloatRange(min=0, min_open=True),
        help="Bound the scores smoothly to ± this.",
    ),
)

semantics_options = Bundle("semantics", _semantics, *_SEMANTICS)

dropout_semantics_options = Bundle(
    "semantics",
    _semantics,
    *_SEMANTICS,
    under_semantics(
        "--keep-prob",
        type=click.FloatRange(min=0, min_open=True, max=1),
        help="Dropout: the weights that keep lets stay are divided by this; of random tensors keep "
        "is drawn.",
    ),
)
"""The same, where there is a keep to go with them."""


def _extras(*, segments: tuple[tuple[int, ...], ...] | None, **values: Any) -> Extras:
    from attncli.core.extras import Extras

    if segments is not None:
        import numpy as np

        from attncli.memory import require

        require(8 * sum(map(sum, segments)), "as many steps of --segments", None)
        values["segments"] = tuple(np.repeat(np.arange(len(x)), x) for x in segments)
    return Extras(**values)


_HIDING = (
    under_semantics(
        "--segments",
        type=Runs(),
        metavar="LENGTHS",
        help="Only steps of one segment see each other; so many steps each, as 3,4,5, or "
        "3,4/5,6 of queries and keys.",
    ),
    under_semantics(
        "--cu-seqlens",
        type=Numbers(),
        metavar="STARTS",
        help="Packed sequences: where each begins, and the end, as 0,3,7; positions count within.",
    ),
    under_semantics(
        "--cu-seqlens-k",
        type=Numbers(),
        metavar="STARTS",
        help="The same of keys, where they begin elsewhere.",
    ),
    under_semantics(
        "--kv-lengths",
        type=Numbers(),
        metavar="LENGTHS",
        help="Keys from there on are hidden; one number for each item, as 5,8.",
    ),
)

hiding_options = Bundle("extras", _extras, *_HIDING)
"""The arrays that hide keys, in short."""

extras_options = Bundle(
    "extras",
    _extras,
    *_HIDING,
    under_semantics(
        "--alibi",
        flag_value="standard",
        help="Far keys count for less: the standard slopes of ALiBi for so many heads.",
    ),
    under_semantics(
        "--sinks",
        type=Logits(),
        metavar="LOGITS",
        help="One more logit in the softmax that leads to no value: 0 for all heads, or one for "
        "each, as 0,1.5.",
    ),
)
"""The arrays beside query, key, value and mask, in short; a file may hold any."""


def _heads(heads: tuple[int, ...] | None, kv_heads: int | None) -> dict[str, int]:
    query, *shared = heads or (None,)
    if shared and kv_heads not in (None, *shared):
        raise ParameterError(f"--heads {query},{shared[0]} contradicts --kv-heads {kv_heads}")
    return _given(heads=query, kv_heads=shared[0] if shared else kv_heads)


heads_options = Bundle(
    "heads",
    _heads,
    under_semantics(
        "--heads",
        type=Heads(),
        metavar="A[,B]",
        help="Heads of query, which lie beside each other in the axis of H where none holds them; "
        "A,B: key and value have B.  [multi-head, random: 2]",
    ),
    under_semantics("--kv-heads", type=_COUNT, hidden=True, help="B of --heads A,B."),
)

layout_option = under_semantics(
    "--layout",
    metavar="AXES",
    multiple=True,
    callback=parse_layouts,
    help="The axes of query, key, value and result, as N,T,heads,H, T,N,H or N,T,heads·H; "
    "total,heads,H; N,T,3,heads,H of qkv; query=…,key=… for each.  [default: N,T,H or N,heads,T,H]",
)


rotary_options = Bundle(
    "rotary",
    _given,
    under_semantics(
        "--rotary",
        type=OneOf(["halves", "interleaved"]),
        help="Turn query and key by their positions; pairs are features i and i + H/2, or 2i and "
        "2i + 1.",
    ),
    under_semantics(
        "--rotary-base",
        type=float,
        help="Pair i turns by position · base^(−2i/H).  [default: 10000]",
    ),
    under_semantics(
        "--rotary-width",
        type=int,
        metavar="FEATURES",
        help="Turn the first so many features only.  [default: all]",
    ),
)


def _choose(*, blas: str | None) -> str | None:
    from attncli.core import products

    products.choose(blas)
    return blas


blas_option = Bundle(
    "blas",
    _choose,
    under_calculation(
        "--blas",
        type=OneOf(["auto", "numpy", "mkl"]),
        help="Who multiplies matrices: what NumPy came with, or Intel's MKL; auto takes this where "
        "it is there and the faster.  [default: ATTN_BLAS, else auto]",
    ),
)


def _execution(
    *, engine: str, threads: int | None, weights: bool | None, blas: str | None
) -> Execution:
    from attncli.operations.execution import Execution

    if engine != "dask" or threads is None:
        threads = threads_for(threads)
    return Execution(cast(Any, engine), threads, weights=weights)


def threads_for(asked: int | None) -> int:
    """Give as many threads as were asked for, and are there to run: one a core at most."""
    there = cores()
    if asked is not None and asked > there:
        message = f"--threads {asked}: there are {there} cores, one thread each"
        warnings.warn(message, AttnWarning, stacklevel=2)
    return min(asked or there, there)


execution_options = Bundle(
    "execution",
    _execution,
    under_calculation(
        "--engine",
        type=OneOf(ENGINES),
        default="auto",
        show_default=True,
        help="direct computes whole heads, tiled in tiles, auto goes by size; reference is "
        "the book's loop; dask is a cluster.",
    ),
    under_calculation(
        "--threads", type=_COUNT, help="Threads to compute with.  [default: one a core]"
    ),
    under_calculation(
        "--weights/--no-weights",
        default=None,
        help="Keep the weights, or compute them again in backward.  "
        "[default: kept up to 67.1 MB, 16.8 MB a head; 16.8 and 8.4 under causal order]",
    ),
    blas_option,
)


def _reading(**values: Any) -> Reading:
    from attncli.cli import streams
    from attncli.files.mapped import when_cut_short
    from attncli.files.reading import Reading

    if streams.own_process:
        when_cut_short(streams.end_at_once)
    return Reading(**values)


rename_option = under_reading(
    "--rename",
    metavar="OURS=THEIRS",
    multiple=True,
    callback=parse_pairs,
    help="The file's name for one of our tensors, as hs_enc=encoder_states; repeatable.",
)


max_memory = functools.partial(
    option,
    "--max-memory",
    type=Size(),
    metavar="SIZE",
    help="Refuse what would need more, as 500MB or 2GiB.  [default: what is free]",
)
max_memory_option = max_memory(group="Memory")

reading_options = Bundle(
    "reading",
    _reading,
    rename_option,
    under_reading(
        "--as-dtype",
        "--as",
        "as_dtype",
        type=OneOf(["bfloat16", "float16"]),
        help="What raw two-byte elements are, and what numbers saved wider were computed in.",
    ),
    under_reading(
        "--allow-nonfinite",
        is_flag=True,
        help="Compute with NaN and Inf instead of refusing them.",
    ),
    max_memory(group="Reading files"),
)


def _parts(**paths: str | None) -> dict[str, str]:
    # In one order, in whichever they are given: it is what the run is said to come from.
    given = {name: paths[f"part_{name}"] for name in PARTS}
    return {name: path for name, path in given.items() if path is not None}


part_options = Bundle(
    "parts",
    _parts,
    *(
        option(
            f"--{name.replace('_', '-')}",
            f"part_{name}",
            metavar="FILE",
            group="One tensor a file",
            help=text,
        )
        for name, text in PARTS.items()
    ),
)


def _output(output: str | None, force: bool) -> Output:
    from attncli.cli.output import Output

    if force and output is None:
        raise ParameterError("--force has no meaning without -o")
    return Output(output, force)


def _output_options(help_text: str) -> Bundle:
    return Bundle(
        "output",
        _output,
        under_output("-o", "--output", metavar="FILE", help=help_text),
        under_output("--force", is_flag=True, help="Replace an existing file."),
    )


output_options = _output_options(
    f"Write a run file: inputs, options and results ({', '.join(WRITTEN)}, or -)."
)
trace_output_options = _output_options(
    "Write a trace file: every intermediate in full by its name, whatever is shown "
    f"({', '.join(one.ending for one in FORMATS if one.written and not one.holds_one)}, or -)."
)
frames_output_options = _output_options("Keep where it looked, frame by frame (.npz, or -).")


def _screen(*, color: str, quiet: bool = False, verbose: bool = False, **values: Any) -> Screen:
    from attncli.cli import streams
    from attncli.cli.screen import Screen
    from attncli.files import source

    streams.color_forbidden = color == "never"
    if quiet and verbose:
        raise ParameterError("--quiet and --verbose contradict each other")
    screen = Screen(color=color, quiet=quiet, verbose=verbose, **values)
    source.waiting, source.opened = screen.waiting, {}
    return screen


json_option = under_output("--json", "as_json", is_flag=True, help="Print one JSON object.")
precision_option = under_output(
    "--precision",
    type=click.IntRange(0, 17),
    help="Digits behind the point.  [default: short on a terminal, all when piped]",
)
color_option = under_output(
    "--color",
    type=OneOf(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="auto: on a terminal, unless NO_COLOR is set.",
)
theme_option = under_output(
    "--theme",
    type=OneOf(["auto", "light", "dark"]),
    default="auto",
    show_default=True,
    envvar="ATTN_THEME",
    help="Shades for a light background or a dark one; auto: as COLORFGBG says, or the terminal if "
    "it answers, else dark. ATTN_THEME sets it for all.",
)
quiet_option = under_output("-q", "--quiet", is_flag=True, help="Print no tables and no notes.")
verbose_option = under_output("-v", "--verbose", is_flag=True, help="Say more on stderr.")

screen_options = Bundle(
    "screen", _screen, json_option, precision_option, color_option, quiet_option, verbose_option
)

# For what has shades.
shaded_options = Bundle(
    "screen",
    _screen,
    json_option,
    precision_option,
    color_option,
    theme_option,
    quiet_option,
    verbose_option,
)

# For what has numbers of one sort, whose digits say all there is.
report_options = Bundle("screen", _screen, json_option, color_option, quiet_option, verbose_option)

shaded_report_options = Bundle(
    "screen", _screen, json_option, color_option, theme_option, quiet_option, verbose_option
)

# For what is only to be read.
page_options = Bundle("screen", _screen, color_option)
shaded_page_options = Bundle("screen", _screen, color_option, theme_option)

full_option = under_output(
    "--full", is_flag=True, help="Show every number, however many there are."
)

# For what has tensors, which may be large.
tensor_screen_options = Bundle(
    "screen",
    _screen,
    full_option,
    json_option,
    precision_option,
    color_option,
    theme_option,
    quiet_option,
    verbose_option,
)

# For pictures, whose numbers are whole.
mask_screen_options = Bundle(
    "screen",
    _screen,
    under_output("--full", is_flag=True, help="Draw and count every item and head."),
    json_option,
    color_option,
    theme_option,
    quiet_option,
    verbose_option,
)

equal_nan_option = under_tolerance("--equal-nan", is_flag=True, help="NaN agrees with NaN.")


def _request(**values: Any) -> Request:
    from attncli.problems.request import Request

    return Request(**values)


calculation_options = Bundle(
    "request",
    _request,
    click.argument("file", required=False),
    layer_option,
    dtype_option,
    execution_options,
    dropout_semantics_options,
    extras_options,
    heads_options,
    layout_option,
    rotary_options,
    size_options,
    seed_option,
    part_options,
    reading_options,
)
"""All that says what to compute, and on what."""
