"""Asking the kernel to sync a file, and hearing of it through a descriptor: no thread, nobody waits.

A thread that calls ``fdatasync`` must win the interpreter's lock back when the call returns; with many short syncs a
second, that costs more than all the rest of a write. Linux can do the same sync in the background (``io_submit`` with
``IOCB_CMD_FDSYNC``) and report its result on an eventfd, which an event loop can wait for.

It has a price: of a process that is killed, the kernel takes the context down before it closes the connections, and
waits some 30 ms for that; so much later do others notice. io_uring would not wait, but a sync through it takes three
times the CPU, and up to twice as long.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Final

_CALL_NUMBERS: Final = {
    "x86_64": {"setup": 206, "destroy": 207, "getevents": 208, "submit": 209},
    "aarch64": {"setup": 0, "destroy": 1, "getevents": 4, "submit": 2},
}
"""System calls io_setup, io_destroy, io_getevents, io_submit: glibc has no functions for them."""

_IOCB: Final = struct.Struct("<QIIHhIQQqQII")
"""struct iocb: data, key, rw_flags, opcode, priority, descriptor, buffer, size, offset, reserved, flags, eventfd."""
_FDSYNC: Final = 3
_FLAG_EVENTFD: Final = 1
_EVENT: Final = struct.Struct("<QQqq")
"""struct io_event: data, iocb, result, result2."""


class KernelSync:
    """One sync at a time. ``descriptor`` becomes readable when it is done; :meth:`result` then tells how it went.

    Raises OSError if this system cannot do it.
    """

    def __init__(self) -> None:
        numbers = _CALL_NUMBERS.get(os.uname().machine) if sys.platform == "linux" else None
        if numbers is None:
            raise OSError("the kernel's asynchronous sync is known for Linux on x86_64 and aarch64 only")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._submit_call = ctypes.c_long(numbers["submit"])
        self._getevents_call = ctypes.c_long(numbers["getevents"])
        self._destroy_call = ctypes.c_long(numbers["destroy"])
        self._context = ctypes.c_ulong(0)
        self._one = ctypes.c_long(1)
        self._iocb = ctypes.create_string_buffer(_IOCB.size)
        self._iocb_pointer = ctypes.c_void_p(ctypes.addressof(self._iocb))
        self._iocbs = ctypes.byref(self._iocb_pointer)
        self._event = ctypes.create_string_buffer(_EVENT.size)
        self._check(self._libc.syscall(ctypes.c_long(numbers["setup"]), ctypes.c_long(1), ctypes.byref(self._context)))
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.busy = False

    def _check(self, returned: int) -> int:
        if returned < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return returned

    def submit(self, descriptor: int) -> None:
        """Begin to sync the data of the file behind ``descriptor``. OSError if the kernel refuses."""
        assert not self.busy
        _IOCB.pack_into(self._iocb, 0, 0, 0, 0, _FDSYNC, 0, descriptor, 0, 0, 0, 0, _FLAG_EVENTFD, self.descriptor)
        self._check(self._libc.syscall(self._submit_call, self._context, self._one, self._iocbs))
        self.busy = True

    def result(self) -> int:
        """The finished sync's outcome: 0, or the error's number. To be called when ``descriptor`` is readable."""
        os.eventfd_read(self.descriptor)
        self._check(self._libc.syscall(self._getevents_call, self._context, self._one, self._one, self._event, None))
        self.busy = False
        outcome: int = _EVENT.unpack(self._event.raw)[2]
        return -outcome

    def close(self) -> None:
        """Wait for a sync under way, then give everything back."""
        if self.descriptor < 0:
            return
        self._libc.syscall(self._destroy_call, self._context)
        os.close(self.descriptor)
        self.descriptor = -1
