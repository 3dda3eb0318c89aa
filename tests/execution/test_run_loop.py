"""Messages of the run loop about stacks that could not be made."""

from __future__ import annotations

import pytest

from cryolike_dask.errors import ConversionError, InputError
from cryolike_dask.execution.run_loop import Outcome, raise_failures


@pytest.mark.parametrize(
    ("failed", "staged", "n_left", "told"),
    [
        ([2], [3], 2, "1 stack could not be made; 2 are not visible yet. 1 later stack is complete but not visible before them."),
        (
            [2, 4],
            [3, 5],
            1,
            "2 stacks could not be made; 1 is not visible yet. 2 later stacks are complete but not visible before them.",
        ),
        ([0], [], 1, "1 stack could not be made; 1 is not visible yet. Remove the cause"),
    ],
)
def test_failures_are_counted_in_words_that_agree(failed: list[int], staged: list[int], n_left: int, told: str) -> None:
    outcome = Outcome(failures={counter: InputError(f"fault {counter}") for counter in failed}, staged=staged)
    with pytest.raises(ConversionError) as caught:
        raise_failures(outcome, n_left)
    assert str(caught.value).startswith(told)
    assert all(f"stack {counter:06d}: fault {counter}" in str(caught.value) for counter in failed)
