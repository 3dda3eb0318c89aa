"""What a conversion will do: every decision and check that needs no pixel, and nothing is written to the output.

May know particle tables, image headers, descriptors and settings; no image data. Start with `plan`, which turns particles and settings
into a list of stacks.
"""
