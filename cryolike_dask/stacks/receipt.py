"""A worker's report about a stack. It is small, because tensors are never sent through the scheduler."""

from __future__ import annotations

from dataclasses import dataclass

WRITTEN_AS_ZEROS = "written as zeros"
"""End of a warning about a bad image."""


@dataclass(frozen=True)
class StackReceipt:
    """One stack, staged or published.

    Args:
        counter: number of the stack.
        n_images: number of its images.
        n_bytes: size of its files.
        fourier_crc32, phys_crc32: of the bytes of the tensors; phys_crc32 is -1 if no physical images are saved.
        mean_power: mean of |F|^2 over its images, shells and in-plane angles.
        read_seconds, compute_seconds, write_seconds: time for each step, summed over threads.
        device_bytes: peak of the CUDA memory of its worker's tensors so far; 0 on a CPU.
        warnings: bad images that were written as zeros.
        kept: whether the stack was kept from an earlier run.
        attempt: name of the attempt that staged it; '' once it is published.
    """

    counter: int
    n_images: int
    n_bytes: int
    fourier_crc32: int
    phys_crc32: int
    mean_power: float = 0.0
    read_seconds: float = 0.0
    compute_seconds: float = 0.0
    write_seconds: float = 0.0
    device_bytes: int = 0
    warnings: tuple[str, ...] = ()
    kept: bool = False
    attempt: str = ""

    @property
    def zeroed(self) -> tuple[str, ...]:
        """A line for each image that was written as zeros: its place in the inputs, and the problem."""
        ending = f": {WRITTEN_AS_ZEROS}"
        return tuple(line.removesuffix(ending) for line in self.warnings if line.endswith(ending))
