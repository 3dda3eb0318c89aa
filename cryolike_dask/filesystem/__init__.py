"""Files and folders that others may have made: opened safely, recognised by content, and written to without following links.

May import only errors and formatting. Start with `reading`, which opens every input. `pinned` is for writing below an output folder,
`output_file` checks the name of a single output file, `paths` spells the path of an input in one way, and `file_kind` recognises files
of another kind than expected.
"""
