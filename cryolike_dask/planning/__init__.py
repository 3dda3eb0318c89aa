"""What a conversion will do: every decision and check that needs no pixel. Nothing is written to the output folder.

May import particle tables, image headers, descriptors and settings, but reads no image data. Start with `planner`, which turns particles
and settings into a `Plan`.
"""
