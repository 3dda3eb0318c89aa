"""Messages about files without single particles say what the files are and what to do, instead of naming a missing column."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cryolike_dask import particles_from_leopard_em
from cryolike_dask.errors import InputError
from cryolike_dask.particles.cryosparc.particles import particles_from_cryosparc
from cryolike_dask.particles.star.particles import particles_from_paired_star_and_mrc_files, particles_from_star
from tests.support.cs_files import ctf_columns, particle_columns, records, uids, write_cs
from tests.support.leopard_em_files import rows_of_page, write_rows
from tests.support.mrc_files import pack_mrc
from tests.support.star_files import OPTICS, SINGLE, Table, loop, pairs, text, with_column, without_column, write

OPTICS_OF_TOMOGRAPHY: Table = {
    "rlnOpticsGroup": ["1"],
    "rlnOpticsGroupName": ["opticsGroup1"],
    "rlnSphericalAberration": ["2.7"],
    "rlnVoltage": ["300"],
    "rlnTomoTiltSeriesPixelSize": ["1.35"],
    "rlnAmplitudeContrast": ["0.07"],
}


def row(*columns: str, **values: str) -> Table:
    """One row of these columns; values that are not given are 1."""
    return {column: [values.get(column, "1")] for column in columns}


ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
COORDINATES = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
GENERAL = pairs("general", row("rlnTomoSubTomosAre2DStacks"))

TOMOGRAPHY = {
    "RELION 4, picks": [loop("particles", row("rlnTomoName", *COORDINATES, "rlnOpticsGroup"))],
    "RELION 4, pseudo-subtomograms": [
        loop("optics", OPTICS_OF_TOMOGRAPHY),
        loop(
            "particles",
            row("rlnTomoName", "rlnTomoParticleId", *COORDINATES, *ANGLES, "rlnTomoParticleName", "rlnOpticsGroup", "rlnImageName")
            | row("rlnCtfImage", rlnCtfImage="Subtomograms/TS_01/1_weights.mrc"),
        ),
    ],
    "RELION 4, tomograms": [
        loop("global", row("rlnTomoName", "rlnTomoTiltSeriesName", "rlnTomoFrameCount", "rlnVoltage", "rlnSphericalAberration")),
        loop("TS_01", row("rlnTomoProjX", "rlnTomoProjY", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")),
        loop("TS_02", row("rlnTomoProjX", "rlnTomoProjY", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")),
    ],
    "RELION 5, picks": [loop("particles", row("rlnTomoName", *(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")))],
    "RELION 5, 2D stacks": [
        GENERAL,
        loop("optics", OPTICS_OF_TOMOGRAPHY),
        loop("particles", row("rlnTomoName", "rlnTomoParticleName", "rlnTomoVisibleFrames", "rlnOpticsGroup", "rlnImageName")),
    ],
    "RELION 5, tomograms": [
        loop("global", row("rlnTomoName", "rlnTomoTiltSeriesStarFile", "rlnVoltage", "rlnSphericalAberration", "rlnTomoHand"))
    ],
    "RELION 5, optimisation set": [pairs("", row("rlnTomoParticlesFile", "rlnTomoTomogramsFile"))],
    "WarpTools": [
        GENERAL,
        loop("optics", OPTICS_OF_TOMOGRAPHY | row("rlnTomoSubtomogramBinning", "rlnImagePixelSize", "rlnImageSize")),
        loop(
            "particles",
            row("rlnTomoName", "rlnTomoParticleId", *COORDINATES, *ANGLES, "rlnTomoParticleName", "rlnOpticsGroup", "rlnImageName"),
        ),
    ],
    "Warp": [
        loop(
            "",
            row("rlnMicrographName", *COORDINATES, *ANGLES, "rlnImageName", "rlnCtfImage", "rlnPixelSize", "rlnMagnification")
            | row("rlnVoltage", "rlnSphericalAberration"),
        )
    ],
}

OTHER = {
    "a model of a RELION refinement": [
        pairs("model_general", row("rlnReferenceDimensionality", "rlnPixelSize", "rlnNrClasses")),
        loop("model_classes", row("rlnReferenceImage", "rlnClassDistribution")),
        loop("model_class_1", row("rlnSpectralIndex", "rlnResolution")),
    ],
    "the angular sampling of a RELION refinement": [
        pairs("sampling_general", row("rlnPsiStep", "rlnHealpixOrder")),
        loop("sampling_directions", row("rlnAngleRot", "rlnAngleTilt")),
    ],
    "the optimiser of a RELION refinement": [pairs("optimiser_general", row("rlnExperimentalDataStarFile", "rlnModelStarFile"))],
    "a resolution curve of RELION": [
        pairs("general", row("rlnFinalResolution", "rlnBfactorUsedForSharpening")),
        loop("fsc", row("rlnSpectralIndex", "rlnFourierShellCorrelationCorrected")),
        loop("guinier", row("rlnResolutionSquared", "rlnLogAmplitudesOriginal")),
    ],
    "the job list of a RELION project": [
        pairs("pipeline_general", row("rlnPipeLineJobCounter")),
        loop("pipeline_processes", row("rlnPipeLineProcessName", "rlnPipeLineProcessTypeLabel")),
    ],
    "the settings of a RELION job": [
        pairs("job", row("rlnJobTypeLabel")),
        loop("joboptions_values", row("rlnJobOptionVariable", "rlnJobOptionValue")),
    ],
    "a list of micrographs": [
        loop("optics", OPTICS),
        loop("micrographs", row("rlnMicrographName", "rlnOpticsGroup", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")),
    ],
    "a list of movies": [loop("optics", OPTICS), loop("movies", row("rlnMicrographMovieName", "rlnOpticsGroup"))],
}


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        particles_from_star(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", TOMOGRAPHY)
def test_tomography_tables_are_called_that(name: str, tmp_path: Path) -> None:
    message = refusal(write(tmp_path, text(*TOMOGRAPHY[name])))
    assert "is a table of a tomography project (it has rln" in message
    assert "Give a STAR file of single particles" in message
    assert "missing" not in message


@pytest.mark.parametrize("what", OTHER)
def test_other_files_of_relion_are_called_what_they_are(what: str, tmp_path: Path) -> None:
    message = refusal(write(tmp_path, text(*OTHER[what])))
    assert f"holds no particles: it is {what}" in message
    assert "Give the " in message


def test_a_list_of_micrographs_is_refused_as_a_pair_too(tmp_path: Path) -> None:
    path = write(tmp_path, text(*OTHER["a list of micrographs"]))
    with pytest.raises(InputError, match="holds no particles: it is a list of micrographs"):
        particles_from_paired_star_and_mrc_files([tmp_path / "a.mrcs"], [path])


def test_a_list_of_micrographs_in_one_block(tmp_path: Path) -> None:
    block = with_column(without_column(SINGLE, "rlnImageName"), "rlnMicrographName", "m.mrc")
    block = with_column(block, "rlnCtfImage", "m.ctf:mrc")
    message = refusal(write(tmp_path, text(loop("", block))))
    assert "holds no particles: it lists micrographs" in message


@pytest.mark.parametrize("block", ["model_classes", "micrographs", "general"])
def test_a_file_with_a_block_of_particles_is_one_of_particles(block: str, tmp_path: Path) -> None:
    path = write(tmp_path, text(loop(block, row("rlnTomoName")), loop("particles", SINGLE)))
    assert len(particles_from_star(path)) == 4


def test_columns_of_tomography_beside_images_do_no_harm(tmp_path: Path) -> None:
    assert len(particles_from_star(write(tmp_path, text(loop("particles", with_column(SINGLE, "rlnTomoName", "TS_01")))))) == 4


def test_cistem_is_named_with_its_way_out(tmp_path: Path) -> None:
    columns = ("cisTEMPositionInStack", "cisTEMAnglePsi", "cisTEMDefocus1", "cisTEMDefocus2", "cisTEMDefocusAngle")
    message = refusal(write(tmp_path, text(loop("", row(*columns)))))
    assert "is a particle table of cisTEM" in message
    assert "Export the refinement package from cisTEM for RELION" in message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_named_with_its_way_out(encoding: str, tmp_path: Path) -> None:
    message = refusal(write(tmp_path, text(loop("", SINGLE)).encode(encoding)))
    assert "is UTF-16 text" in message
    assert "iconv -f utf-16 -t utf-8" in message
    assert "latin1" not in message


GROUP = """created: 2024-01-31 12:00:00.000000
group:
  description: All particles
  name: particles
  type: particle
