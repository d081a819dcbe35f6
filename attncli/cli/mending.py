"""Hints that are finished commands: from a command line that cannot be run to the nearest that can.

Each kind of slip is one function that proposes other command lines; what is proposed is followed
up until it can be parsed, so that several slips are mended one after the other and no hint is one
that click would refuse in turn.  Options that write are proposed only if begun or spelled nearly
so, and ``--force`` never.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import product
from typing import NamedTuple

import click

from attncli.checking.targets.sources import is_there
from attncli.cli.help_pages import GroupedCommand, GroupedOption, HelpContext
from attncli.errors import AttnError, ContradictionError, NamelessError, NoFileError
from attncli.files.source import existing, free
from attncli.spelling import apart, nearest, plain

Line = tuple[str, ...]

# What people say for a command, an option or a value: in letters and digits alone.
_COMMANDS = {
    "run": "forward", "fwd": "forward", "bwd": "backward", "gradients": "backward",
    "show": "show-weights", "view": "show-weights", "plot": "show-weights",
    "heatmap": "show-weights", "weights": "show-weights", "mask": "show-mask",
    "grad": "gradcheck", "checkgrad": "gradcheck", "test": "check", "grade": "check",
    "verify": "check", "diff": "compare", "cmp": "compare", "speed": "bench",
    "mistakes": "explain", "doc": "guide", "docs": "guide", "man": "guide", "manual": "guide",
    "steps": "trace", "version": "--version", "tutorial": "guide getting-started",
    "lesson": "exercise",
}  # fmt: skip
_OPTIONS = {
    "batchsize": "--N", "bs": "--N", "hiddensize": "--H", "headdim": "--H", "headsize": "--H",
    "dim": "--H", "dmodel": "--H", "timesteps": "--T", "length": "--T", "seqlength": "--T",
    "numheads": "--heads", "nheads": "--heads", "nhead": "--heads", "iscausal": "--causal",
    "softmaxscale": "--scale", "smscale": "--scale", "logitscap": "--softcap",
    "slidingwindow": "--window", "windowsize": "--window", "attnmask": "--mask",
    "attentionmask": "--mask", "q": "--query", "k": "--key", "v": "--value",
    "queries": "--query", "keys": "--key", "values": "--value", "numthreads": "--threads",
    "nthreads": "--threads", "colour": "--color", "nocolor": "--color never",
    "nocolour": "--color never", "silent": "--quiet", "timeout": "--time-limit",
    "tolerance": "--tol", "kind": "--layer", "precision": "--dtype", "words": "--tokens",
    "encoder": "--hs-enc", "decoder": "--hs-dec", "randomseed": "--seed",
}  # fmt: skip
_VALUES = {
    "fp64": "float64", "f64": "float64", "double": "float64", "fp32": "float32",
    "f32": "float32", "single": "float32", "float": "float32", "fp16": "float16",
    "f16": "float16", "half": "float16", "bf16": "bfloat16", "sdpa": "scaled-dot-product",
    "mha": "multi-head", "additive": "bahdanau", "general": "luong", "naive": "reference",
    "loop": "reference", "topleft": "upper-left", "bottomright": "lower-right",
    "average": "mean",
    "maximum": "max",
    "true": "always", "yes": "always", "on": "always", "false": "never", "no": "never",
    "off": "never", "none": "never", "neox": "halves", "gptj": "interleaved",
    "pytorch": "torch", "flashattn": "flash-attention", "flash": "flash-attention",
}  # fmt: skip
_YES = ("1", "true", "t", "yes", "y", "on")
_NO = ("false", "no", "off", "0")
_ANSWERS = (*_YES, *_NO, "none")
_WRITING = ("output", "force", "export", "reports", "report")
_HELP = ("-h", "--help", "-V", "--version", "--help-all")
_CODE, _READ = (
    (".py", ".ipynb"),
    (".npz", ".npy", ".safetensors", ".json", ".csv", ".html", ".zarr"),
)
# The commands whose arguments are files that are read, and options that name one.
_READING = ("forward", "backward", "trace", "show-weights", "show-mask", "convention", "compare")
_FILES = ("inputs", "diff")
_JUDGING = ("check", "gradcheck")
_DASHES, _QUOTES = "–—−", "“”„‘’"
_LONGEST = 1000  # characters of a command line that is shown again
_LOOKED_INTO = 100  # files of a folder
_STEPS, _TRIED = 8, 150  # slips in one command line; command lines that are looked at


class NoSuchWordError(click.BadParameter):
    """A word of an option that is none of those it takes."""

    def __init__(
        self, word: str, known: Sequence[str], ctx: click.Context, param: click.Parameter
    ) -> None:
        super().__init__(f"{word!r} is not one of {', '.join(known)}", ctx, param)
        self.word, self.known = word, known


class Word(NamedTuple):
    """A word of a command line, and what it is.

    Attributes
    ----------
    at : int
        Where in the command line it is.
    text : str
    option : click.Option or None
        That it names; None for an argument.
    value : str or None
        What is given with it.
    size : int
        How many words it has with its value.
    known : bool
        Whether there is such an option.
    """

    at: int
    text: str
    option: click.Option | None = None
    value: str | None = None
    size: int = 1
    known: bool = True


class Mender:
    """Finds what a command line that failed was to be.

    Parameters
    ----------
    group : click.Group
    """

    def __init__(self, group: click.Group, arguments: Sequence[str]) -> None:
        self.group, self.line, self.left = group, tuple(arguments), _TRIED

    def said(self, error: click.ClickException | AttnError) -> tuple[str, str | None]:
        """Give the message of an error, blaming a variable for what it says, and the hint."""
        message = str(error)
        if isinstance(error, click.ClickException):
            near = isinstance(error, (click.NoSuchOption, click.NoSuchCommand))
            message = (error.message if near else error.format_message()).strip().rstrip(".")
            if isinstance(error, click.BadParameter) and (expected := _numbers(error.param)):
                message = _NO_NUMBER.sub(f", expected {expected}", message)
            message = message[:1].lower() + message[1:]
        blamed = self._blamed(message)
        if blamed is None:
            return message, self.hint(error)
        variable, option = blamed
        for value in values_like(os.environ[variable], option, error):
            if self._wrong(self.line, **{variable: value}) is None:
                return (
                    f"{variable}: {message}",
                    f"{variable}={shlex.quote(value)} {said(self.line)}",
                )
        return f"{variable}: {message}", f"env -u {variable} {said(self.line)}"

    def _blamed(self, message: str) -> tuple[str, click.Option] | None:
        """Find a variable of the environment that a message is about."""
        command, _ = self._command(self.line)
        if command is None:
            return None
        given = {word.option for word in words(command, self.line, 1)}
        named = re.findall(r"--?[A-Za-z][\w-]*", message)
        for option in command.params:
            if not isinstance(option, click.Option) or option in given:
                continue
            for variable in variables_of(option, self.line[0]):
                value = os.environ.get(variable, "")
                if value and (not set(named).isdisjoint(option.opts) or f"{value}:" in message):
                    return variable, option
        return None

    def hint(self, error: Exception) -> str | None:
        """Give the hint of an error, as a finished command where there is one."""
        line, self.left = self.line, _TRIED
        if isinstance(error, ContradictionError):
            there = self._words(line, self._command(line)[0])
            left_out = [x for x in there if x.option is not None and error.option in x.option.opts]
            self.line = _without(line, left_out)
            return self.finished(error.hint) or said(self.line)
        if isinstance(error, AttnError) and error.hint is not None:
            return self.finished(error.hint)
        proposed = list(self._proposals(line, error))
        # A file that is not there either is better than nothing.
        for strictly, one in product((True, False), proposed):
            found = self._followed(one, _STEPS, strictly=strictly)
            if found is not None and found != line and len(text := said(found)) <= _LONGEST:
                return text
        if isinstance(error, click.UsageError) and error.ctx is not None:
            return f"{error.ctx.command_path} --help"
        return None

    def finished(self, hint: str | None, wrong: str | None = None) -> str | None:
        """Put the options that a hint begins with into the command line, or what a word means.

        Which word that is, is seen, unless it is said.
        """
        return hint and "\n".join(self._finished(line, wrong) for line in hint.splitlines())

    def _finished(self, hint: str, wrong: str | None = None) -> str:
        if re.fullmatch(r"ATTN_[A-Z]+=\w+", hint):
            return f"{hint} {said(self.line)}"
        command, _ = self._command(self.line)
        if command is not None and (meant := _MEANT.fullmatch(hint)):
            there = [x for x in self._words(self.line, command) if _text(x)]
            there = [x for x in there if wrong is None or x.text == wrong]
            if there:
                # What is written is an option's; so it is that of two that are the same.
                word = min(there, key=lambda x: (apart(_text(x), meant[1]), x.option is None))
                found = _replaced(self.line, word, meant[1])
                return said(self._with(found, command, tuple(shlex.split(meant[2]))))
        if not hint.startswith("-") or command is None or " | " in hint:  # one of several
            return hint
        with suppress(ValueError):
            added = tuple(shlex.split(hint))
            told = words(command, added)
            end = next(
                (x.at for x in told if x.option is None or x.option.name == "force"), len(added)
            )
            if not end or _PLACEHOLDER.search(" ".join(added[:end])):
                return hint
            found = self._with(self.line, command, added[:end])
            if self._wrong(found) is None and len(text := said(found)) <= _LONGEST:
                return text
        return hint

    def _with(self, line: Line, command: click.Command, added: Line) -> Line:
        """Give options in the place of what the line has of them; where it has none, at its end."""
        for new in words(command, added):
            alike = [
                old
                for old in self._words(line, command)
                if old.option is not None and old.option is new.option
            ]
            there = [old for old in alike if _same_place(old, new)]
            if not there and len(alike) == 1 and new.option and new.option.name == "what_if":
                there = alike  # what was to change is nothing that there is
            for old in there[::-1]:
                line = line[: old.at] + line[old.at + old.size :]
            at = there[0].at if there else len(line)
            line = line[:at] + added[new.at : new.at + new.size] + line[at:]
        return line

    # Command lines, and whether they can be parsed

    def _not_there(self, line: Line) -> Exception | None:
        """Say which file that would be read is not there, or that none is given that must be."""
        there = self._words(line, self._command(line)[0])
        if line[:1] == ("check",) and not any(
            x.option is None or x.option.name == "convention" or x.text in _HELP for x in there
        ):
            return click.MissingParameter()
        for word in there:
            text = _text(word)
            if word.option is None:
                reads = line[0] in (*_READING, *_JUDGING)
            else:
                reads = (word.option.name or "").startswith("part_") or word.option.name in _FILES
            if not reads or text in ("-", "") or os.path.lexists(existing(text)):
                continue
            if line[0] not in _JUDGING or not is_there(text):
                return NoFileError(f"{text}: no such file or directory", text)
        return None

    def _followed(self, line: Line, steps: int, *, strictly: bool = True) -> Line | None:
        """Mend what is still wrong; None if that cannot be done."""
        if self.left == 0:
            return None
        self.left -= 1
        error = self._wrong(line) or (self._not_there(line) if strictly else None)
        if error is None:
            return line
        if steps:
            for proposed in self._proposals(line, error):
                if proposed == line:
                    continue
                found = self._followed(proposed, steps - 1, strictly=strictly)
                if found is not None:
                    return found
        return None

    def _wrong(self, line: Line, **variables: str) -> Exception | None:
        """Say what is wrong with a command line, as far as that is seen without running it."""
        before = {name: os.environ.get(name, "") for name in variables}
        os.environ.update(variables)
        try:
            return self._parsed(line)
        finally:
            os.environ.update(before)

    def _parsed(self, line: Line) -> Exception | None:
        asked = tuple(word for word in line if word not in _HELP)
        command, at = self._command(asked)
        top = HelpContext(self.group, info_name="attn", **self.group.context_settings)
        try:
            if command is None:
                lead = _leading(asked)
                if asked[lead:] and not lead:
                    return click.NoSuchCommand(asked[0], ctx=top)
                self.group.make_context("attn", [*asked[:lead], "guide"])
                return None if len(asked) < len(line) else click.NoSuchCommand("", ctx=top)
            with command.make_context(asked[at], list(asked[at + 1 :]), parent=top):
                pass
        except (click.UsageError, AttnError) as error:
            return error
        return None

    def _command(self, line: Line) -> tuple[click.Command | None, int]:
        """Find the command of a line, and where it is named."""
        at = _leading(line)
        if at or at == len(line):
            return None, at
        top = click.Context(self.group)
        return self.group.get_command(top, line[at]), at

    def _words(self, line: Line, command: click.Command | None) -> list[Word]:
        """Give the words behind the command's name."""
        return [] if command is None else words(command, line, 1)

    # What could be meant

    def _proposals(self, line: Line, error: Exception) -> Iterator[Line]:
        """Give what could be meant, the likeliest first."""
        typed = tuple(_as_typed(word) for word in line)
        if typed != line:
            yield typed
        command, _ = self._command(line)
        if command is None:
            yield from self._other_command(line)
            return
        there = self._words(line, command)
        kinds: list[tuple[type[Exception], Callable[..., Iterator[Line]]]] = [
            (click.NoSuchCommand, self._other_topic),
            (click.NoSuchOption, self._other_option),
            (click.MissingParameter, self._something_given),
            (click.BadParameter, self._other_value),
            (click.BadOptionUsage, self._value_or_none),
            (NoFileError, self._other_file),
            (click.UsageError, self._words_placed),
            (AttnError, self._elsewhere),
        ]
        for kind, propose in kinds:
            if isinstance(error, kind):
                yield from propose(line, command, there, error)

    def _other_command(self, line: Line) -> Iterator[Line]:
        """Of a command that there is not, or of an option before it."""
        at, names = _leading(line), self.group.list_commands(click.Context(self.group))
        if at:
            for i in range(at, len(line)):
                if line[i] in names:  # attn --N 3 forward
                    yield (line[i], *line[:i], *line[i + 1 :])
            options = nearest(line[0], _HELP[1:]) if len(line) == 1 else None
            yield from [(options,)] if options else []
            yield from [("forward", *line)] if line[0] not in _HELP else []
            return
        if not line:
            return
        word, rest = line[0], line[1:]
        if word == "attn":
            yield rest
        path = word.rpartition(":")[0] or word
        if os.path.exists(word) or path.endswith(_CODE + _READ):
            for name in _for_file(word):
                yield (name, *line)
        meant = _COMMANDS.get(plain(word))
        if meant is not None and (meant.split()[0] in (*names, "--version")):
            yield (*meant.split(), *rest)
        elif (near := nearest(word, names)) is not None:
            yield (near, *rest)
        elif rest and rest[0] in names:  # attn run forward
            yield rest

    def _other_topic(
        self, line: Line, command: click.Command, there: list[Word], error: click.NoSuchCommand
    ) -> Iterator[Line]:
        """Of a command that help is asked on."""
        names = self.group.list_commands(click.Context(self.group))
        word = error.command_name
        near = _COMMANDS.get(plain(word)) or nearest(word, names)
        if near in names:
            yield tuple(near if text == word else text for text in line)

    def _other_option(
        self, line: Line, command: click.Command, there: list[Word], error: Exception
    ) -> Iterator[Line]:
        for word in there:
            if word.known:
                continue
            name, equals, value = word.text.partition("=")
            glued = re.fullmatch(r"-([A-Za-z])(\d.*)", name)  # -N3
            for meant in _options_like(glued[1] if glued else name, command):
                behind = (value,) if equals else (glued[2],) if glued else ()
                yield (*line[: word.at], *meant, *behind, *line[word.at + 1 :])

    def _other_value(
        self, line: Line, command: click.Command, there: list[Word], error: click.BadParameter
    ) -> Iterator[Line]:
        """Of a value that its option does not take: another one, or the option that takes it."""
        param = error.param
        for word in there:
            text = word.text if word.option is None else word.value
            if text is None or (word.option is not param and word.option is not None):
                continue
            if word.option is None and not isinstance(param, click.Argument):
                continue
            if word.option is not None and text.startswith("-") and not _is_number(text):
                yield _filled(line, word, param)  # --N --T 5
            for value in values_like(text, param, error):
                yield _replaced(line, word, value)
            if word.option is not None:
                for other in _taking(text, command):
                    yield (*line[: word.at], *other, *line[word.at + word.size :])
                yield from self._joined(line, there, word)
                if not isinstance(param and param.type, click.Choice) and (some := _some(param)):
                    yield _replaced(line, word, some)
            yield _without(line, [word])

    def _value_or_none(
        self, line: Line, command: click.Command, there: list[Word], error: click.BadOptionUsage
    ) -> Iterator[Line]:
        """Of a flag with a value, or an option without."""
        for word in there:
            name, equals, value = word.text.partition("=")
            if name != error.option_name or word.option is None:
                continue
            if equals and _takes_none(word.option):
                kept = () if plain(value) in _NO else (name,)
                yield (*line[: word.at], *kept, *line[word.at + 1 :])
                for other in _taking(value, command):
                    yield (*line[: word.at], name, *other, *line[word.at + 1 :])
            elif word.value is None:
                yield _filled(line, word, word.option)
                yield _without(line, [word])

    def _something_given(
        self, line: Line, command: click.Command, there: list[Word], error: click.MissingParameter
    ) -> Iterator[Line]:
        """Of an argument that is missing: what the help has; of two files, what goes with one."""
        given = [word.text for word in there if word.option is None]
        if not given:
            yield from _examples(command)
        for other in (*_going_with(given[0]), given[0]) if len(given) == 1 else ():
            yield (*line, other)

    def _words_placed(
        self, line: Line, command: click.Command, there: list[Word], error: Exception
    ) -> Iterator[Line]:
        """Of words that are no file: what they are, if they were given as options are."""
        loose = [word for word in there if word.option is None and word.known]
        if isinstance(error, (click.BadParameter, click.NoSuchOption, click.BadOptionUsage)):
            return
        for word in loose:
            if os.path.exists(word.text):
                continue
            before, behind = line[: word.at], line[word.at + 1 :]
            named = _NAMED.fullmatch(word.text)
            name, equals, value = named.groups() if named else (word.text, "", "")
            for meant in _options_like(name, command) if equals or not _is_number(name) else ():
                yield (*before, *meant, *([value] if equals else []), *behind)
            for meant in _taking(word.text, command):
                yield (*before, *meant, *behind)
            last = _before(there, word)
            if last is not None and last.option is not None and _takes_none(last.option):
                if plain(word.text) in _NO:
                    yield (*line[: last.at], *behind)
                elif plain(word.text) in _YES:
                    yield (*before, *behind)
            if last is not None:
                yield from self._joined(line, there, last)
        numbers = [word for word in loose if word.text.isdigit()]
        if 1 < len(numbers) <= 3 and len(numbers) == len(loose):
            sizes = zip(("--N", "--T", "--H"), (one.text for one in numbers), strict=False)
            yield (*_without(line, numbers), *(x for size in sizes for x in size))
        if len(loose) > 1:
            texts = [word.text for word in loose]
            kept = _without(line, loose)
            if line[0] in ("guide", "explain"):
                yield (*kept[:1], "-".join(texts), *kept[1:])
            if parts := _each_a_tensor(texts, command):
                yield (*kept, *parts)
            if "help" in texts or "?" in texts:
                yield (*line[:1], "--help")
            first = max(1, sum(isinstance(x, click.Argument) for x in command.params))
            if all(map(os.path.exists, texts[:first])):
                yield _without(line, loose[first:])
        if loose and not any(isinstance(x, click.Argument) for x in command.params):
            for name in _for_file(loose[0].text) if os.path.exists(loose[0].text) else ():
                yield (name, loose[0].text)

    def _joined(self, line: Line, there: list[Word], word: Word) -> Iterator[Line]:
        """Of numbers with spaces between them where commas belong."""
        last = (word.value or "").strip(",").split(",")[-1]
        if word.option is None or word.value is None or not _is_number(last):
            return
        more = []
        for text in line[word.at + word.size :]:
            if not _is_number(text.strip(",")):
                break
            more.append(text.strip(","))
        for count in range(len(more), 0, -1):
            value = ",".join([word.value.strip(","), *more[:count]])
            joined = _replaced(line, word, value)
            yield (*joined[: word.at + word.size], *joined[word.at + word.size + count :])

    def _other_file(
        self, line: Line, command: click.Command, there: list[Word], error: NoFileError
    ) -> Iterator[Line]:
        """Of a file that is not there: what else the word says, or a file named nearly so."""
        place, colon, name = error.path.rpartition(":")
        if colon and place.endswith(_CODE):
            for near in files_like(place):
                yield tuple(f"{near}:{name}" if text == error.path else text for text in line)
        for word in there:
            text = _text(word)
            if not text or error.path not in (text, text.rpartition("=")[2]):
                continue
            if word.option is not None and word.option.name in _WRITING:
                for folder in folders_like(os.path.dirname(text)):
                    path = free(os.path.join(folder, os.path.basename(text)))
                    yield _replaced(line, word, path)
                continue
            if word.option is None:
                if text in self.group.list_commands(click.Context(self.group)):
                    yield (text, *line[1 : word.at], *line[word.at + 1 :])
                if text in ("help", "?"):
                    yield (line[0], "--help")
                if line[0] not in _JUDGING:
                    if text.rpartition(":")[0].endswith(_CODE) or text.endswith(_CODE):
                        yield ("check", text)
                    yield from self._words_placed(line, command, there, error)
            if word.option is not None:  # --h 3
                for name in _spelled_alike(word.text.partition("=")[0], command):
                    yield (*line[: word.at], name, *line[word.at + 1 :])
                for meant in (*_options_like(text, command), *_taking(text, command)):
                    yield (*line[: word.at], *meant, *line[word.at + word.size :])
            for near in files_like(error.path):
                yield _replaced(line, word, text.removesuffix(error.path) + near)
            if word.option is not None:
                yield _without(line, [word])
            elif (sample := _sample(command)) is not None:
                yield _replaced(line, word, sample)
            else:
                yield from (one for one in _examples(command) if one[0] == line[0])

    def _elsewhere(
        self, line: Line, command: click.Command, there: list[Word], error: AttnError
    ) -> Iterator[Line]:
        """Of code where a file with tensors belongs, and the other way round; or of an option."""
        code = line[0] in _JUDGING
        for word in there:
            place = word.text.rpartition(":")[0] or word.text
            if word.option is None and not code and os.path.isdir(folder := existing(word.text)):
                inside = (x for x in sorted(os.listdir(folder)) if x.endswith(_READ))
                yield from (_replaced(line, word, os.path.join(word.text, x)) for x in inside)
            if word.option is not None or not os.path.isfile(place):
                continue
            if not code and place.endswith(_CODE):
                yield ("check", word.text)
            elif isinstance(error, NamelessError):
                yield (*_without(line, [word]), *_paired(place, command))
            elif code and place.endswith(_READ):
                for name in _for_file(place):
                    yield (name, place)
        for word in there:
            if word.option is not None and _is_blamed(word, str(error)):
                yield _without(line, [word])


