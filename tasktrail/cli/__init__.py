"""The command line: reads what was typed, asks whoever answers, prints.

`app.py` has the list of commands and the way in; each command is a module of its own, loaded when it is called.
"""
