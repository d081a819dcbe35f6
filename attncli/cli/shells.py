"""How bash, zsh and fish are spoken to: click's own completion, with files of the right endings.

click lets a shell list all files, or folders alone; here the files are chosen by whoever knows
which are meant, and the shell quotes them and puts its slash or space behind. And bash parts words
at ``=`` and ``:``, which ``--rename hs_enc=states`` and ``layer.py:Attention`` have.
"""

from __future__ import annotations

import os
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

VARIABLE = "_ATTN_COMPLETE"


class _Quiet(ShellComplete):
    """What is typed is not finished and may be wrong: then nothing is offered, nor said."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Give what could stand in the place of what is there."""
        try:
            return super().get_completions(args, incomplete)
        except click.ClickException:
            return []


class _Bash(_Quiet, BashComplete):
    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' response type value
    response=$(COMP_WORDS="${COMP_LINE:0:COMP_POINT}" COMP_BREAKS="$COMP_WORDBREAKS" \
%(complete_var)s=bash_complete "$1" 2>/dev/null)
    COMPREPLY=()
    for value in $response; do
        type=${value%%%%,*}
        value=${value#*,}
        [[ $type == plain && $value == *= ]] && compopt -o nospace
        [[ $type == plain ]] || compopt -o filenames
        COMPREPLY+=("$value")
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Part the line up to the cursor; what bash takes for the word may be the end of it."""
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)
        incomplete = words.pop() if words and not line[-1:].isspace() else ""
        ends = (
            incomplete.rfind(mark) for mark in "=:" if mark in os.environ.get("COMP_BREAKS", "")
        )
        self.before = incomplete[: max(ends, default=-1) + 1]
        return words[1:], incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Give what stands in the place of bash's word."""
        return f"{item.type},{item.value.removeprefix(self.before)}"

    @staticmethod
    def _check_version() -> None:
        """Ask no bash for its version: what is used is in all that are not very old."""


class _Zsh(_Quiet, ZshComplete):
    source_template = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a response plain described open files folders
    local type key descr
    (( ! $+commands[%(prog_name)s] )) && return 1
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \
%(complete_var)s=zsh_complete %(prog_name)s 2>/dev/null)}")
    for type key descr in ${response}; do
        case $type in
            file) files+=("$key") ;;
            dir) folders+=("$key/") ;;
            plain)
                if [[ "$key" == *= ]]; then open+=("$key")
                elif [[ "$descr" == "_" ]]; then plain+=("$key")
                else described+=("$key":"$descr"); fi ;;
        esac
    done
    [[ -n "$described" ]] && _describe -V unsorted described -U
    [[ -n "$plain" ]] && compadd -U -V unsorted -a plain
    [[ -n "$open" ]] && compadd -U -S '' -V unsorted -a open
    [[ -n "$files" ]] && compadd -U -V unsorted -a files
    [[ -n "$folders" ]] && compadd -U -S '' -V unsorted -a folders
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


class _Fish(_Quiet, FishComplete):
    source_template = """\
function %(complete_func)s
    for completion in (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) \
COMP_CWORD=(commandline -t) %(prog_name)s 2>/dev/null)
        set -l metadata (string split -m 1 "," -- $completion)
        if test $metadata[1] = dir
            echo $metadata[2]/
        else
            echo $metadata[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Write it on one line, as click does from 8.4.2 on."""
        said = " ".join((item.help or "").split())
        return f"{item.type},{item.value}\t{said}" if said else f"{item.type},{item.value}"


SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}
for _name, _shell in SHELLS.items():
    add_completion_class(_shell, _name)


def script(shell: str) -> str:
    """Give the script that a shell reads once."""
    return SHELLS[shell](click.Command("attn"), {}, "attn", VARIABLE).source()
