# SPDX-License-Identifier: Apache-2.0
"""Counting: times, failures, causes, rejections."""
