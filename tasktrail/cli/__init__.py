"""The command line: it reads what was typed, asks the service or the files, and prints the answer.

`app.py` has the list of commands and the entry point. Each command is a module of its own, loaded when it is called.
"""
