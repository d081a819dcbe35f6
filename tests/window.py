"""Programs in a terminal window of their own."""

import os
import re
import sys

import pytest

IN_FULL, AS_BEFORE = "\x1b[?1049h", "\x1b[?1049l"  # the screen of our own, and the one before
on_posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


# JAX, once a test of the peers has loaded it here, warns of every fork; ours becomes another
# program at once.
quiet_forks = pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")


class Window:
    """A terminal window with a program in it."""

    def __init__(self, *command, columns=80, lines=24):
        import pty
        import termios

        self.program, self.descriptor = pty.fork()
        if self.program == 0:
            sizes = ("COLUMNS", "LINES")  # would hide that of the window
            kept = {name: text for name, text in os.environ.items() if name not in sizes}
            os.execve(command[0], command, {**kept, "TERM": "xterm-256color"})
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.descriptor)

    def resize(self, columns, lines=24):
        import termios

        termios.tcsetwinsize(self.descriptor, (lines, columns))

    def press(self, keys):
        os.write(self.descriptor, keys.encode())

    def until(self, text):
        """Return what is written up to a text, and all that comes with it."""
        import select

        seen = b""
        while text.encode() not in seen:
            assert select.select([self.descriptor], [], [], 30)[0], seen.decode()
            seen += os.read(self.descriptor, 65536)
        return seen.decode()

    def is_as_before(self):
        import termios

        return termios.tcgetattr(self.descriptor) == self.before

    def ends(self):
        code = os.waitstatus_to_exitcode(os.waitpid(self.program, 0)[1])
        os.close(self.descriptor)
        return code


def plain_lines(text):
    return re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", text).splitlines()