_MEANT = re.compile(r"is (.+) meant\?(.*)")
# What click says of what is no number, or none that is taken.
_NO_NUMBER = re.compile(r" is not (in the range \S+|a valid (integer|float)( range)?)$")
_PLACEHOLDER = re.compile(r"\b(?:[A-Z]{3,}|[AB]=[AB])\b")
_NAMED = re.compile(r"-*([A-Za-z][A-Za-z_-]*)([=:])(.+)")


def variables_of(option: click.Option, command: str) -> Iterator[str]:
    """Name the variables of the environment that an option is read from."""
    named = option.envvar or ()
    yield from [named] if isinstance(named, str) else named
    if isinstance(option, GroupedOption):
        yield f"ATTN_{command.upper().replace('-', '_')}_{option.variable}"


def said(line: Sequence[str]) -> str:
    """Write a command line as it would be typed."""
    return shlex.join(["attn", *line])


def words(command: click.Command, line: Line, start: int = 0) -> list[Word]:
    """Tell the words of a command line apart."""
    names = {
        name: param
        for param in command.params
        if isinstance(param, click.Option)
        for name in (*param.opts, *param.secondary_opts)
    }
    names |= dict.fromkeys(_HELP, click.Option(["--help"], is_flag=True))
    found, at, only_arguments = list[Word](), start, False
    while at < len(line):
        text = line[at]
        name, equals, value = text.partition("=")
        if text == "--":
            only_arguments = True
        elif only_arguments or not text.startswith("-") or text == "-":
            found.append(Word(at, text))
        elif (option := names.get(name)) is not None:
            if equals or _takes_none(option) or at + 1 == len(line):
                found.append(Word(at, text, option, value if equals else None))
            else:
                found.append(Word(at, text, option, line[at + 1], 2))
        else:
            letters = [] if text.startswith("--") else [f"-{letter}" for letter in text[1:]]
            clustered = bool(letters) and all(letter in names for letter in letters)
            found.append(Word(at, text, known=clustered))
            if clustered and not _takes_none(names[f"-{text[-1]}"]) and at + 1 < len(line):
                found[-1] = Word(at, text, names[f"-{text[-1]}"], line[at + 1], 2)
        at += found[-1].size if found and found[-1].at == at else 1
    return found


