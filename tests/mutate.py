"""Change the product at one place at a time, and see whether a test fails.  By hand, not in CI.

    python tests/mutate.py record FOLDER [pytest's arguments]     which test reaches which line
    python tests/mutate.py run FOLDER [--number 300] [--seed 1]   change, test, change back
    python tests/mutate.py retry FOLDER tests/core/test_x.py …    what survived, against new tests

``record`` copies the checkout into FOLDER, once, and adds the tests that it runs to the map.
``run`` draws lines by the seed, makes one change of each in the copy, and runs the tests that
reach the line until one fails.  A result is a line of FOLDER/results.jsonl, and what stands there
is not run again.  At the end the tests that failed are seen to pass without a change.  Nothing is
changed in the checkout itself.

The tests are collected once.  For each change a fork of that process puts new code into the live
function, so that a change costs what its tests cost; what is computed at import is changed on disk
and takes a pytest of its own.

mutmut rewrites every function, so that what reads the package's own source fails unchanged, and
maps only what runs in pytest's process; cosmic-ray runs the same tests for each change.
"""

import argparse
import ast
import contextlib
import copy
import functools
import gc
import itertools
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import coverage
import pytest
from _pytest.main import pytest_runtestloop

ROOT = Path(__file__).parent.parent
PARTS = ("core", "checking", "files", "cli/main.py", "errors.py", "processes.py")
CONFIG = """
[run]
relative_files = true
parallel = true
source = attncli
context = ${{PYTEST_CURRENT_TEST-}}
data_file = {}
"""
OPTIONS = ("-n0", "-q", "-m", "", "-p", "no:cacheprovider")
SAID = "{file}:{line} {kind}: {before!r} -> {after!r} | {by} | {tests} tests, {seconds} s"
LONGEST = 240  # seconds of tests for one change, as recorded
# Options that change no result where all is right.
UNSEEN = ("out", "copy", "strict", "stacklevel", "hint")
TURNED = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,), ast.Mod: (ast.FloorDiv,), ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
}  # fmt: skip
OPPOSITE = {
    "min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum",
    "maximum": "minimum", "zeros": "ones", "floor": "ceil", "ceil": "floor",
}  # fmt: skip


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Every small change of one expression or statement: its kind, and what stands there then."""

    def altered(**fields: object) -> ast.AST:
        other = copy.copy(node)
        for name, value in fields.items():
            setattr(other, name, value)
        return other

    match node:
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                for kind in TURNED[type(op)]:
                    yield "comparison", altered(ops=[*ops[:i], kind(), *ops[i + 1 :]])
        case ast.BinOp(op=op, left=left) | ast.AugAssign(op=op, target=left):
            text = isinstance(left, ast.JoinedStr) or isinstance(getattr(left, "value", 0), str)
            for kind in () if text else TURNED.get(type(op), ()):
                yield "operator", altered(op=kind())
        case ast.BoolOp(values=values):
            for i in range(len(values)):
                kept = values[:i] + values[i + 1 :]
                yield "condition", altered(values=kept) if len(kept) > 1 else kept[0]
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield "sign", operand
        case ast.Constant(value=bool() as value):
            yield "constant", ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield "constant", ast.Constant(value + 1)
        case ast.Constant(value=float() as value):
            yield "constant", ast.Constant(value * 10 or 1.0)
        case ast.IfExp(body=body, orelse=orelse):
            yield "condition", body
            yield "condition", orelse
        case ast.Call(func=func, args=args, keywords=keywords):
            # Of two kinds of expression, the wrong order is an error at once.
            if len(args) > 1 and type(args[0]) is type(args[1]) is not ast.Starred:
                yield "order", altered(args=[args[1], args[0], *args[2:]])
            for i, keyword in enumerate(keywords):
                if keyword.arg and keyword.arg not in UNSEEN:
                    yield "option", altered(keywords=keywords[:i] + keywords[i + 1 :])
            name = getattr(func, "id", getattr(func, "attr", ""))
            if name in OPPOSITE:
                other = copy.copy(func)
                setattr(other, "id" if isinstance(func, ast.Name) else "attr", OPPOSITE[name])
                yield "function", altered(func=other)
        case ast.If(orelse=[]) | ast.While():
            yield "guard", ast.Constant(False)
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield "result", ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()):
            yield "statement", ast.Pass()


def sites(node: ast.AST, around: tuple = ()) -> Iterator[tuple[ast.AST, tuple]]:
    """Every node that computes, and the functions and classes around it; no messages, no types."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    yield node, around
    for name, field in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        inner = name == "body" and isinstance(node, ast.FunctionDef | ast.ClassDef)
        for child in field if isinstance(field, list) else [field]:
            if isinstance(child, ast.AST) and getattr(child, "arg", "") not in UNSEEN:
                # A default is computed at import, and seen by who calls the function.
                within = inner or isinstance(child, ast.arguments)
                yield from sites(child, (*around, node) if within else around)


