"""Counting: times, failures, causes, rejections."""
