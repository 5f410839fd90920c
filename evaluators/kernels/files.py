"""What the files are called that hold the weights of the probe's graphs."""

#: float32 values between -0.5 and 0.5.
FLOATS = "floats.bin"
#: Bytes.
CODES = "codes.bin"