results:
  blob:
    metafile: '>J42_particles.cs'
    num_items: 4560
    type: particle.blob
  ctf:
    metafile: '>J42_passthrough_particles.cs'
    num_items: 4560
    type: particle.ctf
  location:
    metafile: '>J42_passthrough_particles.cs'
    num_items: 4560
    type: particle.location
version: v4.4.1
"""


@pytest.mark.parametrize("read", [particles_from_cryosparc, particles_from_star])
def test_a_result_group_is_named_with_the_tables_in_it(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = write(tmp_path, GROUP, "J42_particles.csg")
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert f"{path} is a cryoSPARC result group (.csg)" in message
    assert "J42_particles.cs, J42_passthrough_particles.cs" in message
    assert "blob/path" in message


def test_a_table_of_a_result_group_has_its_other_columns_looked_up(tmp_path: Path) -> None:
    columns = particle_columns(["a.mrc"] * 3, [0, 1, 2])
    blob = {name: column for name, column in columns.items() if not name.startswith("ctf/")}
    write_cs(tmp_path / "J42_passthrough_particles.cs", {"uid": uids(3), **ctf_columns(3)})
    assert len(particles_from_cryosparc(write_cs(tmp_path / "J42_particles.cs", blob))) == 3


def test_paths_as_python_objects_are_not_called_damage(tmp_path: Path) -> None:
    columns = particle_columns(["a.mrc"] * 3, [0, 1, 2])
    path = tmp_path / "particles.cs"
    with path.open("wb") as file:
        np.save(file, records({**columns, "blob/path": np.array(["a.mrc"] * 3, dtype=object)}), allow_pickle=True)
    with pytest.raises(InputError) as caught:
        particles_from_cryosparc(path)
    message = str(caught.value)
    assert f"{path} stores its paths as Python objects" in message
    assert "cryosparc-tools" in message
    assert "damaged" not in message


def test_an_input_of_another_conversion_is_named_with_its_command(tmp_path: Path) -> None:
    star = write(tmp_path, "# Created by a program\r\n\r\n" + text(loop("", SINGLE)))
    cs = write_cs(tmp_path / "a.cs", particle_columns(["a.mrc"] * 2, range(2)))
    csv = write_rows(tmp_path / "a.csv", rows_of_page(1))
    images = tmp_path / "a.mrcs"
    images.write_bytes(pack_mrc(np.zeros((2, 8, 8)), 2))
    cases: list[tuple[Callable[[Path], object], Path, str]] = [
        (
            particles_from_star,
            cs,
            "is a cryoSPARC table (.cs), not a STAR file: use `convert cryosparc` (particles_from_cryosparc).",
        ),
        (particles_from_star, csv, "is a CSV table of Leopard-EM, not a STAR file: use `convert leopard-em`"),
        (particles_from_star, images, "is an image file (MRC), not a STAR file: check the order of the paths."),
        (lambda path: particles_from_paired_star_and_mrc_files([star], [path]), images, "is an image file (MRC), not a STAR file"),
        (particles_from_cryosparc, star, "is a STAR file, not a cryoSPARC table (.cs): use `convert star` (particles_from_star)."),
        (particles_from_cryosparc, images, "is an image file (MRC), not a cryoSPARC table"),
        (lambda path: particles_from_leopard_em(path, 16), star, "`cryolike-dask pick` wrote."),
    ]
    for read, given, told in cases:
        with pytest.raises(InputError) as caught:
            read(given)
        assert str(caught.value).startswith(f"{given} is ")
        assert told in str(caught.value)


def test_places_in_micrographs_are_not_taken_for_a_half_of_a_pair(tmp_path: Path) -> None:
    picks = without_column(SINGLE, "rlnImageName") | {"rlnMicrographName": ["m.mrc"] * 4, "rlnCoordinateX": ["9"] * 4}
    message = refusal(write(tmp_path, text(loop("", picks))))
    assert "or, for picks of Leopard-EM, the CSV table (`convert leopard-em`)" in message
