"""Where root directories come from: the machine's own programs, and the image ``host``."""
