"""A thousand random faults: `make faults`, or `python -m tests.chaos.campaign --faults 1000 --seed 1`.

Each fault hits a conversion, or its output, in a process of its own. Afterwards

- every visible stack is complete and correct, and the counters have no gap;
- `verify` notices all damage;
- the next run continues from there, and ends with the files of an undisturbed conversion: `.pt` byte for byte, `.npz` array for array.

The seed of a fault is in the log, and `--only KIND:SEED` repeats it.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryolike_dask.errors import CryolikeError
from cryolike_dask.progress import NoProgress
from cryolike_dask.runs.verify import verify_output
from tests.support.chaos import Case, contents, make_case, real_path, small_disk, warm_up

SHARES = {"kill": 0.3, "signal": 0.1, "I/O fault": 0.25, "damage": 0.25, "full disk": 0.1}
"""Kinds of faults, and their share of all."""
FORMS = ("pt", "zarr")
N_IMAGES, BATCH = 40, 5
SECONDS = 0.3
"""About the time of an undisturbed conversion. Faults come within this time."""
_ENDED_WELL, _TOLD, _INTERRUPTED, _UNEXPECTED = range(4)

_cases: dict[str, Case] = {}
_elsewhere: list[str] = [""]
"""A folder that no fault touches."""


# Processes


def fork(action: Callable[[], object], log: Path) -> int:
    """Start a process that runs a function, and reports the outcome by its exit status."""
    pid = os.fork()
    if pid:
        return pid
    status = _UNEXPECTED
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        action()
        status = _ENDED_WELL
    except CryolikeError:
        traceback.print_exc()
        status = _TOLD
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except BaseException:  # noqa: BLE001  # reported by the exit status
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(pid: int) -> int:
    """The exit status of a process, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# What must hold


def check_visible(case: Case, out: Path) -> None:
    """Check that the visible stacks are those of the undisturbed conversion, without a gap."""
    names = [name for name in case.undisturbed if name.startswith("fft/") and name.endswith(".npz")]
    visible = [name for name in sorted(names) if (out / name).exists()]
    assert visible == sorted(names)[: len(visible)], f"there is a gap: {visible}"
    found = contents_of_visible(case, out, [name[-10:-4] for name in visible])
    different = [name for name, content in found.items() if content != case.undisturbed[name]]
    assert different == [], f"visible and different: {different}"


def contents_of_visible(case: Case, out: Path, counters: list[str]) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(dir=_elsewhere[0]))
    wanted = {name for name in case.undisturbed if any(f"_{counter}." in name for counter in counters)}
    wanted |= {name for name in case.undisturbed if name.startswith("particles.zarr/") and _shard(name) < len(counters)}
    for name in wanted:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / name, folder / name)
    return contents(folder)


def _shard(name: str) -> float:
    """The number of the stack in a file of a Zarr array; infinity for metadata and columns, which are written at the end."""
    parts = name.split("/")
    return int(parts[3]) if len(parts) == 6 and parts[1] in ("fourier", "phys") else float("inf")


def resume_and_check(case: Case, out: Path, log: Path, **options: Any) -> str:
    """Continue the run, and compare. Returns how: if `skip_exist` is refused, everything is replaced with `overwrite`."""
    status = ended(fork(lambda: case.conversion(out, skip_exist=True, **options).run(), log))
    how = "went on"
    if status == _TOLD:
        status = ended(fork(lambda: case.conversion(out, overwrite=True, **options).run(), log))
        how = "replaced"
    assert status == _ENDED_WELL, f"the next run ended with {status}"
    case.check(out)
    return how


# The faults. Each function returns what was observed.


def kill(case: Case, out: Path, log: Path, random: np.random.Generator) -> str:
    replaces = random.random() < 0.25
    if replaces:
        assert ended(fork(lambda: case.conversion(out).run(), log)) == _ENDED_WELL
    pid = fork(lambda: case.conversion(out, overwrite=replaces).run(), log)
    time.sleep(random.uniform(0, SECONDS))
    os.kill(pid, signal.SIGKILL)
    status = ended(pid)
    assert status in (-signal.SIGKILL, _ENDED_WELL), f"ended with {status}"
    check_visible(case, out)
    resume_and_check(case, out, log)
    return ("killed" if status else "had ended") + (" while it replaced output" if replaces else "")


