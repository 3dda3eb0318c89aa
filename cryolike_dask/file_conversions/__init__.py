"""CryoLike's conversion functions and converter object, under CryoLike's module names.

May know `conversion` and what lies below. Start with `particle_stacks_wrappers`: one function per input, each a particle table handed
to a `Conversion`.
"""
