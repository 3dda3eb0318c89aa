"""Whether a plan may continue or replace a folder's conversion, and what differs between them, as readable lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from cryolike_dask.errors import OutputExistsError
from cryolike_dask.formatting import plural
from cryolike_dask.planning.headers import FILE_IS_MISSING
from cryolike_dask.planning.input_files import InputRecord, changed_inputs, list_inputs
from cryolike_dask.planning.plan import Plan
from cryolike_dask.runs.folder import has_output
from cryolike_dask.runs.manifest import read_manifest, recorded_inputs
from cryolike_dask.settings import CHOICE, ConversionSettings
from cryolike_dask.settings.words import SETTINGS_OF_BOXES
from cryolike_dask.stacks.checksums import is_sealed
from cryolike_dask.stacks.files import MANIFEST, published_counters

_REORDERING = {"format", "settings.order", "settings.never_combine_input_files"}
"""If one of these differs, so does the digest of the particles, even if the particles are the same."""


def check_output(folder: Path, plan: Plan) -> None:
    """Check that the settings allow this plan to continue or replace the output in the folder.

    Raises:
        OutputError: they do not.
    """
    if not has_output(folder):
        return
    if plan.settings.skip_exist:
        _check_same_run(folder, plan)
    elif not plan.settings.overwrite:
        raise OutputExistsError(
            f"{folder} already holds a conversion. Choose another folder, continue it (skip_exist=True, --skip-exist), or replace "
            "it (overwrite=True, --overwrite)."
        )


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
        others += _moved_files(manifest.get("inputs", []), plan)
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
    """A line for each setting that chooses particles or their boxes and has changed."""
    default = ConversionSettings()
    lines = []
    for name in CHOICE:
        then, now = recorded.get(name, getattr(default, name)), getattr(plan.settings, name)
        counts = name != "seed" or plan.settings.sample is not None
        if then != now and counts:
            lines.append(f"settings.{name}: {then!r} there, {now!r} now")
    for name, now in plan.recorded_settings().items():
        if name in SETTINGS_OF_BOXES and recorded.get(name, now) != now:
            lines.append(f"settings.{name}: {recorded[name]!r} there, {now!r} now")
    return lines


def _moved_files(then: list[InputRecord], plan: Plan) -> list[str]:
    """A line if the image files are the same ones at other paths. These are part of the digest of the particles."""
    now = list_inputs(plan, {})
    pairs = list(zip(then, now, strict=False))
    if len(then) != len(now) or any(_name_and_state(old) != _name_and_state(new) for old, new in pairs):
        return []
    moved = [(old["path"], new["path"]) for old, new in pairs if old["path"] != new["path"]]
    lines = [f"the same image files were at other paths: {old!r} there, {new!r} now" for old, new in moved[:1]]
    return [f"{line}. Move them back with their table, or make a link to the folder at its earlier path" for line in lines]


def _name_and_state(file: InputRecord) -> tuple[str, int, int]:
    return PurePath(file["path"]).name, file["size"], file["mtime_ns"]


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


def _check_same_run(folder: Path, plan: Plan) -> None:
    manifest = read_manifest(folder)
    if manifest is None:
        raise OutputExistsError(
            f"{folder} holds stacks without a manifest.json. It is not known how they were made, so they cannot be continued. Choose "
            "another folder, or replace them (overwrite=True, --overwrite)."
        )
    recorded, why = recorded_inputs(manifest), ""
    changes = differences(manifest, plan) + changed_inputs(recorded, plan)
    if not is_sealed(manifest):
        # Only these values matter for resuming: if they agree, the rest is written again.
        unknown = [file.path for file in plan.files if file is not None and file.path not in recorded]
        changes += [f"{path}: it is not recorded, so it may have changed" for path in unknown]
        why = f"The checksum of {folder / MANIFEST} does not fit. The file is damaged, which may be the only difference. "
    if changes:
        lines = "".join(f"\n  {line}" for line in changes)
        raise OutputExistsError(
            f"{folder} holds a conversion with other inputs or settings, which cannot be continued with these:{lines}\n{why}Use the same "
            "ones, choose another folder, or replace it (overwrite=True, --overwrite)."
        )
    counters = published_counters(folder)
    if counters and counters[-1] >= plan.n_stacks:
        raise OutputExistsError(
            f"{folder} holds {counters[-1] + 1:,} stacks of this conversion already, and n_stacks_max={plan.settings.n_stacks_max} "
            "(--n-stacks-max) allows fewer. Allow more, choose another folder, or replace them (overwrite=True, --overwrite)."
        )
