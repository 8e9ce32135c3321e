"""End-to-end encryption: what the orchestrator keeps can be read by the functions alone.

The wire's format is that of the middleware of Inngest's TypeScript and Python SDKs (see there):

    {"__ENCRYPTED__": true, "__STRATEGY__": "inngest/libsodium", "data": "<base64>"}

with XSalsa20-Poly1305 (libsodium's secretbox) under BLAKE2b-256 of the key's text, the 24 bytes of
the nonce first. So functions of all three can share events, results and runs.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from onward.core.ops import ErrorInfo
from onward.core.values import decode, encode
from onward.errors import ConfigurationError, DecryptionError, MissingExtraError
from onward.middleware.base import Call, Middleware, Outcome

if TYPE_CHECKING:
    from onward.context import InboundEvent

MARKER, STRATEGY = "__ENCRYPTED__", "__STRATEGY__"

#: XSalsa20-Poly1305 by PyNaCl, as the other SDKs' middleware has it.
LIBSODIUM = "inngest/libsodium"

#: AES-256-GCM by `cryptography`: for those who may use no other cipher. Onward alone reads it.
AES_GCM = "onward/aes-256-gcm"

_KEY_BYTES, _GCM_NONCE_BYTES = 32, 12
_SEALED_TEXT = f"{MARKER}:"


class Cipher(Protocol):
    """One key's cipher."""

    def encrypt(self, plain: bytes) -> bytes:
        """The nonce and what it was encrypted to."""

    def decrypt(self, sealed: bytes) -> bytes | None:
        """What was encrypted; None if not with this key, or if it was changed since."""


class EncryptionMiddleware(Middleware):
    """Encrypts results of steps and functions, and one field of events' data.

    Put it after an `OffloadMiddleware`. What was never encrypted passes as it is, so that it can be
    added to an app whose runs are under way. Not encrypted are: ids and names of functions, steps
    and events, other fields of events, data of signals, and errors unless asked for.

    Args:
        key: A long random text, such as `secrets.token_hex(32)`; the same for every app that shares
            the data. Or 32 bytes, or 64 hexadecimal digits as bytes.
        fallback_keys: Tried where `key` does not fit: the old keys while keys are rotated.
        event_field: The field of events' data that is encrypted; of received ones every field is
            decrypted that is.
        decrypt_only: Encrypt nothing: for the time before all apps can decrypt, or while encryption
            is given up.
        errors: Encrypt messages and stacks of errors too. The orchestrator's pages then show no
            message, and the other SDKs cannot read them.
        strategy: `"inngest/libsodium"`, or `"onward/aes-256-gcm"`. Both are read.

    Raises ConfigurationError, MissingExtraError.
    """

    reversible = True

    def __init__(
        self,
        key: str | bytes,
        *,
        fallback_keys: Sequence[str | bytes] = (),
        event_field: str = "encrypted",
        decrypt_only: bool = False,
        errors: bool = False,
        strategy: str = LIBSODIUM,
    ) -> None:
        if isinstance(fallback_keys, (str, bytes)):
            raise ConfigurationError("fallback_keys is one key. Give a list: fallback_keys=[key].")
        if strategy not in (LIBSODIUM, AES_GCM):
            raise ConfigurationError(
                f"The strategy {strategy!r} is unknown. Write {LIBSODIUM!r} or {AES_GCM!r}."
            )
        self.event_field = event_field
        self.decrypt_only = decrypt_only
        self.errors = errors
        self.strategy = strategy
        self._keys = [_key(key, "The key")]
        self._keys += [_key(old, f"fallback_keys[{n}]") for n, old in enumerate(fallback_keys)]
        self._made: dict[str, list[Cipher]] = {}
        self._cipher = self._ciphers(strategy)[0]

    def __repr__(self) -> str:
        return f"<EncryptionMiddleware {self.strategy}, {len(self._keys)} key(s)>"

    def _ciphers(self, strategy: str) -> list[Cipher]:
        made = self._made.get(strategy)
        if made is None:
            kind = _Secretbox if strategy == LIBSODIUM else _AesGcm
            made = self._made[strategy] = [kind(key) for key in self._keys]
        return made

    # ------------------------------------------------------------------ values

    def seal(self, text: str) -> dict[str, Any]:
        """The envelope of `text`, which is JSON."""
        data = b64encode(self._cipher.encrypt(text.encode())).decode()
        return {MARKER: True, STRATEGY: self.strategy, "data": data}

    def unseal(self, value: Any) -> Any:
        """What is in an envelope; anything else as it is. Raises DecryptionError."""
        if not _is_sealed(value):
            return value
        strategy = value.get(STRATEGY)
        if strategy not in (LIBSODIUM, AES_GCM):
            raise DecryptionError(
                f"The data was encrypted by the strategy {strategy!r}, which is not known here."
                if strategy
                else "The data was encrypted by the first version of the TypeScript middleware,"
                " which has no protection against changes, so it is not read here."
            )
        try:
            sealed = b64decode(value["data"], validate=True)
        except ValueError:
            raise DecryptionError("The encrypted data is damaged: it is no base64.") from None
        for cipher in self._ciphers(strategy):
            plain = cipher.decrypt(sealed)
            if plain is not None:
                return decode(plain.decode())
        tried = f"{len(self._keys)} key(s)"
        raise DecryptionError(
            f"None of the {tried} given opens the encrypted data: it was encrypted with another"
            " key, or damaged. Add the key that it was encrypted with to fallback_keys."
        )

    # ------------------------------------------------------------------ hooks

    def transform_output(self, call: Call, outcome: Outcome) -> Outcome:  # noqa: ARG002
        """Encrypt what a step or the function ended with."""
        if self.decrypt_only:
            return outcome
        if outcome.error is not None:
            return outcome.with_error(self._seal_error(outcome.error)) if self.errors else outcome
        if outcome.text == "null":  # the other SDKs leave it too: there is nothing to hide
            return outcome
        return outcome.with_data(self.seal(outcome.text))

    def transform_recorded(self, call: Call, outcome: Outcome) -> Outcome:  # noqa: ARG002
        """Decrypt a recorded outcome."""
        if outcome.error is not None:
            return outcome.with_error(self._unseal_error(outcome.error))
        data = outcome.data
        return outcome.with_data(self.unseal(data)) if _is_sealed(data) else outcome

    def before_send_events(
        self,
        call: Call,  # noqa: ARG002
        events: tuple[dict[str, Any], ...],
    ) -> tuple[dict[str, Any], ...]:
        """Encrypt the events' field."""
        return events if self.decrypt_only else tuple(map(self._seal_event, events))

    def _seal_event(self, event: dict[str, Any]) -> dict[str, Any]:
        data = event.get("data")
        value = data.get(self.event_field) if isinstance(data, dict) else None
        if value is None or not isinstance(data, dict):
            return event
        return {**event, "data": {**data, self.event_field: self.seal(encode(value))}}

    def transform_event(self, call: Call, event: InboundEvent) -> InboundEvent:  # noqa: ARG002
        """Decrypt an event: each encrypted field of its data, or all of it."""
        data = event.data
        if not isinstance(data, dict):
            return event
        if _is_sealed(data):  # as the Python SDK's middleware once did
            whole = self.unseal(data)
            rest = {k: v for k, v in data.items() if k not in (MARKER, STRATEGY, "data")}
            return replace(event, data={**rest, **whole} if isinstance(whole, dict) else whole)
        if not any(map(_is_sealed, data.values())):
            return event
        return replace(event, data={name: self.unseal(value) for name, value in data.items()})

    # ------------------------------------------------------------------ errors

    def _seal_error(self, error: ErrorInfo) -> ErrorInfo:
        envelope = self.seal(encode([error.message, error.stack]))
        return ErrorInfo(error.name, f"{_SEALED_TEXT}{self.strategy}:{envelope['data']}")

    def _unseal_error(self, error: ErrorInfo) -> ErrorInfo:
        if not error.message.startswith(_SEALED_TEXT):
            return error
        strategy, _, data = error.message.removeprefix(_SEALED_TEXT).partition(":")
        if strategy not in (LIBSODIUM, AES_GCM):  # a message of somebody's own
            return error
        opened = self.unseal({MARKER: True, STRATEGY: strategy, "data": data})
        return ErrorInfo(error.name, *opened)


