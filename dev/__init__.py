"""Tools for the development of this repository; not part of the package."""
