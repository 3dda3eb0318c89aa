"""What a worker reports about a stack. It is small, because tensors are never sent through the scheduler."""

from __future__ import annotations

from dataclasses import dataclass

WRITTEN_AS_ZEROS = "written as zeros"
"""How a warning about a bad image ends."""


@dataclass(frozen=True)
class StackReceipt:
    """One stack, staged or published.

    Args:
        counter: its number.
        n_images: images in it.
        n_bytes: bytes of its files.
        fourier_crc32, phys_crc32: of the tensors' bytes; the latter -1 where no physical images are saved.
        mean_power: mean of |F|^2 over its images, shells and in-plane angles.
        read_seconds, compute_seconds, write_seconds: where its time went.
        device_bytes: the most CUDA memory that its worker's tensors have taken at once so far; 0 on a CPU.
        warnings: bad images that were written as zeros.
        kept: an interrupted run made it, and it was kept.
        attempt: name of the attempt that staged it; '' when it is published.
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
        """What is wrong with each image that was written as zeros, and where it is in the inputs."""
        ending = f": {WRITTEN_AS_ZEROS}"
        return tuple(line.removesuffix(ending) for line in self.warnings if line.endswith(ending))