def drawn(checkout: Path, seed: int) -> list[dict]:
    """One change of every line of the parts, in an order that the seed makes."""
    rng, lines = random.Random(seed), {}
    parts = [checkout / "attncli" / part for part in PARTS]
    nested = ([*part.rglob("*.py")] if part.is_dir() else [part] for part in parts)
    for path in sorted(itertools.chain(*nested)):
        text = path.read_bytes()
        starts = [0, *itertools.accumulate(map(len, text.splitlines(keepends=True)))]
        for node, around in sites(ast.parse(text)):
            place = node.test if isinstance(node, ast.If | ast.While) else node
            functions = [i for i, one in enumerate(around) if isinstance(one, ast.FunctionDef)]
            inner = around[functions[-1]] if functions else None
            for kind, other in changes(node):
                if kind == "result" and "None" not in ast.unparse(inner.returns or ast.Pass()):
                    continue  # an error at once
                new = ast.unparse(ast.fix_missing_locations(other))
                start = starts[place.lineno - 1] + place.col_offset
                end = starts[place.end_lineno - 1] + place.end_col_offset
                live = inner is not None and node.lineno >= inner.body[0].lineno
                outer = around[: functions[0] + 1] if live else ()
                reach = (inner.body[0].lineno, inner.end_lineno) if inner else (0, 10**9)
                lines.setdefault((path, node.lineno), []).append({
                    "file": str(path.relative_to(checkout)), "line": node.lineno, "kind": kind,
                    "start": start, "end": end, "before": text[start:end].decode(),
                    "after": f"({new})" if isinstance(other, ast.expr) else new,
                    "reach": (node.lineno, place.end_lineno) if live else reach,
                    "live": ".".join(one.name for one in outer),
                })  # fmt: skip
    chosen = [rng.choice(lines[key]) for key in sorted(lines)]
    rng.shuffle(chosen)
    return [one for one in chosen if one["after"].strip("()") != one["before"].strip("()")]


