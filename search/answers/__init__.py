"""Answers of commands to other programs: the shapes of ``--json``, which ``olivine mcp`` gives too."""
