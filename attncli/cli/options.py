"""The options that commands share: each means the same everywhere and is defined here once."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import click

from attncli.errors import ParameterError
from attncli.files.formats import ENDINGS, FORMATS

if TYPE_CHECKING:
    from attncli.cli.output import Output
    from attncli.cli.screen import Screen
    from attncli.core.semantics import Semantics
    from attncli.files.reading import Reading
    from attncli.operations.execution import Execution

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
ENGINES = ("auto", "direct", "tiled", "reference")
DTYPES = ("float16", "float32", "float64")

# The tensors that can come from a file of their own, and the options they are named by.
PARTS = {
    "hs_enc": "Encoder states (N, T_enc, H); .npy files are mapped into memory.",
    "hs_dec": "Decoder states (N, T_dec, H).",
    "query": "Queries (N, T_dec, H) or (N, heads, T_dec, H).",
    "key": "Keys (N, T_enc, H) or (N, heads, T_enc, H).",
    "value": "Values (N, T_enc, H_v) or (N, heads, T_enc, H_v).",
    "hs": "Encoder states (N, T_enc, H), for one decoder step.",
    "h": "One decoder state (N, H).",
    "a": "Weights (N, T_enc), for weight-sum.",
    "scores": "Scores (…, T_enc), for softmax.",
    "dout": "Gradient of the loss with respect to the result.",
    "mask": "Mask (N, T_dec, T_enc): True = takes part; floating = added to the scores.",
    "enc_mask": "Mask (N, T_enc) of the encoder steps that take part.",
    "dec_mask": "Mask (N, T_dec) of the decoder steps that take part.",
}


class GroupedOption(click.Option):
    """An option that belongs under a heading of the help text."""

    def __init__(self, *args: Any, group: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each group of options in the order in which the groups first appear."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                group = getattr(parameter, "group", "Help")
                groups.setdefault(group, []).append(record)
        groups["Help"] = groups.pop("Help")  # last
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def command(name: str, *, example: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command with grouped options and examples at the end of its help.

    Parameters
    ----------
    name : str
    example : str
        One command a line.
    """
    lines = "\n".join(f"  {line}" for line in example.splitlines())
    epilog = f"\b\nExamples:\n{lines}"
    return click.command(name, cls=GroupedCommand, epilog=epilog)


def option(*declarations: str, group: str, **attributes: Any) -> Callable[[F], F]:
    """Declare an option under a heading of the help text."""
    return click.option(*declarations, cls=GroupedOption, group=group, **attributes)


def bundle(
    name: str, build: Callable[..., Any], options: Sequence[Callable[[Any], Any]]
) -> Callable[[F], F]:
    """Make one decorator of options that travel together; the command gets ``build(**values)``."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(**values: Any) -> Any:
            own = {key: values.pop(key) for key in keys}
            return function(**values, **{name: build(**own)})

        decorated: Any = command
        for one in reversed(options):
            decorated = one(decorated)
        # click keeps the declared parameters here, the last declared first.
        keys = [parameter.name for parameter in decorated.__click_params__[-len(options) :]]
        return cast(F, decorated)

    return decorate


class Size(click.ParamType[int]):
    """A number of bytes: ``500MB``, ``2GiB`` or plain bytes."""

    name = "size"
    _UNITS: ClassVar = {
        "": 1,
        "B": 1,
        "K": 10**3,
        "KB": 10**3,
        "M": 10**6,
        "MB": 10**6,
        "G": 10**9,
        "GB": 10**9,
        "T": 10**12,
        "TB": 10**12,
        "KIB": 2**10,
        "MIB": 2**20,
        "GIB": 2**30,
        "TIB": 2**40,
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


def parse_shapes(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """Read ``NAME=2,3,4`` as a shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, text in parse_pairs(ctx, param, texts).items():
        try:
            shape = tuple(int(size) for size in text.split(",") if size.strip())
        except ValueError:
            shape = ()
        if not shape or min(shape) < 1:
            message = f"{f'{name}={text}'!r} is not {param.metavar}"
            raise click.BadParameter(message, ctx, param)
        shapes[name] = shape
    return shapes


_COUNT = click.IntRange(min=1)


def _given(**sizes: int | None) -> dict[str, int]:
    return {name: size for name, size in sizes.items() if size is not None}


