"""Routers: which experts the layers of a model send its tokens to, watched while it runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch

from envhub.contracts.token_file import Experts

ROUTER = "topkrouter"  # how transformers ends the names of their classes
MOST_IN_A_BYTE = 256  # experts

Answer: TypeAlias = tuple[torch.Tensor, ...]  # of a layer's router; whole numbers are what it chose, [tokens, k]


class Routers:
    """Those of a model; none, where it has no experts."""

    def __init__(self, model: Any) -> None:
        self._routers = [module for module in model.modules() if type(module).__name__.lower().endswith(ROUTER)]

    @contextmanager
    def watched(self) -> Iterator[list[Answer]]:
        """What they answer meanwhile, layer by layer."""
        answers: list[Answer] = []
        hooks = [router.register_forward_hook(lambda *called: answers.append(called[-1])) for router in self._routers]
        try:
            yield answers
        finally:
            for hook in hooks:
                hook.remove()


def chosen(answers: Sequence[Answer]) -> Experts | None:
    """[tokens, layers, k]; None where nothing routed."""
    if not answers:
        return None
    layers = [next(part for part in answer if not part.is_floating_point()) for answer in answers]
    experts = max(part.shape[-1] for part in answers[0])  # it has a number for each of them
    whole = torch.stack([layer.reshape(-1, layer.shape[-1]) for layer in layers], dim=1)
    narrowed: Experts = whole.cpu().numpy().astype(np.uint8 if experts <= MOST_IN_A_BYTE else np.uint16)
    return narrowed