def send_signal(case: Case, out: Path, log: Path, random: np.random.Generator) -> str:
    sent = signal.Signals(random.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGSTOP]))
    pid = fork(lambda: case.conversion(out).run(), log)
    time.sleep(random.uniform(0, SECONDS))
    os.kill(pid, sent)
    if sent == signal.SIGSTOP:
        time.sleep(random.uniform(0, 0.2))
        check_visible(case, out)
        os.kill(pid, signal.SIGCONT)
    status = ended(pid)
    wanted = {signal.SIGINT: _INTERRUPTED, signal.SIGSTOP: _ENDED_WELL}.get(sent, -sent)
    assert status in (wanted, _ENDED_WELL), f"{sent.name}: ended with {status}"
    check_visible(case, out)
    resume_and_check(case, out, log)
    return sent.name


_FUNCTIONS = ("pwrite", "fsync", "replace", "open", "unlink", "mkdir", "ftruncate", "preadv", "write")
_ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EACCES)


def io_fault(case: Case, out: Path, log: Path, random: np.random.Generator) -> str:
    function, code = str(random.choice(_FUNCTIONS)), int(random.choice(_ERRORS))
    nth, times = int(random.integers(1, 80)), int(random.choice([1, 1, 5, 1000]))
    status = ended(fork(lambda: _run_with_faults(case, out, function, code, nth, times), log))
    assert status in (_ENDED_WELL, _TOLD), f"{function} {errno.errorcode[code]} at call {nth}: ended with {status}"
    check_visible(case, out)
    resume_and_check(case, out, log)
    return f"{function}: " + ("told" if status else "went on")


