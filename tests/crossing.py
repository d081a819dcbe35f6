"""Cases in which every two values of different axes meet, where all of them would be thousands."""

from collections.abc import Iterable, Mapping
from itertools import combinations, product
from typing import Any


def crossed(**axes: Iterable[Any]) -> dict[str, Any]:
    """Give what `pytest.mark.parametrize` takes: few cases in which every two values meet.

    An axis is a table of values by their names, or a list of values.
    """
    tables = [
        axis if isinstance(axis, Mapping) else {str(value): value for value in axis}
        for axis in axes.values()
    ]
    named = [[(number, name) for name in table] for number, table in enumerate(tables)]
    missing = {pair for two in combinations(named, 2) for pair in product(*two)}
    cases = []
    while missing:
        case = list(min(missing))
        for values in named:
            if values[0][0] not in dict(case):
                case.append(max(values, key=lambda x: len(missing & _pairs([*case, x]))))
        missing -= _pairs(case)
        cases.append([name for _, name in sorted(case)])
    return {
        "argnames": tuple(axes),
        "argvalues": [[table[x] for table, x in zip(tables, case, strict=True)] for case in cases],
        "ids": ["-".join(case) for case in cases],
    }


def _pairs(case: Iterable[tuple[int, str]]) -> set[tuple[tuple[int, str], ...]]:
    return set(combinations(sorted(case), 2))
