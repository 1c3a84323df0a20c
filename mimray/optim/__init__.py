"""AdamW over parameter groups, and learning rates as pure functions of the step.

Read `groups.py` for weight decay, `layers.py` for layer-wise decay of the learning rate, `schedules.py`
for its course. `like_official` stands wherever the published SimMIM code departs from what it means
to do.
"""

from mimray.optim.adamw import build_optimizer, set_learning_rate
from mimray.optim.average import averaged, keep_average
from mimray.optim.groups import decays, official_decays, parameter_count, parameter_groups
from mimray.optim.layers import layer_id, layer_names, layer_scales
from mimray.optim.schedules import learning_rate, rate_at

__all__ = [
    "averaged",
    "build_optimizer",
    "decays",
    "keep_average",
    "layer_id",
    "layer_names",
    "layer_scales",
    "learning_rate",
    "official_decays",
    "parameter_count",
    "parameter_groups",
    "rate_at",
    "set_learning_rate",
]
