"""What an engine asks of every request before it samples."""

from envhub.contracts.engine import EngineRequest
from envhub.errors import EngineFault


def check_request(
    request: EngineRequest,
    context_tokens: int,
    vocabulary: int | None = None,
    *,
    takes_images: bool = False,
    gives_masks: bool = False,
) -> None:
    """`vocabulary` None: the engine's ids are not known here. `gives_masks`: of tokens whose sampling is truncated.

    Raises:
        EngineFault: not retryable, the prompt or the sampling does not fit the engine.
    """
    prompt = request.prompt_ids
    if not 0 < len(prompt) < context_tokens:
        rule = f"this engine takes 1 to {context_tokens - 1}: shorten the conversation"
        raise EngineFault(f"the prompt has {len(prompt)} tokens; {rule}", retryable=False)
    if prompt.min() < 0 or (vocabulary is not None and prompt.max() >= vocabulary):
        most = "" if vocabulary is None else f" to {vocabulary - 1}"
        rule = f"the weights know 0{most}: use their own tokenizer"
        raise EngineFault(f"the prompt has ids from {prompt.min()} to {prompt.max()}; {rule}", retryable=False)
    if request.sampling.truncated and not gives_masks:
        sampling = request.sampling
        asked = f"top_p {sampling.top_p:g}, top_k {sampling.top_k}, min_p {sampling.min_p:g}"
        rule = "this engine does not say which ids they leave, so no trainer could compute with its log probabilities"
        way_out = "sample from all ids (top_p 1, top_k 0, min_p 0), or use one that does (docs/engines.md)"
        raise EngineFault(f"sampling has {asked}; {rule}: {way_out}", retryable=False)
    if request.images and not takes_images:
        rule = "this engine takes text alone: use one that takes images (docs/engines.md), or leave them out"
        raise EngineFault(f"the prompt has {len(request.images)} images; {rule}", retryable=False)
    for shown in request.images:
        if not shown.image.data:
            rule = "it is in the store alone: give the message with its file"
            problem = f"the prompt shows the image {shown.image.sha256} without its file"
            raise EngineFault(f"{problem}; {rule}", retryable=False)
