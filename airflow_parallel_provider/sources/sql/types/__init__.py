# SPDX-License-Identifier: Apache-2.0
"""How the columns of some databases are read, where SQLAlchemy would change or refuse values."""
