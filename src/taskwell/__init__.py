"""Taskwell: a task API to put behind your own front end."""

from importlib.metadata import version

__version__ = version("taskwell")
