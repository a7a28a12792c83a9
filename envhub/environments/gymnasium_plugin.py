"""Registers every environment of envhub with Gymnasium, under its own id.

Gymnasium 1 loads no entry points: importing this module is what makes `gymnasium.make("envhub/arithmetic-v0")` work,
as does `gymnasium.make("envhub.environments.gymnasium_plugin:envhub/arithmetic-v0")`.
"""

import gymnasium

from envhub.registry import environments

ADAPTER = "envhub.environments.to_gymnasium:EnvhubGymEnv"


def register() -> None:
    """Makes all environments known to Gymnasium, those added since the last call too. Imports none of them."""
    for id in environments.names():
        if id not in gymnasium.registry:
            gymnasium.register(id, entry_point=ADAPTER, kwargs={"environment_id": id})


register()
