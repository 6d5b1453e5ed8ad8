"""Taskwell: the task API that a full-stack team puts behind its own front end."""

from importlib.metadata import version

__version__ = version("taskwell")
