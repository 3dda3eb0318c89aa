"""The public names: what `__init__.py` imports when it is first used, and what type checkers see."""

from .demo_micrographs import DemoMicrographs as DemoMicrographs
from .demo_micrographs import write_demo_micrographs as write_demo_micrographs
from .maps import MatchTemplateMaps as MatchTemplateMaps
from .maps import map_paths as map_paths
from .picking import gaussian_noise_z_score_cutoff as gaussian_noise_z_score_cutoff
from .picking import match_template_results_to_dataframe as match_template_results_to_dataframe
from .plots import plot_picks as plot_picks
from .search import MatchOptics as MatchOptics
from .search import MatchTemplateSearch as MatchTemplateSearch
from .star import read_star as read_star
from .star import write_star as write_star
from .tables import read_match_template_dataframe as read_match_template_dataframe
from .tables import write_match_template_dataframe as write_match_template_dataframe
