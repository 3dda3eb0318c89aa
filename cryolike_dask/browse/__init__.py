"""A page of small particle images to look through, sort, and leave particles out of, which a browser opens offline.

May know `conversion` and what lies below. Start with `page`, which writes it; `tables` and `stacks` say where images and row numbers come
from, `tiles` how images become small, `score` which of them are unlike the others. What the page does in the browser is in
`templates/browse.js`.
"""
