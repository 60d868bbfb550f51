"""Forms with files (`multipart/form-data`, RFC 7578), read as they arrive: files go to disk."""

from __future__ import annotations

from collections.abc import Callable
from email.errors import HeaderParseError
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Generic, Protocol, TypeVar

from models_store.errors import InvalidRequest, Malformed, TooLarge

MAX_FIELD_BYTES = 64 * 2**10
_MOST_PARTS = 32
_HEADER_BYTES = 8 * 2**10
_MAX_BOUNDARY = 70
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Sink(Protocol[T_co]):
    """Takes a file."""

    def feed(self, data: bytes) -> None: ...

    def end(self) -> T_co: ...


class Form(Generic[T]):
    """The fields and files of a form, once all of it has been fed.

    Raises (`feed` and `end`):
        Malformed: it is no such form, or it is cut short.
        InvalidRequest: a field is there twice, or is not UTF-8.
        TooLarge: it has too many parts, or a field is too long; and what files raise.
    """

    def __init__(self, content_type: str, open_file: Callable[[str], Sink[T]]) -> None:
        """Args:
        open_file: makes a place for a file, by the name that it comes with.
        """
        self.fields: dict[str, str] = {}
        self.files: list[T] = []
        self._open_file = open_file
        self._delimiter = b"\r\n--" + _boundary(content_type)
        # So that the first delimiter is like the others.
        self._buffer = bytearray(b"\r\n")
        self._parts = 0
        self._in_headers = False
        self._ended = False
        self._name: str | None = None
        self._value = bytearray()
        self._file: Sink[T] | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes, which may end anywhere."""
        self._buffer += data
        while not self._ended and (self._headers() if self._in_headers else self._content()):
            pass
        if self._ended:
            self._buffer.clear()

    def end(self) -> None:
        if not self._ended:
            raise Malformed("the form is cut short: its last boundary is missing")

    def _headers(self) -> bool:
        """Read the headers of a part; False where more bytes are needed."""
        end = self._buffer.find(b"\r\n\r\n")
        if max(end, len(self._buffer) if end < 0 else 0) > _HEADER_BYTES:
            raise Malformed("a part of the form has too many headers")
        if end < 0:
            return False
        self._begin(bytes(self._buffer[: end + 4]))
        del self._buffer[: end + 4]
        self._in_headers = False
        return True

    def _content(self) -> bool:
        """Read what there is of a part up to the next delimiter; False as above."""
        at = self._buffer.find(self._delimiter)
        after = at + len(self._delimiter)
        whole = at >= 0 and len(self._buffer) >= after + 2
        # What may be the beginning of a delimiter stays.
        count = at if at >= 0 else max(0, len(self._buffer) - len(self._delimiter) + 1)
        self._take(bytes(self._buffer[:count]))
        if not whole:
            del self._buffer[:count]
            return False
        following = bytes(self._buffer[after : after + 2])
        del self._buffer[: after + 2]
        if following not in (b"\r\n", b"--"):
            raise Malformed("the form's boundary is followed by something else than a line end")
        self._finish()
        self._ended = following == b"--"
        self._in_headers = not self._ended
        return True

    def _begin(self, headers: bytes) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise TooLarge(f"a form may have at most {_MOST_PARTS} parts here")
        try:
            message = BytesHeaderParser().parsebytes(headers)
            name, filename = _disposition(message), message.get_filename()
        except (HeaderParseError, ValueError, UnicodeError) as error:
            raise Malformed(f"the headers of a part cannot be read: {error}") from error
        self._name = name
        if filename is not None:
            self._file = self._open_file(filename or name)
        elif name in self.fields:
            raise InvalidRequest.at(f"/{name}", f"{name[:100]}: it is there twice", "duplicate")

    def _take(self, data: bytes) -> None:
        if self._file is not None:
            self._file.feed(data)
        elif self._name is not None:
            self._value += data
            if len(self._value) > MAX_FIELD_BYTES:
                raise TooLarge(f"{self._name[:100]}: a field has at most {MAX_FIELD_BYTES} bytes")
        elif data.strip(b"\r\n"):
            raise Malformed("the form does not begin with its boundary")

    def _finish(self) -> None:
        if self._file is not None:
            self.files.append(self._file.end())
        elif self._name is not None:
            try:
                self.fields[self._name] = self._value.decode()
            except UnicodeDecodeError:
                raise InvalidRequest.at(
                    f"/{self._name}", f"{self._name[:100]}: it is not UTF-8"
                ) from None
        self._name, self._file = None, None
        self._value.clear()


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary() or ""
    if not 0 < len(boundary) <= _MAX_BOUNDARY or not boundary.isascii():
        raise Malformed("the form's Content-Type has no boundary")
    return boundary.encode()


def _disposition(message: Message) -> str:
    name = message.get_param("name", header="content-disposition")
    if message.get_content_disposition() != "form-data" or not isinstance(name, str) or not name:
        raise Malformed("a part of the form has no name")
    return name
