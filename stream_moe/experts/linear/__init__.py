"""Linear experts, and the encoding of categories by the classes seen with them."""

from __future__ import annotations
