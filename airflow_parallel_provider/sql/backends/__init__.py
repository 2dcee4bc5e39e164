# SPDX-License-Identifier: Apache-2.0
"""One backend per database."""
