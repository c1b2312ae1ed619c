"""Atari scores in reports: 0 for random play, 1 for a human."""

import numpy as np
import pytest
from ale_py import roms
from fakes import write_suite

from benchmark.report.analysis import Analysis
from benchmark.report.records import read, read_references


def test_every_game_of_the_table_is_there_under_both_names():
    references, games = read_references(), {name.title().replace("_", "") for name in roms.get_all_rom_ids()}
    known = {env_id[4:-3] for env_id in references if env_id.startswith("ALE/")}
    assert len(known) == 57 and known <= games
    for title in known:
        assert references[f"ALE/{title}-v5"] == references[f"{title}NoFrameskip-v4"]
        assert references[f"ALE/{title}-v5"]["random"] < references[f"ALE/{title}-v5"]["reference"]
        assert references[f"ALE/{title}-v5"]["reference_is"] == "human"
    assert references["ALE/Pong-v5"]["published"], "what the file says of the game besides stays"


@pytest.mark.parametrize("env_id", ["ALE/Pong-v5", "PongNoFrameskip-v4"])
def test_human_normalised_score(tmp_path, env_id):
    """Of Pong -20.7 for random play and 14.6 for a human: (18.9 + 20.7) / (14.6 + 20.7)."""
    suite_dir = write_suite(tmp_path, {"a.py": 0.5}, {env_id: (-20.7, 20.0)}, num_seeds=2)
    analysis = Analysis(read(suite_dir))
    assert analysis.normalise(env_id, np.array([18.9, -20.7])) == pytest.approx([39.6 / 35.3, 0.0])
    assert analysis.normalised == [env_id]