size_options = bundle(
    "sizes",
    _given,
    [
        option(
            "--N",
            "--batch",
            "N",
            type=_COUNT,
            group="Sizes of random tensors",
            help="Batch size.  [default: 3]",
        ),
        option(
            "--T",
            "--seq-len",
            "T",
            type=_COUNT,
            group="Sizes of random tensors",
            help="Time steps, of decoder and encoder.  [default: 5]",
        ),
        option(
            "--T-enc",
            "T_enc",
            type=_COUNT,
            group="Sizes of random tensors",
            help="Time steps of the encoder alone.",
        ),
        option(
            "--H",
            "--hidden",
            "H",
            type=_COUNT,
            group="Sizes of random tensors",
            help="Hidden size.  [default: 4]",
        ),
    ],
)

seed_option = option(
    "--seed",
    type=click.IntRange(min=0, max=2**63 - 1),
    group="Sizes of random tensors",
    help="Seed of everything random; the same seed and sizes give the same tensors everywhere."
    "  [default: 0]",
)

dtype_option = option(
    "--dtype",
    type=click.Choice(DTYPES),
    group="Calculation",
    help="Compute in this dtype.  [default: float64, or the file's]",
)

layer_option = option(
    "--layer",
    type=click.Choice(LAYERS + WITH_WEIGHTS),
    group="Calculation",
    help="The layer to run.  [default: time-attention, or what the file's arrays imply]",
)


def _semantics(*, causal: bool, causal_align: str | None, **values: Any) -> Semantics:
    from attncli.core.semantics import Semantics

    if causal_align is not None and not causal:
        raise ParameterError("--causal-align has no meaning without --causal")
    side = (causal_align or "upper-left").replace("-", "_") if causal else None
    return Semantics(causal=side, **values)


semantics_options = bundle(
    "semantics",
    _semantics,
    [
        option(
            "--scale",
            type=float,
            group="Semantics",
            help="Factor of the scores.  [default: 1; 1/√H for scaled-dot-product]",
        ),
        option("--causal", is_flag=True, group="Semantics", help="Queries see no later keys."),
        option(
            "--causal-align",
            type=click.Choice(["upper-left", "lower-right"]),
            group="Semantics",
            help="upper-left: query t sees keys up to t; lower-right: the last sees all.  "
            "[default: upper-left]",
        ),
        option(
            "--window",
            type=click.IntRange(min=0),
            metavar="STEPS",
            group="Semantics",
            help="Queries see only keys so many steps before and, unless causal, after.",
        ),
        option(
            "--softcap",
            type=click.FloatRange(min=0, min_open=True),
            group="Semantics",
            help="Bound the scores smoothly to ± this.",
        ),
    ],
)

heads_options = bundle(
    "heads",
    _given,
    [
        option(
            "--heads",
            type=_COUNT,
            group="Semantics",
            help="Heads of query; splits the last axis of inputs (N, T, heads · H).  "
            "[multi-head, random: 2]",
        ),
        option(
            "--kv-heads",
            type=_COUNT,
            group="Semantics",
            help="Heads of key and value, each serving a group of query heads.  [default: as many]",
        ),
    ],
)


def _execution(*, engine: str, threads: int | None, weights: bool | None) -> Execution:
    from attncli.operations.execution import Execution

    return Execution(cast(Any, engine), threads or cores(), weights=weights)


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


execution_options = bundle(
    "execution",
    _execution,
    [
        option(
            "--engine",
            type=click.Choice(ENGINES),
            default="auto",
            show_default=True,
            group="Calculation",
            help="direct computes whole heads, tiled in tiles, auto goes by size; reference is "
            "the book's loop.",
        ),
        option(
            "--threads",
            type=_COUNT,
            group="Calculation",
            help="Threads to compute with.  [default: one a core]",
        ),
        option(
            "--weights/--no-weights",
            default=None,
            group="Calculation",
            help="Keep the weights, or compute them again in backward.  "
            "[default: kept up to 16.8 MB, 8.4 MB a head]",
        ),
    ],
)


def _reading(*, as_dtype: str | None, **values: Any) -> Reading:
    from attncli.files.reading import Reading

    return Reading(as_bfloat16=as_dtype is not None, **values)


def shapes_option(group: str, text: str) -> Callable[[F], F]:
    """Declare ``--input``, which says the shapes of somebody's arrays."""
    return option(
        "--input",
        "shapes",
        metavar="NAME=2,3,4",
        multiple=True,
        callback=parse_shapes,
        group=group,
        help=text,
    )


