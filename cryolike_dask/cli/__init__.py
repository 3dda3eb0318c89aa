"""The command line: options become arguments of the public functions, errors become messages and exit codes.

May know everything, imported when a command needs it. Start with `main`; the commands are in modules of their own, and `options` are
those that conversions share.
"""