def _leading(line: Line) -> int:
    """How many words are options before the command's name."""
    return next((i for i, word in enumerate(line) if not word.startswith("-")), len(line))


def _without(line: Line, arguments: Sequence[Word]) -> Line:
    """Take arguments, and options with their values, out of a command line."""
    left_out = {word.at + i for word in arguments for i in range(word.size)}
    return tuple(text for at, text in enumerate(line) if at not in left_out)


def _before(there: list[Word], word: Word) -> Word | None:
    return next((one for one in there if one.at + one.size == word.at), None)


def _text(word: Word) -> str:
    """Give what an argument is, or an option has."""
    return word.text if word.option is None else word.value or ""


def _is_blamed(word: Word, message: str) -> bool:
    """Whether a message names an option that is none of the tensors, or an address given as one."""
    named = re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", message)
    name = word.option.name or "" if word.option is not None else "part_"
    if name == "scheduler" and _text(word) in message:
        return True
    return not name.startswith("part_") and not set(named).isdisjoint(word.option.opts)  # type: ignore[union-attr]


def _takes_none(option: click.Option) -> bool:
    return option.is_flag or option.count


def _same_place(old: Word, new: Word) -> bool:
    """Whether an option that may be given several times is given for the same thing."""
    if old.option is None or not old.option.multiple or old.value is None or new.value is None:
        return True
    if old.option.name == "what_if":  # what it is of tells it, not where in that
        theirs, bracket, _ = old.value.partition("[")
        return not bracket or nearest(theirs, [new.value.partition("[")[0]]) is not None
    ours, equals, _ = new.value.partition("=")
    if equals or "=" in old.value:
        return old.value.partition("=")[0] == ours
    return nearest(old.value, [new.value]) is not None or old.option.name == "layout"