def _run_with_faults(case: Case, out: Path, function: str, code: int, nth: int, times: int) -> None:
    original, calls = getattr(os, function), 0

    def faulty(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        target = arguments[-1] if function == "replace" else arguments[0]
        path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else real_path(target)
        if str(out) not in path and str(case.data.folder_mrc) not in path:
            return original(*arguments, **keywords)
        calls += 1
        if nth <= calls < nth + times:
            if function in ("pwrite", "write") and code == errno.EIO and len(arguments[1]) > 1:
                half = memoryview(arguments[1])[: len(arguments[1]) // 2]  # a short write, which is no error
                return original(arguments[0], half, *arguments[2:], **keywords)
            raise OSError(code, os.strerror(code), path)
        return original(*arguments, **keywords)

    setattr(os, function, faulty)
    case.conversion(out).run()


def damage(case: Case, out: Path, log: Path, random: np.random.Generator) -> str:
    assert ended(fork(lambda: case.conversion(out).run(), log)) == _ENDED_WELL
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != "report.html")
    path = Path(str(random.choice([str(file) for file in files])))
    content, before = bytearray(path.read_bytes()), path.stat()
    how = str(random.choice(["flip", "flip", "flip", "cut", "append", "remove", "empty"]))
    if how == "flip" and content:
        content[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
    elif how == "cut":
        del content[int(random.integers(len(content) + 1)) :]
    elif how == "append":
        content += random.bytes(int(random.integers(1, 100)))
    elif how == "empty":
        content.clear()
    path.unlink()
    if how != "remove":
        path.write_bytes(content)
        # Damage on a disk does not change the times of files.
        if random.random() < 0.5 and path.suffix == ".json":
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    noticed = [str(line) for line in verify_output(out)]
    assert noticed or is_harmless(case, out, path), f"{how} of {path.relative_to(out)} was not noticed"
    resumed = resume_and_check(case, out, log)
    return f"{path.suffix.lstrip('.') or 'shard'}: " + (f"noticed, {resumed}" if noticed else "harmless")


def is_harmless(case: Case, out: Path, path: Path) -> bool:
    """Check that other libraries still read the same content from the file."""
    name = str(path.relative_to(out))
    if path.name == "manifest.json":
        wanted = json.loads((case.data.star_file.parent.parent / "undisturbed" / name).read_text())
        found = json.loads(path.read_text())
        return all(found[key] == wanted[key] for key in ("identity", "stacks", "status") if key in wanted)
    if path.suffix == ".pt":
        undisturbed = case.data.star_file.parent.parent / "undisturbed" / name
        return torch.equal(torch.load(path, weights_only=True), torch.load(undisturbed, weights_only=True))
    return contents(out) == case.undisturbed


def full_disk(case: Case, out: Path, log: Path, random: np.random.Generator) -> str:
    size = sum(path.stat().st_size for path in (case.data.star_file.parent.parent / "undisturbed").rglob("*") if path.is_file())
    disk = out.parent / "disk"
    with small_disk(disk, 4 * size + (4 << 20)):
        leave = int(random.integers(4096, size))
        pid = fork(lambda: _run_on_filling_disk(case, disk, leave), log)
        status = ended(pid)
        assert status in (_ENDED_WELL, _TOLD), f"with {leave} bytes left: ended with {status}"
        check_visible(case, disk / "out")
        (disk / "ballast").unlink(missing_ok=True)
        resume_and_check(case, disk / "out", log)
        return "told" if status else "had room"


class _FillWhenBegun(NoProgress):
    """Progress that fills the disk once the first stacks are there, while the conversion continues."""

    def __init__(self, disk: Path, leave: int) -> None:
        self.disk, self.leave = disk, leave

    def start(self, n_stacks: int, n_images: int) -> None:
        free = shutil.disk_usage(self.disk).free
        with (self.disk / "ballast").open("wb") as file:
            for _ in range(max(0, free - self.leave) // 65536):
                file.write(bytes(65536))

    def stack_done(self, stack: object) -> None:
        """See `Progress`."""

    def finish(self, error: BaseException | None) -> None:
        """See `Progress`."""


def _run_on_filling_disk(case: Case, disk: Path, leave: int) -> None:
    case.conversion(disk / "out").run(progress=_FillWhenBegun(disk, leave))


KINDS: dict[str, Callable[[Case, Path, Path, np.random.Generator], str]] = {
    "kill": kill,
    "signal": send_signal,
    "I/O fault": io_fault,
    "damage": damage,
    "full disk": full_disk,
}


# The campaign


def inject(kind: str, seed: int) -> tuple[str, int, str, str]:
    """Inject one fault. Returns its kind and seed, what was observed, and what went wrong ('' if nothing did)."""
    random = np.random.default_rng(seed)
    form = FORMS[int(random.integers(len(FORMS)))]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        _elsewhere[0] = folder
        try:
            return kind, seed, f"{form}, {KINDS[kind](_cases[form], Path(folder) / 'out', log, random)}", ""
        except Exception as error:  # noqa: BLE001  # reported with its seed
            said = log.read_text() if log.exists() else ""
            return kind, seed, form, f"{type(error).__name__}: {error}\n{said[-3000:]}"


def prepare(cases: dict[str, Case]) -> None:
    """Load the libraries that every fork needs, without starting threads, which forks would not have."""
    _cases.update(cases)
    torch.set_num_threads(1)
    warm_up()


def _may_mount(folder: Path) -> bool:
    try:
        with small_disk(folder, 1 << 20):
            return True
    except PermissionError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", help="KIND:SEED, one fault of an earlier campaign")
    options = parser.parse_args()
    seeds = np.random.SeedSequence(options.seed).generate_state(options.faults).tolist()
    kinds = [kind for kind, share in SHARES.items() for _ in range(round(share * options.faults))]
    todo = list(zip(kinds, seeds, strict=False))
    if options.only:
        kind, seed = options.only.rsplit(":", 1)
        todo = [(kind, int(seed))]
    print(f"{len(todo)} faults, seed {options.seed}", flush=True)
    began = time.monotonic()
    seen: Counter[tuple[str, str]] = Counter()
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        cases = {form: make_case(Path(folder) / form, N_IMAGES, BATCH, output_format=form) for form in FORMS}
        if not _may_mount(Path(folder) / "disk"):
            todo = [fault for fault in todo if fault[0] != "full disk"]
            print("no full disks: mounting a small file system is not permitted here", flush=True)
        with ProcessPoolExecutor(options.jobs, get_context("spawn"), prepare, (cases,)) as pool:
            for job in as_completed([pool.submit(inject, *fault) for fault in todo]):
                kind, seed, what, wrong = job.result()
                seen[kind, "FAILED" if wrong else what] += 1
                if wrong:
                    failures.append((kind, seed))
                    print(f"{kind}:{seed} {what} {wrong}", flush=True)
    for kind in KINDS:
        print(f"{kind}: {sum(n for (k, _), n in seen.items() if k == kind)}")
        for (k, what), n in sorted(seen.items()):
            if k == kind:
                print(f"  {n:5} {what}")
    print(f"{len(todo)} faults in {time.monotonic() - began:.0f} s, seed {options.seed}: {len(failures)} failed")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
