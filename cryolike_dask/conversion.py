"""A conversion: planned at once, run when asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cryolike_dask.errors import CryolikeError, RunStoppedError, output_error
from cryolike_dask.execution.clients import open_executor, synchronous
from cryolike_dask.execution.executors.interface import Executor
from cryolike_dask.execution.executors.serial import SerialExecutor
from cryolike_dask.execution.run import run_plan
from cryolike_dask.formatting import plural
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.options import ConversionOptions, takes_options
from cryolike_dask.particles.choice import choose_particles
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
    """Particles on their way to Fourier-polar stacks.

    Making one plans the whole run: image headers are read, and everything that is in tables and headers is checked. Nothing is
    written before `run`.

    Args:
        particles: what to convert, in the order of the metadata.
        params: image descriptor, ours or CryoLike's, or the path of a params `.npz`. It is not changed. None takes box and pixel size
            from the table, or else from the image headers.
        folder_output: where stacks go; '' is the current directory.

    Raises:
        TypeError: there is no such option.
        InputError: inputs or settings are wrong.

    Example:
        >>> from cryolike_dask import particles_from_star
        >>> conversion = Conversion(particles_from_star("particles.star", "mrc"), "params.npz", folder_output="stacks", batch_size=5)
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
        particles, self.settings = choose_particles(particles, ConversionSettings.from_options(options))
        self.folder = output_folder(folder_output)
        self.plan = make_plan(particles, None if params is None else ImageDescriptor.ensure(params), self.settings)
        if self.settings.output_format == "zarr":
            check_equal_stacks(self.plan)
        self._seconds: float | None = None

    def record_command(self, command: str) -> None:
        """Let `manifest.json` and `report.html` say by which command this conversion is repeated.

        Args:
            command: of a shell.
        """
        self.plan = replace(self.plan, command=command)

    def calibrate(self, progress: ProgressOption = None) -> PlanSummary:
        """Convert some images, so that the plan can say how long all of them will take on this machine.

        What is written for that, beside the output folder, is removed again.

        Args:
            progress: as for `run`.

        Returns:
            the plan in numbers, which is also what a notebook shows of this conversion from now on.

        Raises:
            InputError: an image is bad, and the settings do not allow that, or its file has changed.
            OutputError: nothing can be written beside the output folder.
        """
        # Loads compiler and FFTs, which a plan need not.
        from cryolike_dask.execution.calibration import seconds_on_this_machine

        with showing(progress) as shown:
            self._seconds = seconds_on_this_machine(self.plan, self.folder, shown)
        return summarize_plan(self.plan, self.folder, self._seconds)

    def run(
        self, client: Any = None, progress: ProgressOption = None, performance_report: str | Path | None = None
    ) -> ConversionReport:
        """Convert everything and wait for it.

        Args:
            client: None (the current Dask client if there is one, else threads on all cores of this machine), a
                `distributed.Client`, a Cluster, or a scheduler's address. Only what is opened here is closed here.
            progress: True to show how far it is: by a bar in a notebook or on a terminal, and by lines on standard error elsewhere; False
                for nothing; or an object with the methods of `cryolike_dask.progress.Progress`. By default a bar in a notebook or on a
                terminal, and elsewhere lines through `logging`.
            performance_report: file for Dask's page (HTML) about what the cluster did meanwhile.

        Raises:
            InputError: image files have changed since this was planned, or workers have too little memory.
            OutputError: the output folder holds something already, is locked, full or not writable.
            ConversionError: stacks could not be made; the others are complete.
        """
        return self._run(open_executor(client, self.settings.device, performance_report), progress)

    async def run_async(self, client: Any = None, progress: ProgressOption = None) -> ConversionReport:
        """`run` for asynchronous code: the event loop goes on meanwhile.

        Args:
            client: also an asynchronous `distributed.Client`; else as for `run`.
            progress: as for `run`; called from another thread.

        Raises:
            OutputError, ConversionError: as for `run`.
        """
        # The work is driven from a thread of its own, over a connection of its own.
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
        """The same in this thread, one stack after the other. Simple and slow: what other ways of running are compared with."""
        return self._run(nullcontext(SerialExecutor()), progress)

    def to_delayed(self, window: int | None = None, **annotations: Any) -> list[Any]:
        """The conversion as a Dask graph, for `dask.compute` or as part of a larger one.

        The plan is written into the output folder at once; everything else waits for the graph to be computed. The folder belongs
        to the conversion from then until the last stack is complete or a task fails. Computing the graph again finds everything
        done.

        Args:
            window: stacks under way at a time; None for twice the threads of the current client, at least 64.
            annotations: for the tasks that make stacks, as `dask.annotate` takes them: `resources={"GPU": 1}`, `retries=3`.

        Returns:
            n_stacks Delayed. Each becomes the `StackReceipt` of its stack once that stack and all before it are complete and
            visible; the last one also completes the manifest. For thousands of stacks see `to_delayed_receipts`, too.

        Raises:
            OutputError: the output folder holds something already, or is not writable.
        """
        return self._graph(window, annotations)[0]

    def to_delayed_receipts(self, window: int | None = None, **annotations: Any) -> Any:
        """`to_delayed` as one Delayed of the list of all receipts: for `dask.optimize`, or to be passed to another Delayed.

        Dask optimises each Delayed of a list with all that it depends on, which for thousands of stacks in order takes minutes.

        Args:
            window, annotations: as for `to_delayed`.

        Returns:
            a Delayed.

        Raises:
            OutputError: the output folder holds something already, or is not writable.
        """
        return self._graph(window, annotations)[1]

    def to_dask_array(self, chunks: int | str | tuple[int, ...] = "auto") -> Any:
        """The Fourier images as a lazy array, made when they are needed; nothing is written.

        Args:
            chunks: images per block: a number, a tuple with the number of each block, or 'auto' for blocks of about Dask's
                `array.chunk-size`, whatever the batch size is.

        Returns:
            (n, n_shells, n_inplanes) complex `dask.array`, in the order of the stacks.

        Raises:
            InputError: there are no such chunks.
        """
        from cryolike_dask.execution.composition.array import build_array

        return build_array(self.plan, chunks)

    def stream(self, client: Any = None, ahead: int = 2) -> Iterator[LoadedStack]:
        """Make the stacks and hand them over one after the other; nothing is written.

        In memory are the one handed over and at most `ahead` others. Leaving the loop early stops the work.

        Args:
            client: as for `run`.
            ahead: stacks that are made, or wait, while the caller is busy with the one before.

        Yields:
            stacks as `load_stack` gives them, in counter order. Their metadata lack the checksums of files.

        Raises:
            InputError: an image is bad, or a file has changed or ends early.

        Example: `for stack in conversion.stream(): compare(stack.fourier, stack.metadata["defocusU"])`
        """
        from cryolike_dask.execution.composition.stream import stream_stacks

        return stream_stacks(self.plan, client, ahead)

    def to_dataset(self, client: Any = None, ahead: int = 2) -> IterableDataset[LoadedStack]:
        """See `stream`: the same as a PyTorch dataset, for `DataLoader(conversion.to_dataset(), batch_size=None)`."""
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
        return run_plan(self.plan, self.folder, executor, progress_from(progress), stopped or threading.Event())

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Equal for conversions that make the same of the same files in the same folder, as Dask's caches want to know it."""
        inputs = [(file.path, file.size, file.mtime_ns) for file in self.plan.files if file is not None]
        return self.plan.fingerprint, asdict(self.settings), str(self.folder), inputs

    def __repr__(self) -> str:
        counts = f"{plural(self.plan.n_images, 'image')} to {plural(self.plan.n_stacks, 'stack')}"
        return f"<Conversion of {counts}>\n{summarize_plan(self.plan, self.folder, self._seconds)}"

    def _repr_html_(self) -> str:
        return summarize_plan(self.plan, self.folder, self._seconds)._repr_html_()
