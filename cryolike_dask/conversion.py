"""A conversion, which is planned when it is made and runs later."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cryolike_dask.errors import CryolikeError, RunStoppedError, output_error
from cryolike_dask.execution.clients import check_this_process, open_executor, synchronous
from cryolike_dask.execution.executors.interface import Executor
from cryolike_dask.execution.executors.serial import SerialExecutor
from cryolike_dask.execution.run import log_ctf_misfit, run_plan
from cryolike_dask.formatting import plural
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.options import ConversionOptions, takes_options
from cryolike_dask.particles.choice import check_seed_is_used, choose_particles
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.planning.planner import make_plan
from cryolike_dask.planning.summary import PlanSummary, summarize_plan
from cryolike_dask.progress import ProgressOption
from cryolike_dask.progress_bars import progress_from, showing
from cryolike_dask.report import ConversionReport
from cryolike_dask.settings import ConversionSettings, output_folder
from cryolike_dask.stacks.zarr_store import check_equal_stacks

if TYPE_CHECKING:
    from torch.utils.data import IterableDataset

    from cryolike_dask.stacks.loading import LoadedStack


@takes_options()
class Conversion:
    """A conversion of particles to Fourier-polar stacks.

    Making a conversion plans the complete run: image headers are read, and tables and headers are checked. Nothing is written before
    `run`.

    Args:
        particles: the particles to convert, in the order of the input.
        params: image descriptor of this package or of CryoLike, or the path of a params `.npz`. It is not changed. With None, box and
            pixel size are taken from the table, or else from the image headers.
        folder_output: output folder; '' is the current directory.

    Raises:
        TypeError: there is no such option.
        InputError: inputs or settings are wrong.

    Example:
        >>> from cryolike_dask import particles_from_star
        >>> particles = particles_from_star("particles.star", "mrc")
        >>> conversion = Conversion(particles, folder_output="stacks", batch_size=5)
        >>> conversion.plan.n_stacks
        3
        >>> conversion.to_dask_array().shape
        (12, 17, 32)
        >>> conversion.run().n_images
        12
    """

    def __init__(
        self,
        particles: ParticleTable,
        params: ImageDescriptor | str | Path | None = None,
        *,
        folder_output: str | Path = "",
        **options: Unpack[ConversionOptions],
    ) -> None:
        self.settings = ConversionSettings.from_options(options)
        check_seed_is_used(self.settings)
        particles, self.settings = choose_particles(particles, self.settings)
        self.folder = output_folder(folder_output)
        self.plan = make_plan(particles, None if params is None else ImageDescriptor.ensure(params), self.settings)
        if self.settings.output_format == "zarr":
            check_equal_stacks(self.plan)
        self._seconds: float | None = None

    def record_command(self, command: str) -> None:
        """Record in `manifest.json` and `report.html` the command that repeats this conversion.

        Args:
            command: the shell command.
        """
        self.plan = replace(self.plan, command=command)

    def calibrate(self, progress: ProgressOption = None) -> PlanSummary:
        """Convert some images to estimate how long the complete conversion takes on this machine.

        The images are written to a temporary folder beside the output folder, which is removed again.

        Args:
            progress: as for `run`.

        Returns:
            the plan in numbers, with the estimate. From now on, a notebook shows the estimate for this conversion, too.

        Raises:
            InputError: an image is bad and the settings do not allow bad images, or its file has changed.
            OutputError: `run` would refuse the output folder, or nothing can be written beside it.
        """
        # Imported here, because it loads the compiler and FFTs, which planning does not need.
        from cryolike_dask.execution.calibration import seconds_on_this_machine

        with showing(progress) as shown:
            self._seconds = seconds_on_this_machine(self.plan, self.folder, shown)
        return summarize_plan(self.plan, self.folder, self._seconds)

    def run(
        self, client: Any = None, progress: ProgressOption = None, performance_report: str | Path | None = None
    ) -> ConversionReport:
        """Convert all particles, and wait until all stacks are complete.

        Args:
            client: None (the current Dask client if there is one, else threads on all cores of this machine), a
                `distributed.Client`, a Cluster, or a scheduler's address. A connection or cluster that you pass is not closed.
            progress: True to show the progress as a bar in a notebook or on a terminal, and as lines on standard error elsewhere; False
                to show nothing; or an object with the methods of `cryolike_dask.progress.Progress`. By default there is a bar in a
                notebook or on a terminal, and elsewhere lines through `logging`.
            performance_report: file to which Dask's performance report (HTML) of the run is written.

        Raises:
            InputError: image files have changed since the conversion was planned, or workers have too little memory.
            OutputError: the output folder already holds output, or is locked, full or not writable.
            ConversionError: some stacks could not be made; the others are complete.
        """
        return self._run(open_executor(client, self.settings.device, performance_report), progress)

    async def run_async(self, client: Any = None, progress: ProgressOption = None) -> ConversionReport:
        """`run` for asynchronous code, without blocking the event loop.

        Args:
            client: as for `run`, or an asynchronous `distributed.Client`.
            progress: as for `run`; it is called from another thread.

        Raises:
            OutputError, ConversionError: as for `run`.
        """
        # A separate thread drives the work, over a separate connection.
        stopped = threading.Event()
        running = asyncio.create_task(
            asyncio.to_thread(self._run, open_executor(synchronous(client), self.settings.device), progress, stopped)
        )
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            stopped.set()
            with suppress(RunStoppedError):
                await running
            raise

    def run_serially(self, progress: ProgressOption = None) -> ConversionReport:
        """`run` in this thread, one stack after the other. This is simple and slow, and the reference for the other ways of running."""
        check_this_process(self.settings.device)
        return self._run(nullcontext(SerialExecutor()), progress)

    def to_delayed(self, window: int | None = None, **annotations: Any) -> list[Any]:
        """The conversion as a Dask graph, for `dask.compute` or as part of a larger one.

        The plan is written to the output folder immediately; everything else is done when the graph is computed. The folder is then
        locked for the conversion until the last stack is complete or a task fails. If the graph is computed again, the existing stacks
        are used.

        Args:
            window: number of stacks in progress at a time; None for twice the threads of the current client, at least 64.
            annotations: for the tasks that make stacks, as `dask.annotate` takes them: `resources={"GPU": 1}`, `retries=3`.

        Returns:
            n_stacks Delayed. The value of each is the `StackReceipt` of its stack, when that stack and all before it are complete and
            visible; the last one also completes the manifest. For thousands of stacks see also `to_delayed_receipts`.

        Raises:
            OutputError: the output folder holds something already, or is not writable.
        """
        return self._graph(window, annotations)[0]

    def to_delayed_receipts(self, window: int | None = None, **annotations: Any) -> Any:
        """`to_delayed` as a single Delayed of the list of all receipts, for `dask.optimize` or as argument of another Delayed.

        Dask optimises each Delayed of a list with everything that it depends on, which takes minutes for thousands of stacks in order.

        Args:
            window, annotations: as for `to_delayed`.

        Returns:
            a Delayed.

        Raises:
            OutputError: the output folder holds something already, or is not writable.
        """
        return self._graph(window, annotations)[1]

    def to_dask_array(self, chunks: int | str | tuple[int, ...] = "auto") -> Any:
        """The Fourier images as a lazy array, computed when they are needed; nothing is written.

        Args:
            chunks: images per block: a number, a tuple with the number for each block, or 'auto' for blocks of about Dask's
                `array.chunk-size`, independent of the batch size.

        Returns:
            (n, n_shells, n_inplanes) complex `dask.array`, in the order of the stacks.

        Raises:
            InputError: `chunks` does not fit the array.
        """
        from cryolike_dask.execution.composition.array import build_array

        return build_array(self.plan, chunks)

    def stream(self, client: Any = None, ahead: int = 2) -> Iterator[LoadedStack]:
        """Make the stacks and yield them one after the other; nothing is written.

        Memory holds the current stack and at most `ahead` others. Leaving the loop early stops the work.

        Args:
            client: as for `run`.
            ahead: number of stacks that are in progress or ready while the caller works on the current one.

        Yields:
            stacks as `load_stack` returns them, in the order of their counters. Their metadata lack the checksums of files.

        Raises:
            InputError: an image is bad, or a file has changed or ends early.

        Example: `for stack in conversion.stream(): compare(stack.fourier, stack.metadata["defocusU"])`
        """
        from cryolike_dask.execution.composition.stream import stream_stacks

        return stream_stacks(self.plan, client, ahead)

    def to_dataset(self, client: Any = None, ahead: int = 2) -> IterableDataset[LoadedStack]:
        """The stacks as a PyTorch dataset, for `DataLoader(conversion.to_dataset(), batch_size=None)`.

        Args:
            client: as for `run`.
            ahead: as for `stream`.
        """
        from cryolike_dask.execution.composition.stream import StackDataset

        return StackDataset(self.plan, client, ahead)

    def _graph(self, window: int | None, annotations: dict[str, Any]) -> tuple[list[Any], Any]:
        from cryolike_dask.execution.composition.graph import build_graph

        try:
            return build_graph(self.plan, self.folder, window, annotations)
        except OSError as error:
            if isinstance(error, CryolikeError):
                raise
            raise output_error(error, self.folder) from error

    def _run(
        self, executor: AbstractContextManager[Executor], progress: ProgressOption, stopped: threading.Event | None = None
    ) -> ConversionReport:
        report = run_plan(self.plan, self.folder, executor, progress_from(progress), stopped or threading.Event())
        log_ctf_misfit(report)
        return report

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """A token for Dask's caches, equal for conversions that make the same stacks from the same files in the same folder."""
        inputs = [(file.path, file.size, file.mtime_ns) for file in self.plan.files if file is not None]
        return self.plan.fingerprint, asdict(self.settings), str(self.folder), inputs

    def __repr__(self) -> str:
        counts = f"{plural(self.plan.n_images, 'image')} to {plural(self.plan.n_stacks, 'stack')}"
        return f"<Conversion of {counts}>\n{summarize_plan(self.plan, self.folder, self._seconds)}"

    def _repr_html_(self) -> str:
        return summarize_plan(self.plan, self.folder, self._seconds)._repr_html_()
