# SPDX-License-Identifier: Apache-2.0
"""A stage's function: pickled for worker processes, bound to what ``setup`` returns, called, its outcome recorded."""