class Folder:
    """The copy, the map and the results."""

    def __init__(self, path: Path):
        self.path, self.checkout = path, path / "checkout"
        self.results, self.clock = path / "results.jsonl", time.time()
        self.python = self.checkout / ".venv/bin/python"
        if not self.checkout.exists():
            self.refresh(".")
            venv = self.checkout / ".venv"
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
            site = next(venv.glob("lib/*/site-packages"))
            others = [entry for entry in sys.path if entry.endswith("site-packages")]
            measure = (
                "import os; os.environ.get('COVERAGE_PROCESS_START')"
                " and __import__('coverage').process_startup()"
            )
            (site / "copy.pth").write_text("\n".join([str(self.checkout), *others, measure]))

    def refresh(self, part: str) -> None:
        """Copy what git knows of, or would."""
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", part]
        for name in filter(None, subprocess.check_output(listed, cwd=ROOT, text=True).split("\0")):
            if (ROOT / name).is_file():
                (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.checkout / name)

    def record(self, arguments: list[str]) -> None:
        """Add to the map what these tests reach."""
        config = self.path / "coverage.ini"
        config.write_text(CONFIG.format(self.path / "parts" / "reached"))
        (self.path / "parts").mkdir(exist_ok=True)
        env = {"COVERAGE_PROCESS_START": str(config), "MUTATE_TIMES": str(self.path / "times.txt")}
        command = [self.python, "-m", "pytest", "-q", "-p", "tests.mutate", *arguments]
        subprocess.run(command, cwd=self.checkout, env=os.environ | {"CI": "true"} | env)
        os.chdir(self.checkout)
        whole = coverage.Coverage(config_file=str(config))
        whole.load()
        whole.combine()
        whole.save()

    @functools.cached_property
    def times(self) -> dict[str, float]:
        """How long each recorded test that passed took."""
        lines = (self.path / "times.txt").read_text().splitlines()
        return {test: float(seconds) for seconds, test in (line.split(" ", 1) for line in lines)}

    @functools.cached_property
    def reaching(self) -> Callable[[dict], list[str]]:
        """Read the map: the tests that reach a change's lines, the likeliest and quickest first."""
        data = coverage.CoverageData(str(self.path / "parts" / "reached"))
        data.read()
        contexts = functools.cache(data.contexts_by_lineno)

        def tests(change: dict) -> list[str]:
            first, last = change["reach"]
            words = set(Path(change["file"]).with_suffix("").parts)
            lines = contexts(change["file"]).items()
            named = {one for line, ones in lines if first <= line <= last for one in ones}
            found = {name.split("|")[-1].rsplit(" (", 1)[0] for name in named} & self.times.keys()

            def likely(test: str) -> tuple:
                file = test.split("::")[0]
                parts = {part.removeprefix("test_") for part in Path(file).with_suffix("").parts}
                return self.times[test] > 1, -len(words & parts), file, self.times[test]

            ordered = sorted(found, key=likely)
            spent = itertools.accumulate(self.times[test] for test in ordered)
            return [test for test, so_far in zip(ordered, spent, strict=True) if so_far < LONGEST]

        return tests

    def known(self) -> list[dict]:
        """What was tried already."""
        text = self.results.read_text() if self.results.exists() else ""
        return list(map(json.loads, text.splitlines()))

    def apart(self, tests: list[str]) -> str:
        """Run tests in a pytest of their own; give the first that fails, or nothing."""
        listed = self.path / "tests.txt"
        command = [self.python, "-m", "pytest", "-x", *OPTIONS, f"@{listed}"]
        for some in filter(None, (tests[:100], tests[100:])):
            listed.write_text("\n".join(some))
            limit = 120 + 4 * sum(self.times.get(test, 10) for test in some)
            how = {"cwd": self.checkout, "capture_output": True, "text": True, "timeout": limit}
            try:
                done = subprocess.run(command, **how)
            except subprocess.TimeoutExpired:
                return "time limit"
            if done.returncode:
                failed = re.findall("^(?:FAILED|ERROR) (.*?)(?: - .*)?$", done.stdout, re.MULTILINE)
                return failed[0] if failed else done.stdout[-100:] + done.stderr[-100:]
        return ""

    def write(self, path: Path, text: bytes) -> None:
        """Write at a time of its own, by which Python sees that what it compiled is not of it."""
        path.write_bytes(text)
        self.clock += 10
        os.utime(path, (self.clock, self.clock))