def _replaced(line: Line, word: Word, value: str) -> Line:
    """Give an option another value, or an argument another text."""
    if word.option is None:
        given: Line = (value,)
    elif word.size == 2:
        given = (word.text, value)
    else:
        given = (f"{word.text.partition('=')[0]}={value}",)
    return (*line[: word.at], *given, *line[word.at + word.size :])


def _filled(line: Line, word: Word, param: click.Parameter | None) -> Line:
    """Give an option that has no value one that it takes."""
    value = _some(param)
    return line if value is None else (*line[: word.at + 1], value, *line[word.at + 1 :])


def _numbers(param: click.Parameter | None) -> str:
    """Say in words which numbers a parameter takes; empty if it takes others than numbers."""
    kind = getattr(param, "type", None)
    if not isinstance(kind, (type(click.INT), type(click.FLOAT))):
        return ""
    words = "a number" if isinstance(kind, type(click.FLOAT)) else "a whole number"
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    if low is None:
        return words
    if getattr(kind, "min_open", False):
        return f"{words} above {low}" + (f", up to {high}" if high is not None else "")
    return f"{words}, {low} " + ("or more" if high is None else f"to {high}")


def _some(param: click.Parameter | None) -> str | None:
    """Give a value that a parameter takes, if that can be told."""
    kind = getattr(param, "type", None)
    value = next(iter(getattr(kind, "choices", ())), None)
    if value is None and isinstance(kind, (click.IntRange, click.FloatRange)):
        low = kind.min or 0
        value = f"{low + 1 if kind.min_open else low}"
    if value is None and isinstance(kind, type(click.INT)):
        value = "0"
    return value


