"""Settings in readable form."""

from __future__ import annotations

from dataclasses import MISSING, asdict, fields

import pytest

from cryolike_dask.particles.inputs import LeopardEMInput
from cryolike_dask.settings import ConversionSettings
from cryolike_dask.settings.words import SETTINGS_OF_BOXES, settings_in_words


def test_settings_are_shown_in_words_and_chosen_ones_separately() -> None:
    chosen, usual = settings_in_words(
        asdict(ConversionSettings(batch_size=1, pixel_size=1.06, save_phys=False, ind=[4, 7], downsample_factor=3, skip_exist=True))
    )
    assert chosen == {
        "batch size": "1 image per stack",
        "pixel size": "1.06 Å",
        "downsample factor": "3 × 3 pixels become one",
        "phys": "no",
        "ind": "2 rows",
    }
    assert {"skip exist", "overwrite"}.isdisjoint([*chosen, *usual])
    assert usual["plots"] == "yes"
    assert usual["n stacks max"] == "all stacks"
    words = " ".join([*usual.values(), *settings_in_words(asdict(ConversionSettings()))[1].values()])
    assert not any(python in words.split() for python in ("None", "True", "False", "-1", "()", ""))


@pytest.mark.parametrize("name", list(asdict(ConversionSettings())))
@pytest.mark.parametrize("value", ["many", 2.5, [[]], {"a": 1}, 5], ids=str)
def test_values_of_any_kind_are_shown(name: str, value: object) -> None:
    chosen, usual = settings_in_words({name: value})
    assert all((chosen | usual).values())


def test_defaults_of_settings_of_boxes_are_those_of_their_arguments() -> None:
    defaults = {option.name: option.default for option in fields(LeopardEMInput) if option.default is not MISSING}
    assert {name: value for name, value in defaults.items() if name != "folder_micrographs"} == SETTINGS_OF_BOXES
    assert set(settings_in_words(SETTINGS_OF_BOXES)[1].values()) == {"as the table states it", "constant", "no", "yes"}
