"""Telling one file from another; imports nothing, as the tools that only start others need it too."""

import hashlib
import os


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes in hexadecimal, as ``sha256sum`` prints it."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(2 ** 20):
            digest.update(chunk)
    return digest.hexdigest()