def _options_like(text: str, command: click.Command) -> Iterator[Line]:
    """Give the options that a name may mean."""
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    names = {name: one for one in options for name in (*one.opts, *one.secondary_opts)}
    long = {name: one for name, one in names.items() if name.startswith("--")}
    if text.startswith("-") and text.upper() != text and text.swapcase() in names:
        text = text.swapcase()
    meant = _OPTIONS.get(plain(text), "").split()
    exact = [name for name in long if plain(name) == plain(text)]
    if meant and meant[0] in names and not exact:
        yield tuple(meant)
    # --h, --n: letters that are sizes, in the case that they have here
    exact.sort(key=lambda name: name.lower() != text.lower())
    for name in exact:
        yield (name,)
    safe = [name for name, one in long.items() if one.name not in _WRITING]
    writing = [name for name, one in long.items() if one.name in _WRITING and one.name != "force"]
    begun = [x for x in writing if len(plain(text)) > 2 and plain(x).startswith(plain(text))]
    if not exact and (near := begun[0] if begun else nearest(text, safe)) is not None:
        yield (near,)
    for name in writing:
        if apart(plain(text), plain(name)) == 1:
            yield (name,)


def _spelled_alike(text: str, command: click.Command) -> Iterator[str]:
    """Give the other options that are called the same in another case: ``--h`` and ``--H``."""
    for one in command.params:
        for name in one.opts if isinstance(one, click.Option) else ():
            if name != text and name.lower() == text.lower():
                yield name


