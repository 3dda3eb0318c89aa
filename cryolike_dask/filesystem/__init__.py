"""Files and folders that others may have made: opened safely, recognised by content, and written to without following links.

May know nothing but errors and formatting. Start with `reading`, by which every input is opened; `pinned` is for what is written below an
output folder, `output_file` checks the name of a single file to write; `file_kind` says what a file is that is not what was asked for.
"""
