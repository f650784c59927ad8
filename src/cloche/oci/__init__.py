"""The formats of the Open Container Initiative as pure data: no I/O beyond the arguments."""
