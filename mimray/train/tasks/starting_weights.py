"""What `--from` may name, how it is told from another of its name, and how it is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from mimray.errors import UserError
from mimray.train.files import digest
from mimray.train.tasks.fetched_weights import NoWeights, address, fetch, is_remote

if TYPE_CHECKING:
    from mimray.downstream.classifier import Classifier
    from mimray.weights import LoadReport

TIMM = "supervised:timm/"


def identities(weights: str | None, given_as: str = "model.weights:") -> dict[str, str]:
    """The files behind a setting of `model.weights`, and digests of what they hold; none for scratch.

    Raises UserError for what is not there; `given_as`: its first words, by which the user named it.
    """
    if weights is None:
        return {}
    from mimray.weights.read import files_of

    try:
        files = files_of(locate(weights))
        if len(files) == 1 and str(files[0]) == weights:
            return {weights: digest(weights)}
        parts = "".join(digest(str(file)) for file in files)
        return {weights: hashlib.sha256(parts.encode()).hexdigest()[:16]}
    except (ValueError, OSError) as error:
        raise UserError(f"{given_as} {error}") from None


def found_at(weights: str | None) -> str | None:
    """Where they lie: of a run, which of its checkpoints. None for scratch."""
    if weights is None:
        return None
    if is_remote(weights):
        return address(weights)
    from mimray.weights.read import files_of

    (first, *_) = files_of(locate(weights))
    return str(first if first == Path(weights) else first.parent)


def load_weights(model: Classifier, weights: str) -> LoadReport:
    """Fill the encoder of a model, and the norm behind it where the weights have one; the classifier
    stays as it is, whatever classes the weights are of: that they are as many means nothing.

    Raises UserError for what is not there, and weights that are not those of its encoder.
    """
    from mimray.weights import load

    fresh = {name: p.detach().clone() for name, p in model.classifier.named_parameters()}
    path: Path | None = None
    try:
        path = locate(weights)
        report = load(model, path)
    except ValueError as error:
        other = None if path is None else _another_encoder(model, weights, path)
        raise UserError(other or f"model.weights: {error}") from None
    for name, parameter in model.classifier.named_parameters():
        parameter.data.copy_(fresh[name])
    return report


def _another_encoder(model: Classifier, weights: str, path: Path) -> str | None:
    """In a line that weights are of another encoder than the model's; None where they are not."""
    from mimray.weights import describe, read, recognise

    try:
        held = read(path)
        theirs, own = describe(recognise(held).read(held)[0]), describe(model.state_dict())
    except ValueError:
        return None
    if theirs is None or own is None or set(theirs.encoders()) & set(own.encoders()):
        return None
    names = " or ".join(theirs.encoders())
    mend = f"set model.encoder={theirs.encoders()[0]}, or " if names else ""
    return (
        f"model.weights={weights}: holds weights of {names or theirs}, and the recipe's encoder is "
        f"{' or '.join(own.encoders()) or own}; {mend}name other weights"
    )


def locate(weights: str) -> Path:
    """A local path; what lies in a store is copied to this host.

    Raises NoWeights for what is not there, and for timm weights that Hugging Face's cache does not have:
    nothing is downloaded from there.
    """
    if is_remote(weights):
        return fetch(weights)
    if not weights.startswith(TIMM):
        return Path(weights).expanduser()
    from huggingface_hub import try_to_load_from_cache

    name = "timm/" + weights.removeprefix(TIMM)
    try:
        found = try_to_load_from_cache(name, "model.safetensors")
    except ValueError:  # no name of a repository
        found = None
    if not isinstance(found, str):
        raise NoWeights(
            f"{weights}: not in Hugging Face's cache, and nothing is downloaded by itself; "
            f"fetch it with `hf download {name} model.safetensors`, or name a file"
        )
    return Path(found)
