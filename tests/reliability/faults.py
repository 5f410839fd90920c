"""Fault -> what a person sees, what stays, and the tests that hold it: the table of results/reliability.md.

``test_faults_table.py`` holds that every test named here exists.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One fault that is injected.

    Attributes:
        name: what goes wrong.
        outcome: what the user sees, and what is on the disk afterwards.
        tests: ``file below tests::name``.
    """

    name: str
    outcome: str
    tests: tuple[str, ...]


TOLD = "search/study/test_faults.py::test_a_fault_costs_its_own_trial_and_is_told_as_what_it_is"
LEFT = "search/study/test_faults.py::test_no_process_and_nothing_half_made_is_left"
GOES_ON = "search/study/test_faults.py::test_the_study_goes_on_and_ends_well"

#: Whatever happens to a child costs its trial: a record, a line with the reason, no process, no half file.
FAULTS = (
    Fault(
        "a child dies of a segmentation fault",
        "trial failed, with the signal and the last words; the study goes on",
        (TOLD, GOES_ON, "evaluators/process/test_client.py::test_a_crash_names_its_signal"),
    ),
    Fault(
        "a child aborts, leaving a process of its own",
        "trial failed, with the signal; the orphan is ended too",
        (TOLD, LEFT),
    ),
    Fault(
        "a child hangs",
        "ended at its time limit; trial failed, with the limit",
        (TOLD, "evaluators/process/test_client.py::test_a_hang_is_a_timeout_and_leaves_no_process"),
    ),
    Fault(
        "a child outgrows its memory",
        "ended; trial infeasible with the peak, which the sampler is told",
        (
            "search/study/test_faults.py::test_a_candidate_that_outgrows_its_memory_is_infeasible_with_its_peak",
            "evaluators/process/test_memory_limit.py::test_the_kernel_ends_a_child_that_nobody_watches_and_says_so",
            "evaluators/process/test_cgroup.py::test_version_2_tells_who_was_ended_and_the_peak",
            "evaluators/process/test_cgroup.py::test_a_system_that_does_not_let_us_leaves_nothing_behind",
        ),
    ),
    Fault(
        "a build leaves while it writes weights",
        "trial failed; nothing of it in the cache",
        (TOLD, LEFT, "passes/store/test_cache.py::test_failure_is_never_kept"),
    ),
    Fault(
        "a build answers with garbage: no JSON, half of it, wrong fields, a folder elsewhere",
        "trial failed, with what was wrong; the build's process is replaced",
        (
            TOLD,
            "search/builds/test_messages.py::test_what_is_no_answer_says_why",
            "search/builds/test_builder.py::test_a_build_that_answers_with_a_folder_outside_the_cache_has_failed",
        ),
    ),
    Fault(
        "a model's process answers with garbage: no JSON, half of it, wrong fields, no times",
        "trial failed, with what was wrong; no metric comes of it",
        (
            TOLD,
            "search/study/test_faults.py::test_no_metric_comes_from_outputs_that_are_wrong",
            "evaluators/process/test_client.py::test_an_answer_of_wrong_fields_is_an_error_and_ends_the_process",
        ),
    ),
    Fault(
        "logits are not finite",
        "trial failed before it is timed, with the window",
        (TOLD, "evaluators/quality/test_text_quality.py::test_logits_that_are_not_finite_are_caught_in_the_candidate"),
    ),
    Fault(
        "logits of wrong shapes: a position or a token too few, another vocabulary than the base's",
        "trial failed, with the shapes",
        (
            TOLD,
            "search/study/test_faults.py::test_no_metric_comes_from_outputs_that_are_wrong",
            "evaluators/process/test_client.py::test_logits_for_another_vocabulary_than_the_base_s_are_an_error",
        ),
    ),
    Fault(
        "the disk is full",
        "the study ends and says where; no candidate is blamed, every record is whole, the same command goes on",
        (
            "search/cli/test_error_messages.py::test_a_full_disk_ends_the_study_and_no_candidate_is_blamed",
            "search/cli/test_error_messages.py::test_a_record_that_does_not_fit_the_disk_leaves_those_before_it_whole",
        ),
    ),
    Fault(
        "the study's folder can't be written",
        "one error that names it and --out",
        ("search/cli/test_error_messages.py::test_a_read_only_folder_is_one_clear_error",),
    ),
    Fault(
        "a cache entry is deleted or changed while its model is measured",
        "said, and built again; the trial completes",
        ("search/study/test_faults.py::test_a_cache_entry_that_is_deleted_or_changed_under_way_is_built_again",),
    ),
    Fault(
        "a cache entry is cut, changed or deleted between runs",
        "built anew",
        ("passes/store/test_cache.py::test_an_entry_whose_file_was_cut_changed_or_deleted_is_built_anew",),
    ),
    Fault(
        "the database is locked",
        "waited for, then one error",
        ("search/cli/test_error_messages.py::test_a_locked_database_is_waited_for_and_then_told",),
    ),
    Fault(
        "the database is damaged or lost",
        "damaged: an error says how it is mended; lost: made anew from the records",
        (
            "search/cli/test_error_messages.py::test_a_damaged_database_says_how_it_is_mended",
            "search/cli/test_error_messages.py::test_a_lost_database_is_made_anew_from_the_records",
        ),
    ),
    Fault(
        "the clock jumps back by hours",
        "timestamps show it; durations, the time limit, records and the cache's bound don't",
        (
            "search/study/test_faults.py::test_a_clock_that_jumps_back_changes_timestamps_and_nothing_else",
            "passes/store/test_cache.py::test_a_clock_that_jumps_back_evicts_nothing_in_use_and_lets_nothing_stay_forever",
        ),
    ),
    Fault(
        "two runs on one folder",
        "without a storage URL the second is refused, with the first one's process; with one it joins as a worker",
        (
            "search/cli/test_error_messages.py::test_a_second_run_is_refused_and_the_lock_dies_with_its_process",
            "search/study/distributed/test_distributed.py::test_a_killed_worker_loses_no_trial_and_none_is_measured_twice",
        ),
    ),
    Fault(
        "Ctrl-C once",
        "the running trial is finished and kept; exit code 130, and the command that goes on",
        (
            "search/study/test_interrupt.py::test_an_interrupted_study_keeps_its_trials_and_resumes",
            "search/study/test_interrupt.py::test_the_first_ctrl_c_says_what_the_second_one_does",
        ),
    ),
    Fault(
        "Ctrl-C twice",
        "stops now; finished trials stay as they were, the running one is measured anew later",
        ("search/study/test_interrupt.py::test_an_interrupted_study_keeps_its_trials_and_resumes",),
    ),
    Fault(
        "a reboot, a closed terminal",
        "as Ctrl-C",
        ("search/study/test_interrupt.py::test_a_reboot_or_a_closed_terminal_stops_like_ctrl_c",),
    ),
    Fault(
        "the power goes",
        "every file is the old one or the new one, whole; a cache entry is whole or absent",
        (
            "passes/store/test_atomic_files.py::test_whenever_the_power_goes_there_is_the_old_file_or_the_new_one",
            "passes/store/test_atomic_files.py::test_a_cache_entry_is_whole_or_absent_whenever_the_power_goes",
        ),
    ),
    Fault(
        "a study is killed between its record and the database",
        "the record is told on resume; a trial left running is reaped, with the reason",
        (
            "search/study/test_run.py::test_a_trial_whose_record_was_written_but_not_told_is_told_on_resume",
            "search/cli/test_error_messages.py::test_trials_that_a_killed_process_left_running_are_reaped_and_told_why",
        ),
    ),
)