class Forks:
    """As a plugin: where the collected tests would be run, run some of them for each change."""

    def __init__(self, folder: Folder, changes: list[tuple[dict, list[str]]]):
        self.folder, self.changes = folder, changes
        self.screen, self.tell = os.fdopen(os.dup(1), "w", buffering=1), -1

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try each change; at the end see that the tests which failed pass without one."""
        items = {item.nodeid: item for item in session.items}
        failed = {}
        for change, tests in self.changes:
            begun, path = time.time(), self.folder.checkout / change["file"]
            text = path.read_bytes()
            new = text[: change["start"]] + change["after"].encode() + text[change["end"] :]
            self.folder.write(path, new)
            try:
                tests = list(items) if tests is None else [test for test in tests if test in items]
                there = [items[test] for test in tests]
                put = functools.partial(put_live, change, path, new)
                by = self.forked(session, there, put) if change["live"] else "apart"
                by = self.folder.apart(tests) if by == "apart" else by
            finally:
                self.folder.write(path, text)
            failed |= {by: items[by]} if by in items else {}
            seconds = round(time.time() - begun)
            result = change | {"by": by, "tests": len(tests), "seconds": seconds}
            with self.folder.results.open("a") as file:
                file.write(json.dumps(result) + "\n")
            verdict = "caught  " if by else "SURVIVED"
            print(verdict, SAID.format_map(result), file=self.screen)
        unchanged = self.forked(session, [*failed.values()])
        print("Unchanged:", unchanged or "all pass", file=self.screen)
        return True

    def forked(self, session: pytest.Session, items: list, put: Callable = lambda: True) -> str:
        """Run tests in a fork, with a change; give the first that fails, or nothing."""
        told, self.tell = os.pipe()
        if not (child := os.fork()):
            os.setsid()
            try:
                session.items, session.config.option.maxfail = items, 1
                if put():
                    with contextlib.suppress(session.Failed):
                        pytest_runtestloop(session)
                    session._setupstate.teardown_exact(None)
                else:
                    os.write(self.tell, b"failed apart\n")
                os.write(self.tell, b"done\n")
            except BaseException as error:
                os.write(self.tell, f"failed: {error!r:.100}\ndone\n".encode())
            finally:
                os._exit(0)
        os.close(self.tell)
        text, last = "", ""
        while not text.endswith("done\n"):
            if not select.select([told], [], [], 60 + 10 * self.folder.times.get(last, 1))[0]:
                text += f"failed: time limit of {last}\n"
                break
            if not (chunk := os.read(told, 65536).decode()):
                text += f"failed: end of process in {last}\n"
                break
            text += chunk
            last = text.splitlines()[-1].removeprefix("started ")
        os.close(told)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        failed = re.findall("^failed:? (.*)", text, re.MULTILINE)
        return failed[0] if failed else ""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say that the process lives."""
        os.write(self.tell, f"started {nodeid}\n".encode())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Say which test fails."""
        if report.failed:
            os.write(self.tell, f"failed {report.nodeid}\n".encode())


def put_live(change: dict, path: Path, text: bytes) -> bool:
    """Give the live function its new code; False where that does not do."""

    def functions(code: types.CodeType) -> Iterator[types.CodeType]:
        for one in code.co_consts:
            if isinstance(one, types.CodeType):
                yield one
                yield from () if "<locals>" in one.co_qualname else functions(one)

    codes = [
        code for code in functions(compile(text, str(path), "exec", dont_inherit=True))
        if code.co_qualname == change["live"] and code.co_firstlineno <= change["line"]
    ]  # fmt: skip
    code = max(codes, key=lambda code: code.co_firstlineno)
    same = [
        one for one in gc.get_objects() if type(one) is types.FunctionType
        and one.__code__.co_filename == str(path) and one.__code__.co_qualname == code.co_qualname
        and one.__code__.co_firstlineno == code.co_firstlineno
    ]  # fmt: skip
    try:
        for one in same:
            one.__code__ = code
    except ValueError:  # another number of free variables
        return False
    return bool(same) or ".".join(Path(change["file"]).with_suffix("").parts) not in sys.modules


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    """As a plugin of ``record``: name the test that reaches lines, and say how long it took."""
    before, start = item.session.testsfailed, time.perf_counter()
    measured = coverage.Coverage.current()
    measured.switch_context(item.nodeid)
    result = yield
    measured.switch_context("")
    if item.session.testsfailed == before:
        with open(os.environ["MUTATE_TIMES"], "a") as file:
            file.write(f"{time.perf_counter() - start:.3f} {item.nodeid}\n")
    return result


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["record", "run", "retry"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="part of the path of the changed files")
    given, rest = parser.parse_known_args()
    folder = Folder(given.folder.resolve())
    if given.what == "record":
        folder.record(rest)
        return
    if Path(sys.prefix) != folder.checkout / ".venv":  # what tests start is of the copy too
        os.execv(folder.python, [folder.python, "-P", *sys.argv])
    known = {(one["file"], one["start"], one["after"]): one for one in folder.known()}
    if given.what == "run":
        chosen = drawn(folder.checkout, given.seed)[: given.number]
        changes = [
            (one, folder.reaching(one))
            for one in chosen
            if given.only in one["file"] and (one["file"], one["start"], one["after"]) not in known
        ]
        rest = sorted({test.split("::")[0] for _, tests in changes for test in tests})
    else:
        folder.refresh("tests")
        changes = [(one, None) for one in known.values() if not one["by"]]
    os.chdir(folder.checkout)
    os.environ["CI"] = "true"
    pytest.main([*OPTIONS, *rest], plugins=[Forks(folder, changes)])
    known |= {(one["file"], one["start"], one["after"]): one for one in folder.known()}
    print(f"{sum(bool(one['by']) for one in known.values())} of {len(known)} caught")


if __name__ == "__main__":
    main()
