# SPDX-License-Identifier: Apache-2.0
"""What an author declares, checked at construction."""