def _taking(text: str, command: click.Command) -> Iterator[Line]:
    """Give the options, with the value, of which a word is a choice."""
    for one in command.params:
        if isinstance(one, click.Option) and isinstance(one.type, click.Choice) and not one.hidden:
            choices = [str(choice) for choice in one.type.choices]
            # A yes or a no is an answer to the option that it stands behind, and to no other.
            if (word := _among(text, choices)) is not None and plain(text) not in _ANSWERS:
                yield (max(one.opts, key=len), word)


def _among(text: str, choices: Sequence[str]) -> str | None:
    """Find a choice that a word is, but for its spelling."""
    meant = _VALUES.get(plain(text.rpartition(".")[2]), text)
    return next((one for one in choices if plain(one) == plain(meant)), None)


def values_like(text: str, param: click.Parameter | None, error: Exception) -> Iterator[str]:
    """Give values that an option takes and that a text may mean."""
    kind = getattr(param, "type", None)
    if isinstance(error, NoSuchWordError):
        near = _among(error.word, error.known) or nearest(error.word, error.known)
        if near is not None:
            yield ",".join(near if x.strip() == error.word else x.strip() for x in text.split(","))
    elif isinstance(kind, click.Choice):
        choices = [str(choice) for choice in kind.choices]
        bare = text.rpartition(".")[2]
        near = _among(text, choices) or nearest(bare, choices)
        yield from [near] if near is not None else []
    elif isinstance(kind, (type(click.INT), type(click.FLOAT))):
        with suppress(ValueError, OverflowError):
            number = float(re.sub(r"(?<=\d)[,_](?=\d{3})", "", text))
            low, high = getattr(kind, "min", None), getattr(kind, "max", None)
            if low is not None and number < low:
                number = low
            if high is not None and number > high:
                number = high
            whole = not isinstance(kind, type(click.FLOAT)) or number == int(number)
            if whole and number == int(number):
                yield f"{int(number)}"
            elif not whole:
                yield f"{number:g}"
    else:
        stripped = text.strip("()[]{} ").replace(" ", "").replace(";", ",").replace("x", ",")
        if stripped != text:
            yield stripped


