"""ServedModel: what a model server says of what it serves, asked once, when its engine is opened."""

from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import msgspec

from envhub.contracts.engine import Engine, EngineOptions, Model
from envhub.engines.over_http.server_url import checked_url, key_variable, server_key, why
from envhub.errors import UnknownName, UsageError
from envhub.tokens.gguf_tokenizer import load_tokenizer
from envhub.tokens.hf_tokenizer import TokenizerFiles, open_directory

ABSENT = (403, 404, 405)  # 403: it is there, but vLLM was not told to serve it
OPENING_S = 20.0  # for an answer of the server
GUIDE = "docs/engines.md"


class _Entry(msgspec.Struct):
    id: str
    max_model_len: int | None = None
    root: str = ""  # where the server has the weights from
    parent: str | None = None  # of an adapter: the model that it adapts


class _Listing(msgspec.Struct):
    data: list[_Entry]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One of a server's models."""

    url: str
    key: str  # "": the server asks for none
    name: str
    context_tokens: int
    root: str
    is_adapter: bool

    def serves(self, path: str, *, method: str = "POST") -> bool:
        """Whether the server has such an endpoint; it is asked with a body that means nothing.

        Raises:
            UsageError: no answer.
        """
        return ask(self.url, self.key, path, b"{}" if method == "POST" else None)[0] not in ABSENT

    def with_engine(self, engine: Engine, options: EngineOptions) -> Model:
        """The model that rollouts use: the server's weights, with the tokenizer that `options` name.

        Raises:
            UsageError: there is no such tokenizer.
        """
        files = _tokenizer(options.tokenizer or self.root, named=bool(options.tokenizer))
        return Model(
            self.name,
            engine,
            files.tokenizer,
            files.chat_template,
            template_variables=files.template_variables,
            call_form=options.call_form,
        )


def served_model(options: EngineOptions, default_url: str) -> ServedModel:
    """The model `options.model` of the server at `options.url`; its first one where none is named.

    Raises:
        UsageError: no server there, or none that lists models.
        UnknownName: it has no such model.
    """
    url = checked_url(options.url or default_url, default_url).removesuffix("/v1")
    key = server_key(url)
    status, answer = ask(url, key, "/v1/models")
    if status in (401, 403):
        raise UsageError(f"the server {url} asks for a key; put it into {key_variable(url)}")
    try:
        entries = msgspec.json.decode(answer, type=_Listing).data
    except msgspec.DecodeError as error:
        raise UsageError(f"the server {url} lists no models ({error}); give the root URL of one ({GUIDE})") from error
    found = [entry for entry in entries if entry.id == options.model or not options.model]
    if not found:
        raise UnknownName.of("model on the server", options.model, [entry.id for entry in entries])
    context = found[0].max_model_len or next((entry.max_model_len for entry in entries if entry.max_model_len), None)
    if context is None:
        raise UsageError(f"the server {url} does not say how long its model's context is; upgrade it ({GUIDE})")
    return ServedModel(url, key, found[0].id, context, found[0].root, is_adapter=found[0].parent is not None)


def ask(url: str, key: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """The status and body of an answer, be it an error.

    Raises:
        UsageError: no answer.
    """
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urlopen(Request(url + path, body, headers), timeout=OPENING_S) as response:
            return response.status, response.read()
    except HTTPError as error:
        return error.code, error.read()
    except (OSError, HTTPException) as error:
        way_out = f"start it ({GUIDE}), or correct the url"
        raise UsageError(f"no server answers at {url}: {_reason(error)}; {way_out}") from error


def _reason(error: OSError | HTTPException) -> str:
    """urllib puts an error of the connection into one of its own."""
    cause = error.reason if isinstance(error, URLError) else error
    return why(cause) if isinstance(cause, OSError) else "what answers does not speak HTTP"


def _tokenizer(where: str, *, named: bool) -> TokenizerFiles:
    path = Path(where)
    if path.suffix == ".gguf":
        return TokenizerFiles(*load_tokenizer(path))
    if not named and not path.is_dir():
        raise UsageError(
            f"the server has its model from '{where}', which is no directory here; "
            "give tokenizer=PATH, a directory with tokenizer.json or a .gguf file"
        )
    return open_directory(path)
