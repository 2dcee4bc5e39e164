# SPDX-License-Identifier: Apache-2.0
"""Identifiers as MySQL and MariaDB quote them."""

from __future__ import annotations


def quote(name: str) -> str:
    """An identifier as SQL."""
    return "`" + name.replace("`", "``") + "`"
