"""Floor 4: grids of runs. A finished cell is a fact, found in its run folder and not repeated."""
