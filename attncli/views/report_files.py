"""What ``--report`` writes: an entry for each ending, and the module that makes it.

To add one, add its module to the table, with ``write(report, submissions)``, which gives the file's
contents piece by piece: ``report`` is the object that ``--json`` prints, the submissions are what
became of each TARGET. Nothing here imports NumPy or rich at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from attncli.files.formats import ending_of

if TYPE_CHECKING:
    from attncli.views.verdicts import Submission

REPORTS = {
    ".xml": "attncli.views.junit",
    ".json": "attncli.views.report_json",
    ".csv": "attncli.views.grades",
    ".md": "attncli.views.digest",
}


def write_report(
    path: str, report: dict[str, Any], submissions: Sequence[Submission], *, force: bool
) -> None:
    """Write what was found to a file, whole or not at all.

    Raises
    ------
    FileError
    """
    from attncli.views.exports import save

    module = import_module(REPORTS[ending_of(path)])
    save(path, module.write(report, submissions), force=force)
