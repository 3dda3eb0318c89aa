"""Help with the options of a command in groups, and types of arguments that let a shell complete files and folders."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from cryolike_dask.cli.command import Command

GROUPS = {
    "Input": (
        *("table", "params_input", "folder_mrc", "folder_cryosparc", "folder_micrographs", "star_file_list", "particle_file_list"),
        *("particle_file", "defocus_angle_is_degree", "phase_shift_is_degree", "box_size", "template_size", "edge", "invert"),
        *("use_refined", "unrefined", "on_missing", "hash_inputs", "micrographs", "micrograph_folder", "pick_on"),
    ),
    "Particles": ("where", "ind", "sample", "seed", "n_images", "order", "mixed_optics", "on_bad_image"),
    "Images": (
        *(
            "n_pixels",
            "pixel_size",
            "override",
            "ignore_manual_pixel_size",
            "override_pixel_size",
            "axes",
            "contrast",
            "apply_origins",
        ),
        *("downsample_factor", "downsample_type", "downsample_to", "low_pass", "tile_size"),
    ),
    "Picks": ("total_projections", "false_positives", "z_score_cutoff", "mask_radius", "diameter"),
    "Polar grid": ("precision", "resolution_factor", "n_inplanes"),
    "Output": (
        *("folder_output", "out", "batch_size", "n_stacks_max", "never_combine_input_files", "output_format", "zarr_store"),
        *("save_phys", "flag_plots", "skip_exist", "overwrite"),
    ),
    "Where it runs": ("device", "workers", "scheduler", "scheduler_file", "performance_report"),
    "What is shown": ("dry_run", "as_json", "quiet", "--config", "write_config", "--debug", "--help"),
}
"""The options of each group in the order of the help: eager options as they are spelt, all others by their Python names."""


class GroupedCommand(Command):
    """A command whose help lists its options in groups. Required options come first, and options without a group come last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See `click.Command`."""
        options = {
            param.opts[-1] if param.is_eager else str(param.name): param
            for param in self.get_params(ctx)
            if isinstance(param, click.Option)
        }
        others = tuple(name for name in options if not any(name in names for names in GROUPS.values()))
        for group, names in (GROUPS | {"Other options": others}).items():
            shown = sorted((options[name] for name in names if name in options), key=lambda option: not option.required)
            records = [record for option in shown if (record := option.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(group):
                    formatter.write_dl(records)


class Folder(click.Path):
    """A path that a shell completes with names of folders. It is not checked here whether the folder exists."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """See `click.Path`."""
        return [CompletionItem(incomplete, type="dir")]


class JobNumber(click.types.IntParamType):
    """The number of a cryoSPARC job, given as 42 or J42."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType`."""
        number: Any = str(value).removeprefix("J")
        return super().convert(number, param, ctx)


FILE: Any = click.Path()
FOLDER: Any = Folder()
