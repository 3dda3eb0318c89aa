"""The differences between a folder's conversion and a plan, because of which it cannot be continued, as readable lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cryolike_dask.formatting import plural
from cryolike_dask.planning.headers import FILE_IS_MISSING
from cryolike_dask.planning.plan import Plan
from cryolike_dask.settings import CHOICE, ConversionSettings

_REORDERING = {"format", "settings.order", "settings.never_combine_input_files"}
"""If one of these differs, so does the digest of the particles, even if the particles are the same."""


def differences(manifest: Mapping[str, Any], plan: Plan) -> list[str]:
    """One line for each part of the identity of a recorded run that is different in the plan.

    Args:
        manifest: of the folder.
        plan: of the run that is to continue it.
    """
    # Through JSON, like the recorded identity, because it turns tuples into lists.
    changed = _compare(manifest.get("identity", {}), json.loads(json.dumps(plan.identity)))
    if "particles" in changed:
        others = _chosen_otherwise(manifest.get("settings", {}), plan)
        others += _missing_files(manifest.get("skipped", []), plan.table.skipped)
        if others or _REORDERING & set(changed):
            del changed["particles"]
        return [*changed.values(), *others]
    return list(changed.values())


def _compare(old: Any, new: Any, name: str = "") -> dict[str, str]:
    """A line for each name whose values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines: dict[str, str] = {}
        for key in sorted(set(old) | set(new)):
            lines |= _compare(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        return lines
    if old == new:
        return {}
    if name == "sources":
        return {name: _about_tables(old or [], new or [])}
    if name == "particles":
        return {name: "the particles in the table have changed"}
    if name == "format":
        return {name: "the stacks were made by a version of cryolike-dask that writes another format"}
    return {name: f"{name}: {old!r} there, {new!r} now"}


def _about_tables(old: list[Any], new: list[Any]) -> str:
    """What differs in the first table that is recorded otherwise."""
    if len(old) != len(new):
        return f"tables: {len(old)} there, {len(new)} now"
    differing = [(then, now) for then, now in zip(old, new, strict=True) if then != now]
    more = f" (and {plural(len(differing) - 1, 'more table')})" if len(differing) > 1 else ""
    return f"{'; '.join(_compare(*differing[0]).values())}{more}"


def _chosen_otherwise(recorded: Mapping[str, Any], plan: Plan) -> list[str]:
    """A line for each setting that chooses particles and has changed."""
    default = ConversionSettings()
    lines = []
    for name in CHOICE:
        then, now = recorded.get(name, getattr(default, name)), getattr(plan.settings, name)
        counts = name != "seed" or plan.settings.sample is not None
        if then != now and counts:
            lines.append(f"settings.{name}: {then!r} there, {now!r} now")
    return lines


def _missing_files(skipped_then: list[str], skipped_now: tuple[str, ...]) -> list[str]:
    """Lines about particles that were left out because their image file was missing, and are not left out now, or vice versa."""
    then, now = ([line for line in skipped if line.endswith(FILE_IS_MISSING)] for skipped in (skipped_then, skipped_now))
    found = [line.removesuffix(f": {FILE_IS_MISSING}") for line in then if line not in set(now)]
    lost = [line.removesuffix(f": {FILE_IS_MISSING}") for line in now if line not in set(then)]
    lines = []
    if found:
        lines.append(
            f"{plural(len(found), 'particle')} left out there, as the image file was missing, can be read now (first: {found[0]})"
        )
    if lost:
        lines.append(
            f"{plural(len(lost), 'particle')} converted there cannot be read now: the image file is missing (first: {lost[0]})"
        )
    return lines
