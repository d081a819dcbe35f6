"""Every sentence of the guide's page on trust is held by tests, which are named here."""

import re
from pathlib import Path

import pytest

import attncli

TESTS = Path(__file__).parent
PAGE = Path(attncli.__file__).parent / "guide" / "trust.md"
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`])")

# The beginning of each sentence, and the tests that hold it.
HELD = {
    "Any bytes given as a file, any text": (
        "cli/test_hostile_files.py::test_no_file_makes_a_command_fail_badly",
        "cli/test_option_values.py::test_nor_does_any_other",
        "files/test_crash.py::test_out_of_space_at_any_byte",
        "cli/test_main.py::test_signals_leave_nothing_half_written",
        "cli/test_main.py::test_closed_streams",
        "cli/test_little_memory.py::test_what_does_not_fit_is_said_and_never_allocated",
    ),
    "A number on the command line is finite": (
        "cli/test_option_values.py::test_no_text_becomes_a_number_that_nothing_can_compute_with",
        "cli/test_option_values.py::test_such_text_is_a_usage_error_before_any_work",
    ),
    "Threads are one a core": (
        "cli/test_option_values.py::test_as_many_threads_as_there_are_cores",
    ),
    "The options in a run file are those": (
        "cli/test_option_values.py::test_an_option_that_no_run_writes_is_refused_by_its_name",
        "cli/test_option_values.py::test_in_whatever_format_they_are",
    ),
    "Nothing in a file is run.": ("cli/test_bad_inputs.py::test_what_is_no_file_of_tensors",),
    "Pickles, in whatever": ("files/test_reading.py::test_pickles_come_with_their_conversion",),
    "What a file says of itself is checked": (
        "files/test_reading.py::test_zip_bomb_is_refused_by_what_it_declares",
        "files/test_untrusted.py::test_a_size_that_no_array_can_have_is_refused",
        "cli/test_bad_inputs.py::test_what_is_no_attention",
    ),
    "Two arrays whose names differ": (
        "files/test_untrusted.py::test_two_spellings_of_one_name_are_refused",
        "files/test_untrusted.py::test_twins_are_refused_in_every_format",
    ),
    "A pipe or a device is told by its first bytes": (
        "files/test_untrusted.py::test_a_stream_that_is_no_file_of_ours_is_refused_by_its_beginning",
        "files/test_untrusted.py::test_a_stream_that_looks_like_one_is_read_up_to_a_bound",
        "files/test_untrusted.py::test_a_device_is_refused_by_its_beginning",
    ),
    "One that nobody writes to is waited for": (
        "files/test_untrusted.py::test_a_pipe_without_a_writer_is_waited_for_aloud_until_ctrl_c",
    ),
    "A zarr store is no more than its folder": (
        "files/test_stores.py::test_links_are_not_followed",
        "files/test_stores.py::test_metadata_that_are_none_are_refused",
        "files/test_stores.py::test_a_damaged_chunk_is_refused_and_takes_no_more_than_it_should",
    ),
    "A damaged file is one": (
        "cli/test_bad_inputs.py::test_what_is_no_file_of_tensors",
        "files/test_reading.py::test_any_bytes_give_arrays_or_an_error_of_ours",
    ),
    "A traceback is a bug of ours": (
        "cli/test_main.py::test_a_bug_shows_its_traceback_and_is_no_verdict",
    ),
    "Names, tokens and messages from files are data.": (
        "cli/test_hostile_text.py::test_the_screen_has_lines_of_ours_alone",
    ),
    "Control characters": ("cli/test_hostile_text.py::test_nothing_is_run_or_followed",),
    "What `attn` exports it reads back.": (
        "cli/test_hostile_text.py::test_an_export_is_read_back",
    ),
    "NaN and infinity in inputs are refused": (
        "files/test_reading.py::test_nonfinite_values_are_counted_and_placed",
    ),
    "`attn check` and `attn gradcheck` do run": (
        "checking/targets/test_own_process.py::test_what_ends_a_call_is_said_and_other_layers_are_judged",
        "checking/targets/test_own_process.py::test_nothing_of_it_reaches_this_process_or_the_next_target",
    ),
    "What would not fit into what is free": (
        "test_memory.py::test_the_least_of_machine_group_and_process_counts",
        "cli/test_little_memory.py::test_what_does_not_fit_is_said_and_never_allocated",
    ),
    "`--max-memory SIZE` sets the limit.": (
        "test_memory.py::test_a_limit_of_ones_own_counts_to_the_byte",
    ),
    "Files are written whole or not at all": (
        "files/test_crash.py::test_killed_at_every_step_there_is_the_old_file_or_the_new_one",
        "cli/test_full_disk.py::test_full_disk_keeps_what_was_there",
        "cli/test_main.py::test_signals_leave_nothing_half_written",
    ),
    "After a kill a temporary file": (
        "files/test_crash.py::test_killed_at_every_step_there_is_the_old_file_or_the_new_one",
    ),
    "An existing file is replaced only with `--force`": (
        "files/test_atomic.py::test_existing_file_is_refused_without_force_and_keeps_its_mode_with_it",
        "files/test_atomic.py::test_hard_link_to_an_input_is_an_input",
        "cli/test_output_paths.py::test_no_file_that_is_read_is_written_to",
    ),
    "Whether a file could be written": (
        "cli/test_bad_inputs.py::test_outputs_are_checked_before_any_work",
        "cli/test_output_paths.py::test_what_is_no_file",
        "cli/test_output_paths.py::test_two_names_of_one_file",
    ),
    "A file that is replaced is read": (
        "files/test_untrusted.py::test_a_file_that_is_replaced_meanwhile_is_read_as_it_was",
    ),
    "One that is written to or cut short": (
        "files/test_untrusted.py::test_a_file_that_is_written_to_while_it_is_read_is_told",
        "files/test_crash.py::test_an_input_cut_short_while_it_is_read_loses_nothing",
    ),
    "`attn gradcheck` proves the gradients": (
        "checking/derivatives/test_our_gradients.py::test_complex_step_is_exact_to_rounding",
        "checking/derivatives/test_our_gradients.py::test_every_engine_is_held_against_the_same_derivative",
    ),
    "Random tensors are the same bits": (
        "test_tensors.py::test_the_stream_is_the_same_on_every_machine",
    ),
}  # fmt: skip
# What is said of somebody else's program, and is no promise of ours.
OF_OTHERS = ("With `--engine dask` and a scheduler that is not yours",)


def sentences():
    text = re.sub(r"(?m)^#.*$", "", PAGE.read_text())
    for paragraph in re.split(r"\n\s*\n|\n- ", text):
        yield from filter(None, _SENTENCE.split(" ".join(paragraph.removeprefix("- ").split())))


@pytest.mark.parametrize("sentence", list(sentences()))
def test_every_sentence_is_held_by_a_test(sentence):
    assert len([start for start in (*HELD, *OF_OTHERS) if sentence.startswith(start)]) == 1


@pytest.mark.parametrize("start", [*HELD, *OF_OTHERS])
def test_what_tests_hold_is_on_the_page(start):
    assert any(sentence.startswith(start) for sentence in sentences())


@pytest.mark.parametrize("name", sorted({name for names in HELD.values() for name in names}))
def test_the_tests_are_there(name):
    path, function = name.split("::")
    assert re.search(rf"(?m)^def {function}\(", (TESTS / path).read_text())
