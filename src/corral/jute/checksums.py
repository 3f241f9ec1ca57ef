"""CRC-32 and Adler-32, by zlib-ng where it can be had: several times faster than zlib's, the same numbers."""

try:
    from zlib_ng.zlib_ng import adler32, crc32
except ImportError:
    from zlib import adler32, crc32

__all__ = ["adler32", "crc32"]