def _each_a_tensor(texts: Sequence[str], command: click.Command) -> Line:
    """Give files that are named after tensors as what they are named after."""
    named = {
        plain(opt): opt
        for one in command.params
        if isinstance(one, click.Option) and (one.name or "").startswith("part_")
        for opt in one.opts
    }
    named |= {short: named[long] for short, long in _SHORT.items() if long in named}
    found = list[str]()
    for text in texts:
        stem = plain(os.path.splitext(os.path.basename(text))[0])
        if stem not in named or not os.path.exists(text):
            return ()
        found += [named[stem], text]
    return tuple(found)


def _paired(path: str, command: click.Command) -> Line:
    """Give a file of one array as one of a pair, and whatever there is as the other."""
    folder = os.path.dirname(path)
    pairs = (("hs_enc", "hs_dec"), ("enc", "dec"), ("encoder", "decoder"))
    for enc, dec in (*pairs, *(pair[::-1] for pair in pairs)):
        if plain(os.path.splitext(os.path.basename(path))[0]) == plain(enc):
            both = [path, os.path.join(folder, f"{dec}.npy")]
            if os.path.exists(both[1]):
                both = both if "enc" in enc else both[::-1]
                return ("--hs-enc", both[0], "--hs-dec", both[1])
    return ("--hs-enc", path, "--hs-dec", path)


