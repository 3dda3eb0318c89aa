"""The command line: options become arguments of the public functions, errors become messages and exit codes.

May import everything, but only when a command needs it. Start with `main`. Each command is in a module of its own; `options` contains the
options that conversions share.
"""
