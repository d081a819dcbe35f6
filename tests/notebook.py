"""A notebook that something is run in."""

import sys
import types


class Notebook:
    """What IPython has in a notebook, or, without a kernel, in a terminal.

    `displayed` is what is there to be seen: a list for each output, the last of it on top.
    """

    def __init__(self, monkeypatch, kernel=True):
        self.displayed, self.execution_count = [], 1
        if kernel:
            self.kernel = object()
        display = types.ModuleType("IPython.display")
        display.display = self.display
        module = types.ModuleType("IPython")
        module.get_ipython, module.display = lambda: self, display
        monkeypatch.setitem(sys.modules, "IPython", module)
        monkeypatch.setitem(sys.modules, "IPython.display", display)

    def display(self, value, *, raw, display_id=False):
        assert raw
        self.displayed.append([value])
        if not display_id:
            return None
        output = self.displayed[-1]
        return types.SimpleNamespace(update=lambda value, raw: output.append(value))

    def end_with(self, value):
        """End a cell with an expression of this value."""
        value._ipython_display_()
        self.execution_count += 1
