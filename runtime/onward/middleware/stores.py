"""Where offloaded payloads are kept: a directory, or a bucket of S3."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from onward.errors import ConfigurationError, MissingExtraError, OffloadError


class Store(ABC):
    """Keeps objects by key. Its methods are called on any thread, several at a time.

    Keys have the form `runs/…/….json` or `events/….json`, of letters, digits, `-`, `_`, `.` and
    `/`. An object is never written with other bytes than before.
    """

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Keep `data`, durably, when this returns. Raises OffloadError."""

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """What is kept under `key`; None for nothing. Raises OffloadError."""

    @abstractmethod
    def __str__(self) -> str:
        """How messages name the store, so that a person finds it."""


class DirectoryStore(Store):
    """Objects as files below `path`, which all processes that run the functions have to share."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        if self._path.exists() and not self._path.is_dir():
            raise ConfigurationError(f"DirectoryStore: {path} is no directory.")

    def __str__(self) -> str:
        return f"the directory {self._path}"

    def put(self, key: str, data: bytes) -> None:
        """See `Store.put`; a file appears whole or not at all."""
        import os
        import tempfile

        target = self._path / key
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
                try:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                    Path(file.name).replace(target)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise OffloadError(f"{target} cannot be written: {error}.") from error

    def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        try:
            return (self._path / key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OffloadError(f"{self._path / key} cannot be read: {error}.") from error


class S3Store(Store):
    """Objects in a bucket of S3, or of what speaks its protocol.

    It needs `s3:PutObject` and `s3:GetObject` below the prefix. Give the bucket a lifecycle rule
    that outlasts your longest run.

    Args:
        bucket: The bucket's name.
        prefix: What keys begin with, such as `"onward/"`.
        client: A boto3 client for S3; by default one is made at the first use.
        client_options: For `boto3.client("s3", …)`: `region_name`, `endpoint_url`, ….
        put_options: For each `put_object`: `ServerSideEncryption`, `StorageClass`, ….

    Raises MissingExtraError where boto3, which is loaded at the first use, is not installed.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        client: Any = None,
        client_options: Mapping[str, Any] | None = None,
        put_options: Mapping[str, Any] | None = None,
    ) -> None:
        if not bucket:
            raise ConfigurationError(f"S3Store: {bucket!r} is no bucket's name.")
        if client is None and find_spec("boto3") is None:
            raise _without_boto3()
        self._bucket = bucket
        self._prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        self._client = client
        self._client_options = dict(client_options or {})
        self._put_options = dict(put_options or {})
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    @property
    def client(self) -> Any:
        """The boto3 client. Raises MissingExtraError."""
        with self._lock:
            if self._client is None:
                try:
                    import boto3
                except ImportError:
                    raise _without_boto3() from None
                self._client = boto3.client("s3", **self._client_options)
            return self._client

    def put(self, key: str, data: bytes) -> None:
        """See `Store.put`."""
        place = {"Bucket": self._bucket, "Key": self._prefix + key}
        options = {"ContentType": "application/json", **self._put_options}
        try:
            self.client.put_object(**place, Body=data, **options)
        except Exception as error:
            if isinstance(error, MissingExtraError):
                raise
            raise self._failed("written", key, error) from error

    def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        client = self.client
        try:
            answer = client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            return bytes(answer["Body"].read())
        except Exception as error:
            if _code(error) == "NoSuchKey":
                return None
            raise self._failed("read", key, error) from error

    def _failed(self, what: str, key: str, error: Exception) -> OffloadError:
        return OffloadError(f"s3://{self._bucket}/{self._prefix}{key} cannot be {what}: {error}.")


def _without_boto3() -> MissingExtraError:
    return MissingExtraError("S3Store needs boto3: pip install 'onward[aws]'.")


def _code(error: Exception) -> str:
    """The code of a botocore ClientError."""
    response = getattr(error, "response", None)
    told = response.get("Error") if isinstance(response, dict) else None
    return str(told.get("Code") or "") if isinstance(told, dict) else ""