rename_option = option(
    "--rename",
    metavar="OURS=THEIRS",
    multiple=True,
    callback=parse_pairs,
    group="Reading files",
    help="The file's name for one of our tensors, as hs_enc=encoder_states; repeatable.",
)


def _max_memory(group: str) -> Callable[[F], F]:
    return option(
        "--max-memory",
        type=Size(),
        metavar="SIZE",
        group=group,
        help="Refuse what would need more, as 500MB or 2GiB.  [default: what is free]",
    )


max_memory_option = _max_memory("Memory")

reading_options = bundle(
    "reading",
    _reading,
    [
        rename_option,
        option(
            "--as",
            "as_dtype",
            type=click.Choice(["bfloat16"]),
            group="Reading files",
            help="Read raw two-byte elements as bfloat16.",
        ),
        option(
            "--allow-nonfinite",
            is_flag=True,
            group="Reading files",
            help="Compute with NaN and Inf instead of refusing them.",
        ),
        _max_memory("Reading files"),
    ],
)


def _parts(**paths: str | None) -> dict[str, str]:
    return {key.removeprefix("part_"): path for key, path in paths.items() if path is not None}


part_options = bundle(
    "parts",
    _parts,
    [
        option(
            f"--{name.replace('_', '-')}",
            f"part_{name}",
            metavar="FILE",
            group="One tensor from a file of its own",
            help=text,
        )
        for name, text in PARTS.items()
    ],
)


def _output(output: str | None, force: bool) -> Output:
    from attncli.cli.output import Output

    if force and output is None:
        raise ParameterError("--force has no meaning without -o")
    return Output(output, force)


def _output_options(help_text: str) -> Callable[[F], F]:
    return bundle(
        "output",
        _output,
        [
            option("-o", "--output", metavar="FILE", group="Output", help=help_text),
            option("--force", is_flag=True, group="Output", help="Replace an existing file."),
        ],
    )


output_options = _output_options(
    f"Write a run file: inputs, options and results ({', '.join(ENDINGS)}, or -)."
)
trace_output_options = _output_options(
    "Write a trace file: every intermediate in full by its name, whatever is shown "
    f"({', '.join(one.ending for one in FORMATS if not one.holds_one)}, or -)."
)


def _screen(**values: Any) -> Screen:
    from attncli.cli import streams
    from attncli.cli.screen import Screen

    streams.color_forbidden = values["color"] == "never"
    if values["quiet"] and values["verbose"]:
        raise ParameterError("--quiet and --verbose contradict each other")
    return Screen(**values)


json_option = option(
    "--json", "as_json", is_flag=True, group="Output", help="Print one JSON object."
)
precision_option = option(
    "--precision",
    type=click.IntRange(0, 17),
    group="Output",
    help="Digits behind the point.  [default: short on a terminal, all when piped]",
)
color_option = option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    group="Output",
    help="auto: on a terminal, unless NO_COLOR is set.",
)
quiet_option = option(
    "-q", "--quiet", is_flag=True, group="Output", help="Print no tables and no notes."
)
verbose_option = option("-v", "--verbose", is_flag=True, group="Output", help="Say more on stderr.")

screen_options = bundle(
    "screen",
    _screen,
    [json_option, precision_option, color_option, quiet_option, verbose_option],
)

# For what has numbers of one sort, whose digits say all there is.
report_options = bundle(
    "screen", _screen, [json_option, color_option, quiet_option, verbose_option]
)


def _page(color: str) -> Screen:
    return _screen(as_json=False, color=color, quiet=False, verbose=False)


# For what is only to be read.
page_options = bundle("screen", _page, [color_option])

equal_nan_option = option(
    "--equal-nan", is_flag=True, group="Tolerance", help="NaN agrees with NaN."
)

full_option = option(
    "--full", is_flag=True, group="Output", help="Show every number, however many there are."
)


def calculation_options(function: F) -> F:
    """Add all that says what to compute, and on what; the command gets one ``request``."""

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        from attncli.problems.request import Request

        fields = Request.__dataclass_fields__
        own = {name: values.pop(name) for name in fields}
        return function(request=Request(**own), **values)

    decorated: Any = command
    for one in reversed(
        (
            click.argument("file", required=False),
            layer_option,
            dtype_option,
            execution_options,
            semantics_options,
            heads_options,
            size_options,
            seed_option,
            part_options,
            reading_options,
        )
    ):
        decorated = one(decorated)
    return cast(F, decorated)
