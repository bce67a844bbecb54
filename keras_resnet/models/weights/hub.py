"""Weights in repositories of the Hugging Face Hub, `hf://USER/NAME`: publish, find and download them.

A repository holds the files that `keras-resnet publish` writes: `model.safetensors`, the card `config.json`, README and
curves. The card is read first: it states the network, and the SHA-256 that the download must have. The environment
variables of huggingface_hub apply: HF_TOKEN, HF_ENDPOINT and others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import tempfile
import types
from collections.abc import Iterator
from typing import TypeGuard

from keras_resnet import files
from keras_resnet.errors import InputError
from keras_resnet.models.weights.info import CARD, WEIGHTS, ModelInfo

SCHEME = "hf://"
ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def is_address(weights: object) -> TypeGuard[str]:
    """Return whether `weights` is the address of a repository, `hf://...`."""
    return isinstance(weights, str) and weights.startswith(SCHEME)


def parse(address: str, argument: str = "weights") -> tuple[str, str]:
    """Return the repository, "USER/NAME", and the revision of an address, "main" by default.

    Args:
        address: the address.
        argument: name of the caller's argument, for error messages.

    Raises:
        ValueError: the address has another form.
    """
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise InputError(f"{argument} must be hf://USER/NAME or hf://USER/NAME@REVISION; got {address!r}.")
    return match["repo"], match["revision"] or "main"


def find(address: str, cache: pathlib.Path) -> ModelInfo:
    """Read the card of a repository; without a connection, that of the last download.

    Args:
        address: `hf://USER/NAME`, optionally with `@REVISION`.
        cache: folder of downloaded weights.

    Returns:
        The card, with the address as `url` and `weights`.

    Raises:
        ValueError: the address is invalid, the repository cannot be read, or has no valid card.
    """
    try:
        with _downloaded(address, CARD, cache) as path:
            text = path.read_bytes()
    except Unreachable:
        cached = _folder(address, cache) / CARD
        if not cached.is_file():
            raise
        text = cached.read_bytes()
    try:
        info = ModelInfo.from_card(text)
    except InputError as error:
        raise InputError(f"weights {address!r} cannot be used: {str(error).rstrip('.')}.") from error
    return dataclasses.replace(info, url=address, weights=address)


def fetch(info: ModelInfo, cache: pathlib.Path) -> pathlib.Path:
    """Return the path of the weights of a card, downloading the file unless it is in the cache.

    The download has a temporary name until its digest has been verified, so an incomplete file is never used.

    Args:
        info: the card, from `find`.
        cache: folder of downloaded weights.

    Raises:
        ValueError: the file cannot be downloaded, or does not have the digest of the card.
    """
    folder = _folder(info.url, cache)
    path = folder / WEIGHTS
    if path.is_file() and _is_file_of(info, path):
        return path
    with _downloaded(info.url, WEIGHTS, cache) as partial:
        if not _is_file_of(info, partial):
            raise InputError(
                f"weights {info.url!r}: the download is not the file of the card (its digest is not {info.digest}); "
                "it is damaged or was replaced."
            )
        folder.mkdir(parents=True, exist_ok=True)
        os.replace(partial, path)
    files.write(folder / CARD, dataclasses.replace(info, url=WEIGHTS).to_card())
    return path


def upload(folder: str | os.PathLike[str], address: str, *, private: bool = False) -> str:
    """Upload a folder of weights in one commit, creating the repository if it does not exist.

    Args:
        folder: a folder that `classification.release.write` wrote.
        address: `hf://USER/NAME`, optionally with the branch as `@REVISION`.
        private: create a private repository.

    Returns:
        The web address of the commit.

    Raises:
        ValueError: huggingface_hub is not installed, or the repository cannot be written.
    """
    repo, revision = parse(address)
    library = _library(address)
    info = ModelInfo.of_folder(folder)
    try:
        api = library.HfApi(endpoint=_endpoint())
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=str(folder),
            revision=revision,
            commit_message=f"Upload {info.model} trained on {info.dataset}",
        )
    except Exception as error:  # the library, its HTTP client and its storage raise errors of many types
        raise InputError(
            f"{address!r} cannot be written ({_reason(error)}); log in with `hf auth login` or set HF_TOKEN."
        ) from error
    return commit.commit_url


class Unreachable(InputError):
    """The repository cannot be read: there is no connection, no such repository, or no permission."""


def _library(address: str) -> types.ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise InputError(
            f"weights {address!r} require huggingface_hub: pip install 'keras-resnet-zoo[hub]'."
        ) from error
    return huggingface_hub


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")  # huggingface_hub reads it only when it is imported


def _folder(address: str, cache: pathlib.Path) -> pathlib.Path:
    repo, revision = parse(address)
    return cache / "hub" / repo / revision.replace("/", "--")


@contextlib.contextmanager
def _downloaded(address: str, name: str, cache: pathlib.Path) -> Iterator[pathlib.Path]:
    """Download a file of a repository to a temporary folder next to the cache's files, which is removed at the end."""
    repo, revision = parse(address)
    library = _library(address)
    with files.remove_if_empty(cache):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=cache) as folder:
            try:
                path = library.hf_hub_download(repo, name, revision=revision, local_dir=folder, endpoint=_endpoint())
            except Exception as error:  # as in `upload`
                raise Unreachable(
                    f"weights {address!r} could not be downloaded ({name}: {_reason(error)}); check the address and "
                    "the connection, or pass weights=PATH."
                ) from error
            yield pathlib.Path(path)


def _is_file_of(info: ModelInfo, path: str | os.PathLike[str]) -> bool:
    return info.digest == f"sha256:{files.digest(path)}"


def _reason(error: BaseException) -> str:
    """Return the first line of an error's message, or of its cause's, which says more."""
    cause = error.__cause__ or error
    text = str(cause).strip() or type(cause).__name__
    return text.splitlines()[0].rstrip(".:")[:200]
