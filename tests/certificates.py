"""Certificates for tests, made by openssl: an authority and what it signs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


class Authority:
    """A certificate authority with its files in a directory.

    Attributes
    ----------
    certificate
        Its own certificate (PEM): what others trust.
    """

    def __init__(self, directory: Path, name: str = "test-authority") -> None:
        self._directory = directory
        self.certificate, self._key = directory / f"{name}.pem", directory / f"{name}.key"
        self._openssl("req", "-x509", *_NEW_KEY, "-nodes", "-keyout", self._key, "-out", self.certificate,
                      "-subj", f"/CN={name}", "-days", "2")  # fmt: skip

    def issue(self, name: str, days: int = 2, passphrase: str | None = None) -> tuple[Path, Path]:
        """Give the certificate and key (PEM) of 127.0.0.1 and localhost in this name; negative days = expired."""
        certificate, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        request, names = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self._openssl("req", *_NEW_KEY, "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        self._openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key,
                      "-CAcreateserial", "-extfile", names, "-days", days, "-out", certificate)  # fmt: skip
        if passphrase is not None:
            plain = key.rename(key.with_suffix(".plain"))
            self._openssl("pkcs8", "-topk8", "-in", plain, "-out", key, "-passout", f"pass:{passphrase}")
            plain.unlink()
        return certificate, key

    def _openssl(self, *arguments: object) -> None:
        openssl = shutil.which("openssl")
        assert openssl, "these tests make certificates with openssl (Debian package openssl)"
        done = subprocess.run([openssl, *map(str, arguments)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