_SHORT = {"q": "query", "k": "key", "v": "value", "enc": "hsenc", "dec": "hsdec"}


def _examples(command: click.Command) -> Iterator[Line]:
    """Give the examples of a command's help."""
    for line in command.examples if isinstance(command, GroupedCommand) else ():
        yield tuple(shlex.split(line)[1:])


def _sample(command: click.Command) -> str | None:
    """Give the first sample that the examples of a command's help are of."""
    there = (word for line in _examples(command) if line[0] == command.name for word in line)
    return next((word for word in there if word.startswith("sample_inputs/")), None)


def _going_with(path: str) -> Iterator[str]:
    """Give the files beside one that have an array of the same name and shape as it."""
    from attncli.files.headers import shapes_at_a_glance

    def tensors(path: str) -> set[tuple[str, tuple[int, ...]]]:
        return {one for one in shapes_at_a_glance(existing(path)).items() if len(one[1]) > 1}

    folder, held = os.path.dirname(path), tensors(path)
    with suppress(OSError):
        for name in sorted(os.listdir(existing(folder or ".")))[:_LOOKED_INTO]:
            other = os.path.join(folder, name)
            readable = name.endswith(_READ) and name != os.path.basename(path)
            if readable and held & tensors(other):
                yield other


def _for_file(text: str) -> Iterator[str]:
    """Name the commands that take a file."""
    place = text if os.path.exists(text) else text.rpartition(":")[0] or text
    if place.endswith(_CODE) or os.path.isdir(place):
        yield "check"
        return
    with suppress(AttnError):
        from attncli.files.contents import open_tensors
        from attncli.files.reading import Reading
        from attncli.operations import OPERATIONS

        held = open_tensors(place, Reading()) if os.path.isfile(place) else ()  # no pipe
        if any(one.of(dict.fromkeys(held)) for one in OPERATIONS.values() if not one.parameters):
            yield "forward"
    yield "show-weights"


def files_like(path: str) -> Iterator[str]:
    """Give files that are there and named nearly so."""
    folder, name = os.path.split(path)
    with suppress(OSError):
        stem, ending = os.path.splitext(name)
        known = tuple({*_CODE, *_READ, ending.lower()} - {""})
        there = [one for one in os.listdir(existing(folder or ".")) if one.endswith(known)]
        same = sorted(one for one in there if os.path.splitext(one)[0] == stem)
        alike = [one for one in there if os.path.splitext(one)[1] == os.path.splitext(name)[1]]
        near = [nearest(name, some) for some in (alike, there)]
        for one in dict.fromkeys(filter(None, [near[0], *same, near[1]])):
            yield os.path.join(folder, one)
    for other in folders_like(folder) if folder and not os.path.isdir(existing(folder)) else ():
        yield from files_like(os.path.join(other, name))
        if os.path.isfile(existing(os.path.join(other, name))):
            yield os.path.join(other, name)
    sample = os.path.join("sample_inputs", name)
    if not os.path.lexists(path) and os.path.isfile(existing(sample)):
        yield sample


def folders_like(path: str) -> Iterator[str]:
    """Give the folders that may be meant by one that is not there: named nearly so, or around."""
    parent, name = os.path.split(path.rstrip("/"))
    while parent and not os.path.isdir(parent):
        parent, name = os.path.split(parent)
    with suppress(OSError):
        with os.scandir(parent or ".") as found:
            there = [one.name for one in found if one.is_dir()]
        if (near := nearest(name, there)) is not None:
            yield os.path.join(parent, near)
    yield parent


def _as_typed(word: str) -> str:
    """Take out what a page or a word processor made of dashes and quotation marks."""
    stripped = word.strip(_QUOTES)
    rest = stripped.lstrip(_DASHES)
    return f"--{rest}" if rest != stripped and rest else stripped


def _is_number(text: str) -> bool:
    with suppress(ValueError):
        float(text)
        return True
    return False
