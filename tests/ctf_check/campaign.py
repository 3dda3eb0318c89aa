"""Verdicts of the CTF check over many simulated sets: `make verdicts`.

Checks every case of `simulated.CASES` with many seeds, and prints the table of verdicts in docs/ctf-check.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from cryolike_dask.ctf_check.verdict import CtfCheck
from tests.ctf_check.simulated import CASES, Case, Kind, Simulated, simulate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    n_seeds = parser.parse_args().seeds
    with ProcessPoolExecutor() as pool:
        of_seeds = list(pool.map(_checks, range(n_seeds)))
    found = {case.name: [checks[number] for checks in of_seeds] for number, case in enumerate(CASES)}
    print("| stated | sets | fits | does not fit | cannot tell | suspects named | uncertainty |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        print(_line(case, found[case.name]))
    warned = sum(check.verdict == "does not fit" for case in CASES if "fits" in case.right for check in found[case.name])
    n_right = sum(len(found[case.name]) for case in CASES if "fits" in case.right)
    print(f"\nFalse alarms: {warned} of {n_right}.")


def _checks(seed: int) -> list[CtfCheck]:
    """The check of each case."""
    sets: dict[Kind, Simulated] = {}
    for case in CASES:
        if case.kind not in sets:
            sets[case.kind] = simulate(seed, case.kind)
    return [sets[case.kind].check(**case.stated) for case in CASES]


def _line(case: Case, checks: list[CtfCheck]) -> str:
    verdicts = Counter(check.verdict for check in checks)
    groups = Counter(" + ".join(suspect.partition(" (")[0] for suspect in check.suspects) for check in checks if check.suspects)
    named = "; ".join(f"{group} ({n})" for group, n in groups.most_common())
    uncertainties = [check.uncertainty for check in checks if check.uncertainty is not None]
    typical = f"{100 * sorted(uncertainties)[len(uncertainties) // 2]:.1f}%" if uncertainties else ""
    counts = " | ".join(str(verdicts[verdict]) for verdict in ("fits", "does not fit", "cannot tell"))
    return f"| {case.name} | {len(checks)} | {counts} | {named} | {typical} |"


if __name__ == "__main__":
    main()
