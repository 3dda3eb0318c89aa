"""The table of all stacks marks outliers, and is short even for many stacks."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from cryolike_dask import Conversion, ConversionReport, load_stack, particles_from_star
from cryolike_dask.demo.particles import write_demo_particles
from cryolike_dask.pictures.html_report import write_html_report
from cryolike_dask.pictures.stack_table import StackTable, find_outliers, make_stack_table
from cryolike_dask.planning.plan import Plan
from cryolike_dask.report import StackRecord

N_IMAGES = 4  # of each stack


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, ConversionReport]:
    """A run with three stacks of 4, 4 and 2 images."""
    data = write_demo_particles(tmp_path_factory.mktemp("demo"), n_images=10, box=16, n_files=2)
    table = particles_from_star(data.star_file, data.folder_mrc)
    conversion = Conversion(
        table, data.params_file, folder_output=tmp_path_factory.mktemp("out"), batch_size=N_IMAGES, flag_plots=False
    )
    return conversion.plan, conversion.run()


def run_of(
    small: tuple[Plan, ConversionReport], power: list[float], n_zeroed: dict[int, int] | None = None
) -> tuple[Plan, ConversionReport]:
    """The plan and the report of a run with a stack for each of these powers, all with a defocus of 1 µm."""
    plan, report = small
    n, folder = len(power), report.folder
    rows = np.repeat(plan.table.rows[:1], n * N_IMAGES)
    rows["row"] = np.arange(len(rows))
    rows["defocus_u"] = rows["defocus_v"] = 1e4
    bounds = np.arange(n)[:, None] * N_IMAGES + [0, N_IMAGES]
    stacks = tuple(
        StackRecord(counter, N_IMAGES, folder / "a.pt", folder / "a.npz", None, value, (n_zeroed or {}).get(counter, 0))
        for counter, value in enumerate(power)
    )
    many = replace(plan, table=replace(plan.table, rows=rows), bounds=bounds, pixel_size=np.full(n, plan.pixel_size[0]))
    return many, replace(report, stacks=stacks, n_images=len(rows))


def counters(table: StackTable) -> list[int | None]:
    return [None if row is None else int(row.counter) for row in table.rows]


def test_mean_power_is_that_of_the_images(small: tuple[Plan, ConversionReport]) -> None:
    _, report = small
    for stack in report.stacks:
        fourier = load_stack(report.folder, stack.counter).fourier.numpy()
        assert stack.mean_power == pytest.approx(float((np.abs(fourier.astype(complex)) ** 2).mean()), rel=1e-5)


def test_a_resumed_run_knows_the_power_of_the_stacks_it_kept(small: tuple[Plan, ConversionReport]) -> None:
    plan, report = small
    again = Conversion(
        plan.table, plan.descriptor, folder_output=report.folder, batch_size=N_IMAGES, flag_plots=False, skip_exist=True
    ).run()
    assert again.n_kept == 3
    assert [stack.mean_power for stack in again.stacks] == [stack.mean_power for stack in report.stacks]


def test_stacks_are_marked_by_the_rule(small: tuple[Plan, ConversionReport]) -> None:
    # Median 1, median absolute deviation 0.01: 6 standard deviations are 0.089, which is less than the required 10%.
    usual = [1.0, 0.99, 1.01] * 7
    marks = find_outliers(*run_of(small, [*usual, 1.095, 1.105, 0.895, 0.905], {3: 2}))
    assert {position: set(names) for position, names in enumerate(marks) if names} == {3: {"zeroed"}, 22: {"power"}, 23: {"power"}}
    # Median absolute deviation 0.2: 6 standard deviations are 1.78.
    wide = [1.0, 0.8, 1.2] * 7
    assert [position for position, names in enumerate(find_outliers(*run_of(small, [*wide, 2.7, 2.85]))) if names] == [22]


def test_defocus_stands_out_too_and_small_stacks_are_given_room(small: tuple[Plan, ConversionReport]) -> None:
    plan, report = run_of(small, [1.0, 0.96, 1.04] * 7 + [1.4])  # 6 standard deviations are 0.36
    assert find_outliers(plan, report)[21] == {"power"}
    plan.table.rows["defocus_u"][40] = 4e4  # in stack 10, whose mean becomes 1.375 µm
    one_image = replace(report.stacks[21], n_images=1)
    small_last = replace(plan, table=plan.table.take(slice(0, 85)), bounds=np.concatenate([plan.bounds[:-1], [[84, 85]]]))
    marks = find_outliers(small_last, replace(report, stacks=(*report.stacks[:-1], one_image)))
    assert {position: set(names) for position, names in enumerate(marks) if names} == {10: {"defocus"}}


@pytest.mark.parametrize(
    ("power", "zeroed", "summary"),
    [
        ([1.0], {}, "The stack is not marked."),
        ([1.0], {0: 1}, "The stack is marked."),
        ([1.0] * 3, {}, "None of 3 stacks is marked."),
        ([1.0] * 3, {0: 1, 2: 1}, "2 of 3 stacks are marked."),
    ],
)
def test_the_number_of_marked_stacks_is_a_sentence(
    small: tuple[Plan, ConversionReport], power: list[float], zeroed: dict[int, int], summary: str
) -> None:
    assert make_stack_table(*run_of(small, power, zeroed)).summary == summary


def test_few_stacks_have_no_spread(small: tuple[Plan, ConversionReport]) -> None:
    assert not any(find_outliers(*run_of(small, [1.0, 1.0, 1.0, 1.0, 50.0])))


def test_of_thousands_the_first_the_last_and_the_marked_are_shown(small: tuple[Plan, ConversionReport]) -> None:
    n = 5000
    power = (1 + 0.01 * np.sin(np.arange(n))).tolist()
    power[2500] = 3.0
    plan, report = run_of(small, power)
    began = time.perf_counter()
    table = make_stack_table(plan, report)
    assert time.perf_counter() - began < n * 1e-3
    assert counters(table) == [*range(25), None, 2500, None, *range(4975, 5000)]
    assert table.summary.startswith("1 of 5,000 stacks is marked.")
    assert table.summary.endswith("4,949 are not shown.")
    assert write_html_report(plan, report).stat().st_size < 300_000
    assert counters(make_stack_table(*run_of(small, [1.0] * 50))) == [*range(50)]
