# SPDX-License-Identifier: Apache-2.0
"""Code and text that belong to items, results and their errors: bounded calls, and text that every store takes."""
