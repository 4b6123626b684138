"""The engine's step on a CPU in C++, built where a compiler is and left out where none is.

`build` is for installation and for the first engine of a machine; `library` is what is there.
"""
