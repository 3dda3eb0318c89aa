"""An HTML page to browse, sort and leave out particles; it works offline.

May import `conversion` and what lies below. Start with `page`, which writes the page. `tables` and `stacks` get images and row numbers
from their sources, `tiles` makes images small, and `score` finds those that are unlike the others. The script of the page is
`templates/browse.js`.
"""