class _Secretbox:
    """Libsodium's secretbox."""

    def __init__(self, key: bytes) -> None:
        try:
            from nacl.exceptions import CryptoError
            from nacl.secret import SecretBox
        except ImportError:
            raise _missing("PyNaCl") from None
        self._error: type[Exception] = CryptoError
        self._box = SecretBox(key)

    def encrypt(self, plain: bytes) -> bytes:
        """See `Cipher.encrypt`; the nonce is random."""
        return bytes(self._box.encrypt(plain))

    def decrypt(self, sealed: bytes) -> bytes | None:
        """See `Cipher.decrypt`."""
        try:
            return bytes(self._box.decrypt(sealed))
        except self._error:
            return None


class _AesGcm:
    """AES-256-GCM with a key of its own, made from the other."""

    def __init__(self, key: bytes) -> None:
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise _missing("cryptography") from None
        self._error: type[Exception] = InvalidTag
        own = blake2b(key, digest_size=_KEY_BYTES, person=b"onward/aes256gcm").digest()
        self._aead = AESGCM(own)

    def encrypt(self, plain: bytes) -> bytes:
        """See `Cipher.encrypt`; the nonce is random."""
        nonce = os.urandom(_GCM_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, None)

    def decrypt(self, sealed: bytes) -> bytes | None:
        """See `Cipher.decrypt`."""
        try:
            return self._aead.decrypt(sealed[:_GCM_NONCE_BYTES], sealed[_GCM_NONCE_BYTES:], None)
        except (self._error, ValueError):
            return None


def _key(key: object, what: str) -> bytes:
    """The 32 bytes that a key stands for, as the other SDKs' middleware has it."""
    if isinstance(key, str) and key and key == key.strip():
        return blake2b(key.encode(), digest_size=_KEY_BYTES).digest()
    if isinstance(key, bytes) and len(key) == _KEY_BYTES:
        return key
    if isinstance(key, bytes) and len(key) == 2 * _KEY_BYTES:
        try:
            return bytes.fromhex(key.decode("ascii"))
        except ValueError:
            pass
    seen = "an empty text" if key == "" else f"{type(key).__name__}"  # never the key itself
    raise ConfigurationError(
        f"{what} of the EncryptionMiddleware is no key ({seen}). Give a long random text without"
        " spaces around it, such as secrets.token_hex(32), or 32 bytes. Is its variable set?"
    )


def _is_sealed(value: Any) -> TypeGuard[dict[str, Any]]:
    return (
        isinstance(value, dict) and value.get(MARKER) is True and isinstance(value.get("data"), str)
    )


def _missing(package: str) -> MissingExtraError:
    return MissingExtraError(
        f"The EncryptionMiddleware needs {package}: pip install 'onward[encryption]'."
    )
